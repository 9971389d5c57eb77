"""Words of what can be seen in a house, their vectors, and view features made of them.

A view's feature is [things and rooms | colours], each part a sum of word vectors weighted by how
surely and how remarkably the word is visible. A policy whose word table begins with the same
vectors (`word_vectors`) finds words in views from its first step.

Vectors are rows of Hadamard matrices, signs divided by the root of the size: exact on every
machine, and orthogonal to each other among the first `size` words.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sterna.errors import InputError
from sterna.world.houses.language.lexicon import NOUNS
from sterna.world.houses.language.lexicon import ROOMS as ROOM_NOUNS
from sterna.world.houses.pack import CLASSES
from sterna.world.houses.seen import COLOUR_NAMES, ROOMS, Cells, centre_weights

Numbers = NDArray[np.float32]

SIZE = 128  # of a vector, unless told otherwise
UNSEEN = 0.5  # length of the vectors of words that name nothing visible
SILENT = ("floor", "wall", "ceiling")  # everywhere, so they tell nothing
THINGS = tuple(name.replace("door frame", "door") for name in CLASSES if name not in SILENT)
"""Names of visible things; `THING_CLASSES` are their numbers in `CLASSES`."""
THING_CLASSES = np.array([i for i, name in enumerate(CLASSES) if name not in SILENT])
CONCEPTS = (*THINGS, *ROOMS, *COLOUR_NAMES)
"""Everything an encoder says of a view, in this order."""
GROUPS = {
    "things": slice(0, len(THINGS)),
    "rooms": slice(len(THINGS), len(THINGS) + len(ROOMS)),
    "colours": slice(len(THINGS) + len(ROOMS), len(CONCEPTS)),
}
ROOM_WEIGHT = 2.0
"""Rooms count double: there are few of them in a view beside many things."""


LEAST = {"things": 0.01, "rooms": 0.10, "colours": 0.01}
"""Share of a view (middle columns count more) from which on a concept is said to be visible."""


def _known() -> tuple[str, ...]:
    words = [word for name in CONCEPTS for word in name.split() if word != "of"]
    return tuple(dict.fromkeys(words))


KNOWN = _known()
"""Words of which visible things are named, by row of the Hadamard matrices."""
_ROW = {word: i for i, word in enumerate(KNOWN)}


def _synonyms() -> dict[str, str]:
    named = {**NOUNS, **ROOM_NOUNS}
    pairs = ((noun.lower(), kind) for kind, nouns in named.items() for noun in nouns)
    return {noun: kind for noun, kind in pairs if " " not in noun and noun not in _ROW}


SYNONYMS = _synonyms()
"""Words of instructions that are no part of the name of what they mean, and that name."""


def word_vectors(vocabulary: Sequence[str], size: int = SIZE) -> Numbers:
    """Return vectors float32 [len(vocabulary), size] of words, the same on every machine.

    Words that name something visible (or a plural of one) have length 1 and are (nearly)
    orthogonal; other words for the same (`SYNONYMS`) have the vector of its name. All others have
    half that length, in directions of their own. Special tokens in brackets are zero. `size` is a
    power of two from 128; `InputError` otherwise.
    """
    if size < SIZE or size & (size - 1):
        raise InputError(
            f"word vectors: size must be a power of two from {SIZE} up, found {size}; narrower "
            "models reduce them"
        )
    return np.stack([_vector(word.lower(), size) for word in vocabulary]).astype(np.float32)


def _vector(word: str, size: int) -> NDArray[np.float64]:
    if word.startswith("[") and word.endswith("]"):
        return np.zeros(size)
    for form in (word, word.removesuffix("s"), word.removesuffix("es")):
        if form in _ROW:
            return _signs(_ROW[form], size) / math.sqrt(size)
        if form in SYNONYMS:
            return np.asarray(name_vectors([SYNONYMS[form]], size)[0], np.float64)
    bits = b"".join(hashlib.sha256(f"{word}/{i}".encode()).digest() for i in range(-(-size // 256)))
    signs = np.unpackbits(np.frombuffer(bits, np.uint8))[:size].astype(np.float64)
    return (1.0 - 2.0 * signs) * (UNSEEN / math.sqrt(size))


def _signs(row: int, size: int) -> NDArray[np.float64]:
    """Return row `row` of Hadamard's matrix; rows from `size` on are of matrices turned by signs.

    Rows of the plain matrix and of one turned by a quadratic form have cosines of at most
    sqrt(2 / size) (Kerdock's construction).
    """
    column = np.arange(size)
    turn, row = divmod(row, size)
    parity = np.zeros(size, np.int64)
    for bit in range(size.bit_length() - 1):
        parity += (column >> bit) & (row >> bit) & 1
    for bit in range(0, size.bit_length() - 2, 2) if turn else ():
        parity += (column >> bit) & (column >> (bit + 1)) & 1
    return 1.0 - 2.0 * (parity % 2).astype(np.float64)


def name_vectors(names: Sequence[str], size: int = SIZE) -> Numbers:
    """Return unit vectors [len(names), size] of names of one or more words: sums of their words."""
    rows = [
        word_vectors([word for word in name.split() if word != "of"], size).sum(0) for name in names
    ]
    table = np.array(rows, np.float64)
    length = np.sqrt(np.square(table).sum(1, keepdims=True))
    out: Numbers = (table / length).astype(np.float32)
    return out


def view_features(probabilities: Numbers, base: Numbers, size: int = SIZE) -> Numbers:
    """Return features float32 [n, 2 * size] of views in which concepts [n, C] are visible.

    `base` [C] are the shares of views in which each is: what is rare counts more, by the root of
    its surprise. A part of length x is drawn to x / sqrt(1 + x^2), so nearly empty views stay
    short.
    """
    surprise = np.sqrt(-np.log(base.clip(1e-3, 0.9)))
    surprise[GROUPS["rooms"]] *= ROOM_WEIGHT
    strength = (probabilities * surprise).astype(np.float32)
    names = name_vectors(CONCEPTS, size)
    parts = []
    for members in (slice(0, GROUPS["rooms"].stop), GROUPS["colours"]):
        part = strength[:, members] @ names[members]
        parts.append(part / np.sqrt(1 + np.square(part).sum(1, keepdims=True)))
    return np.concatenate(parts, axis=1).astype(np.float32)


def shares(cells: Cells) -> Numbers:
    """Return which share of each view each concept takes, float32 [n, C] (middle columns most)."""
    weights = centre_weights(int(cells.kinds.shape[1] ** 0.5)) / 100
    parts = [np.einsum("nak,a->nk", c, weights) for c in (cells.kinds, cells.rooms, cells.colours)]
    kinds, rooms, colours = parts
    out = np.concatenate([kinds[:, THING_CLASSES], rooms[:, :-1], colours[:, :-1]], axis=1)
    return out.astype(np.float32)


def shown(cells: Cells) -> NDArray[np.bool_]:
    """Return which concepts are visible in each view, bool [n, C]: those with their least share."""
    least = np.concatenate(
        [np.full(part.stop - part.start, LEAST[group]) for group, part in GROUPS.items()]
    )
    seen: NDArray[np.bool_] = shares(cells) >= least - 1e-6
    return seen
