"""Where an agent can stand: walkable cells of a scene of boxes, and which cell joins which.

A `Scene` is plain arrays: solid boxes, level floors, flights of stairs (walked as ramps). Floors
and ramps are cut into square cells; a column may hold several cells, one above another. Cells that
touch and differ by no more than a step are joined, so storeys meet where a ramp meets them.

Legend: N cells; H, W rows and columns of the raster; K cells above one another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from sterna.errors import InputError
from sterna.world.geometry import Floats, Ints

Way = Literal["+x", "-x", "+y", "-y"]

# Slot of a move by (dx, dy) cells in `Surface.joined`: 3 * (dy + 1) + (dx + 1); 4 stays.
HERE = 4
MOVES = tuple((dx, dy) for dy in (-1, 0, 1) for dx in (-1, 0, 1))

_SAME = 1e-6


@dataclass(frozen=True, kw_only=True)
class Agent:
    """The body that walks, in metres; the defaults are Habitat's, used by VLN-CE on R2R."""

    radius: float = 0.1
    height: float = 1.5
    step: float = 0.2
    """What it steps over; lower things are no obstacles."""

    def __post_init__(self) -> None:
        """Refuse a body that has no size."""
        for name in ("radius", "height", "step"):
            value = getattr(self, name)
            if not 0 < value < 100:
                raise InputError(f"agent: {name} must be metres above 0, found {value}")


