"""Which move to tell of a walk: past something, between two things, up to where it ends."""

from __future__ import annotations

from collections.abc import Sequence

from sterna.world.houses.dice import Dice
from sterna.world.houses.language.landmarks import gap
from sterna.world.houses.language.lexicon import FRONTS
from sterna.world.houses.language.map import HouseMap, Path, Vector
from sterna.world.houses.language.meaning import Between, DoorRef, End, Middle, Move, Pass, Reach
from sterna.world.houses.language.places import beside, end, middle, passes, splits
from sterna.world.houses.language.pointing import State, centre_of, doors
from sterna.world.houses.language.refer import name, salience, weighted

FAR_FROM_GOAL = 1.8  # metres from the end of a path at most to stop "beside" a thing


def choose_pass(
    house: HouseMap, state: State, hops: Sequence[int], dice: Dice, detail: int
) -> tuple[Move, int] | None:
    """Return a move past something along some hops, and how many hops it takes."""
    lengths = _passed(house, state, hops)
    pairs = _pairs(house, hops, list(lengths))
    if pairs and dice.chance(35):
        one, two, length = dice.pick(pairs)
        first, second = name(house, one, state, dice), name(house, two, state, dice)
        if first and second:
            return Between(first=first, second=second), length
    weights = [2 if row in house.marks.doors else salience(house, row) for row in lengths]
    for row in weighted(list(lengths), weights, dice):
        path = tuple(hops[: lengths[row] + 1])
        move = _past(house, state, path, row, 35 + 20 * detail, dice)
        if move is not None:
            return move, lengths[row]
    return None


def _passed(house: HouseMap, state: State, hops: Sequence[int]) -> dict[int, int]:
    """Return the landmarks of the room that some hops pass, and after how many hops."""
    rows = [row for row in house.marks.in_room(state.room) if salience(house, row) > 0]
    rows += [house.marks.doors.start + door.id for door in house.doors_of[state.room]]
    lengths: dict[int, int] = {}
    for row in rows:
        centre = centre_of(house, row)
        for length in range(1, len(hops)):
            if passes(house, tuple(hops[: length + 1]), row, centre, ""):
                lengths[row] = length
                break
    return lengths


def _past(
    house: HouseMap, state: State, path: Path, row: int, percent: int, dice: Dice
) -> Pass | None:
    """Return a move past a landmark, in so many of a hundred cases with its side."""
    if row in house.marks.doors:
        ref = _door_passed(house, state, row)
        return None if ref is None else Pass(mark=ref)
    thing = name(house, row, state, dice)
    if thing is None:
        return None
    centre = centre_of(house, row)
    sides = [side for side in ("left", "right") if passes(house, path, row, centre, side)]
    return Pass(mark=thing, side=sides[0] if sides and dice.chance(percent) else "")


def _door_passed(house: HouseMap, state: State, row: int) -> DoorRef | None:
    """Return words for a door that is passed; "past the hallway" would be misunderstood."""
    door = row - house.marks.doors.start
    other = house.beyond(door, state.room)
    if other < 0 or door == state.door or house.kinds[other] == "corridor":
        return None
    ref = DoorRef(to=house.kinds[other])
    return ref if doors(house, ref, state, (0.0, 1.0), "") == [row] else None


def _pairs(house: HouseMap, hops: Sequence[int], rows: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return pairs of things that some first hops walk between."""
    marks, out = house.marks, []
    near = [r for r in rows if r < marks.windows.stop and salience(house, r) >= 3]
    for i, one in enumerate(near):
        for two in near[i + 1 :]:
            if not 0.5 <= gap(marks.rects[one], marks.rects[two]) <= 3.0:
                continue
            for length in range(1, len(hops)):
                path = tuple(hops[: length + 1])
                if splits(house.points, path, centre_of(house, one), centre_of(house, two)):
                    out.append((one, two, length))
    return out


def choose_end(
    house: HouseMap, state: State, facing: Vector, hops: Sequence[int], dice: Dice
) -> Move | None:
    """Return a move that ends at the last of some hops inside a room."""
    goal, room = hops[-1], state.room
    door = int(house.viewpoints.door[goal])
    if door >= 0:
        return _in_doorway(house, state, door, room)
    rows, places = _beside_goal(house, room, goal), _places(house, room, facing, hops)
    if places and dice.chance(15 if rows and places[0] == Middle() else 50):
        return dice.pick(places)
    for row in weighted(rows, [salience(house, row) for row in rows], dice):
        ref = name(house, row, state, dice)
        if ref is None:
            continue
        front = house.marks.kinds[row] in FRONTS and _nearest(house, room, row, "front", goal)
        where = "front" if front and dice.chance(60) else "beside"
        return Reach(mark=ref, where=where)
    return dice.pick(places) if places else None


def _beside_goal(house: HouseMap, room: int, goal: int) -> list[int]:
    """Return the landmarks of a room beside which one stands at a viewpoint."""
    return [
        row for row in house.marks.in_room(room)
        if salience(house, row) > 0 and house.gap[goal, row] <= FAR_FROM_GOAL
        and house.seen[goal, row] and _nearest(house, room, row, "beside", goal)
    ]  # fmt: skip


def _places(house: HouseMap, room: int, facing: Vector, hops: Sequence[int]) -> list[Move]:
    """Return which parts of a room some hops end in: its middle, the end of a corridor."""
    out: list[Move] = []
    if _first(middle(house, room)) == hops[-1]:
        out.append(Middle())
    walked = house.kinds[room] == "corridor" and len(hops) > 1
    if walked and _first(end(house, room, facing)) == hops[-1]:
        out.append(End())
    return out


def _in_doorway(house: HouseMap, state: State, door: int, room: int) -> Move | None:
    other = house.beyond(door, room)
    if other < 0 or state.room not in house.house.doors[door].rooms:
        return None
    row = house.marks.doors.start + door
    for ref in (DoorRef(to=house.kinds[other]), DoorRef()):
        if doors(house, ref, state, (0.0, 1.0), "") == [row]:
            return Reach(mark=ref, where="in")
    return None


def _nearest(house: HouseMap, room: int, row: int, where: str, goal: int) -> bool:
    return _first(beside(house, room, row, where)) == goal


def _first(near: list[tuple[int, float]]) -> int:
    return near[0][0] if near else -1
