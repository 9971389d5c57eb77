"""Stage 1: what the frozen teacher's layers know, and the targets that the student follows.

The teacher runs whole (no router) and in eval mode; only graph heads and action heads learn, from
true actions: L = mean over units of D(a_l, truth). Then every sample's semantic vectors and action
predictions are written down by sample id (`targets`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from sterna.actdistill.graph import GraphConfig, GraphHeads, Signals
from sterna.actdistill.losses import agreement, released_truth, truth_loss
from sterna.actdistill.stack import Kind, Passed, Stack, everything, gated
from sterna.actdistill.stages import Drawn, Samples
from sterna.actdistill.targets import TargetStore, TargetWriter
from sterna.train.task import TaskOutput


class Teacher:
    """A frozen teacher with its heads: whole, in eval mode, without gradient."""

    def __init__(self, stack: Stack, heads: GraphHeads) -> None:
        """Freeze a stack."""
        self.stack, self.heads = stack.eval().requires_grad_(False), heads

    @torch.no_grad()
    def tokens(self, batch: Any) -> Passed:
        """Run the teacher over a batch; the tokens behind each unit are kept."""
        self.stack.eval()
        state = self.stack.prepare(batch)
        return gated(self.stack, state, everything(self.stack), skip=True, keep=True)

    @torch.no_grad()
    def signals(self, batch: Any) -> Signals:
        """Return what its units say about a batch, heads in eval mode too."""
        training = self.heads.training
        self.heads.eval()
        found: Signals = self.heads(self.tokens(batch).tokens)
        self.heads.train(training)
        return found


class ProbeTask(nn.Module):
    """Trains the heads beside a frozen teacher."""

    def __init__(self, stack: Stack, graph: GraphConfig, *, kind: Kind | None = None) -> None:
        """Put new heads beside a stack; `kind` replaces that of its predictions (paper)."""
        super().__init__()
        self.heads = GraphHeads(stack, graph, kind)
        self.kind = self.heads.kind
        # In a list, so that the teacher is neither trained, nor saved, nor put in train mode.
        self._teacher = [Teacher(stack, self.heads)]

    @property
    def teacher(self) -> Teacher:
        """The frozen teacher."""
        return self._teacher[0]

    def forward(self, drawn: Drawn) -> TaskOutput:
        """Return L; `agree` is how often the deepest prediction is right (or its mean error)."""
        device = next(self.heads.parameters()).device
        stack = self.teacher.stack.to(device)
        passed = self.teacher.tokens(drawn.batch)
        signals: Signals = self.heads(passed.tokens)
        truths = truths_of(stack, drawn.batch, passed.state, signals, self.kind)
        losses = [truth_loss(self.kind, a, truths[n]) for n, a in signals.action.items()]
        loss = torch.stack(losses).mean()
        deepest = max(signals.action)
        found = agreement(self.kind, signals.action[deepest].detach(), truths[deepest])
        metrics = {"probe": float(loss.detach()), "agree": found, "rows": float(len(drawn.ids))}
        return TaskOutput(loss, metrics)


def truths_of(
    stack: Stack, batch: Any, state: Any, signals: Signals, kind: Kind
) -> dict[int, Tensor]:
    """Return the true actions of the units that act; cut to one step where `kind` has but one."""
    out = {}
    for unit in signals.action:
        truth = stack.truth(unit, batch, state)
        out[unit] = truth if kind == stack.kind else released_truth(stack.kind, truth)
    return out


def write_targets(
    teacher: Teacher,
    samples: Samples,
    folder: Path,
    *,
    batch_size: int = 32,
    about: Mapping[str, Any] | None = None,
) -> TargetStore:
    """Write what the teacher's units say about every sample; an error anywhere stops it."""
    writer = TargetWriter(folder, teacher.stack, teacher.heads.kind, about or {})
    for index in tqdm(list(slices(len(samples), batch_size)), desc="targets", leave=False):
        batch = samples.batch(index)
        writer.add([samples.ids[i] for i in index], batch, teacher.signals(batch))
    return writer.finish()


def slices(count: int, size: int) -> Sequence[list[int]]:
    """Return the numbers 0 .. count - 1 in batches of `size`."""
    return [list(range(n, min(n + size, count))) for n in range(0, count, size)]
