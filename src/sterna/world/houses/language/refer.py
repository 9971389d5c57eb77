"""How to speak of things, doors and ends of paths: short, and so that one alone is meant."""

from __future__ import annotations

from collections.abc import Sequence

from sterna.world.houses.dice import Dice
from sterna.world.houses.language.landmarks import DOOR_BESIDE, gap
from sterna.world.houses.language.lexicon import FRONTS, MATERIALS, RELATIONS, SALIENT
from sterna.world.houses.language.map import HouseMap, Vector
from sterna.world.houses.language.meaning import (
    Between,
    DoorRef,
    End,
    Middle,
    Move,
    Pass,
    Reach,
    ThingRef,
)
from sterna.world.houses.language.places import beside, end, middle, passes, splits
from sterna.world.houses.language.pointing import State, centre_of, doors, things

LARGE = 0.12  # cubic metres from which an unlisted kind counts as large
FAR_FROM_GOAL = 1.8  # metres from the end of a path at most to stop "beside" a thing


def salience(house: HouseMap, row: int) -> int:
    """Return how likely a landmark is to be spoken of on the way (0: never)."""
    kind = house.marks.kinds[row]
    if kind in SALIENT:
        return SALIENT[kind]
    a, b, c = house.house.things[row].half
    return 3 if 8 * a * b * c >= LARGE else 1


def weighted(rows: Sequence[int], weights: Sequence[int], dice: Dice) -> list[int]:
    """Return up to four rows drawn without repetition by whole weights."""
    pool = [(row, weight) for row, weight in zip(rows, weights, strict=True) if weight > 0]
    out: list[int] = []
    while pool and len(out) < 4:
        number = dice.below(sum(weight for _, weight in pool))
        for i, (_, weight) in enumerate(pool):
            number -= weight
            if number < 0:
                out.append(pool.pop(i)[0])
                break
    return out


