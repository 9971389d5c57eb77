"""Everything in a house that can be spoken of, in one table: things, windows, doors, stairs.

Rows are things (row = thing id), then windows, doors and stairs. Metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sterna.world.geometry import Floats, Ints
from sterna.world.houses.scene import Door, House

BESIDE, BESIDE_LOOSE = 0.6, 1.0  # how near "beside" is when said, and when understood
DOOR_BESIDE, DOOR_BESIDE_LOOSE = 0.9, 1.3
OVER_LEAST, OVER_MOST = 0.02, 1.2  # air between a thing and what hangs above it
WALL = 0.13  # half an outer wall and a little
FLOOR, HUNG = -1, -3  # what carries a thing that stands on no other; HUNG: a wall or the ceiling

Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Landmarks:
    """Rows: `kinds`, footprints `rects` [L, 4], `heights` [L, 2] (lowest, highest z), `storey` [L].

    Footprints are x0, y0, x1, y1. `rooms` [L, 2] are the rooms a row belongs to (-1: none), two for
    doors alone: stairs have a row for either end, in the room there. `front` [L, 2] is the way a
    thing looks (0, 0 for rows that are no things).
    """

    house: House
    kinds: tuple[str, ...]
    rects: Floats
    heights: Floats
    storey: Ints
    rooms: Ints
    front: Floats
    windows: range
    doors: range
    stairs: range

    def __len__(self) -> int:
        return len(self.kinds)

    @cached_property
    def centres(self) -> Floats:
        """Return the middles of the footprints [L, 2]."""
        return (self.rects[:, :2] + self.rects[:, 2:]) / 2

    @cached_property
    def middles(self) -> list[tuple[float, float]]:
        """Return the middles of the footprints as pairs."""
        return [(x, y) for x, y in self.centres.tolist()]

    @cached_property
    def room_pairs(self) -> list[tuple[int, ...]]:
        """Return the rooms a row belongs to."""
        return [tuple(pair) for pair in self.rooms.tolist()]

    @cached_property
    def by_kind(self) -> dict[str, list[int]]:
        """Return the rows of each kind."""
        rows: dict[str, list[int]] = {}
        for row, kind in enumerate(self.kinds):
            rows.setdefault(kind, []).append(row)
        return rows

    def door(self, row: int) -> Door:
        """Return the door of a door's row."""
        return self.house.doors[row - self.doors.start]

    def related(self, row: int, relation: str, loose: bool) -> list[int]:
        """Return the rows that a thing is on, beside, under or above."""
        key = (row, relation, loose)
        if key not in self._relations:
            self._relations[key] = self._related(row, relation, loose)
        return self._relations[key]

    @cached_property
    def _relations(self) -> dict[tuple[int, str, bool], list[int]]:
        return {}

    def _related(self, row: int, relation: str, loose: bool) -> list[int]:
        if relation == "on":
            below = self.house.things[row].on
            return [] if below is None else [below]
        return [
            other
            for other in self.in_room(int(self.rooms[row, 0]))
            if other != row and self._holds(row, other, relation, loose)
        ]

    def in_room(self, room: int) -> list[int]:
        """Return the things and windows of a room."""
        return self._of_rooms.get(room, [])

    @cached_property
    def _of_rooms(self) -> dict[int, list[int]]:
        rows: dict[int, list[int]] = {}
        for row in range(self.windows.stop):
            rows.setdefault(int(self.rooms[row, 0]), []).append(row)
        return rows

    def _holds(self, row: int, other: int, relation: str, loose: bool) -> bool:
        if relation == "beside":
            standing = self._support(row) == self._support(other)
            return standing and gap(self.rects[row], self.rects[other]) <= (
                BESIDE_LOOSE if loose else BESIDE
            )
        over, under = (row, other) if relation == "above" else (other, row)
        air = self.heights[over, 0] - self.heights[under, 1]
        a, b = self.rects[over], self.rects[under]
        common = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        least = -0.15 if self._support(over) == HUNG else 0.05  # a wall's own things stand off it
        touching = over < self.windows.start and self.house.things[over].on is not None
        return bool(
            OVER_LEAST <= air <= OVER_MOST
            and common[0] > least
            and common[1] > least
            and not touching
            and max(common) > 0.1
        )

    def _support(self, row: int) -> int:
        """Return what a row stands on: a thing's id, `FLOOR` (rugs count to it) or `HUNG`."""
        if row >= self.windows.start:
            return HUNG
        thing = self.house.things[row]
        if thing.on is not None:
            carrier = self.house.things[thing.on]
            return FLOOR if carrier.kind == "rug" else thing.on
        return FLOOR if self.heights[row, 0] - self.house.floors[thing.storey] < 0.05 else HUNG


