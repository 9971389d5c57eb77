"""Geodesic distances over walkable cells: one field a goal, kept for later questions.

The nodes are the corners of cells, so that ways may touch obstacles, as shortest ways do. They are
joined by moves of (1,0), (1,1), (2,1), (3,2), (4,1) cells and their reflections: 32 from each.
Lengths over such a graph are too long by 0 to 0.76%, depending on the direction, and 0.37% on the
mean over directions; dividing by the mean leaves an error within 0.4% either way.

Legend: N cells, V corners. Corners of a cell: 0 south-west, 1 south-east, 2 north-west, 3
north-east.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components, dijkstra

from sterna.world.geometry import Floats, Ints
from sterna.world.surface import HERE, Surface

Numbers = NDArray[np.int32]

_EAST, _NORTH, _WEST = HERE + 1, HERE + 3, HERE - 1
_SW, _SE, _NW, _NE = range(4)
_AROUND = 36  # corners of a cell and its eight neighbours, some named several times
_ASIDE = 1e-4  # metres that `Corners.inside` keeps from what the corner touches

# Moves as walks over the cells they cross, with the corners they begin and end at (a row of two
# or four cells is crossed both ways). Together with sides and diagonals: 32 moves a corner.
_CROSSINGS: tuple[tuple[tuple[int, ...], int, int], ...] = (
    *(((_EAST,) * k, a, b) for k in (1, 3) for a, b in ((_SW, _NE), (_NW, _SE))),
    *(((_NORTH,) * k, a, b) for k in (1, 3) for a, b in ((_SW, _NE), (_SE, _NW))),
    ((_EAST, _NORTH, _EAST), _SW, _NE),
    ((_WEST, _NORTH, _WEST), _SE, _NW),
    ((_NORTH, _EAST, _NORTH), _SW, _NE),
    ((_NORTH, _WEST, _NORTH), _SE, _NW),
)


def _mean_excess() -> float:
    """Mean over directions of (length over the moves) / (straight length)."""
    angles = [0.0, math.atan2(1, 4), math.atan2(1, 2), math.atan2(2, 3), math.atan2(1, 1)]
    # Between two moves at angle g apart the mean of the ratio is tan(g/2) / (g/2).
    gaps = np.diff(angles)
    return float((2 * np.tan(gaps / 2)).sum() / gaps.sum())


MEAN_EXCESS = _mean_excess()


@dataclass(frozen=True, kw_only=True, eq=False)
class Field:
    """Distances of all corners to one goal: `length` [V] metres along moves (inf: unreachable).

    `onward` [V] is the next corner on the way to the goal, V at the last one, -9999 if there is
    none. `length` is uncorrected; see `MEAN_EXCESS`.
    """

    goal: Floats
    length: NDArray[np.float32]
    onward: NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Corners:
    """Corners of the cells of a surface; joined cells share theirs."""

    of_cell: NDArray[np.int32]
    """[N, 4] numbers of a cell's corners."""
    points: Floats
    """[V, 3] metres."""
    inside: Floats
    """[V, 3] the same, moved 0.1 mm or less off the edge of the walkable area."""


class Geodesics:
    """Fields of a surface; the graph is built at the first question, the last fields are kept."""

    def __init__(self, surface: Surface, keep: int = 256) -> None:
        self.surface, self.keep = surface, keep
        self._built: tuple[Corners, csr_matrix] | None = None
        self._fields: OrderedDict[tuple[float, ...], Field] = OrderedDict()

    def _build(self) -> tuple[Corners, csr_matrix]:
        if self._built is None:
            corners = _corners(self.surface)
            self._built = corners, _graph(self.surface, corners)
        return self._built

    @property
    def corners(self) -> Corners:
        """The nodes of the graph."""
        return self._build()[0]

    def around(self, cells: Ints) -> Ints:
        """Corners [..., 36] that can be walked to in a straight line from anywhere in `cells`."""
        near = self.surface.joined[cells]
        near = np.where(near >= 0, near, np.asarray(cells)[..., None])
        return self.corners.of_cell[near].reshape(*np.shape(cells), _AROUND).astype(np.int64)

    def field(self, goal: Floats, cell: int) -> Field:
        """Return the field of the point `goal` [3], which lies in `cell`."""
        key = tuple(goal.tolist())
        if key in self._fields:
            self._fields.move_to_end(key)
            return self._fields[key]
        found = self._fields[key] = self._solve(goal, cell)
        if len(self._fields) > self.keep:
            self._fields.popitem(last=False)
        return found

    def _solve(self, goal: Floats, cell: int) -> Field:
        corners, graph = self._build()
        # The last row is the goal itself, joined to the corners about it.
        around = self.around(np.array(cell))
        graph.indices[-_AROUND:] = around
        graph.data[-_AROUND:] = np.linalg.norm(corners.points[around] - goal, axis=1) + 1e-12
        length, onward = dijkstra(graph, indices=[len(corners.points)], return_predecessors=True)
        return Field(
            goal=goal,
            length=length[0, :-1].astype(np.float32),
            onward=onward[0, :-1].astype(np.int32),
        )


