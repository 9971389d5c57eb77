"""Which viewpoints see each other, and which of those are joined by an edge.

Everything is decided in whole millimetres, so that every machine draws the same edges.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sterna.world.geometry import Ints
from sterna.world.houses.scene import House

Bools = NDArray[np.bool_]

CHUNK = 1 << 20  # pairs of line and box looked at in one go


def millimetres(metres: Any) -> Ints:
    """Return coordinates in whole millimetres."""
    return np.rint(np.asarray(metres, np.float64) * 1000).astype(np.int64)


def open_lines(house: House, start: Ints, end: Ints) -> Bools:
    """Whether nothing lies between each `start` [n, 3] and `end` [n, 3] (whole millimetres).

    A line keeps at least 1 mm from every box, so that rounding elsewhere finds it open too.
    """
    boxes = millimetres(house.boxes) + np.array([-1, -1, -1, 1, 1, 1])
    free = np.ones(len(start), bool)
    for level in np.unique(np.stack([start[:, 2], end[:, 2]], axis=1), axis=0):
        rows = np.flatnonzero((start[:, 2] == level[0]) & (end[:, 2] == level[1]))
        # Only boxes that reach into the heights between can be met.
        near = boxes[(boxes[:, 2] < level.max()) & (boxes[:, 5] > level.min())]
        step = max(1, CHUNK // max(1, len(near)))
        for first in range(0, len(rows), step):
            part = rows[first : first + step]
            free[part] = ~_crossed(start[part], end[part], near)
    return free


def _crossed(start: Ints, end: Ints, boxes: Ints) -> Bools:
    """Whether lines pass through the inside of any box; compares fractions by multiplying out.

    A line is at `start` + way * t; on an axis it is inside the box for low < t * |way| < high.
    """
    enter, leave = np.zeros(1, np.int64), np.ones(1, np.int64)
    over, under = np.ones(1, np.int64), np.ones(1, np.int64)  # denominators of enter and leave
    empty: Bools = np.zeros((len(start), len(boxes)), bool)
    for axis in range(3):
        way = end[:, axis] - start[:, axis]
        size = np.abs(way)[:, None]
        one = boxes[None, :, axis] - start[:, None, axis]
        two = boxes[None, :, axis + 3] - start[:, None, axis]
        low = np.where(way[:, None] < 0, -two, one)
        high = np.where(way[:, None] < 0, -one, two)
        still = size == 0
        empty |= still & ((one >= 0) | (two <= 0))
        later = ~still & (low * over > enter * size)
        enter, over = np.where(later, low, enter), np.where(later, size, over)
        sooner = ~still & (high * under < leave * size)
        leave, under = np.where(sooner, high, leave), np.where(sooner, size, under)
    inside = ~empty & (enter * under < leave * over)
    crossed: Bools = np.any(inside, axis=1)
    return crossed


def thinned(points: Ints, joined: Bools, least: tuple[int, int]) -> Bools:
    """Drop edges that a third viewpoint makes needless; what is connected stays connected.

    `points` [N, 3] in millimetres, `joined` [N, N] symmetric. An edge of length d goes if some
    point is joined to both its ends at distances a, b < d with a^2 + b^2 < d^2 * p / q, for
    `least` = (p, q). (1, 1) leaves a Gabriel graph; smaller ones leave more edges.
    """
    apart = np.square(points[:, None] - points[None]).sum(-1)
    far = np.where(joined, apart, np.int64(1) << 50)
    p, q = least
    kept = joined.copy()
    for i, j in np.argwhere(np.triu(joined)):
        both, longest = far[i] + far[j], np.maximum(far[i], far[j])
        if ((both * q < apart[i, j] * p) & (longest < apart[i, j])).any():
            kept[i, j] = kept[j, i] = False
    return kept
