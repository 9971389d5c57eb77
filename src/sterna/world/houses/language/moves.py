"""What each move asks of a walk. Every function returns all the walks that may be meant.

A state is a viewpoint, the one it was entered from, the room one is in and the door one came
through. The outcomes of a step are the states where its walks may end, each with a cost: the
smallest is the most literal reading, metres of way plus what it takes to call it that.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from sterna.world.houses.language.landmarks import DOOR_BESIDE_LOOSE, gap
from sterna.world.houses.language.map import HouseMap, Path, Vector, Walks, unit
from sterna.world.houses.language.meaning import (
    Between,
    Climb,
    DoorRef,
    End,
    Go,
    Middle,
    Pass,
    Reach,
    Step,
    ThingRef,
    Wait,
)

SPREAD = 1.5  # metres of extra way that still goes through "the same" door
NEARLY = 0.6  # metres by which another viewpoint may be farther and still be "beside"
BESIDE = 2.5  # metres from a thing at most to be beside it
PASSING = 2.0  # metres from a thing at most to pass it
ENDS = 1.0  # metres before the last viewpoint of a corridor that still are its end

# Sectors as (least, most) cosine and side (-1 left, 1 right, 0 either): as said, as understood.
SAID = {
    "left": (-0.77, 0.71, -1),
    "right": (-0.77, 0.71, 1),
    "slightly left": (0.45, 0.95, -1),
    "slightly right": (0.45, 0.95, 1),
    "around": (-1.01, -0.72, 0),
    "straight": (0.82, 1.01, 0),
}
UNDERSTOOD = {
    "left": (-0.95, 0.94, -1),
    "right": (-0.95, 0.94, 1),
    "slightly left": (0.2, 0.99, -1),
    "slightly right": (0.2, 0.99, 1),
    "around": (-1.01, -0.35, 0),
    "straight": (0.5, 1.01, 0),
}


class State(NamedTuple):
    """Where a walker is: viewpoint, the one before (-1: none), room, last door (-1: none)."""

    node: int
    before: int
    room: int
    door: int


class Outcome(NamedTuple):
    """A state that a step may end in, and how far from literal that is."""

    cost: float
    state: State


class Walker:
    """Reads steps on some walks; `start` is the direction one faces at the beginning."""

    def __init__(self, walks: Walks, start: Vector) -> None:
        self.walks, self.map, self.start = walks, walks.map, start

    def facing(self, state: State) -> Vector:
        """Return the direction a walker faces."""
        if state.before < 0:
            return self.start
        return self.map.way(state.before, state.node)

    def outcomes(self, step: Step, state: State, last: bool) -> list[Outcome]:
        """Return where a step may end, the most literal reading first; nothing if it cannot be."""
        if step.at and self.map.kinds[state.room] != step.at:
            return []
        best: dict[State, float] = {}
        for cost, path, aim, end in self._walks(step, state, last):
            cost += self._turning(step.turn, state, path, aim)
            if cost < best.get(end, 1e6):
                best[end] = cost
        return sorted(Outcome(cost, end) for end, cost in best.items())

    def _turning(self, turn: str, state: State, path: Path, aim: Vector | None) -> float:
        """Return what a turn adds to the cost of a walk; 1e6 if the walk does not turn so."""
        facing = self.facing(state)
        first = self.map.way(path[0], path[1]) if len(path) > 1 else None
        if not turn:
            back = first is not None and dot(facing, first) < -0.5
            return 1.5 if back else 0.0
        if first is not None and fits(facing, first, SAID[turn]):
            return 0.0
        ways = [way for way in (first, aim) if way is not None]
        return 1.0 if any(fits(facing, way, UNDERSTOOD[turn]) for way in ways) else 1e6

    def _walks(
        self, step: Step, state: State, last: bool
    ) -> list[tuple[float, Path, Vector | None, State]]:
        move = step.move
        if isinstance(move, Go):
            return self._go(move, step.turn, state, last)
        if isinstance(move, Climb):
            ways = self.walks.climb(state.room, state.node, move.up, move.landing)
            limit = ways[0][0] + SPREAD if ways else 0.0
            return [(c, p, None, self._after(state, p)) for c, p in ways if c <= limit]
        if isinstance(move, Wait):
            here = self.map.kinds[state.room] == move.room
            return [(0.0, (state.node,), None, state)] if here else []
        if isinstance(move, Pass):
            return self._pass(move, step.turn, state)
        if isinstance(move, Between):
            return self._between(move, state)
        if isinstance(move, Reach):
            return self._reach(move, step.turn, state)
        return self._place(move, step.turn, state)

    def _after(self, state: State, path: Path, door: int = -1, room: int | None = None) -> State:
        """Return the state after a way; without a door it stays in its room unless it climbs."""
        if len(path) < 2:
            return state
        if room is None:
            rooms = self.map.rooms[path[-1]]
            room = state.room if state.room in rooms else rooms[0]
        return State(path[-1], path[-2], room, door if door >= 0 else state.door)

    def _go(
        self, move: Go, turn: str, state: State, last: bool
    ) -> list[tuple[float, Path, Vector | None, State]]:
        out = []
        for row in doors(self.map, move.door, state, self.facing(state), turn):
            door = row - self.map.marks.doors.start
            ways = self.walks.through(state.room, state.node, door, last)
            beyond, aim = self.map.beyond(door, state.room), aim_at(self.map, state.node, row)
            for cost, path in ways:
                if cost <= ways[0][0] + SPREAD:
                    out.append((cost, path, aim, self._after(state, path, door, beyond)))
        return out

    def _rows(self, mark: ThingRef | DoorRef, turn: str, state: State) -> list[int]:
        if isinstance(mark, DoorRef):
            return doors(self.map, mark, state, self.facing(state), turn)
        return things(self.map, mark, state)

    def _pass(
        self, move: Pass, turn: str, state: State
    ) -> list[tuple[float, Path, Vector | None, State]]:
        out = []
        tree = self.walks.inside(state.room, state.node)
        for row in self._rows(move.mark, turn, state):
            centre = centre_of(self.map, row)
            for cost, path in tree.values():
                if passes(self.map, path, row, centre, move.side):
                    aim = aim_at(self.map, state.node, row)
                    out.append((cost, path, aim, self._after(state, path)))
        return out

    def _between(
        self, move: Between, state: State
    ) -> list[tuple[float, Path, Vector | None, State]]:
        out = []
        tree = self.walks.inside(state.room, state.node)
        for one in things(self.map, move.first, state):
            for two in things(self.map, move.second, state):
                a, b = centre_of(self.map, one), centre_of(self.map, two)
                for cost, path in tree.values():
                    if len(path) > 1 and splits(self.map.points, path, a, b):
                        out.append((cost, path, None, self._after(state, path)))
        return out

    def _reach(
        self, move: Reach, turn: str, state: State
    ) -> list[tuple[float, Path, Vector | None, State]]:
        out = []
        tree = self.walks.inside(state.room, state.node)
        for row in self._rows(move.mark, turn, state):
            near = beside(self.map, state.room, row, move.where)
            for node, extra in near:
                if node in tree:
                    cost, path = tree[node]
                    aim = aim_at(self.map, state.node, row)
                    # Nearer to the thing is more literal than nearer to the walker.
                    out.append((10 * extra + cost / 100, path, aim, self._after(state, path)))
        return out

    def _place(
        self, move: Middle | End, turn: str, state: State
    ) -> list[tuple[float, Path, Vector | None, State]]:
        out = []
        tree = self.walks.inside(state.room, state.node)
        if isinstance(move, Middle):
            spots = middle(self.map, state.room)
        else:
            spots = end(self.map, state.room, turned(self.facing(state), turn))
        for node, extra in spots:
            if node in tree:
                cost, path = tree[node]
                out.append((10 * extra + cost / 100, path, None, self._after(state, path)))
        return out


def dot(a: Vector, b: Vector) -> float:
    """Return the cosine of the angle between two directions."""
    return a[0] * b[0] + a[1] * b[1]


def right_of(a: Vector, b: Vector) -> float:
    """Return how far b points to the right of a (negative: to the left)."""
    return b[0] * a[1] - b[1] * a[0]


def fits(facing: Vector, way: Vector, sector: tuple[float, float, int]) -> bool:
    """Whether a direction lies in a sector of those one faces."""
    low, high, side = sector
    return low <= dot(facing, way) <= high and (side == 0 or right_of(facing, way) * side > 0)


def turned(facing: Vector, turn: str) -> Vector:
    """Return the direction after a turn by a right angle or two."""
    x, y = facing
    return {"left": (-y, x), "right": (y, -x), "around": (-x, -y)}.get(turn, facing)


def centre_of(house: HouseMap, row: int) -> Vector:
    """Return the middle of a landmark's footprint."""
    return house.marks.middles[row]


