"""A meaning in English, in R2R's manner: imperative sentences of a few words each."""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache

from sterna.errors import InputError
from sterna.world.houses.dice import Dice
from sterna.world.houses.language.grammar import Fields, Rule, covers, say
from sterna.world.houses.language.meaning import Climb, DoorRef, Go, Meaning, Move, Step
from sterna.world.houses.language.wording import (
    ACROSS,
    ALONG,
    BEFORE,
    LAST,
    MID,
    STOPS,
    STOPS_BY,
    TURNS,
)

LONG = 16  # words after which a sentence ends rather than goes on


def write(meaning: Meaning, dice: Dice) -> str:
    """Word a meaning; other dice, other words. Raises `InputError` for one without steps."""
    if not meaning:
        raise InputError("an instruction has at least one step, found none")
    items: list[tuple[str, str]] = []
    for number, step in enumerate(meaning):
        items += _step(step, number == 0, number == len(meaning) - 1, dice)
    return _joined(items, dice)


def parts(step: Step) -> tuple[Fields, Fields]:
    """Return the fields of a step and its move in one, and their defaults."""
    values: Fields = {"turn": step.turn, "at": step.at, **vars(step.move)}
    defaults: Fields = {"turn": "", "at": ""}
    for field in fields(step.move):
        defaults[field.name] = field.default
    return values, defaults


def _step(step: Step, first: bool, last: bool, dice: Dice) -> list[tuple[str, str]]:
    """Return (kind, text) of what says a step: before, turn, along, move, stop."""
    values, fitting = parts(step)[0], _fitting(step, last)
    if first:
        fitting = [r for r in fitting if "at" in r.slots] or fitting
    door = values.get("door")
    if door == DoorRef():
        fitting = [r for r in fitting if "door" in r.fixed] or fitting
    elif door is not None and door.to and door.wide is None and dice.chance(75):
        # "Enter the kitchen" rather than "go through the doorway to the kitchen".
        fitting = [r for r in fitting if ("door", "door") not in _shape(r)] or fitting
    rule = _choice(fitting, dice)
    said = {*rule.slots, *rule.fixed}
    items = []
    if step.at and "at" not in said:
        items.append(_place(step, "turn" in said, dice))
    if step.turn and "turn" not in said:
        items.append(("turn", dice.pick(TURNS[step.turn])))
        if items[0][0] == "along":
            items.reverse()
    items.append(("move", say(rule, values, dice)))
    if last and not _stops(items[-1][1]):
        items.append(("stop", _stop(step.move, dice)))
    return items


@lru_cache(1 << 12)
def _fitting(step: Step, last: bool) -> list[Rule]:
    """Return the rules for a step; turns and places may be left to words of their own."""
    values, defaults = parts(step)
    for table in (LAST, MID) if last else (MID,):
        found = table[type(step.move)]
        fitting = [rule for rule in found if covers(rule, values, defaults, ("turn", "at"))]
        if fitting:
            return fitting
    raise InputError(f"no words for {step}; see world.houses.language.wording for what can be said")


def _choice(fitting: list[Rule], dice: Dice) -> Rule:
    """Choose a rule, shorter ones rather; those that differ in a verb alone count together."""
    shapes = list(dict.fromkeys(_shape(rule) for rule in fitting))
    one, two = (
        dice.pick([rule for rule in fitting if _shape(rule) == shape])
        for shape in (dice.pick(shapes), dice.pick(shapes))
    )
    return one if dice.chance(30) or len(one.slots) <= len(two.slots) else two


def _shape(rule: Rule) -> tuple[tuple[str, str], ...]:
    return tuple(part for part in rule.parts if isinstance(part, tuple))


def _place(step: Step, turns: bool, dice: Dice) -> tuple[str, str]:
    along = ALONG if step.at == "corridor" else ACROSS
    # One walks across a room only to leave it, but along a corridor to anything.
    leads = along is ALONG or isinstance(step.move, Go)
    if leads and not turns and dice.chance(50) and step.turn in ("", "left", "right"):
        return "along", say(dice.pick(along), {"at": step.at}, dice)
    return "before", say(dice.pick(BEFORE), {"at": step.at}, dice)


def _stops(text: str) -> bool:
    return any(f"{verb} " in f"{text} " for verb in ("stop", "wait", "stand", "stay"))


def _stop(move: Move, dice: Dice) -> str:
    key = "go" if isinstance(move, Go) and dice.chance(60) else ""
    if isinstance(move, Climb) and (move.landing or dice.chance(70)):
        key = "landing" if move.landing else ("up" if move.up else "down")
    return dice.pick(STOPS_BY[key] if key else STOPS[:-1])


def _joined(items: list[tuple[str, str]], dice: Dice) -> str:
    text, length, ands = "", 0, 0
    for number, (kind, words) in enumerate(items):
        before, last = items[number - 1] if number else ("", "")
        join = _join(before, kind, "which" in last, length, ands, dice) if number else ""
        if join.startswith("."):
            length = ands = 0
        if join in (". ", ""):
            words = words[0].upper() + words[1:]
        text += join + words
        length += len(words.split())
        ands += " and " in join or " and " in words
    return text + "."


def _join(before: str, kind: str, which: bool, length: int, ands: int, dice: Dice) -> str:
    if before == "before":
        return " "
    if before == "turn" and kind == "along":
        return ", "
    if before in ("turn", "along"):
        return " and "
    if kind == "before" or which:
        return ". "
    if kind in ("turn", "along"):
        return dice.pick((". ", ". ", ", then ")) if length < LONG else ". "
    if length > LONG or ands > 1:
        return ". "
    if ands:
        return dice.pick((". ", ". ", ", then "))
    if kind == "stop":
        return dice.pick((" and ", " and ", ". "))
    return dice.pick((". ", ". ", ". ", " and ", ", then ", " and then "))
