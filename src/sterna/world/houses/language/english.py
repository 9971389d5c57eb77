"""A meaning in English, in R2R's manner: imperative sentences of a few words each."""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache

from sterna.errors import InputError
from sterna.world.houses.dice import Dice
from sterna.world.houses.language.grammar import Fields, Rule, covers, say
from sterna.world.houses.language.meaning import (
    Between,
    Climb,
    DoorRef,
    Go,
    Meaning,
    Middle,
    Move,
    Pass,
    Step,
)
from sterna.world.houses.language.voice import Voice
from sterna.world.houses.language.wording import (
    ACROSS,
    ALONG,
    ENTERED,
    FROM,
    INSIDE,
    LAST,
    MID,
    STOPS,
    STOPS_BY,
    TURNS,
)

LONG = 16  # words after which a sentence ends rather than goes on
ONGOING = ("keep ", "continue ")  # what nothing can begin with
TRIES = 4  # wordings drawn before a verb is said twice in a row

Item = tuple[str, str]  # what it is (before, turn, along, move, stop) and its words


def write(meaning: Meaning, dice: Dice) -> str:
    """Word a meaning; other dice, other words. Raises `InputError` for one without steps."""
    if not meaning:
        raise InputError("an instruction has at least one step, found none")
    voice, items = Voice(dice), list[Item]()
    for number, step in enumerate(meaning):
        items += _step(step, items[-1:], number == len(meaning) - 1, voice)
    return _joined(items, voice)


def parts(step: Step) -> tuple[Fields, Fields]:
    """Return the fields of a step and its move in one, and their defaults."""
    values: Fields = {"turn": step.turn, "at": step.at, **vars(step.move)}
    defaults: Fields = {"turn": "", "at": ""}
    for field in fields(step.move):
        defaults[field.name] = field.default
    return values, defaults


def _step(step: Step, before: list[Item], last: bool, voice: Voice) -> list[Item]:
    """Return what says a step; `before` is the item before it, if any."""
    values, fitting = parts(step)[0], _preferred(step, not before, last, voice)
    for _ in range(TRIES):
        rule = _choice(fitting, voice)
        said = {*rule.slots, *rule.fixed}
        items: list[Item] = []
        if step.at and "at" not in said:
            items.append(_place(step, not before, "turn" in said, voice))
        if step.turn and "turn" not in said:
            turn = ("turn", _turn(step.turn, not before, voice))
            items.insert(0 if items and items[0][0] == "along" else len(items), turn)
        items.append(("move", say(rule, values, voice)))
        if not _repeats([*before, *items]):
            break
    if last and not _stops(items[-1][1]):
        items.append(("stop", _stop(step.move, voice)))
    return items


def _preferred(step: Step, first: bool, last: bool, voice: Voice) -> list[Rule]:
    """Return the rules for a step that sound best where it stands."""
    fitting, move = _fitting(step, last), step.move
    if first:
        fitting = [r for r in fitting if not str(r.parts[0]).startswith(ONGOING)] or fitting
    if first or isinstance(move, Middle):
        fitting = [r for r in fitting if "at" in r.slots] or fitting
    if isinstance(move, Go) and move.door == DoorRef():
        fitting = [r for r in fitting if "door" in r.fixed] or fitting
    elif isinstance(move, Go) and move.door.to and move.door.wide is None and voice.chance(75):
        # "Enter the kitchen" rather than "go through the doorway to the kitchen".
        fitting = [r for r in fitting if ("door", "door") not in _shape(r)] or fitting
    return fitting


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


def _choice(fitting: list[Rule], voice: Voice) -> Rule:
    """Choose a rule, shorter ones rather; those that differ in a verb alone count together."""
    shapes = list(dict.fromkeys(_shape(rule) for rule in fitting))
    one, two = (
        voice.pick([rule for rule in fitting if _shape(rule) == shape])
        for shape in (voice.pick(shapes), voice.pick(shapes))
    )
    return one if voice.chance(30) or len(one.slots) <= len(two.slots) else two


def _shape(rule: Rule) -> tuple[tuple[str, str], ...]:
    return tuple(part for part in rule.parts if isinstance(part, tuple))


def _turn(turn: str, first: bool, voice: Voice) -> str:
    words = [text for text in TURNS[turn] if not (first and text.startswith(ONGOING))]
    return voice.pick(words)


def _repeats(items: list[Item]) -> bool:
    """Whether a verb comes twice in a row, as in "turn around and turn into the kitchen"."""
    verbs = [words.split()[0] for kind, words in items if kind != "before"]
    return verbs[-1:] == verbs[-2:-1]


def _place(step: Step, first: bool, turns: bool, voice: Voice) -> Item:
    along = ALONG if step.at == "corridor" else ACROSS
    # One walks across a room only to leave it, but along a corridor to anything.
    leads = along is ALONG or isinstance(step.move, Go)
    if leads and not turns and voice.chance(50) and step.turn in ("", "left", "right"):
        return "along", say(voice.pick(along), {"at": step.at}, voice)
    places = INSIDE if first else [*INSIDE, *ENTERED]
    if isinstance(step.move, Go | Climb | Pass | Between):
        places = [*places, *FROM]
    return "before", say(voice.pick(places), {"at": step.at}, voice)


def _stops(text: str) -> bool:
    return any(f"{verb} " in f"{text} " for verb in ("stop", "wait", "stand", "stay"))


def _stop(move: Move, voice: Voice) -> str:
    key = "go" if isinstance(move, Go) and voice.chance(60) else ""
    if isinstance(move, Climb) and (move.landing or voice.chance(70)):
        key = "landing" if move.landing else ("up" if move.up else "down")
    return voice.pick(STOPS_BY[key] if key else STOPS)


def _joined(items: list[Item], voice: Voice) -> str:
    text = ""
    for number, item in enumerate(items):
        sentence = text.rpartition(". ")[2]
        join = _join(items[number - 1][0], item, sentence, voice) if number else ""
        words = item[1]
        if join in (". ", ""):
            words = words[0].upper() + words[1:]
        text += join + words
    return text + "."


def _join(before: str, item: Item, sentence: str, voice: Voice) -> str:
    """Choose what stands before an item: a sentence has one "then", and few an "and" too many.

    `before` is what the last item was, `sentence` what has been said since the last full stop.
    """
    kind, words = item
    if before == "before":
        return " "
    if before in ("turn", "along"):
        return ", " if kind == "along" or " and " in words else " and "
    if kind == "before" or "which" in sentence or len(sentence.split()) > LONG:
        return ". "
    joins = [". ", ". "] if "then " in sentence else [". ", ". ", ", then "]
    if kind in ("turn", "along") or " and " in sentence or " and " in words:
        return voice.pick(joins)
    if kind == "stop":
        return voice.pick((" and ", " and ", ". "))
    then = [] if "then " in sentence else [", then ", " and then "]
    return voice.pick([". ", ". ", ". ", " and ", *then])