def aim_at(house: HouseMap, node: int, row: int) -> Vector:
    """Return the direction of a landmark from a viewpoint."""
    (x, y), (a, b) = centre_of(house, row), house.points[node]
    return unit(x - a, y - b)


def things(house: HouseMap, ref: ThingRef, state: State) -> list[int]:
    """Return what a description may mean to a walker: things of the room, and what is in sight."""
    marks = house.marks
    return [
        row
        for row in house.matches(ref)
        if state.room in marks.room_pairs[row] or row in house.visible[state.node]
    ]


def doors(house: HouseMap, ref: DoorRef, state: State, facing: Vector, turn: str) -> list[int]:
    """Return the rows of the doors that a description may mean; not the one come through."""
    first = house.marks.doors.start
    rows = []
    for door in house.doors_of[state.room]:
        other = house.beyond(door.id, state.room)
        if (door.id == state.door and turn != "around") or (
            ref.wide is not None and door.wide != ref.wide
        ):
            continue
        if (ref.to and house.kinds[other] != ref.to) or not _by(house, ref, door.id, state):
            continue
        rows.append(first + door.id)
    if not ref.side:
        return rows
    found: dict[int, None] = {}
    for axis in _axes(turned(facing, turn)):
        found.update(dict.fromkeys(_on_side(house, ref, rows, state, axis)))
    return list(found)


