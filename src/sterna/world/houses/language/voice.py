"""Who words one text: draws words, and calls a thing by one name throughout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from sterna.world.houses.dice import Dice

T = TypeVar("T")


class Voice:
    """The words of one text; another text has another voice."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self._nouns: dict[tuple[str, ...], str] = {}

    def pick(self, items: Sequence[T]) -> T:
        """Return one of the items."""
        return self.dice.pick(items)

    def chance(self, percent: int) -> bool:
        """Say yes in so many cases of a hundred."""
        return self.dice.chance(percent)

    def noun(self, nouns: tuple[str, ...]) -> str:
        """Return one of the nouns of a kind, the same one every time."""
        if nouns not in self._nouns:
            self._nouns[nouns] = self.dice.pick(nouns)
        return self._nouns[nouns]
