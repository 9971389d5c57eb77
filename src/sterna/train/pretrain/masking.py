"""What is hidden from the model: words (mlm), views and objects (mrc).

Source: DUET's pre-training, which takes BERT's rule for words.

Legend: B walks, L words, N regions (views or objects).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sterna.errors import InputError
from sterna.world.geometry import Ints

KEPT = -1
"""Label of a word that is not asked for."""


@dataclass(frozen=True, kw_only=True)
class MaskingConfig:
    """How much is hidden, and by what."""

    words: float = 0.15
    """Share of words that are asked for: 80% hidden, 10% replaced, 10% left as they are."""
    regions: float = 0.15
    """Share of views, and of objects, whose features are zeroed."""
    mask_id: int = 103
    """Word piece [MASK] (BERT uncased)."""
    first_word: int = 1996
    """Smallest word piece put in place of another (BERT uncased: the first whole word)."""
    end_word: int = 29611
    """One beyond the largest."""

    def __post_init__(self) -> None:
        """Check the values."""
        if not (0 < self.words < 1 and 0 < self.regions < 1):
            raise InputError(
                "masking: words and regions must lie between 0 and 1, found "
                f"{self.words} and {self.regions}"
            )
        if not (0 <= self.first_word < self.end_word and self.mask_id >= 0):
            raise InputError(
                "masking: word pieces must be 0 or more and first_word below end_word, found "
                f"mask_id {self.mask_id}, {self.first_word} and {self.end_word}"
            )


def mask_words(
    ids: Ints, valid: NDArray[np.bool_], rng: np.random.Generator, config: MaskingConfig
) -> tuple[Ints, Ints]:
    """Hide words of instructions [B, L]; return (ids as shown, labels with -1 elsewhere).

    Every valid word, [CLS] and [SEP] included, is asked for with probability `config.words`; of
    these 80% show [MASK], 10% a random word, 10% themselves. An instruction in which no word was
    drawn has its first one hidden.
    """
    drawn = rng.random(ids.shape) / config.words
    other = rng.integers(config.first_word, config.end_word, ids.shape)
    asked = (drawn < 1.0) & valid
    none = ~asked.any(1)
    asked[none, 0] = True
    drawn[none, 0] = 0.0
    shown = np.where(asked & (drawn < 0.8), config.mask_id, ids)
    shown = np.where(asked & (drawn >= 0.8) & (drawn < 0.9), other, shown)
    return shown, np.where(asked, ids, KEPT)


def mask_regions(counts: Ints, rng: np.random.Generator, share: float) -> NDArray[np.bool_]:
    """Choose regions to hide, [B, N] for `counts` [B]; at least one where there is any."""
    width = int(counts.max(initial=0))
    valid = np.arange(width) < counts[:, None]
    hidden: NDArray[np.bool_] = (rng.random((len(counts), width)) < share) & valid
    spare = np.floor(rng.random(len(counts)) * counts).astype(np.int64)
    none = np.flatnonzero(~hidden.any(1) & (counts > 0))
    hidden[none, spare[none]] = True
    return hidden
