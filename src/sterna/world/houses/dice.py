"""Random choices that are the same on every machine and with every version of NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Dice:
    """Whole numbers from the raw PCG64 stream.

    NumPy promises the raw stream of a bit generator for ever, but not what `Generator.integers`
    makes of it; so everything here is integer arithmetic on raw draws.
    """

    def __init__(self, seed: int, *stream: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence([seed, *stream]))

    def below(self, end: int) -> int:
        """Return a whole number from 0 to end - 1."""
        return (int(self._bits.random_raw()) >> 11) % end

    def between(self, low: int, high: int, step: int = 1) -> int:
        """Return low, low + step, ... up to high, all equally likely."""
        return low + step * self.below((high - low) // step + 1)

    def chance(self, percent: int) -> bool:
        """Say yes in so many cases of a hundred."""
        return self.below(100) < percent

    def pick(self, items: Sequence[T]) -> T:
        """Return one of the items."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return the items in random order."""
        out = list(items)
        for i in range(len(out) - 1, 0, -1):
            j = self.below(i + 1)
            out[i], out[j] = out[j], out[i]
        return out