@dataclass(frozen=True, kw_only=True)
class Stairs:
    """A straight flight over the rectangle `low`-`high` (x, y), rising from `bottom` to `top`."""

    low: tuple[float, float]
    high: tuple[float, float]
    bottom: float
    top: float
    up: Way
    """The direction in which it rises."""

    def heights(self, x: Floats, y: Floats) -> Floats:
        """Height of the ramp at (x, y), metres."""
        axis = 0 if self.up[1] == "x" else 1
        along = ((x, y)[axis] - self.low[axis]) / (self.high[axis] - self.low[axis])
        if self.up[0] == "-":
            along = 1 - along
        rise: Floats = self.bottom + along.clip(0, 1) * (self.top - self.bottom)
        return rise

    @property
    def slope(self) -> tuple[float, float]:
        """Metres of height gained a metre along x and along y."""
        axis = 0 if self.up[1] == "x" else 1
        steepness = (self.top - self.bottom) / (self.high[axis] - self.low[axis])
        signed = steepness if self.up[0] == "+" else -steepness
        return (signed, 0.0) if axis == 0 else (0.0, signed)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """Solid boxes [n, 6] and floors [m, 5] in metres, and stairs.

    A box is (x, y, z) of its lowest and of its highest corner; a floor is a level rectangle
    (x low, y low, x high, y high, z). Floors of rooms side by side must touch. Stairs cut the
    opening they need out of the floors above and below them. `InputError` for wrong shapes, values
    that are not finite, and corners in the wrong order.
    """

    boxes: Floats
    floors: Floats
    stairs: tuple[Stairs, ...] = ()

    def __post_init__(self) -> None:
        """Check shapes and values."""
        for name, width in (("boxes", 6), ("floors", 5)):
            array = np.asarray(getattr(self, name), np.float64)
            array = array.reshape(-1, width) if array.size == 0 else array
            if array.ndim != 2 or array.shape[1] != width or not np.isfinite(array).all():
                raise InputError(f"scene: {name} must be finite numbers [n, {width}]")
            object.__setattr__(self, name, array)
        if not len(self.floors):
            raise InputError("scene: expected at least one floor, found none")
        if (self.boxes[:, :3] > self.boxes[:, 3:]).any():
            raise InputError("scene: a box's first corner must be its lowest in x, y and z")
        if (self.floors[:, :2] >= self.floors[:, 2:4]).any():
            raise InputError("scene: a floor is (x low, y low, x high, y high, z)")
        for flight in self.stairs:
            if np.any(np.array(flight.low) >= flight.high) or flight.bottom >= flight.top:
                raise InputError(f"scene: stairs must have a size and rise, found {flight}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Surface:
    """Walkable cells: a point belongs to the cell whose square holds it, at the cell's height."""

    cell: float
    """Side of a cell in metres."""
    origin: Floats
    """Corner (x, y) of the raster; cell (i, j) is column i from it in x and row j in y."""
    table: NDArray[np.int32]
    """[K, H, W] numbers of the cells of a column, -1 where there is none."""
    column: NDArray[np.int32]
    """[N, 2] (i, j) of each cell."""
    height: Floats = field(repr=False)
    """[N] z of the centres, metres."""
    slope: Floats = field(repr=False)
    """[N, 2] metres of height a metre along x and y; 0 but on stairs."""
    joined: NDArray[np.int32] = field(repr=False)
    """[N, 9] the cell reached by each of `MOVES`, -1 where none is; a corner is never cut."""
    island: NDArray[np.int32] = field(repr=False)
    """[N] number of the connected part a cell belongs to; 0 is the largest."""

    @property
    def centres(self) -> Floats:
        """Middle of each cell, [N, 3] metres."""
        return self.centres_of(np.arange(len(self.height)))

    def centres_of(self, cells: Ints | NDArray[np.int32]) -> Floats:
        """Middle of the given cells [...], [..., 3] metres."""
        flat = self.origin + (self.column[cells] + 0.5) * self.cell
        return np.concatenate([flat, self.height[cells][..., None]], axis=-1)


def make_surface(scene: Scene, agent: Agent, cell: float = 0.05) -> Surface:
    """Find the cells where the middle of an agent may be.

    A cell is walkable if, at its centre, (1) no box that reaches above a step and below the
    agent's head comes nearer than the radius (exact distance to the box), (2) there is headroom
    under other floors and ramps, and (3) no ledge is nearer than the radius. Between centres the
    clearance may therefore fall short by at most 0.71 cell.

    Raises `InputError` if the cells are too large for the agent (a thin wall could slip between
    two centres), or if nothing is walkable.
    """
    if not 0 < cell * math.sqrt(2) <= agent.radius * (2 + _SAME):
        raise InputError(
            f"space: a cell of {cell} m is too large for an agent of radius {agent.radius} m; "
            f"take at most {agent.radius * math.sqrt(2):.3f} m"
        )
    raster = _Raster(scene, agent, cell)
    raster.keep(~raster.under_something())
    ledges = ~raster.whole_discs()
    raster.keep(~(raster.near_boxes() | ledges))
    if not len(raster.height):
        raise InputError("space: nothing is walkable; check that floors and boxes use metres, z up")
    return raster.surface()


class _Raster:
    """Cells while they are being found: columns, heights, slopes, and the table over them."""

    def __init__(self, scene: Scene, agent: Agent, cell: float) -> None:
        self.scene, self.agent, self.cell = scene, agent, cell
        rectangles = np.array([(*s.low, *s.high) for s in scene.stairs]).reshape(-1, 4)
        rectangles = np.concatenate([scene.floors[:, :4], rectangles])
        # One empty cell all around, so that a neighbour's index never leaves the table.
        self.origin = np.floor(rectangles[:, :2].min(0) / cell) * cell - cell
        size = np.ceil((rectangles[:, 2:].max(0) - self.origin) / cell).astype(int) + 2
        self.width, self.rows = int(size[0]), int(size[1])
        parts = [self._ramp(number) for number in range(len(scene.stairs))]
        parts += [self._level(floor) for floor in scene.floors]
        self.ij = np.concatenate([p[0] for p in parts])
        self.height = np.concatenate([p[1] for p in parts])
        self.slope = np.concatenate([p[2] for p in parts])
        self.flight = np.concatenate([p[3] for p in parts])
        self.keep(self._first_of_each())

    def _cells(self, low: Floats, high: Floats) -> Ints:
        """Columns whose centres lie in a rectangle, [n, 2]."""
        first = np.ceil((low - self.origin) / self.cell - 0.5 - _SAME).astype(int)
        last = np.ceil((high - self.origin) / self.cell - 0.5 - _SAME).astype(int)
        first, last = first.clip(0), np.minimum(last, (self.width, self.rows))
        i, j = np.meshgrid(np.arange(first[0], last[0]), np.arange(first[1], last[1]))
        return np.stack([i.ravel(), j.ravel()], axis=1)

    def _level(self, floor: Floats) -> tuple[Ints, Floats, Floats, Ints]:
        ij = self._cells(floor[:2], floor[2:4])
        return ij, np.full(len(ij), floor[4]), np.zeros((len(ij), 2)), np.full(len(ij), -1)

    def _ramp(self, number: int) -> tuple[Ints, Floats, Floats, Ints]:
        flight = self.scene.stairs[number]
        ij = self._cells(np.array(flight.low), np.array(flight.high))
        x, y = (self.origin + (ij + 0.5) * self.cell).T
        slope = np.tile(flight.slope, (len(ij), 1))
        return ij, flight.heights(x, y), slope, np.full(len(ij), number)

    def keep(self, good: NDArray[np.bool_]) -> None:
        """Drop the other cells and number the rest anew."""
        self.ij, self.height = self.ij[good], self.height[good]
        self.slope, self.flight = self.slope[good], self.flight[good]
        order = np.lexsort((self.height, self.ij[:, 0], self.ij[:, 1]))
        self.ij, self.height = self.ij[order], self.height[order]
        self.slope, self.flight = self.slope[order], self.flight[order]
        place = self.ij[:, 1] * self.width + self.ij[:, 0]
        new = np.concatenate([[True], place[1:] != place[:-1]])[: len(place)]
        starts = np.flatnonzero(new)
        counts = np.diff(np.append(starts, len(place)))
        level = np.arange(len(place)) - np.repeat(starts, counts)
        self.table = np.full((level.max(initial=0) + 1, self.rows, self.width), -1, np.int32)
        self.table[level, self.ij[:, 1], self.ij[:, 0]] = np.arange(len(place))

    def _first_of_each(self) -> NDArray[np.bool_]:
        """Cells that are not doubled: floors may overlap, and a ramp begins on a floor.

        Of two cells of one column less than a step apart the first given stays: ramps, then floors
        in order.
        """
        order = np.lexsort((np.arange(len(self.ij)), self.ij[:, 0], self.ij[:, 1]))
        place = self.ij[order, 1] * self.width + self.ij[order, 0]
        good = np.ones(len(order), bool)
        for back in range(1, _deepest(place)):
            same = np.zeros(len(order), bool)
            same[back:] = place[back:] == place[:-back]
            earlier = np.roll(good, back)
            gap = np.abs(self.height[order] - np.roll(self.height[order], back))
            good &= ~(same & earlier & (gap < self.agent.step))
        out = np.empty(len(order), bool)
        out[order] = good
        return out

    def under_something(self) -> NDArray[np.bool_]:
        """Cells that must go for want of headroom; where a ramp is concerned, the floor goes."""
        gone = np.zeros(len(self.height), bool)
        for lower in range(len(self.table)):
            for upper in range(lower + 1, len(self.table)):
                low, high = self.table[lower].ravel(), self.table[upper].ravel()
                both = high >= 0
                low, high = low[both], high[both]
                tight = self.height[high] - self.height[low] < self.agent.height - _SAME
                ramp = self.flight[low] >= 0
                gone[low[tight & ~ramp]] = True
                gone[high[tight & ramp]] = True
        return gone

    def whole_discs(self) -> NDArray[np.bool_]:
        """Cells around which the floor goes on for the agent's radius on every side."""
        joined = _join(self.table, self.ij, self.height, self.agent.step)
        reach = math.floor(self.agent.radius / self.cell + 0.5 - _SAME)
        offsets = [
            (a, b)
            for a in range(-reach, reach + 1)
            for b in range(-reach, reach + 1)
            if (a, b) != (0, 0)
        ]
        offsets.sort(key=lambda o: o[0] ** 2 + o[1] ** 2)
        at = {(0, 0): np.arange(len(self.ij), dtype=np.int32)}
        whole = np.ones(len(self.ij), bool)
        for a, b in offsets:
            if math.hypot(a, b) * self.cell - self.cell / 2 >= self.agent.radius - _SAME:
                continue
            da = int(np.sign(a)) if abs(a) >= abs(b) else 0
            db = int(np.sign(b)) if abs(b) >= abs(a) else 0
            before = at[a - da, b - db]
            there = joined[before, 3 * (db + 1) + da + 1]
            at[a, b] = np.where(before >= 0, there, -1).astype(np.int32)
            whole &= at[a, b] >= 0
        return whole

    def near_boxes(self) -> NDArray[np.bool_]:
        """Cells whose centre has a box nearer than the radius, between step and head height."""
        blocked = np.zeros(len(self.height), bool)
        radius = self.agent.radius
        low, high = self.height + self.agent.step + _SAME, self.height + self.agent.height - _SAME
        for box in self.scene.boxes:
            first = np.floor((box[:2] - radius - self.origin) / self.cell).astype(int).clip(0)
            last = np.ceil((box[3:5] + radius - self.origin) / self.cell).astype(int)
            near = self.table[:, first[1] : max(last[1], 0), first[0] : max(last[0], 0)].ravel()
            near = near[near >= 0]
            near = near[(box[5] > low[near]) & (box[2] < high[near])]
            centre = self.origin + (self.ij[near] + 0.5) * self.cell
            gap = np.maximum(np.maximum(box[:2] - centre, centre - box[3:5]), 0)
            hit = near[np.hypot(*gap.T) < radius - _SAME]
            treads = self._treads(box)
            blocked[hit[~np.isin(self.flight[hit], treads)] if treads else hit] = True
        return blocked

    def _treads(self, box: Floats) -> list[int]:
        """Flights of which a box is a step: inside the footprint, a riser above the ramp at most.

        Measured where the ramp is lowest under the box, so that a wall along a flight is none.
        """
        found = []
        for number, flight in enumerate(self.scene.stairs):
            inside = (box[:2] >= np.array(flight.low) - self.cell).all()
            inside &= (box[3:5] <= np.array(flight.high) + self.cell).all()
            lowest = flight.heights(box[[0, 0, 3, 3]], box[[1, 4, 1, 4]]).min()
            if inside and flight.bottom < box[5] <= lowest + self.agent.step + _SAME:
                found.append(number)
        return found

    def surface(self) -> Surface:
        joined = _join(self.table, self.ij, self.height, self.agent.step)
        return Surface(
            cell=self.cell,
            origin=self.origin,
            table=self.table,
            column=self.ij.astype(np.int32),
            height=self.height,
            slope=self.slope,
            joined=joined,
            island=_islands(joined),
        )


def _deepest(place: Ints) -> int:
    """Most cells that share a column, of sorted column numbers."""
    return int(np.unique(place, return_counts=True)[1].max(initial=1))


def _join(table: NDArray[np.int32], ij: Ints, height: Floats, step: float) -> NDArray[np.int32]:
    """Neighbours [N, 9] of all cells; a diagonal needs both cells beside it, joined to one end."""
    joined = np.full((len(ij), 9), -1, np.int32)
    joined[:, HERE] = np.arange(len(ij))
    for slot, (dx, dy) in enumerate(MOVES):
        if slot == HERE:
            continue
        best = np.full(len(ij), step + _SAME)
        for level in table:
            there = level[ij[:, 1] + dy, ij[:, 0] + dx]
            gap = np.where(there >= 0, np.abs(height[there] - height), np.inf)
            nearer = gap < best
            best[nearer], joined[nearer, slot] = gap[nearer], there[nearer]
    for slot, (dx, dy) in enumerate(MOVES):
        if dx and dy:
            beside_x, beside_y = joined[:, HERE + dx], joined[:, HERE + 3 * dy]
            by_x = np.where(beside_x >= 0, joined[beside_x, HERE + 3 * dy], -1)
            by_y = np.where(beside_y >= 0, joined[beside_y, HERE + dx], -1)
            joined[(by_x != joined[:, slot]) | (by_y != joined[:, slot]), slot] = -1
    return joined


def _islands(joined: NDArray[np.int32]) -> NDArray[np.int32]:
    count = len(joined)
    start, slot = np.nonzero(joined[:, [5, 7]] >= 0)
    ends = joined[:, [5, 7]][start, slot]
    graph = coo_matrix((np.ones(len(start), np.int8), (start, ends)), shape=(count, count))
    number, labels = connected_components(graph, directed=False)
    rank = np.empty(number, np.int32)
    rank[np.argsort(-np.bincount(labels), kind="stable")] = np.arange(number)
    out: NDArray[np.int32] = rank[labels]
    return out
