"""The router: from what is seen, read and lately done to one logit a unit.

Source: the released VisionLanguageConcatRouter (docs/decisions/actdistill.md), with the third input
of the paper's page, the recent action predictions.

Legend: R rows, D width of tokens, W width of the router, U units of a phase, A recent numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sterna.actdistill.gates import Costs, hard
from sterna.actdistill.stack import Decide, RouterInput, Stack, gated
from sterna.errors import InputError


@dataclass(frozen=True, kw_only=True)
class RouterConfig:
    """What the router sees and how wide it is."""

    vision: bool = True
    """Mean and maximum of visual tokens."""
    text: bool = True
    """Mean and maximum of words."""
    recent: bool = True
    """The recent action predictions."""
    width: int = 64
    """Width W of each input (the release has 512)."""
    dropout: float = 0.1
    keep: float = 0.95
    """Probability of each unit at the beginning."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.width < 1 or not 0 <= self.dropout < 1 or not 0.5 <= self.keep < 1:
            raise InputError(
                "router: width must be at least 1, dropout in [0, 1), keep in [0.5, 1), found "
                f"{self.width}, {self.dropout}, {self.keep}"
            )
        if not (self.vision or self.text or self.recent):
            raise InputError("router: every input is off; switch one on, or use a fixed selection")


def pooled(x: Tensor, mask: Tensor) -> Tensor:
    """Return mean and maximum [R, 2 D] over tokens [R, N, D] where `mask` [R, N]; 0 without any."""
    kept = mask[..., None]
    count = kept.sum(1).clamp(min=1)
    mean = (x * kept).sum(1) / count
    most = x.masked_fill(~kept, -math.inf).amax(1) if x.shape[1] else mean
    return torch.cat([mean, most.masked_fill(~mask.any(1, keepdim=True), 0.0)], -1)


def _whole(x: Tensor) -> Tensor:
    """Return `pooled` of one row's tokens [N, D] without padding, [2 D]."""
    return torch.cat([x.mean(0), x.amax(0)])


class PhaseRouter(nn.Module):
    """Logits of the units of one phase."""

    def __init__(self, width: int, recent: int, units: int, config: RouterConfig) -> None:
        """Make the projections of the inputs that are on, and one linear over them."""
        super().__init__()
        self.config = config
        inner = config.width

        def projection(inputs: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(inputs, inner), nn.LayerNorm(inner))

        self.vision = projection(width) if config.vision else None
        self.text = projection(width) if config.text else None
        self.recent = projection(recent) if config.recent and recent else None
        joined = inner * (2 * config.vision + 2 * config.text + (self.recent is not None))
        if not joined:
            raise InputError(
                "router: this model has no recent actions to look at, and the other inputs are "
                "off; switch vision or text on"
            )
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(joined, units)
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.constant_(self.out.bias, math.log(config.keep / (1 - config.keep)))

    def forward(self, seen: RouterInput) -> Tensor:
        """Return logits [R, U]."""
        parts = []
        if self.vision is not None:
            parts.append(pooled(self.vision(seen.vision.float()), seen.vision_mask))
        if self.text is not None:
            parts.append(pooled(self.text(seen.text.float()), seen.text_mask))
        if self.recent is not None:
            parts.append(self.recent(seen.recent.float()))
        return self._logits(parts)

    def heard(self, text: Tensor) -> Tensor:
        """Return what is kept of the words [L, D] of one row, [2 W].

        Their mean [D], which `of_row` leaves unread, where words are off: graphs need an output.
        """
        return text.mean(0) if self.text is None else _whole(self.text(text))

    def of_row(self, vision: Tensor | None, heard: Tensor, recent: Tensor) -> Tensor:
        """Return logits [U] of one row without padding, its words already `heard`.

        `vision` [N, D], None where there is none; `recent` [A]. As `forward`, in fewer steps: words
        stay the same for a whole episode.
        """
        parts = []
        if self.vision is not None:
            none = heard.new_zeros(2 * self.config.width)
            parts.append(none if vision is None else _whole(self.vision(vision)))
        if self.text is not None:
            parts.append(heard)
        if self.recent is not None:
            parts.append(self.recent(recent))
        return self._logits(parts)

    def _logits(self, parts: Sequence[Tensor]) -> Tensor:
        logits: Tensor = self.out(self.dropout(torch.cat(list(parts), -1)))
        return logits