def _corners(surface: Surface) -> Corners:
    count = len(surface.height)
    slots = np.arange(4 * count).reshape(count, 4)
    same = []
    for way, pairs in ((_EAST, ((_SE, _SW), (_NE, _NW))), (_NORTH, ((_NW, _SW), (_NE, _SE)))):
        here = np.flatnonzero(surface.joined[:, way] >= 0)
        there = surface.joined[here, way]
        same += [(slots[here, a], slots[there, b]) for a, b in pairs]
    start, end = (np.concatenate(ends) for ends in zip(*same, strict=True))
    links = coo_matrix((np.ones(len(start), np.int8), (start, end)), shape=(4 * count, 4 * count))
    number, labels = connected_components(links, directed=False)
    half = surface.cell / 2 * np.array([(-1, -1), (1, -1), (-1, 1), (1, 1)])
    rise = (half[None] * surface.slope[:, None]).sum(-1)
    flat = surface.centres[:, None, :2] + half
    each = np.concatenate([flat, (surface.height[:, None] + rise)[..., None]], axis=2)
    members = np.bincount(labels, minlength=number)

    def mean(values: Floats) -> Floats:
        sums = [np.bincount(labels, column, number) for column in values.reshape(4 * count, -1).T]
        out: Floats = np.stack(sums, axis=1) / members[:, None]
        return out

    points = mean(each)
    inward = mean(np.broadcast_to(-half, flat.shape).copy())
    inside = points.copy()
    inside[:, :2] += inward * (_ASIDE / surface.cell)
    return Corners(of_cell=labels.reshape(count, 4).astype(np.int32), points=points, inside=inside)


def _edges(surface: Surface, of_cell: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
    """Ends of all moves, each once."""
    joined = surface.joined
    for a, b, beside in (
        (_SW, _SE, None),
        (_SW, _NW, None),
        (_NW, _NE, _NORTH),
        (_SE, _NE, _EAST),
        (_SW, _NE, None),
        (_SE, _NW, None),
    ):
        # The north and east sides are the south and west sides of the cells there, if any.
        own = of_cell if beside is None else of_cell[joined[:, beside] < 0]
        yield own[:, a], own[:, b]
    for way, a, b in _CROSSINGS:
        first, here = np.arange(len(of_cell)), np.arange(len(of_cell))
        for slot in way:
            onward = joined[here, slot]
            first, here = first[onward >= 0], onward[onward >= 0]
        yield of_cell[first, a], of_cell[here, b]


def _graph(surface: Surface, corners: Corners) -> csr_matrix:
    """Lengths of all moves both ways, with an empty row behind for the goal."""
    pairs = list(_edges(surface, corners.of_cell))
    start, end = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
    start, end = np.concatenate([start, end]), np.concatenate([end, start])
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    count = len(corners.points)
    lengths = np.linalg.norm(corners.points[end] - corners.points[start], axis=1)
    indptr = np.searchsorted(start, np.arange(count + 1))
    indptr = np.append(indptr, indptr[-1] + _AROUND).astype(np.int32)
    indices = np.concatenate([end, np.zeros(_AROUND, np.int32)]).astype(np.int32)
    data = np.concatenate([lengths, np.ones(_AROUND)])
    return csr_matrix((data, indices, indptr), shape=(count + 1, count + 1))