def _by(house: HouseMap, ref: DoorRef, door: int, state: State) -> bool:
    if ref.by is None:
        return True
    rect, marks = house.marks.rects[house.marks.doors.start + door], house.marks
    return any(
        state.room in marks.room_pairs[row] and gap(marks.rects[row], rect) <= DOOR_BESIDE_LOOSE
        for row in house.matches(ref.by)
    )


def _axes(facing: Vector) -> list[Vector]:
    """Return the one or two walls' directions that a walker may be said to face."""
    axes = ((0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0))
    return [axis for axis in axes if dot(axis, facing) > 0.6]


def _on_side(
    house: HouseMap, ref: DoorRef, rows: list[int], state: State, axis: Vector
) -> list[int]:
    x, y = house.points[state.node]
    found = []
    for row in rows:
        cx, cy = centre_of(house, row)
        ahead, right = dot(axis, (cx - x, cy - y)), right_of(axis, (cx - x, cy - y))
        side = {
            "left": right < -0.25 and ahead > -0.5,
            "right": right > 0.25 and ahead > -0.5,
            "ahead": ahead > 0.3 and abs(right) < max(0.6, 0.7 * ahead),
        }
        if side[ref.side]:
            found.append((ahead, row))
    found.sort()
    if ref.nth:
        found = found[ref.nth - 1 : ref.nth]
    return [row for _, row in found]


def passes(house: HouseMap, path: Path, row: int, centre: Vector, side: str) -> bool:
    """Whether a way passes a landmark and ends as soon as it has."""
    if len(path) < 2 or not _behind(house, path[-2:], centre):
        return False
    if _behind(house, path[:2], centre, of_first=True):
        return False
    if any(_behind(house, path[i : i + 2], centre) for i in range(len(path) - 2)):
        return False
    if min(house.gap[node, row] for node in path) > PASSING or not any(
        row in house.visible[node] for node in path[:-1]
    ):
        return False
    if not side:
        return True
    nearest = min(range(len(path) - 1), key=lambda i: house.gap[path[i], row])
    way, (x, y) = house.way(path[nearest], path[nearest + 1]), house.points[path[nearest]]
    aside = right_of(way, (centre[0] - x, centre[1] - y))
    return aside > 0.2 if side == "right" else aside < -0.2