def gap(a: Floats, b: Floats) -> float:
    """Return the distance of two footprints in metres (0 where they overlap)."""
    dx = max(a[0] - b[2], b[0] - a[2], 0.0)
    dy = max(a[1] - b[3], b[1] - a[3], 0.0)
    return float(np.sqrt(dx * dx + dy * dy))


def gaps(points: Floats, rects: Floats) -> Floats:
    """Return the distances [..., L] of points [..., 2] from footprints [L, 4]."""
    x, y = points[..., :1], points[..., 1:2]
    dx = np.maximum(np.maximum(rects[:, 0] - x, x - rects[:, 2]), 0.0)
    dy = np.maximum(np.maximum(rects[:, 1] - y, y - rects[:, 3]), 0.0)
    return np.asarray(np.sqrt(dx * dx + dy * dy))


_FRONTS = ((0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0))


# A row: kind, footprint, lowest and highest z, storey, rooms.
_Row = tuple[str, tuple[float, ...], tuple[float, float], int, tuple[int, int]]


def find_landmarks(house: House) -> Landmarks:
    """List what can be spoken of in a house."""
    things, windows = _things(house), _windows(house)
    doors, stairs = _doors(house), _stairs(house)
    rows = [*things, *windows, *doors, *stairs]
    first = len(things) + len(windows)
    second = first + len(doors)
    front = [_FRONTS[t.heading] for t in house.things] + [(0.0, 0.0)] * (len(rows) - len(things))
    return Landmarks(
        house=house,
        kinds=tuple(row[0] for row in rows),
        rects=np.array([row[1] for row in rows]),
        heights=np.array([row[2] for row in rows]),
        storey=np.array([row[3] for row in rows], np.int64),
        rooms=np.array([row[4] for row in rows], np.int64),
        front=np.array(front),
        windows=range(len(things), first),
        doors=range(first, second),
        stairs=range(second, len(rows)),
    )


def _things(house: House) -> list[_Row]:
    out: list[_Row] = []
    for t in house.things:
        (x, y, z), (a, b, c) = t.centre, t.half
        out.append((t.kind, (x - a, y - b, x + a, y + b), (z - c, z + c), t.storey, (t.room, -1)))
    return out


def _windows(house: House) -> list[_Row]:
    out: list[_Row] = []
    for w in house.windows:
        rect, floor = _in_wall(w.axis, w.at, w.low, w.high), house.floors[w.storey]
        out.append(("window", rect, (floor + w.sill, floor + w.head), w.storey, (w.room, -1)))
    return out


def _doors(house: House) -> list[_Row]:
    out: list[_Row] = []
    for d in house.doors:
        rect, floor = _in_wall(d.axis, d.at, d.low, d.high), house.floors[d.storey]
        pair = (d.rooms[0], -1 if d.rooms[1] is None else d.rooms[1])
        out.append(("door", rect, (floor, floor + d.height), d.storey, pair))
    return out


def _stairs(house: House) -> list[_Row]:
    out: list[_Row] = []
    for s in house.stairs:
        ends = ((s.foot, s.storey, s.rooms[0]), (s.top, s.storey + 1, s.rooms[1]))
        for (x, y, z), storey, room in ends:
            rect = (x - 0.4, y - 0.4, x + 0.4, y + 0.4)
            out.append(("stairs", rect, (z, z + 1.0), storey, (room, -1)))
    return out


def _in_wall(axis: str, at: float, low: float, high: float) -> tuple[float, ...]:
    if axis == "x":
        return low, at - WALL, high, at + WALL
    return at - WALL, low, at + WALL, high
