"""Fine-Grained R2R (Hong et al., EMNLP 2020): instructions cut into steps, each with its stretch.

Fields beyond R2R's: ``new_instructions``, a *string* that holds a Python list of word lists, by
instruction and step, and ``chunk_view``, by instruction and step [first, last], 1-based positions
on the path (absent in the test split).
"""

from __future__ import annotations

import ast
import os
import warnings
from dataclasses import replace
from typing import Any

from sterna.data.episodes import Episode
from sterna.data.r2r import (
    Entry,
    annotation_file,
    check_field,
    episodes_of,
    is_strings,
    read_entries,
)
from sterna.errors import InputError

_LONGEST = 100_000
_DEEPEST = 3


def read_fgr2r(source: str | os.PathLike[str], split: str | None = None) -> list[Episode]:
    """Read an FGR2R file, or that of `split` in a data folder, as episodes of R2R.

    `sub_instructions` are the steps as texts, `sub_paths` their 0-based (first, last) positions on
    the path (empty in the test split). An instruction that the publisher left uncut has neither.
    Raises `InputError` naming file, entry and field.
    """
    file = annotation_file(source, "fgr2r", split)
    entries = read_entries(file)
    steps: list[tuple[tuple[str, ...], tuple[tuple[int, int], ...]]] = []
    for index, entry in enumerate(entries):
        steps += _steps(entry, f"{file}: entry {index}")
    episodes = episodes_of(entries, split, str(file))
    return [
        replace(episode, sub_instructions=texts, sub_paths=stretches)
        for episode, (texts, stretches) in zip(episodes, steps, strict=True)
    ]


def parse_word_lists(text: str, where: str) -> list[list[list[str]]]:
    """Parse ``new_instructions``: literals only, no evaluation, with limits on size and depth."""
    depth = deepest = 0
    for sign in text:
        depth += (sign in "[({") - (sign in "])}")
        deepest = max(deepest, depth)
    # Brackets inside words count too, which errs on the safe side; the published files have none.
    if len(text) > _LONGEST or deepest > _DEEPEST:
        raise InputError(
            f"{where}: new_instructions: expected at most {_LONGEST} characters and {_DEEPEST} "
            f"nested lists, found {len(text)} and {deepest}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value: Any = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        reason = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        raise InputError(
            f"{where}: new_instructions: expected a list of word lists, found {text[:40]!r} "
            f"({reason})"
        ) from error
    if not _is_word_lists(value):
        raise InputError(
            f"{where}: new_instructions: expected [instruction][step][word], found {text[:40]!r}"
        )
    result: list[list[list[str]]] = value
    return result


def _is_word_lists(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(steps, list) and all(is_strings(words) for words in steps) for steps in value
    )


def _steps(entry: Entry, where: str) -> list[tuple[tuple[str, ...], tuple[tuple[int, int], ...]]]:
    """Steps and stretches of each instruction of an entry."""
    text = entry.get("new_instructions")
    check_field(entry, "new_instructions", where, isinstance(text, str), "a string")
    cut = parse_word_lists(str(text), where)
    count = len(entry["instructions"])
    good = len(cut) <= count
    check_field(entry, "new_instructions", where, good, f"at most {count} instructions")
    chunks = entry.get("chunk_view", [[]] * len(cut))
    good = isinstance(chunks, list) and len(chunks) == len(cut)
    check_field(entry, "chunk_view", where, good, f"{len(cut)} lists, one an instruction")
    rows = []
    for words, chunk in zip(cut, chunks, strict=True):
        if "chunk_view" in entry:
            _check_chunk(entry, where, chunk, len(words))
        stretches = tuple((first - 1, last - 1) for first, last in chunk)
        rows.append((tuple(" ".join(step) for step in words), stretches))
    return rows + [((), ())] * (count - len(cut))


def _check_chunk(entry: Entry, where: str, chunk: Any, steps: int) -> None:
    last = len(entry["path"])
    good = isinstance(chunk, list) and len(chunk) == steps
    good = good and all(_is_stretch(pair, last) for pair in chunk)
    expected = f"[first, last] within 1..{last} for each of {steps} steps"
    check_field(entry, "chunk_view", where, good, expected)


def _is_stretch(pair: Any, last: int) -> bool:
    if not isinstance(pair, list) or len(pair) != 2 or not all(type(i) is int for i in pair):
        return False
    return bool(1 <= pair[0] <= pair[1] <= last)
