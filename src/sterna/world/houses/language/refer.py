"""How to speak of things and doors: short, and so that one alone is meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from sterna.world.houses.dice import Dice
from sterna.world.houses.language.landmarks import DOOR_BESIDE, gap
from sterna.world.houses.language.lexicon import MATERIALS, RELATIONS, SALIENT
from sterna.world.houses.language.map import HouseMap, Vector
from sterna.world.houses.language.meaning import DoorRef, ThingRef
from sterna.world.houses.language.pointing import State, doors, things
from sterna.world.houses.scene import Thing

OPPOSITE = {"left": "right", "right": "left"}
LARGE = 0.12  # cubic metres from which an unlisted kind counts as large


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
    ways = _ways(house, row, dice, extra) if row < house.marks.windows.start else [{}]
    refs = (ThingRef(kind=kind, **words) for words in ways)
    return next((ref for ref in refs if _alone(house, ref, row, among)), None)


def _ways(house: HouseMap, row: int, dice: Dice, extra: int) -> list[dict[str, str]]:
    """Return what may be said of a thing beside its kind, what comes first to mind first."""
    adjectives, relations = _adjectives(house.house.things[row]), _relations(house, row, dice)
    colour = {"colour": house.house.things[row].colour}
    related = [{**words, **relation} for words in ({}, colour) for relation in relations]
    related = dice.shuffled(related) if extra > 50 else related
    plain: list[dict[str, str]] = [{}, *adjectives]
    if dice.chance(extra):
        plain = [*dice.shuffled(adjectives[:2]), *plain]
    if related and dice.chance(extra // 2):
        plain = [*related[:3], *plain]
    return [*plain, *related]


def _adjectives(thing: Thing) -> list[dict[str, str]]:
    out = [{"colour": thing.colour}]
    if thing.size:
        out += [{"size": thing.size}, {"size": thing.size, "colour": thing.colour}]
    if thing.material in MATERIALS:
        out.append({"material": thing.material})
    return out


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


def choose_door(
    house: HouseMap, state: State, facing: Vector, turn: str, row: int, dice: Dice, detail: int
) -> DoorRef | None:
    """Return words for a door of the room; with `detail` 1 or more no other door fits them."""
    door = house.marks.door(row)
    other = house.beyond(door.id, state.room)
    if other < 0:
        return None
    view = View(house, state, facing, turn)
    to, wide = house.kinds[other], door.wide if dice.chance(80) else None
    found = [DoorRef(to=to)] * (8 if to != "corridor" else 5) + [DoorRef(to=to, wide=wide)]
    found += [DoorRef()] * (8 if len(view.doors(DoorRef())) == 1 else 0)
    for side in ("left", "right", "ahead"):
        against = turn.removeprefix("slightly ") == OPPOSITE.get(side)
        if not against and row in view.doors(DoorRef(side=side), surely=True):
            found += [DoorRef(side=side, to=to), DoorRef(side=side, wide=wide)]
            found += _numbered(view, row, side, to, wide)
    found += [DoorRef(by=by, wide=wide) for by in _by_door(house, state, row, dice)]
    for ref in dice.shuffled(found)[: 2 if detail == 0 else len(found)]:
        fitting = view.doors(ref)
        if fitting == [row] or (detail == 0 and row in fitting):
            return ref
    return None


class View(NamedTuple):
    """A walker who looks somewhere and is about to turn."""

    house: HouseMap
    state: State
    facing: Vector
    turn: str

    def doors(self, ref: DoorRef, surely: bool = False) -> list[int]:
        """Return the rows of the doors that words may mean to him."""
        return doors(self.house, ref, self.state, self.facing, self.turn, surely=surely)


def _numbered(view: View, row: int, side: str, to: str, wide: bool | None) -> list[DoorRef]:
    """Return "the second door on the left" and its like, twice each, where there are several."""
    out: list[DoorRef] = []
    for words in (DoorRef(side=side, wide=wide), DoorRef(side=side, to=to)):
        count = min(5, len(view.doors(words)))
        for nth in range(1, count + 1) if count > 1 and side != "ahead" else ():
            ref = replace(words, nth=nth)
            if view.doors(ref) == view.doors(ref, surely=True) == [row]:
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
