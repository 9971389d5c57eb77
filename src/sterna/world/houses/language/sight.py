"""What is seen from where: lines of sight, and the boxes of things in the 36 views.

Sines and cosines of the views are made from square roots alone, so that every machine gets the
same numbers.
"""

from __future__ import annotations

import math

import numpy as np

from sterna.world.geometry import COLUMNS, VIEWS, Floats, Ints
from sterna.world.houses.language.landmarks import Bools, Landmarks, gaps
from sterna.world.houses.scene import House

FAR = 8.0  # metres beyond which nobody speaks of a thing
SHARE = 0.25  # of a thing's parts that must be in sight
CELL = 0.4  # of the grid for rays, metres
SLACK = 0.004  # a ray may end so much (of its length) before its aim and still reach it

WIDTH, HEIGHT = 640, 480  # of REVERIE's views, pixels
NEAR = 0.05  # metres before the camera where pictures begin
LEAST_SIDE = 6  # pixels; what is smaller is not boxed

_HALF = math.sqrt(3) / 2
_SINES = (0.0, 0.5, _HALF, 1.0, _HALF, 0.5, 0.0, -0.5, -_HALF, -1.0, -_HALF, -0.5)
FOCAL = HEIGHT / 2 * math.sqrt(3)  # 60 degrees from top to bottom


def twelfth(number: int) -> tuple[float, float]:
    """Return the direction (x, y) of a heading of so many twelfths of a turn from north."""
    return _SINES[number % 12], _SINES[(number + 3) % 12]


class Rays:
    """Lines of sight through the boxes of a house."""

    def __init__(self, house: House) -> None:
        from sterna.world.houses import grid  # numba takes a moment to import

        self._cast = grid.cast_rays
        self._boxes = house.boxes.astype(np.float64).round(3)
        self._owner = house.box_instance
        low, high = self._boxes[:, :3].min(0) - 0.01, self._boxes[:, 3:].max(0) + 0.01
        shape = tuple(int(n) for n in np.ceil((high - low) / CELL))
        self._grid = (*grid.fill_grid(self._boxes, low, CELL, shape), low, CELL, shape)

    def reach(self, eyes: Floats, aims: Floats, owner: Ints) -> Bools:
        """Whether the way from each eye [n, 3] to its aim [n, 3] is free of others' boxes.

        `owner` [n] is the `box_instance` of what is aimed at; meeting its own boxes counts as free.
        """
        t, hit = self._cast(eyes, aims - eyes, self._boxes, *self._grid)
        own = (hit >= 0) & (self._owner[hit] == owner) & (owner > 0)
        return np.asarray(own | (t >= 1 - SLACK))


def aims(marks: Landmarks, only: int | None = None) -> tuple[Floats, Ints]:
    """Return points [P, 3] to look at and the landmark [P] each belongs to; `only` one's if given.

    A thing has the middles of its boxes, one more at either end of long ones; a window or door five
    points of its opening, stairs five of the air over their ends.
    """
    points: list[Floats] = []
    owner: list[int] = []
    for thing in marks.house.things if only is None else marks.house.things[only : only + 1]:
        b = marks.house.boxes[thing.first : thing.last].astype(np.float64).round(3)
        own = [_spread(box) for box in b]
        points += own
        owner += [thing.id] * sum(map(len, own))
    others = range(marks.windows.start, len(marks))
    for row in others if only is None else [only] if only in others else []:
        (x0, y0, x1, y1), (z0, z1) = marks.rects[row], marks.heights[row]
        x, y, z = (x0 + x1) / 2, (y0 + y1) / 2, (z0 + z1) / 2
        inset = _inset(marks, row)
        corners = [(x, y, z)]
        corners += [(x + inset[0], y + inset[1], h) for h in (z0 + 0.3, z1 - 0.3)]
        corners += [(x - inset[0], y - inset[1], h) for h in (z0 + 0.3, z1 - 0.3)]
        points.append(np.array(corners))
        owner += [row] * 5
    return np.concatenate(points), np.array(owner, np.int64)


