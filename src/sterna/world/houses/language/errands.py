"""Goal-only instructions in REVERIE's manner: a room, a task, a thing that one alone is.

An errand is sound if its words fit one thing of the house alone, and some viewpoint has that thing
in sight within 3 m. Those viewpoints are its goals.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sterna.errors import InputError
from sterna.world.geometry import Floats
from sterna.world.houses.dice import Dice
from sterna.world.houses.language.grammar import Fields, covers, rules, say
from sterna.world.houses.language.lexicon import SALIENT, TASKS
from sterna.world.houses.language.map import HouseMap
from sterna.world.houses.language.meaning import Errand, RoomRef, ThingRef
from sterna.world.houses.language.recognise import read
from sterna.world.houses.language.refer import name
from sterna.world.houses.language.sight import distances, view_boxes
from sterna.world.houses.language.voice import Voice

ViewBox = tuple[int, tuple[int, int, int, int]]
REACH = 3.0  # metres from a viewpoint to the nearest point of a thing it may act on

SENTENCES = [
    *rules(
        "(go|go|go|walk|head|proceed) to {room:place} and {task} {thing}",
        "(enter|go into) {room:place} and {task} {thing}",
        "in {room:place}, {task} {thing}",
        "{task} {thing} in {room:place}",
        "please (go|head) to {room:place} and {task} {thing}",
        "(find|locate) {room:place} and {task} {thing}",
        "{task} {thing}, which you will find in {room:place}",
        "i (need|want) you to go to {room:place} and {task} {thing}",
        "i would like you to (go|head) to {room:place} and {task} {thing}",
        "(make your way|find your way|walk over) to {room:place} and {task} {thing}",
        "(go|head) to {room:place} and, once you are there, {task} {thing}",
        "when you get to {room:place}, {task} {thing}",
        "there is a job for you in {room:place}: {task} {thing}",
    )
]
CALLS = [
    *rules(
        "(go|walk|head) to {thing} in {room:place}",
        "(go|walk|head) to {thing} in {room:place} and (stop|wait) there",
        "in {room:place}, go to {thing}",
        "find {room:place} and go to {thing}",
        "stop by {thing} in {room:place}",
        "make your way to {thing} in {room:place}",
    )
]
_DEFAULTS: Fields = {"room": None, "thing": None, "task": ""}


def meant(house: HouseMap, errand: Errand) -> list[int]:
    """Return the things of the house that an errand's words fit."""
    rooms = rooms_meant(house, errand.room)
    pairs = house.marks.room_pairs
    return [row for row in house.matches(errand.thing) if pairs[row][0] in rooms]


def rooms_meant(house: HouseMap, ref: RoomRef) -> list[int]:
    """Return the rooms that a description fits."""
    out = []
    for room in house.house.rooms:
        if room.kind != ref.kind or ref.storey not in (None, room.storey):
            continue
        held = ref.holds is None or any(
            house.marks.room_pairs[row][0] == room.id for row in house.matches(ref.holds)
        )
        if held:
            out.append(room.id)
    return out


def check_errand(house: HouseMap, errand: Errand, thing: int) -> list[str]:
    """Return what is wrong with an errand for a thing; nothing means sound."""
    found, out = meant(house, errand), []
    if thing not in found:
        out.append("it is not true of its thing")
    if len(found) > 1:
        out.append(f"it fits {len(found)} things")
    if not goals(house, thing):
        out.append("no viewpoint has its thing in sight within reach")
    return out


def goals(house: HouseMap, thing: int) -> list[int]:
    """Return the viewpoints that have a thing in sight within 3 m."""
    return [node for node, shown in enumerate(_shown(house)) if thing in shown]


def near_things(house: HouseMap) -> list[list[int]]:
    """Return the things that each viewpoint has in sight within 3 m, large enough for a box."""
    return [list(shown) for shown in _shown(house)]


def _shown(house: HouseMap) -> list[dict[int, list[ViewBox]]]:
    """Return the boxes of the things near each viewpoint, by row of the thing."""
    if "boxes" not in house.cache:
        extents = np.array([_extent(house, thing.id) for thing in house.house.things])
        close = distances(house.graph.positions, extents) <= REACH
        close &= house.seen[:, : len(extents)]
        house.cache["boxes"] = [
            _boxes(house, node, np.flatnonzero(row).tolist()) for node, row in enumerate(close)
        ]
    found: list[dict[int, list[ViewBox]]] = house.cache["boxes"]
    return found


def _extent(house: HouseMap, row: int) -> Floats:
    (x0, y0, x1, y1), (z0, z1) = house.marks.rects[row], house.marks.heights[row]
    return np.array([x0, y0, z0, x1, y1, z1])


def object_boxes(house: HouseMap, node: int) -> dict[int, list[ViewBox]]:
    """Return, for each thing in sight within 3 m of a viewpoint, (view, (x, y, width, height)).

    Views 0-35 and pixels of 640 x 480, as REVERIE's box files. Parts that other things cover count
    as long as the thing as a whole is in sight; things smaller than 6 pixels in every view do not.
    """
    return {house.house.things[row].id: seen for row, seen in _shown(house)[node].items()}


