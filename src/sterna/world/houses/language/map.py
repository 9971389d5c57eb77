"""A house as a walker knows it: rooms, doors and landmarks seen from the viewpoints of its graph.

A viewpoint in a doorway belongs to both rooms. An edge that leads through one opening crosses its
door; edges that lead through two at once are not for people who follow instructions: left out.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from sterna.world.geometry import Floats, Ints
from sterna.world.houses.language.landmarks import Bools, find_landmarks, gaps
from sterna.world.houses.language.lexicon import ALSO
from sterna.world.houses.language.meaning import ThingRef
from sterna.world.houses.language.sight import Rays, seen_from
from sterna.world.houses.scene import House
from sterna.world.houses.viewpoints import Viewpoints

Path = tuple[int, ...]
Vector = tuple[float, float]


class HouseMap:
    """Positions `xy` [N, 2], `rooms` of each viewpoint, its `storey` (-1 on a landing).

    `seen` [N, L] and `gap` [N, L] (metres) say which landmarks a viewpoint sees (`visible` lists
    them) and how far their footprints are; `doors_of[room]` lists a room's ways out; `links[u][v]`
    is the length of an edge, `crossed[u, v]` the door it leads through (-1 none), `climbs[u, v]`
    whether it leads over stairs.
    """

    def __init__(self, house: House, viewpoints: Viewpoints) -> None:
        self.house, self.viewpoints = house, viewpoints
        self.graph = viewpoints.graph
        self.marks = find_landmarks(house)
        self.xy: Floats = viewpoints.floor[:, :2]
        self.points: list[Vector] = [(x, y) for x, y in self.xy.tolist()]
        self.storey = _storeys(house, viewpoints)
        self.rooms = _rooms(house, viewpoints)
        self.kinds = [room.kind for room in house.rooms]
        self.doors_of = [
            [d for d in house.doors if room.id in d.rooms and d.rooms[1] is not None]
            for room in house.rooms
        ]
        self.rays = Rays(house)
        self.seen: Bools = seen_from(self.rays, self.marks, self.graph.positions, self.storey)
        self.visible = [frozenset(np.flatnonzero(row).tolist()) for row in self.seen]
        self.gap: Floats = gaps(self.xy, self.marks.rects)
        self.links: dict[int, dict[int, float]] = {}
        self.crossed: dict[tuple[int, int], int] = {}
        self.climbs: dict[tuple[int, int], bool] = {}
        self._link()
        self.walks = Walks(self, None)
        self.cache: dict[Any, Any] = {}
        self._matches: dict[ThingRef, list[int]] = {}

    def _link(self) -> None:
        floor = self.viewpoints.floor[:, 2]
        for u in range(len(self.graph)):
            self.links[u] = {}
            edges = self.graph.edges(u)
            for v, length in zip(
                self.graph.indices[edges].tolist(), self.graph.distance[edges].tolist(), strict=True
            ):
                climbs = abs(floor[u] - floor[v]) > 0.05 or min(self.storey[u], self.storey[v]) < 0
                common = set(self.rooms[u]) & set(self.rooms[v])
                door = -1 if common or climbs else self._door(u, v)
                if door is None:
                    continue
                self.links[u][v] = length
                self.crossed[u, v] = door
                self.climbs[u, v] = bool(climbs)

    def _door(self, u: int, v: int) -> int | None:
        """Return the door an edge leads through; None if it is not just one."""
        found = []
        for door in self.house.doors:
            a, b = door.rooms
            joins = (a in self.rooms[u] and b in self.rooms[v]) or (
                b in self.rooms[u] and a in self.rooms[v]
            )
            if b is not None and joins and _through(self.points[u], self.points[v], door):
                found.append(door.id)
        return found[0] if len(found) == 1 else None

    def way(self, u: int, v: int) -> Vector:
        """Return the direction from one viewpoint to another on the floor plan, of length 1."""
        return unit(self.points[v][0] - self.points[u][0], self.points[v][1] - self.points[u][1])

    def beyond(self, door: int, room: int) -> int:
        """Return the room on the other side of a door; -1 for outdoors."""
        a, b = self.house.doors[door].rooms
        other = b if a == room else a
        return -1 if other is None else other

    def matches(self, ref: ThingRef) -> list[int]:
        """Return all landmarks of the house that fit a description, loosely understood."""
        if ref not in self._matches:
            kinds = (ref.kind, *ALSO.get(ref.kind, ()))
            rows = [r for kind in kinds for r in self.marks.by_kind.get(kind, ())]
            self._matches[ref] = [r for r in rows if self._fits(r, ref)]
        return self._matches[ref]

    def _fits(self, row: int, ref: ThingRef) -> bool:
        if row < self.marks.windows.start:
            thing = self.house.things[row]
            if any(
                said not in ("", has)
                for said, has in (
                    (ref.colour, thing.colour),
                    (ref.material, thing.material),
                    (ref.size, thing.size),
                )
            ):
                return False
        elif ref.colour or ref.material or ref.size:
            return False
        if not ref.relation:
            return True
        others = self.marks.related(row, ref.relation, loose=True)
        return any(self._is(o, ref.other, ref.other_colour) for o in others)

    def _is(self, row: int, kind: str, colour: str) -> bool:
        if self.marks.kinds[row] not in (kind, *ALSO.get(kind, ())):
            return False
        return not colour or (
            row < self.marks.windows.start and self.house.things[row].colour == colour
        )


def unit(x: float, y: float) -> Vector:
    """Return a vector of length 1 (0, 0 for nothing)."""
    length = float(np.sqrt(x * x + y * y))
    return (x / length, y / length) if length > 1e-9 else (0.0, 0.0)


def _storeys(house: House, viewpoints: Viewpoints) -> Ints:
    z = viewpoints.floor[:, 2]
    level = np.abs(z[:, None] - np.array(house.floors)) < 0.05
    return np.where(level.any(1), level.argmax(1), -1)


def _rooms(house: House, viewpoints: Viewpoints) -> list[tuple[int, ...]]:
    out = []
    for room, door in zip(viewpoints.room.tolist(), viewpoints.door.tolist(), strict=True):
        pair = (room, None) if door < 0 else house.doors[door].rooms
        out.append(tuple(r for r in pair if r is not None))
    return out


def _through(a: Vector, b: Vector, door: Any) -> bool:
    """Whether a line on the floor plan passes through a door's opening."""
    axis = 1 if door.axis == "x" else 0
    before, after = a[axis] - door.at, b[axis] - door.at
    if before * after > 0 or before == after:
        return False
    t = before / (before - after)
    at = a[1 - axis] + (b[1 - axis] - a[1 - axis]) * t
    return bool(door.low <= at <= door.high)