def name(
    house: HouseMap, row: int, among: State | int, dice: Dice, extra: int = 20
) -> ThingRef | None:
    """Return words for a thing that no other in reach of them fits; None if there are none.

    `among` is where the walker is (what he sees counts too), or a room. `extra` is in how many of
    a hundred cases a word more is said than is needed.
    """
    kind = house.marks.kinds[row]
    if row >= house.marks.windows.start:
        ref = ThingRef(kind=kind)
        return ref if _alone(house, ref, row, among) else None
    thing = house.house.things[row]
    adjectives: list[dict[str, str]] = [{"colour": thing.colour}]
    if thing.size:
        adjectives += [{"size": thing.size}, {"size": thing.size, "colour": thing.colour}]
    if thing.material in MATERIALS:
        adjectives.append({"material": thing.material})
    plain = [{}, *adjectives]
    related = [
        {**words, **relation} for words in ({}, {"colour": thing.colour})
        for relation in _relations(house, row, dice)
    ]  # fmt: skip
    related = dice.shuffled(related) if extra > 50 else related
    if dice.chance(extra):
        plain = [*dice.shuffled(adjectives[:2]), *plain]
    if related and dice.chance(extra // 2):
        plain = [*related[:3], *plain]
    for words in [*plain, *related]:
        ref = ThingRef(kind=kind, **words)
        if _alone(house, ref, row, among):
            return ref
    return None


def _alone(house: HouseMap, ref: ThingRef, row: int, among: State | int) -> bool:
    if isinstance(among, State):
        return things(house, ref, among) == [row]
    return [r for r in house.matches(ref) if among in house.marks.room_pairs[r]] == [row]


def _relations(house: HouseMap, row: int, dice: Dice) -> list[dict[str, str]]:
    out = []
    for relation in RELATIONS:
        for other in house.marks.related(row, relation, loose=False):
            kind = house.marks.kinds[other]
            if kind in ("rug", house.marks.kinds[row]) or salience(house, other) < 2:
                continue
            out.append({"relation": relation, "other": kind})
            if other < house.marks.windows.start and dice.chance(25):
                out[-1]["other_colour"] = house.house.things[other].colour
    return dice.shuffled(out)[:4]


def choose_pass(
    house: HouseMap, state: State, hops: Sequence[int], dice: Dice, detail: int
) -> tuple[Move, int] | None:
    """Return a move past something along some hops, and how many hops it takes."""
    rows, lengths = [], {}
    room = [r for r in house.marks.in_room(state.room) if salience(house, r) > 0]
    room += [house.marks.doors.start + d.id for d in house.doors_of[state.room]]
    for row in room:
        for length in range(1, len(hops)):
            if passes(house, tuple(hops[: length + 1]), row, centre_of(house, row), ""):
                rows.append(row)
                lengths[row] = length
                break
    pairs = _pairs(house, hops, rows)
    if pairs and dice.chance(35):
        one, two, length = dice.pick(pairs)
        first, second = name(house, one, state, dice), name(house, two, state, dice)
        if first and second:
            return Between(first=first, second=second), length
    weights = [2 if row in house.marks.doors else salience(house, row) for row in rows]
    for row in weighted(rows, weights, dice):
        path = tuple(hops[: lengths[row] + 1])
        if row in house.marks.doors:
            ref = _door_passed(house, state, row, hops)
            if ref is not None:
                return Pass(mark=ref), lengths[row]
            continue
        thing = name(house, row, state, dice)
        if thing is None:
            continue
        sides = [s for s in ("left", "right") if passes(house, path, row, centre_of(house, row), s)]
        side = sides[0] if sides and dice.chance(35 + 20 * detail) else ""
        return Pass(mark=thing, side=side), lengths[row]
    return None


def _door_passed(house: HouseMap, state: State, row: int, hops: Sequence[int]) -> DoorRef | None:
    door = row - house.marks.doors.start
    other = house.beyond(door, state.room)
    if other < 0 or door == state.door:
        return None
    ref = DoorRef(to=house.kinds[other])
    same = doors(house, ref, state, (0.0, 1.0), "")
    return ref if same == [row] else None


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


def choose_door(
    house: HouseMap, state: State, facing: Vector, turn: str, row: int, dice: Dice, detail: int
) -> DoorRef | None:
    """Return words for a door of the room; with `detail` 1 or more no other door fits them."""
    door = house.marks.door(row)
    other = house.beyond(door.id, state.room)
    if other < 0:
        return None
    to, wide = house.kinds[other], door.wide if dice.chance(80) else None
    own = len(doors(house, DoorRef(), state, facing, turn)) == 1
    found = [DoorRef(to=to)] * (8 if to != "corridor" else 5) + [DoorRef(to=to, wide=wide)]
    found += [DoorRef()] * (8 if own else 0)
    for side in ("left", "right", "ahead"):
        if row in doors(house, DoorRef(side=side), state, facing, turn):
            found += [DoorRef(side=side, to=to), DoorRef(side=side, wide=wide)]
            found += _numbered(house, state, facing, turn, row, side, to, wide)
    found += [DoorRef(by=by, wide=wide) for by in _by_door(house, state, row, dice)]
    for ref in dice.shuffled(found)[: 2 if detail == 0 else len(found)]:
        fitting = doors(house, ref, state, facing, turn)
        if fitting == [row] or (detail == 0 and row in fitting):
            return ref
    return None


def _numbered(
    house: HouseMap, state: State, facing: Vector, turn: str, row: int, side: str, to: str,
    wide: bool | None,
) -> list[DoorRef]:  # fmt: skip
    if side == "ahead":
        return []
    out = []
    for words in (DoorRef(side=side, wide=wide), DoorRef(side=side, to=to)):
        same = doors(house, words, state, facing, turn)
        if len(same) < 2:
            continue
        for nth in range(1, min(5, len(same)) + 1):
            ref = DoorRef(side=side, to=words.to, wide=words.wide, nth=nth)
            if words.to and words.wide is not None:
                continue
            if doors(house, ref, state, facing, turn) == [row]:
                out += [ref, ref]
    return out


def _by_door(house: HouseMap, state: State, row: int, dice: Dice) -> list[ThingRef]:
    marks = house.marks
    near = [
        r for r in marks.in_room(state.room)
        if salience(house, r) >= 3 and gap(marks.rects[r], marks.rects[row]) <= DOOR_BESIDE
    ]  # fmt: skip
    named = (name(house, r, state, dice) for r in dice.shuffled(near)[:2])
    return [ref for ref in named if ref is not None]


def choose_end(
    house: HouseMap, state: State, facing: Vector, hops: Sequence[int], dice: Dice, detail: int
) -> Move | None:
    """Return a move that ends at the last of some hops inside a room."""
    goal, room = hops[-1], state.room
    door = int(house.viewpoints.door[goal])
    if door >= 0:
        return _in_doorway(house, state, door, room)
    rows = [
        row for row in house.marks.in_room(room)
        if salience(house, row) > 0 and house.gap[goal, row] <= FAR_FROM_GOAL
        and house.seen[goal, row] and _nearest(house, room, row, "beside", goal)
    ]  # fmt: skip
    places: list[Move] = []
    if _first(middle(house, room)) == goal:
        places.append(Middle())
    if (
        house.kinds[room] == "corridor"
        and len(hops) > 1
        and _first(end(house, room, facing)) == goal
    ):
        places.append(End())
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
