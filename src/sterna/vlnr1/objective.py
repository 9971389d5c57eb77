"""The objective of GRPO: group advantages, clipped ratios, divergence from a start policy.

Formulas alone, for tokens of answers and for decisions of walks alike: an *item* is one of them,
an *answer* a sequence of items. Sources: GRPO (DeepSeekMath, arXiv 2402.03300), clipping (PPO,
arXiv 1707.06347), the k3 estimator (Schulman 2020), "Dr. GRPO" (arXiv 2503.20783), token means and
the wider upper clip (DAPO, arXiv 2503.14476).

Legend: B prompts, G answers a prompt, N answers, I items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sterna.errors import InputError
from sterna.world.geometry import Floats, Ints

Scale = Literal["group", "batch", "none"]
Mean = Literal["answers", "items", "longest"]
_TINY = 1e-6
"""Guards a division by a deviation; rewards are of the order of 1."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """How rewards of groups become a loss."""

    group: int = 8
    """Answers a prompt (G)."""
    scale: Scale = "group"
    """What advantages are divided by: the deviation of the group (published), that of all rewards
    of the batch, or nothing (Dr. GRPO)."""
    clip: float = 0.2
    """How far a ratio may move below 1 and still be pushed."""
    clip_above: float | None = None
    """The same above 1; None: `clip`."""
    mean: Mean = "answers"
    """answers: mean over the items of each answer, then over answers (published); items: mean over
    all items (DAPO); longest: sum over items / (answers x most items allowed) (Dr. GRPO)."""
    kl_weight: float = 0.04
    """Weight of the divergence from the start policy."""
    entropy_weight: float = 0.0
    """Weight of an entropy bonus."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.group < 2:
            raise InputError(
                f"objective: group must be at least 2, found {self.group}; one answer has nothing "
                "to be compared with"
            )
        if self.scale not in ("group", "batch", "none"):
            raise InputError(f"objective: scale must be group, batch or none: {self.scale!r}")
        if self.mean not in ("answers", "items", "longest"):
            raise InputError(f"objective: mean must be answers, items or longest: {self.mean!r}")
        if not 0 < self.clip < 1 or (self.clip_above is not None and not self.clip_above > 0):
            raise InputError(
                "objective: clip must lie between 0 and 1 and clip_above be positive, found "
                f"{self.clip}, {self.clip_above}"
            )
        if min(self.kl_weight, self.entropy_weight) < 0:
            raise InputError(
                "objective: kl_weight and entropy_weight must not be negative, found "
                f"{self.kl_weight}, {self.entropy_weight}"
            )


def group_advantages(rewards: Floats, scale: Scale = "group") -> Floats:
    """Return (r - mean of its group) / deviation of rewards [B, G]; 0 where a group agrees.

    The deviation is the population's; a group of equal rewards is exactly 0, whatever rounding
    leaves of its mean. `InputError` for a reward that is not finite.
    """
    rewards = np.asarray(rewards, np.float64)
    if not np.isfinite(rewards).all():
        raise InputError("a reward is not finite; check the distances of its walk or its answer")
    flat = rewards.max(1) == rewards.min(1)
    apart = np.where(flat[:, None], 0.0, rewards - rewards.mean(1, keepdims=True))
    if scale == "none":
        return apart
    deviation = rewards.std(1, keepdims=True) if scale == "group" else rewards.std()
    return np.where(flat[:, None], 0.0, apart / (deviation + _TINY))


def item_weights(lengths: Ints, mean: Mean, longest: int | None = None) -> Floats:
    """Return the weight of each item of answers with `lengths` [N] items, [N].

    Weighted so, a sum over all items is the mean that `mean` names; an answer without items weighs
    nothing. `longest`: most items allowed, which mean longest asks for.
    """
    lengths = np.asarray(lengths, np.int64)
    some = np.maximum(lengths, 1)
    if mean == "answers":
        weights: Floats = 1.0 / (len(lengths) * some)
    elif mean == "items":
        weights = np.full(len(lengths), 1.0 / max(1, int(lengths.sum())))
    else:
        if longest is None:
            raise InputError("objective: mean longest needs the most items allowed")
        weights = np.full(len(lengths), 1.0 / (len(lengths) * longest))
    return np.where(lengths > 0, weights, 0.0)


