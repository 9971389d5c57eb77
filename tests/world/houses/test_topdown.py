"""The picture from above."""

from __future__ import annotations

import numpy as np

from sterna.world.houses import make_house
from sterna.world.houses.topdown import WALL_INK, draw_storey


def test_walls_are_dark_and_names_are_written() -> None:
    house = make_house(2)
    bare = np.array(draw_storey(house, metre=20, names=False))
    named = np.array(draw_storey(house, metre=20))
    assert bare.shape == named.shape and bare.shape[2] == 3
    share = (bare == np.array(WALL_INK)).all(-1).mean()
    assert 0.03 < share < 0.3
    assert (bare != named).any()
