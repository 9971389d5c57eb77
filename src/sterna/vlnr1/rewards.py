"""Rewards of answered actions: time-decayed and its rivals, compared position by position.

Legend: B samples, G answers a sample, n actions an answer. Source: VLN-R1 (arXiv 2506.17221), the
time-decayed reward and the arms of its ablation; what it leaves open stands in
docs/decisions/grpo.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sterna.errors import InputError
from sterna.world.geometry import Floats, Ints

UNREAD = -1
"""Stands for each action of an answer that could not be parsed."""
Shape = Literal["decayed", "linear", "uniform", "hard"]


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """What right actions are worth."""

    shape: Shape = "decayed"
    """decayed: gamma^k for a right action k; linear: (n - k) / n; uniform: 1; hard: 1 for an answer
    that is right throughout, else 0."""
    gamma: float = 0.9
    """Decay an action, of shape decayed alone."""
    normalise: bool = True
    """Divide by the reward of a right answer, so that every shape reaches 1."""
    format_weight: float = 0.0
    """Added for any answer that can be parsed (0: as the paper, by all that is known of it)."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.shape not in ("decayed", "linear", "uniform", "hard"):
            raise InputError(
                f"reward: shape must be decayed, linear, uniform or hard, found {self.shape!r}"
            )
        if not 0 < self.gamma <= 1 or self.format_weight < 0:
            raise InputError(
                "reward: gamma must be above 0 and at most 1, format_weight not negative; found "
                f"{self.gamma}, {self.format_weight}"
            )


def stack_answers(parsed: Sequence[Ints | None], n: int) -> Ints:
    """Return parsed answers as [answers, n]; one that could not be parsed is all `UNREAD`."""
    out = np.full((len(parsed), n), UNREAD, np.int64)
    for row, answer in zip(out, parsed, strict=True):
        if answer is not None:
            row[:] = answer
    return out


def action_weights(config: RewardConfig, n: int) -> Floats:
    """Return what a right action at each of n positions is worth, before normalisation [n].

    Not of shape hard, where no action is worth anything alone.
    """
    k = np.arange(n, dtype=np.float64)
    if config.shape == "decayed":
        return np.power(config.gamma, k)
    return (n - k) / n if config.shape == "linear" else np.ones(n)


def most(config: RewardConfig, n: int) -> float:
    """Return the raw reward of n right actions."""
    return 1.0 if config.shape == "hard" else float(action_weights(config, n).sum())


def raw_rewards(answers: Ints, expert: Ints, config: RewardConfig) -> Floats:
    """Return sum over k of weight_k [answer_k == expert_k], [..., G] of answers [..., G, n].

    `expert` is [..., n]. Of shape hard: 1 where all n agree, else 0. `InputError` for another
    number of actions than the expert's.
    """
    if answers.shape[-1] != expert.shape[-1]:
        raise InputError(
            f"reward: answers of {answers.shape[-1]} actions beside an expert's "
            f"{expert.shape[-1]}; parse with the n of the samples"
        )
    right = (answers == expert[..., None, :]) & read(answers)[..., None]
    if config.shape == "hard":
        whole: Floats = right.all(-1).astype(np.float64)
        return whole
    out: Floats = right @ action_weights(config, answers.shape[-1])
    return out


def read(answers: Ints) -> NDArray[np.bool_]:
    """Return which answers [..., n] could be parsed [...]."""
    out: NDArray[np.bool_] = (answers != UNREAD).all(-1)
    return out


def rewards(answers: Ints, expert: Ints, config: RewardConfig) -> Floats:
    """Return the rewards [..., G] of answers [..., G, n] beside the expert's actions [..., n].

    Reward = raw (divided by the greatest, if `normalise`) + format_weight if it could be parsed; an
    answer that could not is worth exactly 0.
    """
    raw = raw_rewards(answers, expert, config)
    scale = most(config, answers.shape[-1]) if config.normalise else 1.0
    out: Floats = raw / scale + config.format_weight * read(answers)
    return out