def ratios(now: Tensor, old: Tensor) -> Tensor:
    """Return pi(item) / pi_old(item) from log-probabilities of one shape."""
    return torch.exp(now - old.detach())


def clipped(ratio: Tensor, advantages: Tensor, below: float, above: float) -> Tensor:
    """Return min(ratio A, clip(ratio, 1 - below, 1 + above) A), to be maximised."""
    held = ratio.clamp(1 - below, 1 + above)
    return torch.minimum(ratio * advantages, held * advantages)


def k3(now: Tensor, reference: Tensor) -> Tensor:
    """Estimate KL(pi || reference) of items drawn from pi: q/p - log(q/p) - 1, never negative.

    `now` and `reference` are the log-probabilities p and q of the drawn items.
    """
    gap = reference.detach() - now
    return torch.expm1(gap) - gap


def divergence(now: Tensor, reference: Tensor) -> Tensor:
    """Return KL(pi || reference) exactly, from log-probabilities [I, K] over all K choices.

    Choices that are closed (-inf) in both count nothing, and have no gradient.
    """
    open_ = torch.isfinite(now) & torch.isfinite(reference)
    log_p, log_q = now.masked_fill(~open_, 0.0), reference.detach().masked_fill(~open_, 0.0)
    return (log_p.exp() * (log_p - log_q)).masked_fill(~open_, 0.0).sum(-1)


def entropy(now: Tensor) -> Tensor:
    """Return -sum p log p in nats, from log-probabilities [I, K]; closed choices count nothing."""
    open_ = torch.isfinite(now)
    log_p = now.masked_fill(~open_, 0.0)
    return -(log_p.exp() * log_p).masked_fill(~open_, 0.0).sum(-1)


@dataclass(frozen=True)
class ObjectiveOutput:
    """The loss of a batch (to be minimised, with gradient) and the numbers worth watching."""

    loss: Tensor
    metrics: dict[str, float]


def objective(
    now: Tensor,
    old: Tensor | None,
    advantages: Tensor,
    weights: Tensor,
    config: ObjectiveConfig,
    *,
    divergences: Tensor | None = None,
    entropies: Tensor | None = None,
) -> ObjectiveOutput:
    """Return GRPO's loss of items: -sum w (clipped - kl_weight KL + entropy_weight H).

    All tensors have one shape, that of log-probabilities `now`: [I], or [N, T] where `weights` is 0
    at padding. `old` are those of the policy that answered (None: this is its first update, the
    ratio is exactly 1), `advantages` those of each item's answer, `weights` from `item_weights`.
    All metrics are weighted by them, so that those of pieces of a batch add up.
    """
    held = now.detach() if old is None else old
    ratio = ratios(now, held)
    above = config.clip if config.clip_above is None else config.clip_above
    gain = (clipped(ratio, advantages, config.clip, above) * weights).sum()
    loss = -gain
    values = {"objective": gain, "clip_share": _clipped_share(ratio, advantages, weights, config)}
    values["ratio_off"] = ((ratio - 1).abs() * weights).sum()
    if divergences is not None:
        values["kl"] = (divergences * weights).sum()
        loss = loss + config.kl_weight * values["kl"]
    if entropies is not None:
        values["entropy"] = (entropies * weights).sum()
        loss = loss - config.entropy_weight * values["entropy"]
    return ObjectiveOutput(loss, {name: float(value.detach()) for name, value in values.items()})


def _clipped_share(
    ratio: Tensor, advantages: Tensor, weights: Tensor, config: ObjectiveConfig
) -> Tensor:
    """Return the weighted share of items whose ratio no longer gives a gradient."""
    above = config.clip if config.clip_above is None else config.clip_above
    gone = (ratio > 1 + above) & (advantages > 0) | (ratio < 1 - config.clip) & (advantages < 0)
    return (gone * weights).sum()
