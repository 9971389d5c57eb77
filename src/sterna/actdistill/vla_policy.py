"""A small vision-language-action policy that decides with gates, and counts what ran."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from sterna.actdistill.adapters.vla import VlaStack
from sterna.actdistill.stack import Decide, act, everything
from sterna.models.vla import VlaBatch


class RoutedVla:
    """Predicts chunks with the units that the gates keep."""

    def __init__(self, stack: VlaStack, decide: Decide | None = None) -> None:
        """Without `decide` every unit runs."""
        self.stack, self._decide = stack.eval(), decide or everything(stack)
        self.rows, self.ran = 0, torch.zeros(len(stack.units), dtype=torch.float64)

    @property
    def frequencies(self) -> list[float]:
        """Share of decisions that each unit ran in."""
        found: list[float] = (self.ran / max(1, self.rows)).tolist()
        return found

    @torch.no_grad()
    def __call__(self, batch: VlaBatch) -> Tensor:
        """Return chunks [B, T, A]."""
        actions, gates = act(self.stack, batch, self._decide)
        self.rows += len(batch)
        self.ran += gates[0].double().sum(0).cpu()
        return actions


def fingerprint(stack: VlaStack, decide: Decide, batches: Sequence[VlaBatch]) -> str:
    """Return 16 hexadecimal digits that tell policies apart: of what they do on some batches.

    Actions are rounded to 1e-4, which other numbers of threads do not change as a rule.
    """
    policy, found = RoutedVla(stack, decide), hashlib.sha256()
    for batch in batches:
        found.update(torch.round(policy(batch) * 1e4).to(torch.int32).cpu().numpy().tobytes())
    return found.hexdigest()[:16]
