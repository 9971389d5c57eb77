"""Rules that turn parts of a meaning into English, and English back into them.

A rule is a text with slots ``{field}`` or ``{field:as}``: the field of the part that is said
there, and what it is said as. ``(a|b)`` stands for either. A rule says a part if every field that
is not at its default is a slot of the rule or one of its `fixed` values.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from sterna.world.houses.language.lexicon import (
    COLOURS,
    MATERIALS,
    ORDINALS,
    RELATIONS,
    ROOMS,
    TASKS,
    article,
    is_plural,
    nouns,
)
from sterna.world.houses.language.meaning import DoorRef, RoomRef, ThingRef
from sterna.world.houses.language.voice import Voice

Fields = dict[str, Any]


class Rule(NamedTuple):
    """One wording: literal texts and slots (field, what it is said as) in turn.

    `slots` are the fields that are said, `fixed` those with a value that goes without saying.
    """

    parts: tuple[str | tuple[str, str], ...]
    slots: tuple[str, ...]
    fixed: Mapping[str, Any]


def rules(*texts: str, **fixed: Any) -> list[Rule]:
    """Spell out the alternatives of texts as rules."""
    out = []
    for text in texts:
        for one in _spelled(text):
            parts = _parts(one)
            out.append(Rule(parts, tuple(p[0] for p in parts if isinstance(p, tuple)), fixed))
    return out


def _spelled(text: str) -> Iterator[str]:
    pieces = [p[1:-1].split("|") if p[:1] == "(" else [p] for p in re.split(r"(\([^)]*\))", text)]
    for choice in itertools.product(*pieces):
        yield re.sub(" +", " ", "".join(choice)).strip()


def _parts(text: str) -> tuple[str | tuple[str, str], ...]:
    out: list[str | tuple[str, str]] = []
    for piece in re.split(r"(\{[^}]*\})", text):
        if piece[:1] == "{":
            field, _, said_as = piece[1:-1].partition(":")
            out.append((field, said_as or field))
        elif piece:
            out.append(piece)
    return tuple(out)


# Words for single values, longest first when read.
WORDS: dict[str, dict[Any, tuple[str, ...]]] = {
    "side": {"left": ("left",), "right": ("right",)},
    "turn": {"left": ("left",), "right": ("right",)},
    "nth": {n: (word,) for n, word in ORDINALS.items()},
    "room": dict(ROOMS),
}
WORDS["to"] = WORDS["at"] = WORDS["room"]
WORDS["storey"] = {0: ("first floor", "first level"), 1: ("second floor", "second level")}
WORDS["number"] = {0: ("1",), 1: ("2",)}
WORDS["upstairs"] = {0: ("downstairs",), 1: ("upstairs",)}
WORDS["task"] = {verb: (verb,) for verbs in TASKS.values() for verb in verbs}

DOORS = [
    *rules(
        "the {wide} (to|to|to|leading to|that leads to) the {to}",
        "the {wide} to the {to} on (your|the) {side}",
        "the {wide} (on|to) your {side}",
        "the {wide} on the {side}",
        "the {nth} {wide} on (your|the) {side}",
        "the {wide} (next to|beside|by) {by}",
        "the {wide}",
    ),
    *rules("the {wide} (straight ahead|in front of you|directly ahead)", side="ahead"),
    *rules("the {wide} to the {to} (straight ahead|in front of you)", side="ahead"),
]
INTO = [
    *rules("the {to}", "the {to} on (your|the) {side}", "the {nth} {to} on (your|the) {side}"),
    *rules("the {to} (straight ahead|in front of you)", side="ahead"),
]
_DOOR_DEFAULTS: Fields = {"to": "", "side": "", "nth": 0, "by": None, "wide": None}
RULES = {
    "door": DOORS,
    "into": INTO,
    # Without sides, for use beside a turn.
    "plain": [r for r in DOORS if "side" not in r.slots and "side" not in r.fixed],
    # One does not exit into a bedroom: beside "exit" and "leave" no room behind is named.
    "out": [r for r in DOORS if "to" not in r.slots],
    "name": rules("the {to}"),
    "place": rules(
        "the {kind:room}",
        "the {kind:room} on the {storey}",
        "the {kind:room} on the {storey} of the house",
        "the {kind:room} that is on the {storey}",
        "the {kind:room} on level {storey:number}",
        "the {storey:upstairs} {kind:room}",
        "the {kind:room} (with|that has) {holds:a}",
        "the {kind:room} on the {storey} (with|that has) {holds:a}",
        "the {kind:room} that has {holds:simple} in it",
        "the {storey:upstairs} {kind:room} (with|that has) {holds:a}",
    ),
}
PARTS: dict[str, tuple[type, Fields]] = dict.fromkeys(RULES, (DoorRef, _DOOR_DEFAULTS))
PARTS["place"] = (RoomRef, {"kind": "", "storey": None, "holds": None})
WIDE: dict[bool | None, tuple[str, ...]] = {
    False: ("door",),
    True: ("opening", "archway"),
    None: ("doorway",),
}


def say(rule: Rule, part: Fields, voice: Voice) -> str:
    """Word a part by a rule that says it."""
    out = ""
    for piece in rule.parts:
        out += piece if isinstance(piece, str) else say_value(piece[1], part[piece[0]], voice)
    return out


def covers(rule: Rule, part: Fields, defaults: Fields, free: tuple[str, ...] = ()) -> bool:
    """Whether a rule says a part whole; fields in `free` may be left to other words."""
    for field, value in rule.fixed.items():
        if part[field] != value:
            return False
    said = rule.slots
    for field, value in part.items():
        if field in rule.fixed or (field == "wide" and "wide" in said):
            continue
        unsaid = value == defaults[field]
        if field in said:
            if unsaid or not _sayable(rule, field, value):
                return False
        elif not unsaid and field not in free:
            return False
    return True


def _sayable(rule: Rule, field: str, value: Any) -> bool:
    said_as = next(p[1] for p in rule.parts if isinstance(p, tuple) and p[0] == field)
    if said_as in WORDS:
        return value in WORDS[said_as]
    if said_as in RULES:
        return isinstance(value, PARTS[said_as][0]) and bool(_fitting(said_as, value))
    return isinstance(value, ThingRef) and not (said_as == "simple" and value.relation)


@lru_cache(1 << 14)
def _fitting(said_as: str, value: DoorRef | RoomRef) -> list[Rule]:
    part = dict(vars(value))
    if said_as in ("into", "name") and part.pop("wide") is not None:
        return []
    return [rule for rule in RULES[said_as] if covers(rule, part, PARTS[said_as][1])]


def say_value(said_as: str, value: Any, voice: Voice) -> str:
    """Word a slot's value."""
    if said_as == "wide":
        return voice.pick(WIDE[value])
    if said_as in ("room", "to", "at"):
        return voice.noun(WORDS[said_as][value])
    if said_as in WORDS:
        return voice.pick(WORDS[said_as][value])
    if said_as in RULES:
        return say(voice.pick(_fitting(said_as, value)), vars(value), voice)
    noun, words = bare(value, voice)
    if said_as not in ("a", "simple"):
        return f"the {words}"
    return words if is_plural(noun) else article(words)


def bare(ref: ThingRef, voice: Voice) -> tuple[str, str]:
    """Word a thing: its noun, and all of it without an article."""
    noun = voice.noun(nouns(ref.kind))
    words = [ref.size, COLOURS.get(ref.colour, ref.colour), MATERIALS.get(ref.material, ""), noun]
    if ref.relation:
        colour = COLOURS.get(ref.other_colour, ref.other_colour)
        words += [voice.pick(RELATIONS[ref.relation]), "the", colour, nouns(ref.other)[0]]
    return noun, " ".join(word for word in words if word)