def _spread(box: Floats) -> Floats:
    low, high = box[:3], box[3:]
    middle, axis = (low + high) / 2, int((high - low).argmax())
    if high[axis] - low[axis] < 0.4:
        return np.asarray(middle[None])
    ends = np.stack([middle, middle, middle])
    ends[1, axis], ends[2, axis] = low[axis] + 0.05, high[axis] - 0.05
    return ends


def _inset(marks: Landmarks, row: int) -> tuple[float, float]:
    x0, y0, x1, y1 = marks.rects[row]
    wide = x1 - x0 > y1 - y0
    return ((x1 - x0) * 0.35, 0.0) if wide else (0.0, (y1 - y0) * 0.35)


def seen_from(
    rays: Rays, marks: Landmarks, eyes: Floats, storeys: Ints, only: int | None = None
) -> Bools:
    """Return which landmarks [N, L] are in sight of eyes [N, 3] that stand on `storeys` [N].

    A quarter of the looked-at points must be in free sight, within 8 m on the floor plan. On a
    landing (storey -1) both storeys are looked at. `only` one landmark is looked for, if given.
    """
    points, owner = aims(marks, only)
    near = gaps(eyes[:, :2], marks.rects) <= FAR
    near &= (marks.storey == storeys[:, None]) | (storeys[:, None] < 0)
    if only is not None:
        near &= np.arange(len(marks)) == only
    eye, point = np.nonzero(near[:, owner])
    instance = np.where(owner < marks.windows.start, owner + 1, 0)
    # Panes, doors and stairs belong to the building: what is met just before them is themselves.
    free = rays.reach(
        eyes[eye], _nearer(eyes[eye], points[point], marks, owner[point]), instance[point]
    )
    hits = np.zeros((len(eyes), len(marks)), np.int64)
    np.add.at(hits, (eye, owner[point]), free)
    total = np.bincount(owner, minlength=len(marks))
    return np.asarray(near & (hits >= np.maximum(1, total * SHARE)))


def _nearer(eyes: Floats, points: Floats, marks: Landmarks, owner: Ints) -> Floats:
    """Draw points in walls 0.15 m towards the eye on each axis of the floor plan."""
    in_wall = (owner >= marks.windows.start)[:, None]
    way = eyes - points
    pull = np.clip(way, -0.15, 0.15) * np.array([1.0, 1.0, 0.0])
    return np.asarray(np.where(in_wall, points + pull, points))


def distances(eyes: Floats, boxes: Floats) -> Floats:
    """Return how far eyes [N, 3] are from the nearest points of boxes [T, 6], [N, T] metres."""
    apart = np.maximum(boxes[:, :3] - eyes[:, None], eyes[:, None] - boxes[:, 3:])
    return np.asarray(np.sqrt(np.square(np.maximum(apart, 0.0)).sum(-1)))


def view_boxes(eye: Floats, boxes: Floats, first: Ints) -> Ints:
    """Return where each of the 36 views shows things, [36, T, 4]: (x, y, width, height).

    Thing t is `boxes[first[t] : first[t + 1]]` of [n, 6]. Pixels of a 640 x 480 picture with 60
    degrees from top to bottom; all zero where it is not shown or smaller than 6 pixels a side.
    Boxes are cut at the picture's edges and 5 cm before the camera; occlusion is left out.
    """
    from sterna.world.houses.language.cuts import rectangles  # numba takes a moment to import

    out = np.zeros((VIEWS, len(first), 4), np.int64)
    rectangles(
        boxes - np.concatenate([eye, eye]),
        np.append(first, len(boxes)),
        _TURNS,
        np.array([WIDTH, HEIGHT, FOCAL, NEAR]),
        _EDGES,
        LEAST_SIDE,
        out,
    )
    return out


_EDGES = np.array(
    [(a, b) for a in range(8) for b in range(a + 1, 8) if (a ^ b).bit_count() == 1]
)  # twelve edges of a box, as pairs of its corners
_TILTS = ((-0.5, _HALF), (0.0, 1.0), (0.5, _HALF))
_TURNS = np.array([(*twelfth(view % COLUMNS), *_TILTS[view // COLUMNS]) for view in range(VIEWS)])
