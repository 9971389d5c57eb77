"""The answers that exist, as tokens: for decoding that can say nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from sterna.errors import InputError
from sterna.world.frames import Action
from sterna.world.talk.prompts import Wording
from sterna.world.talk.reading import Reader

Tokens = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One place of an answer: what all options begin with, and where they part.

    Option a reads ``shared + (heads[a],) + tails[a]``; a is the action's number.
    """

    shared: Tokens
    heads: Tokens
    tails: tuple[Tokens, ...]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The first place of an answer and every later one (which has the joint in front)."""

    first: Slot
    later: Slot

    def slot(self, number: int) -> Slot:
        """Return place `number` of an answer."""
        return self.later if number else self.first


def choices(processor: Reader, wording: Wording) -> Choices:
    """Return the answers of a wording in a processor's tokens.

    `InputError` where the tokenizer blurs them: two options that begin with the same token, or
    tokens that run across the border of two options. Then only free generation serves.
    """
    single = [processor.text_ids(wording.texts[action]) for action in Action]
    pairs = {(a, b): processor.text_ids(wording.answer([a, b])) for a, b in product(Action, Action)}
    second = [pairs[Action.STOP, b][len(single[Action.STOP]) :] for b in Action]
    if any(pairs[a, b] != single[a] + second[b] for a, b in pairs):
        raise InputError(
            "navigator: this tokenizer joins neighbouring options into one token, so answers "
            "cannot be constrained; generate freely"
        )
    return Choices(first=_slot(single), later=_slot(second))


def _slot(options: Sequence[Tokens]) -> Slot:
    shared = 0
    while all(len(o) > shared for o in options) and len({o[shared] for o in options}) == 1:
        shared += 1
    heads = tuple(o[shared] for o in options if len(o) > shared)
    if len(set(heads)) != len(options):
        raise InputError(
            "navigator: two options begin with the same token in this tokenizer, so answers cannot "
            "be constrained; generate freely"
        )
    return Slot(
        shared=options[0][:shared], heads=heads, tails=tuple(o[shared + 1 :] for o in options)
    )


def longest_answer(processor: Reader, wording: Wording) -> int:
    """Return the most tokens that a right answer and its end can have."""
    texts = [wording.texts[action] for action in Action]
    longest = max(texts, key=lambda text: len(processor.text_ids(text)))
    action = texts.index(longest)
    whole = wording.answer([action] * wording.actions)
    return len(processor.answer_ids(whole))