class Walks:
    """Shortest ways inside rooms, through doors and up stairs; `path` allows its own edges only."""

    def __init__(self, house: HouseMap, path: Iterable[int] | None) -> None:
        self.map = house
        self._edges = None if path is None else set(pairwise(path))
        self._trees: dict[tuple[int, int], dict[int, tuple[float, Path]]] = {}

    def _out(self, u: int) -> Iterable[tuple[int, float]]:
        links = self.map.links[u].items()
        if self._edges is None:
            return links
        return [(v, length) for v, length in links if (u, v) in self._edges]

    def inside(self, room: int, start: int) -> dict[int, tuple[float, Path]]:
        """Return (metres, viewpoints) of the shortest way inside a room to each viewpoint."""
        key = (room, start)
        if key not in self._trees:
            self._trees[key] = self._tree(room, start)
        return self._trees[key]

    def _tree(self, room: int, start: int) -> dict[int, tuple[float, Path]]:
        done: dict[int, tuple[float, Path]] = {}
        front: list[tuple[float, Path]] = [(0.0, (start,))]
        while front:
            cost, path = heapq.heappop(front)
            u = path[-1]
            if u in done:
                continue
            done[u] = (cost, path)
            for v, length in self._out(u):
                if v not in done and self._belongs(u, v, room):
                    heapq.heappush(front, (cost + length, (*path, v)))
        return done

    def _belongs(self, u: int, v: int, room: int) -> bool:
        """Whether an edge stays in a room; room -1 stands for the stairs."""
        if room < 0:
            return self.map.climbs[u, v]
        rooms = self.map.rooms
        return not self.map.climbs[u, v] and room in rooms[u] and room in rooms[v]

    def through(self, room: int, start: int, door: int, last: bool) -> list[tuple[float, Path]]:
        """Return ways out of a room through a door: to viewpoints just beyond or in the opening.

        The last step of an instruction does not end in the opening.
        """
        found, tree = [], self.inside(room, start)
        standing, beyond = self.map.viewpoints.door, self.map.beyond(door, room)
        for u, (cost, path) in tree.items():
            own = standing[u] == door
            if own and not last and u != start:
                found.append((cost, path))
            for v, length in self._out(u):
                past = own and beyond in self.map.rooms[v] and room not in self.map.rooms[v]
                if self.map.crossed[u, v] == door or past:
                    found.append((cost + length, (*path, v)))
        return sorted(found)

    def climb(self, room: int, start: int, up: bool, landing: bool) -> list[tuple[float, Path]]:
        """Return ways up or down the stairs to the next storey (or to the landing)."""
        found, storey, floor = [], self.map.storey, self.map.viewpoints.floor[:, 2]
        inside = {start: (0.0, (start,))} if storey[start] < 0 else self.inside(room, start)
        for u, (cost, path) in inside.items():
            for v, (more, rest) in self.inside(-1, u).items():
                rises = (floor[v] - floor[u]) * (1 if up else -1) > 0.05
                if rises and (storey[v] < 0) == landing and _straight_up(storey, rest):
                    found.append((cost + more, path + rest[1:]))
        return sorted(found)


def _straight_up(storey: Ints, path: Path) -> bool:
    """Whether a way over stairs touches no full storey between its ends."""
    return all(storey[node] < 0 for node in path[1:-1])