def _behind(house: HouseMap, hop: Path, centre: Vector, of_first: bool = False) -> bool:
    """Whether a point lies behind one after a hop (or before it)."""
    x, y = house.points[hop[0 if of_first else 1]]
    return dot(house.way(hop[0], hop[1]), (centre[0] - x, centre[1] - y)) < 0


def splits(points: list[Vector], path: Path, a: Vector, b: Vector) -> bool:
    """Whether the last hop of a way, and no earlier one, crosses the line between two points."""
    crossed = [_cross(points[u], points[v], a, b) for u, v in zip(path, path[1:], strict=False)]
    return crossed[-1] and not any(crossed[:-1])


def _cross(p: Vector, q: Vector, a: Vector, b: Vector) -> bool:
    def side(o: Vector, d: Vector, x: Vector) -> float:
        return (d[0] - o[0]) * (x[1] - o[1]) - (d[1] - o[1]) * (x[0] - o[0])

    return side(p, q, a) * side(p, q, b) < 0 and side(a, b, p) * side(a, b, q) < 0


def beside(house: HouseMap, room: int, row: int, where: str) -> list[tuple[int, float]]:
    """Return the viewpoints of a room that are beside a landmark, and by how much not the nearest.

    They must see it; "in" takes the one in a door's opening, "front" those on the side to which a
    thing looks, within its width and half a metre.
    """
    key = ("beside", room, row, where)
    if key not in house.cache:
        near = []
        for node, rooms in enumerate(house.rooms):
            own = room in rooms and house.storey[node] >= 0 and house.seen[node, row]
            if own and house.gap[node, row] <= BESIDE and _in_front(house, node, row, where):
                near.append((float(house.gap[node, row]), node))
        near.sort()
        house.cache[key] = [(n, g - near[0][0]) for g, n in near if g - near[0][0] <= NEARLY]
    found: list[tuple[int, float]] = house.cache[key]
    return found


def _in_front(house: HouseMap, node: int, row: int, where: str) -> bool:
    if where == "in":
        return bool(house.viewpoints.door[node] == row - house.marks.doors.start)
    if where != "front":
        return True
    (fx, fy), (cx, cy) = house.marks.front[row].tolist(), centre_of(house, row)
    x, y = house.points[node][0] - cx, house.points[node][1] - cy
    x0, y0, x1, y1 = house.marks.rects[row].tolist()
    half = ((x1 - x0) if fx == 0 else (y1 - y0)) / 2
    deep = ((y1 - y0) if fx == 0 else (x1 - x0)) / 2
    return bool(fx * x + fy * y > deep and abs(x * fy - y * fx) < half + 0.5)


def middle(house: HouseMap, room: int) -> list[tuple[int, float]]:
    """Return the viewpoints in the middle of a room, and by how much not the nearest to it."""
    x0, y0, x1, y1 = house.house.rooms[room].rectangles[0]
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    away = []
    for node, rooms in enumerate(house.rooms):
        if rooms == (room,) and house.storey[node] >= 0:
            a, b = house.points[node]
            away.append((math.sqrt((a - x) * (a - x) + (b - y) * (b - y)), node))
    away.sort()
    return [(n, d - away[0][0]) for d, n in away if d - away[0][0] <= NEARLY]


def end(house: HouseMap, room: int, facing: Vector) -> list[tuple[int, float]]:
    """Return the viewpoints at the end of a long room ahead, and how far they are before it."""
    x0, y0, x1, y1 = house.house.rooms[room].rectangles[0]
    axis = (1.0, 0.0) if x1 - x0 > y1 - y0 else (0.0, 1.0)
    sign = dot(axis, facing)
    if abs(sign) < 0.3:
        return []
    axis = axis if sign > 0 else (-axis[0], -axis[1])
    along = [
        (-dot(axis, house.points[node]), node)
        for node, rooms in enumerate(house.rooms)
        if rooms == (room,)
        and house.storey[node] >= 0
        and house.house.rooms[room].holds(*house.points[node])
    ]
    along.sort()
    return [(node, far - along[0][0]) for far, node in along if far - along[0][0] <= ENDS]
