"""The losses of ActDistill: align, structure, action; weighted by depth.

Sources: the released ActDistill loss (docs/decisions/actdistill.md). For discrete actions the mean
squared errors become cross entropy to the truth and Kullback-Leibler divergence to the rest.

    L_align_l  = mean_b (1 - cos(s_l, t_l))
    L_struct_l = mean_bc (cos(s_lb, s_lc) - cos(t_lb, t_lc))^2
    L_act_l    = D(a_l, truth) + D(a_l, teacher's a_l) + D(a_l, stopgrad a_(l-1))
    w_l        = (l / (L - 1))^gamma over its mean
    L          = sum or mean over l of w_l (alpha (L_align + eta L_struct) + beta L_act)

Legend: R rows, S size of a semantic vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sterna.actdistill.graph import Signals
from sterna.actdistill.stack import Chunk, Kind, Stack
from sterna.errors import InputError

IGNORED = -100
"""A discrete truth that there is none of."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Which terms there are, and how much."""

    variant: Literal["sterna", "paper"] = "sterna"
    """paper: the released objective (sum over layers, last step of a chunk alone, balance instead
    of a budget)."""
    alpha: float = 1.0
    """Weight of the semantic terms."""
    beta: float = 1.0
    """Weight of the action terms."""
    eta: float = 0.5
    """Weight of structure beside align."""
    gamma: float = 2.0
    """How much deeper layers weigh more; 0: all alike."""
    align: bool = True
    structure: bool = True
    truth: bool = True
    """Actions to the true ones."""
    teacher: bool = True
    """Actions to the teacher's at the same layer."""
    previous: bool = True
    """Actions to those of the layer before, which are held still."""
    task: float = 1.0
    """Weight of the model's own loss."""
    budget: float = 10.0
    """Weight of the budget's squared error."""
    balance: float = 0.3
    """Weight of the released balance loss (paper alone)."""

    def __post_init__(self) -> None:
        """Check the values."""
        names = ("alpha", "beta", "eta", "gamma", "task", "budget", "balance")
        wrong = [name for name in names if not getattr(self, name) >= 0]
        if wrong:
            raise InputError(f"loss: {wrong[0]} must be 0 or more, found {getattr(self, wrong[0])}")
        if self.variant not in ("sterna", "paper"):
            raise InputError(f"loss: variant must be sterna or paper, found {self.variant!r}")


def align_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return mean_b (1 - cos) of semantic vectors [R, S]."""
    return (1 - F.cosine_similarity(student, teacher.detach(), dim=-1)).mean()


def structure_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared error of the two matrices of pairwise cosines, [R, R]."""
    mine, theirs = (F.normalize(x, dim=-1) for x in (student, teacher.detach()))
    return F.mse_loss(mine @ mine.T, theirs @ theirs.T)


def truth_loss(kind: Kind, action: Tensor, truth: Tensor) -> Tensor:
    """Return D(a, truth): mean squared error over the whole chunk, or mean cross entropy.

    Where nothing is true (-100 everywhere) it is 0.
    """
    if isinstance(kind, Chunk):
        return F.mse_loss(action, truth)
    logits, labels = action.flatten(0, -2), truth.flatten()
    known = (labels != IGNORED).sum().clamp(min=1)
    return F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum") / known


def action_distance(kind: Kind, action: Tensor, target: Tensor) -> Tensor:
    """Return D(a, target prediction): mean squared error, or mean KL(target || a).

    The target is held still. Options that are closed (-inf in both) add nothing.
    """
    target = target.detach()
    if isinstance(kind, Chunk):
        return F.mse_loss(action, target)
    log_p, log_q = target.log_softmax(-1), action.log_softmax(-1)
    open_ = ~(torch.isneginf(log_p) | torch.isneginf(log_q))
    gap = torch.where(open_, log_p, 0.0) - torch.where(open_, log_q, 0.0)
    return (torch.where(open_, log_p, -math.inf).exp() * gap).sum(-1).mean()


def depth_weights(depth: Sequence[int], of: Sequence[int], gamma: float) -> list[float]:
    """Return w of layers that are number `depth[l]` of `of[l]` in their stream; their mean is 1.

    (l / (L - 1))^gamma over the mean over all layers; a stream of one layer counts as deepest.
    """
    raw = [(d / (n - 1)) ** gamma if n > 1 else 1.0 for d, n in zip(depth, of, strict=True)]
    mean = sum(raw) / len(raw)
    return [value / mean for value in raw]


def unit_weights(stack: Stack, gamma: float) -> list[float]:
    """Return the depth weights of a stack's units, by their places in their streams."""
    streams = [unit.stream for unit in stack.units]
    return depth_weights(
        [streams[:n].count(name) for n, name in enumerate(streams)],
        [streams.count(name) for name in streams],
        gamma,
    )


@dataclass(frozen=True)
class Targets:
    """What a teacher's units said, by the student's units, and the true actions."""

    signals: Signals
    truth: dict[int, Tensor]


def distillation(
    stack: Stack, kind: Kind, signals: Signals, targets: Targets, config: LossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted sum of all terms, and each term's own weighted sum (with gradient)."""
    paper = config.variant == "paper"
    weights = unit_weights(stack, config.gamma)
    scale = 1.0 if paper else 1.0 / len(stack.units)
    sums: dict[str, Tensor] = {}

    def add(name: str, unit: int, value: Tensor) -> None:
        sums[name] = sums.get(name, value.new_zeros(())) + scale * weights[unit] * value

    for unit, mine in signals.semantic.items():
        theirs = targets.signals.semantic[unit]
        if config.align:
            add("align", unit, align_loss(mine, theirs))
        if config.structure:
            add("structure", unit, structure_loss(mine, theirs))
    for unit, action in signals.action.items():
        if config.truth:
            add("truth", unit, truth_loss(kind, action, targets.truth[unit]))
        if config.teacher:
            add("teacher", unit, action_distance(kind, action, targets.signals.action[unit]))
        before = stack.before(unit)
        earlier = None if before is None else signals.action.get(before)
        if config.previous and earlier is not None:
            add("previous", unit, action_distance(kind, action, earlier))
        elif config.previous and paper:
            add("previous", unit, action_distance(kind, action, torch.zeros_like(action)))
    factors = {"align": config.alpha, "structure": config.alpha * config.eta}
    total = torch.stack(
        [factors.get(name, config.beta) * value for name, value in sums.items()]
        or [next(iter(signals.semantic.values())).new_zeros(())]
    ).sum()
    return total, sums


def last_step(kind: Kind) -> Kind:
    """Return the kind of the released heads: one step of a chunk."""
    return Chunk(steps=1, size=kind.size) if isinstance(kind, Chunk) else kind


def released_truth(kind: Kind, truth: Tensor) -> Tensor:
    """Return what the release supervises: the last step of the window alone."""
    return truth[:, -1:] if isinstance(kind, Chunk) else truth


def agreement(kind: Kind, action: Tensor, truth: Tensor) -> float:
    """Return how often a discrete prediction is right, or the mean absolute error of a chunk."""
    if isinstance(kind, Chunk):
        return float((action - truth).abs().mean())
    known = truth != IGNORED
    right = (action.argmax(-1) == truth) & known
    return float(right.sum() / known.sum().clamp(min=1))
