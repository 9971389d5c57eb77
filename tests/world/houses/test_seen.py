"""Labels of pixels agree with the house they were taken in."""

from __future__ import annotations

import numpy as np
import pytest

from sterna.world.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS
from sterna.world.houses import CLASSES, STRUCTURE, House, make_house
from sterna.world.houses.ground import ground_of
from sterna.world.houses.render import Camera, Frames, Renderer
from sterna.world.houses.seen import (
    COLOUR_NAMES,
    NO_COLOUR,
    NO_ROOM,
    ROOMS,
    Seen,
    cells_of,
    centre_weights,
    seen,
)
from sterna.world.houses.viewpoints import place_viewpoints

CAMERA = Camera(width=24, height=24, hfov=60)


@pytest.fixture(scope="module")
def house() -> House:
    return make_house(13)  # two storeys


@pytest.fixture(scope="module")
def taken(house: House) -> tuple[np.ndarray, Frames, Seen]:
    places = place_viewpoints(house, ground_of(house)).graph.positions[::9]
    frames = Renderer(house).panorama(places, 24)
    angles = np.tile(np.column_stack([VIEW_HEADINGS, VIEW_ELEVATIONS]), (len(places), 1))
    poses = np.concatenate([places.repeat(36, 0), angles], axis=1)
    return poses, frames, seen(house, CAMERA, frames, poses)


def test_kinds_and_colours_are_those_of_the_masks(
    house: House, taken: tuple[np.ndarray, Frames, Seen]
) -> None:
    _, frames, labels = taken
    met = frames.klass >= 0
    np.testing.assert_array_equal(labels.kind[met], frames.klass[met])
    owner = frames.instance
    assert (labels.colour[labels.kind < len(STRUCTURE)] == NO_COLOUR).all()
    for thing in house.things[::7]:
        pixels = owner == thing.id + 1
        assert (labels.colour[pixels] == COLOUR_NAMES.index(thing.colour)).all()
        assert (labels.kind[pixels] == CLASSES.index(thing.kind)).all()


def test_pixels_of_things_lie_in_their_rooms(
    house: House, taken: tuple[np.ndarray, Frames, Seen]
) -> None:
    _, frames, labels = taken
    kind = np.array([ROOMS.index(house.rooms[thing.room].kind) for thing in house.things])
    things = frames.instance > 0
    right = labels.room[things] == kind[frames.instance[things] - 1]
    assert right.mean() > 0.99
    assert set(np.unique(labels.room)) <= set(range(NO_ROOM + 1))
    indoors = labels.room[labels.kind == CLASSES.index("floor")]
    assert (indoors != NO_ROOM).mean() > 0.99


def test_cells_count_every_pixel_once(taken: tuple[np.ndarray, Frames, Seen]) -> None:
    labels = taken[2]
    cells = cells_of(labels, 3)
    assert cells.kinds.shape == (len(labels.kind), 9, len(CLASSES))
    for counts in (cells.kinds, cells.colours, cells.rooms):
        assert np.abs(counts.sum(-1, dtype=int) - 100).max() <= 8  # each is rounded
    wall = CLASSES.index("wall")
    first = (labels.kind[:, :8, 16:24] == wall).mean((1, 2)) * 100
    np.testing.assert_allclose(cells.kinds[:, 2, wall], first, atol=0.51)


def test_middle_columns_weigh_most() -> None:
    weights = centre_weights(8).reshape(8, 8)
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    assert (weights == weights[:1]).all() and (np.diff(weights[0, :4]) > 0).all()
    np.testing.assert_allclose(weights, weights[:, ::-1], atol=1e-7)
