"""Continuous space: walking with collisions, distances, shortest paths, maps. All in batches.

Everything is looked up in a `Surface`, which is made once; nothing is rebuilt a step. Positions
are [..., 3] in metres, x east, y north, z up; z is the floor under the agent. Headings are radians
clockwise from +y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from sterna.errors import InputError
from sterna.world.frames import direction
from sterna.world.geodesics import MEAN_EXCESS, Field, Geodesics
from sterna.world.geometry import Floats, Ints
from sterna.world.surface import HERE, Agent, Scene, Surface, make_surface

Bools = NDArray[np.bool_]

FLOOR_TOLERANCE = 0.5  # metres above or below its floor at which a point still counts as on it
_INSIDE = 1e-6  # how far inside its cell a stopped agent stands, metres
_PULLS = 2  # how often a way is pulled taut again after the first time
_NEAR = 2.0  # metres within which a straight way is looked for before a field is asked


class Step(NamedTuple):
    """Where a move ended: positions [n, 3], and whether anything stood in the way [n]."""

    positions: Floats
    collided: Bools


@dataclass(frozen=True, kw_only=True)
class MapTransform:
    """World and pixels (row, column) of a top-down map, north up, row 0 in the north."""

    west: float
    north: float
    metres_per_pixel: float

    def to_pixel(self, points: ArrayLike) -> Ints:
        """Return (row, column) [..., 2] of the pixels that hold the points [..., 2 or 3]."""
        p = np.asarray(points, np.float64)
        offset = np.stack([self.north - p[..., 1], p[..., 0] - self.west], axis=-1)
        return np.floor(offset / self.metres_per_pixel).astype(np.int64)

    def to_world(self, pixels: ArrayLike) -> Floats:
        """Return (x, y) [..., 2] in metres of the middles of pixels (row, column) [..., 2]."""
        p = (np.asarray(pixels, np.float64) + 0.5) * self.metres_per_pixel
        return np.stack([self.west + p[..., 1], self.north - p[..., 0]], axis=-1)


class Space:
    """A scene as one agent can walk it; `cell` metres is the resolution (see `make_surface`)."""

    def __init__(self, scene: Scene, agent: Agent | None = None, *, cell: float = 0.05) -> None:
        self.agent = agent or Agent()
        self.surface: Surface = make_surface(scene, self.agent, cell)
        self.geodesics = Geodesics(self.surface)
        self._tree: cKDTree | None = None

    def cells(self, points: ArrayLike) -> Ints:
        """Return the cell under each point [..., 3], -1 where it is not walkable."""
        p = np.asarray(points, np.float64)
        s = self.surface
        ij = np.floor((p[..., :2] - s.origin) / s.cell)
        rows, columns = s.table.shape[1:]
        inside: Bools = np.all((ij >= 0) & (ij < (columns, rows)), axis=-1)
        i, j = np.moveaxis(np.where(inside[..., None], ij, 0).astype(np.int64), -1, 0)
        found = np.full(p.shape[:-1], -1)
        best = np.where(inside, FLOOR_TOLERANCE, -1.0)
        for level in s.table:
            cell = level[j, i]
            gap = np.abs(s.height[cell] - p[..., 2])
            nearer = (cell >= 0) & (gap <= best)
            found, best = np.where(nearer, cell, found), np.where(nearer, gap, best)
        return found

    def is_navigable(self, points: ArrayLike) -> Bools:
        """Whether the middle of an agent may be at each point [..., 3]; z to within 0.5 m."""
        return self.cells(points) >= 0

    def snap(self, points: ArrayLike) -> Floats:
        """Return the nearest walkable points [..., 3] (a walkable one moves to its floor only)."""
        p = np.asarray(points, np.float64)
        cell = self.cells(p)
        if np.any(cell < 0):
            if self._tree is None:
                self._tree = cKDTree(self.surface.centres)
            nearest = np.where(cell < 0, self._tree.query(p)[1], cell)
            drawn = self._drawn(nearest, p[..., :2])
            return self._on(nearest, np.where((cell < 0)[..., None], drawn, p[..., :2]))
        return self._on(cell, p[..., :2])

    def _drawn(self, cell: Ints, flat: Floats) -> Floats:
        """Nearest points (x, y) inside the given cells."""
        s = self.surface
        low = s.origin + s.column[cell] * s.cell
        return flat.clip(low + _INSIDE, low + (s.cell - _INSIDE))

    def _on(self, cell: Ints, flat: Floats) -> Floats:
        """Points (x, y) of their cells with the height of the floor there."""
        s = self.surface
        middle = s.origin + (s.column[cell] + 0.5) * s.cell
        rise = ((flat - middle) * s.slope[cell]).sum(-1)
        return np.concatenate([flat, (s.height[cell] + rise)[..., None]], axis=-1)

    def _standing(self, points: ArrayLike, what: str) -> tuple[Floats, Ints]:
        p = np.asarray(points, np.float64)
        cell = self.cells(p)
        away = np.atleast_1d(cell < 0)
        if away.any():
            bad = p.reshape(-1, 3)[away.argmax()]
            raise InputError(
                f"space: {what} {np.round(bad, 3).tolist()} is not walkable; snap() gives the "
                "nearest point that is"
            )
        return p, cell

    def move(
        self, positions: ArrayLike, headings: ArrayLike, distance: float, *, sliding: bool = True
    ) -> Step:
        """Walk `distance` metres (on the flat) along headings [n] from positions [n, 3].

        With sliding, an agent that meets something goes on along it with the part of its motion
        that is free; without, it stays where it touches. `InputError` for a position that is not
        walkable.
        """
        p, cell = self._standing(positions, "position")
        flat, collided = p[:, :2].copy(), np.zeros(len(p), bool)
        # Shorter than a cell, so that a sub-step reaches a neighbouring cell at most.
        count = int(distance / self.surface.cell) + 1
        step = direction(headings) * (distance / count)
        for _ in range(count):
            cell = self._sub_step(cell, flat, step, collided, sliding)
        return Step(self._on(cell, flat), collided)

    def _sub_step(
        self, cell: Ints, flat: Floats, step: Floats, collided: Bools, sliding: bool
    ) -> Ints:
        """Advance `flat` and `collided` in place; return the cells reached."""
        s = self.surface
        wanted = flat + step
        if not sliding:
            wanted = np.where(collided[:, None], flat, wanted)
        moved = np.floor((wanted - s.origin) / s.cell).astype(np.int64) - s.column[cell]
        moved = moved.clip(-1, 1)
        reached = s.joined[cell, HERE + 3 * moved[:, 1] + moved[:, 0]].astype(np.int64)
        corner = np.flatnonzero((reached < 0) & moved.all(1))
        if len(corner):
            reached[corner] = self._past_corner(
                cell[corner], flat[corner], wanted[corner], moved[corner]
            )
        blocked = np.flatnonzero(reached < 0)
        if len(blocked):
            collided[blocked] = True
            here, want = cell[blocked], wanted[blocked]
            if sliding:
                reached[blocked], wanted[blocked] = self._slide(here, want, moved[blocked])
            else:
                reached[blocked] = here
                wanted[blocked] = self._touch(here, flat[blocked], want)
        flat[:] = wanted
        return reached

    def _past_corner(self, cell: Ints, start: Floats, wanted: Floats, moved: Ints) -> Ints:
        """Cells reached by diagonal motions through the one cell beside that they cross, or -1."""
        s = self.surface
        edge = s.origin + (s.column[cell] + (moved > 0)) * s.cell
        part = (edge - start) / (wanted - start)
        x, y = HERE + moved[:, 0], HERE + 3 * moved[:, 1]
        x_first = part[:, 0] < part[:, 1]
        beside = s.joined[cell, np.where(x_first, x, y)]
        onward = s.joined[beside, np.where(x_first, y, x)]
        return np.where(beside >= 0, onward, -1).astype(np.int64)

    def _slide(self, cell: Ints, wanted: Floats, moved: Ints) -> tuple[Ints, Floats]:
        """Keep the free part of a blocked motion: along x or along y, the further first."""
        s = self.surface
        drawn = self._drawn(cell, wanted)
        free_x = s.joined[cell, HERE + moved[:, 0]]
        free_y = s.joined[cell, HERE + 3 * moved[:, 1]]
        over = np.abs(wanted - drawn)
        by_x = (free_x >= 0) & ((free_y < 0) | (over[:, 0] >= over[:, 1]))
        by_y = ~by_x & (free_y >= 0)
        ends = np.where(by_x, free_x, np.where(by_y, free_y, cell)).astype(np.int64)
        flat = np.where(np.stack([by_x, by_y], axis=1), wanted, drawn)
        return ends, flat

    def _touch(self, cell: Ints, start: Floats, wanted: Floats) -> Floats:
        """Return where straight motions leave their cells."""
        s = self.surface
        low = s.origin + s.column[cell] * s.cell
        step = wanted - start
        edge = np.where(step > 0, low + s.cell, low)
        with np.errstate(divide="ignore", invalid="ignore"):
            part = np.where(step != 0, (edge - start) / step, 1.0).min(1).clip(0, 1)
        return self._drawn(cell, start + step * part[:, None])

    def sees(self, a: ArrayLike, b: ArrayLike) -> Bools:
        """Whether an agent can walk straight from each `a` [n, 3] to each `b` [n, 3]."""
        start, end = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
        part = self._crossings(start[:, :2], end[:, :2])
        middle = (part[:, 1:] + part[:, :-1])[..., None] / 2
        cell = self.cells(start[:, None] + middle * (end - start)[:, None])
        ends = np.stack([self.cells(start), self.cells(end)], axis=1)
        cell = np.concatenate([ends[:, :1], cell, ends[:, 1:]], axis=1)
        moved = np.diff(self.surface.column[cell], axis=1)
        slot = HERE + 3 * moved[..., 1] + moved[..., 0]
        fits = np.all(np.abs(moved) <= 1, axis=-1) & (cell[:, :-1] >= 0) & (cell[:, 1:] >= 0)
        onward = self.surface.joined[cell[:, :-1], np.where(fits, slot, HERE)]
        seen: Bools = np.all(fits & (onward == cell[:, 1:]), axis=1)
        return seen

    def _crossings(self, start: Floats, end: Floats) -> Floats:
        """Parts of the way [n, c], sorted from 0 to 1, at which lines pass from cell to cell."""
        first, last = ((p - self.surface.origin) / self.surface.cell for p in (start, end))
        low = np.floor(np.minimum(first, last)) + 1
        count = np.maximum(np.ceil(np.maximum(first, last)) - low, 0)
        parts = [np.zeros((len(start), 1)), np.ones((len(start), 1))]
        for axis in (0, 1):
            lines = low[:, axis, None] + np.arange(int(count[:, axis].max(initial=0)))
            reach = (last - first)[:, axis, None]
            part = (lines - first[:, axis, None]) / np.where(reach == 0, 1, reach)
            parts.append(np.where(lines < np.maximum(first, last)[:, axis, None], part, 1.0))
        return np.sort(np.concatenate(parts, axis=1), axis=1)

    def field(self, goal: ArrayLike) -> Field:
        """Return the distance field of one goal [3], from memory if it was asked for before."""
        point, cell = self._standing(goal, "goal")
        return self.geodesics.field(point, int(cell))

    def distances(self, points: ArrayLike, goal: ArrayLike) -> Floats:
        """Geodesic metres from points [n, 3] to one goal [3], or each to its own of goals [n, 3].

        Infinite where no way leads. Within about 0.5% and 2 cm of the true length over the
        walkable cells, and never below the straight line. `InputError` for points that are not
        walkable.
        """
        p, cell = self._standing(points, "position")
        goals = np.asarray(goal, np.float64)
        around = self.geodesics.around(cell)
        aside = self.geodesics.corners.points[around] - p[:, None]
        length = (self._lengths(around, goals) + np.sqrt(np.square(aside).sum(-1))).min(1)
        straight: Floats = np.linalg.norm(p - goals, axis=1)
        out: Floats = np.maximum(length / MEAN_EXCESS, straight)
        near = np.flatnonzero((straight < _NEAR) & (out < 2 * _NEAR))
        if len(near):
            open_way = near[self.sees(p[near], goals if goals.ndim == 1 else goals[near])]
            out[open_way] = np.asarray(straight)[open_way]
        return out

    def _lengths(self, corners: Ints, goals: Floats) -> NDArray[np.float32]:
        """Lengths from corners [n, k] to one goal [3], or each row to its own of [n, 3]."""
        if goals.ndim == 1:
            return self.field(goals).length[corners]
        out = np.empty(corners.shape, np.float32)
        rows: dict[tuple[float, ...], list[int]] = {}
        for row, goal in enumerate(goals.tolist()):
            rows.setdefault(tuple(goal), []).append(row)
        for goal, members in rows.items():
            out[members] = self.field(goal).length[corners[members]]
        return out

    def geodesic(self, a: ArrayLike, b: ArrayLike) -> float:
        """Metres of the shortest way from a [3] to b [3], or to the nearest of b [k, 3]."""
        start = np.asarray(a, np.float64)[None]
        goals = np.asarray(b, np.float64).reshape(-1, 3)
        return float(min(self.distances(start, goal)[0] for goal in goals))

    def shortest_path(self, a: ArrayLike, b: ArrayLike) -> Floats:
        """Corners [m, 3] of the shortest way from a to b, both included; [0, 3] if there is none.

        Every piece can be walked in a straight line.
        """
        start, cell = self._standing(a, "position")
        field, corners = self.field(b), self.geodesics.corners
        around = self.geodesics.around(cell)
        ahead = np.linalg.norm(corners.points[around] - start, axis=1)
        here = int(around[(field.length[around] + ahead).argmin()])
        if not np.isfinite(field.length[here]):
            return np.empty((0, 3))
        chain = [here]
        while (here := int(field.onward[here])) < len(corners.points):
            chain.append(here)
        way = self._taut(np.vstack([start, corners.inside[chain], field.goal]))
        for _ in range(_PULLS):
            way = self._taut(self.snap(sample_path(way, 2 * self.surface.cell)))
        return way

    def _taut(self, points: Floats) -> Floats:
        """Leave out the points of a way that straight pieces can do without."""
        kept, here = [0], 0
        while here < len(points) - 1:
            last = min(len(points), here + 400)
            seen = np.flatnonzero(self.sees(points[here], points[here + 1 : last]))
            here += 1 + (int(seen[-1]) if len(seen) else 0)
            kept.append(here)
        return points[kept]

    def random_points(self, count: int, rng: np.random.Generator) -> Floats:
        """Draw points [count, 3] uniformly from the largest connected part of the walkable area."""
        cells = np.flatnonzero(self.surface.island == 0)
        chosen = cells[rng.integers(len(cells), size=count)]
        corner = self.surface.origin + self.surface.column[chosen] * self.surface.cell
        inside = self._drawn(chosen, corner + rng.random((count, 2)) * self.surface.cell)
        return self._on(chosen, inside)

    def topdown(self, height: float, metres_per_pixel: float = 0.05) -> tuple[Bools, MapTransform]:
        """Map of the walkable area [rows, columns] within 0.5 m of a height, north up."""
        s = self.surface
        size = np.array(s.table.shape[:0:-1]) * s.cell
        columns, rows = np.ceil(size / metres_per_pixel - 1e-9).astype(int)
        north = float(s.origin[1] + size[1])
        transform = MapTransform(
            west=float(s.origin[0]), north=north, metres_per_pixel=metres_per_pixel
        )
        pixels = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), axis=-1)
        flat = transform.to_world(pixels)
        points = np.concatenate([flat, np.full((*flat.shape[:2], 1), height)], axis=-1)
        return self.is_navigable(points), transform


def sample_path(points: Floats, spacing: float) -> Floats:
    """Points on a polyline [m, 3]: its own, and others between, at most `spacing` metres apart."""
    length = np.linalg.norm(np.diff(points, axis=0), axis=1)
    count = np.maximum(np.ceil(length / spacing).astype(int), 1)
    piece = np.repeat(np.arange(len(count)), count)
    part = (np.arange(len(piece)) - np.repeat(np.cumsum(count) - count, count)) / count[piece]
    between = points[piece] + part[:, None] * (points[piece + 1] - points[piece])
    return np.vstack([between, points[-1:]])


def path_length(points: Floats | Sequence[ArrayLike]) -> float:
    """Metres along a polyline [m, 3]."""
    p = np.asarray(points, np.float64).reshape(-1, 3)
    return float(np.linalg.norm(np.diff(p, axis=0), axis=1).sum())