def _boxes(house: HouseMap, node: int, rows: list[int]) -> dict[int, list[ViewBox]]:
    if not rows:
        return {}
    things = [house.house.things[row] for row in rows]
    boxes = [house.house.boxes[thing.first : thing.last] for thing in things]
    first = np.cumsum([0, *map(len, boxes[:-1])])
    every = np.concatenate(boxes).astype(np.float64).round(3)
    shown = view_boxes(house.graph.positions[node], every, first)
    out: dict[int, list[ViewBox]] = {row: [] for row in rows}
    for view, t in np.argwhere(shown[..., 2] > 0).tolist():
        x, y, width, height = shown[view, t].tolist()
        out[rows[t]].append((view, (x, y, width, height)))
    return {row: seen for row, seen in out.items() if seen}


def describe_errand(house: HouseMap, thing: int, dice: Dice, tries: int = 4) -> Errand | None:
    """Return a sound errand for a thing; None if it has no task or no words of its own."""
    kind = house.marks.kinds[thing]
    if kind not in TASKS:
        return None
    for _ in range(tries):
        room, words = _room(house, thing, dice), _name(house, thing, dice)
        if room is None or words is None:
            continue
        errand = Errand(room=room, thing=words, task=dice.pick(TASKS[kind]))
        if not check_errand(house, errand, thing):
            return errand
    return None


def plain_errand(house: HouseMap, thing: int, dice: Dice) -> Errand | None:
    """Return a sound errand of few words: its colour, its kind, its room, the storey if need be.

    None if those fit other things too: nothing else is named, so every noun is the thing or a room.
    """
    kind, one = house.marks.kinds[thing], house.house.things[thing]
    if kind not in TASKS:
        return None
    room = house.house.rooms[house.marks.room_pairs[thing][0]]
    for storey in (None, room.storey) if len(house.house.floors) > 1 else (None,):
        errand = Errand(
            room=RoomRef(kind=room.kind, storey=storey),
            thing=ThingRef(kind=kind, colour=one.colour),
            task=dice.pick(TASKS[kind]),
        )
        if not check_errand(house, errand, thing):
            return errand
    return None


def _name(house: HouseMap, thing: int, dice: Dice) -> ThingRef | None:
    return name(house, thing, house.marks.room_pairs[thing][0], dice, extra=75)


def _room(house: HouseMap, thing: int, dice: Dice) -> RoomRef | None:
    """Return words for a thing's room that fit no other."""
    room = house.house.rooms[house.marks.room_pairs[thing][0]]
    storeys = [None, room.storey] if len(house.house.floors) > 1 else [None]
    plain = [RoomRef(kind=room.kind, storey=storey) for storey in storeys]
    plain = plain[::-1] if dice.chance(65) else plain
    landmarks = list(_held(house, room.id, thing, dice)) if dice.chance(40) else []
    for ref in (*landmarks, *plain, *_held(house, room.id, thing, dice)):
        if rooms_meant(house, ref) == [room.id]:
            return ref
    return None


def _held(house: HouseMap, room: int, thing: int, dice: Dice) -> Iterator[RoomRef]:
    """Yield the room as the one with a certain thing in it."""
    rows = [
        row for row in house.marks.in_room(room)
        if row != thing and row < house.marks.windows.start
        and SALIENT.get(house.marks.kinds[row], 3) >= 4
    ]  # fmt: skip
    where = house.house.rooms[room]
    for row in dice.shuffled(rows)[:8]:
        ref = name(house, row, room, dice, extra=60)
        if ref is not None:
            storey = where.storey if len(house.house.floors) > 1 and dice.chance(50) else None
            yield RoomRef(kind=where.kind, storey=storey, holds=ref)


def write_errand(errand: Errand, dice: Dice) -> str:
    """Word an errand in one sentence."""
    fitting = [rule for rule in SENTENCES if covers(rule, vars(errand), _DEFAULTS)]
    if not fitting:
        raise InputError(f"no words for {errand}; tasks are those of world.houses.language.lexicon")
    text = say(dice.pick(fitting), vars(errand), Voice(dice))
    return text[0].upper() + text[1:] + "."


def write_call(errand: Errand, dice: Dice) -> str:
    """Word an errand as a place to go to alone, without its task."""
    fields = {**vars(errand), "task": ""}
    fitting = [rule for rule in CALLS if covers(rule, fields, _DEFAULTS)]
    if not fitting:
        raise InputError(f"no words for {errand}; it needs a room and a thing")
    text = say(dice.pick(fitting), fields, Voice(dice))
    return text[0].upper() + text[1:] + "."


def errands_of(text: str) -> list[Errand]:
    """Return every errand that a text can be read as."""
    plain = text.lower().replace("tv", "TV")
    found = [
        Errand(**fields)
        for rule in SENTENCES
        for fields, end in read(rule, plain, 0)
        if plain[end:] == "."
    ]
    return list(dict.fromkeys(found))
