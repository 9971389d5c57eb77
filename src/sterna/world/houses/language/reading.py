"""English back into its meaning: every way in which the grammar can read a text.

Reading uses the same rules as writing but knows nothing of what was meant; a text that can be read
in two ways is found out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sterna.errors import InputError
from sterna.world.houses.language.grammar import Fields, Rule
from sterna.world.houses.language.meaning import Meaning, Step
from sterna.world.houses.language.recognise import read
from sterna.world.houses.language.wording import (
    ACROSS,
    ALL_STOPS,
    ALONG,
    ENTERED,
    FROM,
    INSIDE,
    JOINS,
    LAST,
    MID,
    TURNS,
)

_MOVES: list[tuple[Rule, Any]] = [
    (rule, move)
    for table in (MID, LAST)
    for move, found in table.items()
    for rule in found
    if table is MID or found is not MID[move]
]
_PLACES = (*INSIDE, *FROM, *ENTERED, *ALONG, *ACROSS)
_TURN_WORDS = tuple((name, word) for name, words in TURNS.items() for word in dict.fromkeys(words))
_FULL_STOPS = {f"{stop}." for stop in ALL_STOPS}


def readings_of(text: str) -> list[Meaning]:
    """Return the meanings of a text, without repetitions; none if it is not of the grammar."""
    known: dict[tuple[int, str, str], list[Meaning]] = {}
    found = _read(text.lower().replace("tv", "TV"), 0, "", "", known)
    return [meaning for meaning in dict.fromkeys(found) if meaning]


def parse(text: str) -> Meaning:
    """Return the one meaning of a text; `InputError` if it has none, or several."""
    found = readings_of(text)
    if len(found) != 1:
        raise InputError(
            f"expected an instruction of the houses' grammar with one meaning, found {len(found)} "
            f"readings of {text[:80]!r}"
        )
    return found[0]


def _read(
    text: str, at: int, turn: str, place: str, known: dict[tuple[int, str, str], list[Meaning]]
) -> list[Meaning]:
    """Read items from a position on; `turn` and `place` wait for their move."""
    key = (at, turn, place)
    if key not in known:
        out: list[Meaning] = []
        if text[at:] == "" and not turn and not place:
            out.append(())
        for step, end, new_turn, new_place in _items(text, at, turn, place):
            for after in _after(text, end):
                rest = _read(text, after, new_turn, new_place, known)
                out += [(step, *steps) if step else steps for steps in rest]
        known[key] = list(dict.fromkeys(out))
    return known[key]


def _after(text: str, at: int) -> Iterator[int]:
    """Yield where the next item may begin after one that ends here."""
    if text[at:] in (".", ",."):
        yield len(text)
    for join in JOINS:
        if text.startswith(join, at):
            yield at + len(join)


def _items(
    text: str, at: int, turn: str, place: str
) -> Iterator[tuple[Step | None, int, str, str]]:
    """Yield what can stand here: its step if it is a move, its end, and what then waits."""
    for rule, move in _MOVES:
        for found, end in read(rule, text, at):
            step = _step(dict(found), move, turn, place)
            if step is not None:
                yield step, end, "", ""
    if not place:
        for rule in _PLACES:
            for found, end in read(rule, text, at):
                yield None, end, turn, found["at"]
    for name, word in _TURN_WORDS if not turn else ():
        if text.startswith(word, at):
            yield None, at + len(word), name, place
    if not turn and not place and text[at:] in _FULL_STOPS:
        yield None, len(text) - 1, "", ""


def _step(found: Fields, move: Any, turn: str, place: str) -> Step | None:
    """Make a step of what was read; None if it says its turn or place twice."""
    own_turn, own_place = found.pop("turn", ""), found.pop("at", "")
    if (turn and own_turn) or (place and own_place):
        return None
    return Step(move=move(**found), turn=turn or own_turn, at=place or own_place)
