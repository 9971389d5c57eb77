"""All words that instructions in houses are made of: the same list whatever was written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sterna.world.houses import objects, paint
from sterna.world.houses.language import draft, english, errands, grammar, lexicon, wording

SIZES = ("large", "narrow", "small", "wide", "tall")
STOPS = (".", ",", ";", ":", "'", "-")
OTHERS = ("an", "s", "1", "2", "3")
_TEXTS = (wording, errands, lexicon, grammar, english, draft, objects, paint)


def vocabulary() -> tuple[str, ...]:
    """Return every word of the grammar in lower case, sorted; punctuation too.

    Gathered from all that the grammar's modules say, so it holds some words too many, and none too
    few.
    """
    found = {*SIZES, *STOPS, *OTHERS}
    for module in _TEXTS:
        for name, value in vars(module).items():
            if not name.startswith("__"):
                for text in _strings(value):
                    found.update(re.findall(r"[a-z]+", text.lower()))
    return tuple(sorted(found))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.items():
            yield from _strings(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _strings(item)