class Router(nn.Module):
    """The routers of all phases of a stack; gates of fixed units are one."""

    def __init__(self, stack: Stack, config: RouterConfig) -> None:
        """Make a router for a stack."""
        super().__init__()
        self.config = config
        self.phases = nn.ModuleList(
            PhaseRouter(stack.seen_width, stack.recent, len(stack.of_phase(phase)), config)
            for phase in range(stack.phases)
        )
        self.fixed = [
            torch.tensor([stack.units[n].fixed for n in stack.of_phase(phase)])
            for phase in range(stack.phases)
        ]

    def logits(self, phase: int, seen: RouterInput) -> Tensor:
        """Return logits [R, U] of the phase's units."""
        found: Tensor = self.phases[phase](seen)
        return found

    def held(self, phase: int, gates: Tensor) -> Tensor:
        """Return gates with those of fixed units set to one."""
        return gates.masked_fill(self.fixed[phase].to(gates.device), 1.0)

    def decide(self, threshold: float = 0.0) -> Decide:
        """Return the gates of run time: 1 where a logit is above the threshold."""

        def gates(phase: int, seen: RouterInput) -> Tensor:
            return self.held(phase, hard(self.logits(phase, seen), threshold).detach())

        return gates


def calibrate(
    logits: Sequence[Tensor], phases: Sequence[Sequence[int]], costs: Costs, rho: float
) -> float:
    """Return the threshold at which the mean cost of some rows is the largest that fits `rho`.

    `logits[p]` [R_p, U_p] of all rows of a phase, whose units are numbered `phases[p]`. One
    threshold for all units: the weighted quantile of all logits (DeeR-VLA's idea, for gates). The
    model stays as it is, so one model serves many budgets. `InputError` where the fixed units alone
    cost more.
    """
    fixed = sum(c for c, f in zip(costs.each, costs.fixed, strict=True) if f) / sum(costs.each)
    if fixed > rho + 1e-9:
        raise InputError(f"budget: {rho:g} is less than what always runs ({fixed:.3f}); raise rho")
    values, shares = [], []
    for found, units in zip(logits, phases, strict=True):
        for place, unit in enumerate(units):
            if not costs.fixed[unit]:
                column = found[:, place].double().numpy()
                values.append(column)
                shares.append(np.full(len(column), costs.each[unit] / len(column)))
    if not values:
        return 0.0
    value, share = np.concatenate(values), np.concatenate(shares) / sum(costs.each)
    order = np.argsort(-value, kind="stable")
    value, spent = value[order], fixed + np.cumsum(share[order])
    # Rows with equal logits are open together, so a threshold never splits them.
    last = np.append(value[1:] != value[:-1], True)
    ends = np.flatnonzero(last & (spent <= rho + 1e-9))
    if not len(ends):
        return float(np.nextafter(np.float32(value[0]), np.float32(np.inf)))
    end = int(ends[-1])
    if end + 1 == len(value):
        return float(np.nextafter(np.float32(value[end]), np.float32(-np.inf)))
    return float((value[end] + value[end + 1]) / 2)


@torch.no_grad()
def router_logits(stack: Stack, router: Router, batches: Sequence[Any]) -> list[Tensor]:
    """Return the logits of all rows by phase, [R, U]; later phases see what open gates leave."""
    kept: list[list[Tensor]] = [[] for _ in range(stack.phases)]

    def decide(phase: int, seen: RouterInput) -> Tensor:
        logits = router.logits(phase, seen)
        kept[phase].append(logits.cpu())
        return router.held(phase, (logits > 0).float())

    for batch in batches:
        gated(stack, stack.prepare(batch), decide, skip=True)
    return [torch.cat(parts) for parts in kept]
