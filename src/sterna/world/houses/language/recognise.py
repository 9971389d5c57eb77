"""Reading by the rules of `grammar`: which fields a text gives, every way there is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sterna.world.houses.language.grammar import PARTS, RULES, WIDE, WORDS, Fields, Rule
from sterna.world.houses.language.lexicon import COLOURS, MATERIALS, RELATIONS, nouns
from sterna.world.houses.language.meaning import ThingRef
from sterna.world.houses.objects import KINDS
from sterna.world.houses.paint import COLOURS as PAINTS

THING_KINDS = (*KINDS, "window", "stairs")
_NOUNS = sorted(((n, k) for k in THING_KINDS for n in nouns(k)), key=lambda p: (-len(p[0]), p))
_COLOURS = {COLOURS.get(c, c): c for c in PAINTS}
_MATERIALS = {word: material for material, word in MATERIALS.items()}
_RELATIONS = sorted(((w, r) for r, ws in RELATIONS.items() for w in ws), key=lambda p: -len(p[0]))


def read(rule: Rule, text: str, at: int) -> Iterator[tuple[Fields, int]]:
    """Read a rule's text from a position: the fields it gives and where it ends, every way."""
    for found, end in _read(rule.parts, text, at):
        yield {**rule.fixed, **found}, end


def _read(
    parts: tuple[str | tuple[str, str], ...], text: str, at: int
) -> Iterator[tuple[Fields, int]]:
    if not parts:
        yield {}, at
        return
    head = parts[0]
    if isinstance(head, str):
        if text.startswith(head, at):
            yield from _read(parts[1:], text, at + len(head))
        return
    for value, end in read_value(head[1], text, at):
        for rest, last in _read(parts[1:], text, end):
            yield {head[0]: value, **rest}, last


def read_value(said_as: str, text: str, at: int) -> Iterator[tuple[Any, int]]:
    """Read a slot's value, every way."""
    if said_as in RULES:
        for rule in RULES[said_as]:
            for found, end in read(rule, text, at):
                yield PARTS[said_as][0](**found), end
    elif said_as == "wide" or said_as in WORDS:
        for value, words in (WIDE if said_as == "wide" else WORDS[said_as]).items():
            for word in dict.fromkeys(words):
                if _word_at(word, text, at):
                    yield value, at + len(word)
    else:
        for start in ("a ", "an ", "") if said_as in ("a", "simple") else ("the ",):
            if text.startswith(start, at):
                for ref, end in _read_thing(text, at + len(start)):
                    if not (said_as == "simple" and ref.relation):
                        yield ref, end


def _word_at(word: str, text: str, at: int) -> bool:
    end = at + len(word)
    return text.startswith(word, at) and not text[end : end + 1].isalpha()


def _optional(words: Mapping[str, str], text: str, at: int) -> Iterator[tuple[str, int]]:
    yield "", at
    for word, value in words.items():
        if _word_at(word, text, at) and text[at + len(word) : at + len(word) + 1] == " ":
            yield value, at + len(word) + 1


def _read_thing(text: str, at: int) -> Iterator[tuple[ThingRef, int]]:
    """Read a thing after its article."""
    for size, a in _optional({"small": "small", "large": "large"}, text, at):
        for colour, b in _optional(_COLOURS, text, a):
            for material, c in _optional(_MATERIALS, text, b):
                for noun, kind in _NOUNS:
                    if _word_at(noun, text, c):
                        ref = ThingRef(kind=kind, size=size, colour=colour, material=material)
                        yield ref, c + len(noun)
                        yield from _read_relation(ref, text, c + len(noun))


def _read_relation(ref: ThingRef, text: str, at: int) -> Iterator[tuple[ThingRef, int]]:
    for word, relation in _RELATIONS:
        if not text.startswith(f" {word} the ", at):
            continue
        for colour, a in _optional(_COLOURS, text, at + len(word) + 6):
            for noun, kind in _NOUNS:
                if _word_at(noun, text, a):
                    said = {
                        **vars(ref),
                        "relation": relation,
                        "other": kind,
                        "other_colour": colour,
                    }
                    yield ThingRef(**said), a + len(noun)
