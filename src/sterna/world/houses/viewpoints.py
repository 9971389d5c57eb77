"""Viewpoints of a house and the graph between them, laid out as in Matterport's scans.

First stairs (foot, both ends of the landing, top) and doorways (in the opening, or one on either
side) get theirs, then rooms are filled at random until every spot of free floor has one
nearby. Two are joined if they are at most 5 m apart, see each other at camera height, can be
walked between straight or nearly so, and no third one lies conveniently between them.

Whole millimetres and `Dice` decide everything: the same bytes on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_cdt
from scipy.sparse.csgraph import connected_components

from sterna.errors import InputError
from sterna.world.geometry import Floats, Ints
from sterna.world.graph import NavGraph, build_graph
from sterna.world.houses.dice import Dice
from sterna.world.houses.scans import scan_of, viewpoint_of
from sterna.world.houses.scene import Door, House
from sterna.world.houses.sight import Bools, millimetres, open_lines, thinned
from sterna.world.space import Space

STREAM = 2  # of the house's dice
HEIGHTS = (1450, 1550)  # of the camera over the floor
SPACING = 1450  # mm within which every free spot of a room has a viewpoint
REACH = 5000  # mm, the longest edge
THINNING = (4, 7)
ASIDE = 650  # mm from a doorway's middle to the viewpoints on either side
IN_DOORWAY = 40  # of a hundred doorways have one viewpoint in the opening
APART = 900  # mm that a viewpoint beside a doorway keeps from others of its room
# Bends of a nearly straight way: after so many quarters of it, so many hundredths of it to the
# left; none is more than a tenth longer.
DETOURS = tuple(
    (q, s * p) for p in (7, 14, 21) for q in (2, 1, 3) for s in (1, -1) if p < 20 or q == 2
)
MARGIN = 3  # cells to the nearest cell that cannot be walked on
REPAIRS = 60


@dataclass(frozen=True, kw_only=True)
class Viewpoints:
    """Viewpoints of a house; node numbers are those of `graph`.

    `floor` [N, 3] is the point of the floor under each camera, `height` [N] how far above it the
    camera is (metres). `room` [N] is the id of the room each stands in; one in a doorway counts to
    the first room of its door, those on the stairs to the room the flight belongs to. `door` [N]
    is the id of the door whose opening it stands in, -1 for the others.
    """

    graph: NavGraph
    floor: Floats
    room: Ints
    height: Floats
    door: Ints


def place_viewpoints(house: House, space: Space) -> Viewpoints:
    """Return the viewpoints of a house; `space` is the same house as `ground_of` gives it.

    Raises `InputError` if the house's rooms are not all connected for the agent of `space`.
    """
    dice = Dice(house.seed, STREAM)
    height = dice.between(*HEIGHTS, 10)
    floor = _Floor(house, space)
    _on_stairs(house, floor)
    for door in house.doors:
        if door.rooms[1] is not None:
            _at_door(dice, floor, door)
    for room in house.rooms:
        _in_room(dice, floor, room.id)
    points, linked = _connect(house, space, floor, height)
    metres = points / 1000
    camera = metres + np.array([0, 0, height / 1000])
    names = [viewpoint_of(house.seed, i) for i in range(len(points))]
    return Viewpoints(
        graph=build_graph(scan_of(house.seed), names, camera.round(3), linked),
        floor=metres,
        room=np.array(floor.room_of, np.int64),
        height=np.full(len(points), height / 1000),
        door=np.array(floor.door_of, np.int64),
    )


class _Floor:
    """Free floor as cells, and the viewpoints found so far (whole millimetres)."""

    def __init__(self, house: House, space: Space) -> None:
        surface = space.surface
        self.house, self.surface = house, surface
        self.cells = millimetres(surface.centres)
        self.storey = np.full(len(self.cells), -1)
        for storey, z in enumerate(millimetres(house.floors)):
            self.storey[(self.cells[:, 2] == z) & (surface.island == 0)] = storey
        self.room = np.full(len(self.cells), -1)
        x, y = self.cells[:, 0], self.cells[:, 1]
        for room in house.rooms:
            for x0, y0, x1, y1 in millimetres(room.rectangles):
                inside = (x0 < x) & (x < x1) & (y0 < y) & (y < y1)
                self.room[inside & (self.storey == room.storey)] = room.id
        self.clear = self._clearance(len(house.floors))
        self.spots: list[tuple[int, int, int]] = []
        self.room_of: list[int] = []
        self.door_of: list[int] = []
        self.doors_of = {
            room.id: [d.id for d in house.doors if room.id in d.rooms] for room in house.rooms
        }

    def _clearance(self, storeys: int) -> NDArray[np.int64]:
        """Cells to the nearest one that is not free level floor."""
        out = np.zeros(len(self.cells), np.int64)
        column = self.surface.column
        for storey in range(storeys):
            own = self.storey == storey
            mask = np.zeros(self.surface.table.shape[1:], bool)
            mask[column[own, 1], column[own, 0]] = True
            away = distance_transform_cdt(mask, "chessboard")
            out[own] = away[column[own, 1], column[own, 0]]
        return out

    def add(self, cell: int, room: int, door: int = -1) -> None:
        """Put a viewpoint on a cell."""
        self.add_point((*self.cells[cell].tolist(),), room, door)

    def add_point(self, point: tuple[int, ...], room: int, door: int = -1) -> None:
        """Put a viewpoint on a point of the floor."""
        self.spots.append((point[0], point[1], point[2]))
        self.room_of.append(room)
        self.door_of.append(door)

    def nearest(self, point: tuple[int, ...], among: Bools) -> int | None:
        """Return the cell nearest to a point (x, y) among some; None if there are none."""
        rows = np.flatnonzero(among)
        if not len(rows):
            return None
        return int(rows[np.square(self.cells[rows, :2] - np.array(point[:2])).sum(1).argmin()])

    def around(self, room: int) -> Ints:
        """Return the viewpoints in a room and in its doorways, [n, 3]."""
        doors = self.doors_of[room]
        own = [
            spot
            for spot, r, d in zip(self.spots, self.room_of, self.door_of, strict=True)
            if (r == room if d < 0 else d in doors)
        ]
        return np.array(own, np.int64).reshape(-1, 3)


def _on_stairs(house: House, floor: _Floor) -> None:
    for stairs in house.stairs:
        below, above = stairs.rooms
        walk = zip(
            (stairs.foot, *stairs.turn, stairs.top), (below, below, below, above), strict=True
        )
        for point, room in walk:
            floor.add_point(tuple(millimetres(point).tolist()), room)


def _at_door(dice: Dice, floor: _Floor, door: Door) -> None:
    x, y = millimetres(door.centre).tolist()
    level = floor.storey == door.storey
    if door.wide or dice.chance(IN_DOORWAY):
        cell = floor.nearest((x, y), level)
        assert cell is not None
        floor.add(cell, door.rooms[0], door.id)
        return
    dx, dy = (0, ASIDE) if door.axis == "x" else (ASIDE, 0)
    for side in (-1, 1):
        place = (x + side * dx, y + side * dy)
        beside = floor.nearest(
            place,
            level
            & np.isin(floor.room, [r for r in door.rooms if r is not None])
            & (floor.clear > 1),
        )
        if beside is None:
            continue
        room = int(floor.room[beside])
        near = np.square(floor.around(room) - floor.cells[beside]).sum(1) < APART**2
        if not near.any():
            floor.add(beside, room)


def _in_room(dice: Dice, floor: _Floor, room: int) -> None:
    """Fill a room: the first viewpoint, if it has none yet, stands where there is most space."""
    own = np.flatnonzero(floor.room == room)
    if not len(own):
        raise InputError(f"house {floor.house.seed}: room {room} has no floor to stand on")
    left = own[floor.clear[own] >= MARGIN]
    for spot in floor.around(room):
        left = _beyond(floor, left, spot)
    if room not in [r for r, d in zip(floor.room_of, floor.door_of, strict=True) if d < 0]:
        among = left if len(left) else own
        best = among[floor.clear[among] == floor.clear[among].max()]
        chosen = int(best[dice.below(len(best))])
        floor.add(chosen, room)
        left = _beyond(floor, left, floor.cells[chosen])
    while len(left):
        chosen = int(left[dice.below(len(left))])
        floor.add(chosen, room)
        left = _beyond(floor, left, floor.cells[chosen])


def _beyond(floor: _Floor, cells: Ints, spot: Ints) -> Ints:
    far: Bools = np.square(floor.cells[cells] - spot).sum(1) > SPACING**2
    return cells[far]


def _connect(house: House, space: Space, floor: _Floor, height: int) -> tuple[Ints, Bools]:
    """Join viewpoints, and put more where parts of the graph do not see each other."""
    joined = np.zeros((0, 0), bool)
    for _ in range(REPAIRS):
        points = np.array(floor.spots, np.int64)
        joined = _extended(house, space, points, joined, height)
        count, part = connected_components(joined, directed=False)
        if count == 1:
            return points, thinned(points, joined, THINNING)
        cell = _between(floor, points, part)
        if cell is None:
            break
        floor.add(cell, _room_near(floor, cell))
    raise InputError(
        f"house {house.seed}: viewpoints cannot be joined; is the space that of this house, with "
        "every room in reach of the agent?"
    )


def _extended(house: House, space: Space, points: Ints, known: Bools, height: int) -> Bools:
    """Return which viewpoints are near, see each other and have a nearly straight way, [N, N].

    `known` is the answer for the first ones.
    """
    near = np.square(points[:, None] - points[None]).sum(-1) <= REACH**2
    near[: len(known), : len(known)] = False
    start, end = np.nonzero(np.triu(near, 1))
    up = np.array([0, 0, height])
    seen = open_lines(house, points[start] + up, points[end] + up)
    start, end = start[seen], end[seen]
    walked = _walked(space, points[start], points[end])
    joined = np.zeros(near.shape, bool)
    joined[start[walked], end[walked]] = True
    joined |= joined.T
    joined[: len(known), : len(known)] = known
    return joined


def _walked(space: Space, start: Ints, end: Ints) -> Bools:
    """Whether one walks from each start to each end straight, or around one bend of `DETOURS`."""
    open_way = space.sees(start / 1000, end / 1000)
    for quarter, percent in DETOURS:
        left = np.flatnonzero(~open_way & (start[:, 2] == end[:, 2]))
        way = end[left] - start[left]
        aside = np.stack([-way[:, 1], way[:, 0], way[:, 2]], axis=1) * percent // 100
        bend = (start[left] + way * quarter // 4 + aside) / 1000
        there = space.sees(start[left] / 1000, bend)
        there[there] = space.sees(bend[there], end[left][there] / 1000)
        open_way[left] = there
    return open_way


def _between(floor: _Floor, points: Ints, part: NDArray[np.int32]) -> int | None:
    """Return a cell halfway between two parts of the graph, as one walks; None if none is."""
    surface = floor.surface
    owner = np.full(len(floor.cells), -1)
    cells = np.array([np.square(floor.cells - p).sum(1).argmin() for p in points])
    owner[cells] = part
    front = np.unique(cells)
    while len(front):
        reached = surface.joined[front][:, [1, 3, 5, 7]]
        mine = np.repeat(owner[front], 4).reshape(reached.shape)
        on_floor = reached >= 0
        other = on_floor & (owner[reached] >= 0) & (owner[reached] != mine)
        if other.any():
            return int(front[other.any(1).argmax()])
        fresh = on_floor & (owner[reached] < 0)
        there, first = np.unique(reached[fresh], return_index=True)
        owner[there] = mine[fresh][first]
        front = there
    return None


def _room_near(floor: _Floor, cell: int) -> int:
    """Return the room of a cell, or of the cell nearest to it that lies in one."""
    if floor.room[cell] >= 0:
        return int(floor.room[cell])
    near = np.abs(floor.cells[:, 2] - floor.cells[cell, 2]) < 2000
    found = floor.nearest(tuple(floor.cells[cell].tolist()), near & (floor.room >= 0))
    assert found is not None
    return int(floor.room[found])
