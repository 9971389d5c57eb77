"""Policies at work on manipulation tasks: all tasks in lock-step, one batch a decision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sterna.envs.metaworld import MetaworldTask, Observation
from sterna.models.vla import VlaBatch, VlaConfig

Predict = Callable[[VlaBatch], Tensor]
"""Takes a batch of observations, returns chunks of actions [B, T, A]."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an episode went."""

    task: str
    goal: int
    success: bool
    steps: int
    decisions: int
    path: float
    """Metres the hand travelled."""


class _Slot:
    """One simulator, the goals it still has to do, and where it stands in the present one."""

    def __init__(self, task: MetaworldTask, goals: Sequence[int], recent: int) -> None:
        self.task, self._goals, self._zeros = task, list(goals), np.zeros(recent, np.float32)
        self.goal = -1
        self._begin()

    def _begin(self) -> None:
        self.done = not self._goals
        if not self.done:
            self.goal = self._goals.pop(0)
            self.task.reset(self.goal)
            self.recent, self.decisions, self.path = self._zeros, 0, 0.0

    def act(self, chunk: NDArray[np.float32], execute: int) -> Outcome | None:
        """Execute the beginning of a chunk [T, A]; return the outcome when the episode ends."""
        self.recent, self.decisions = chunk.reshape(-1), self.decisions + 1
        limit = self.task.protocol.max_steps
        for action in chunk[:execute]:
            before = self.task.proprio()
            success = self.task.step(action)
            self.path += float(np.linalg.norm(self.task.proprio()[:3] - before[:3]))
            if success or self.task.steps >= limit:
                return self._end(success)
        return None

    def _end(self, success: bool) -> Outcome:
        outcome = Outcome(
            task=self.task.task,
            goal=self.goal,
            success=success,
            steps=self.task.steps,
            decisions=self.decisions,
            path=round(self.path, 6),
        )
        self._begin()
        return outcome


def as_batch(
    config: VlaConfig, seen: Sequence[Observation], recent: Sequence[NDArray[np.float32]]
) -> VlaBatch:
    """Return observations as a batch."""
    return VlaBatch(
        images=torch.from_numpy(np.stack([one.images for one in seen])),
        words=config.read([one.sentence for one in seen]),
        proprio=torch.from_numpy(np.stack([one.proprio for one in seen])),
        recent=torch.from_numpy(np.stack(recent)),
    )


@torch.no_grad()
def roll_out(
    predict: Predict,
    config: VlaConfig,
    tasks: Iterable[MetaworldTask],
    goals: Mapping[str, Sequence[int]],
    *,
    execute: int,
) -> Iterator[Outcome]:
    """Do the goals of every task; yield outcomes as episodes end.

    Each decision executes the first `execute` actions of its chunk. Scenes depend on the goals
    alone; the rows of a batch only on themselves, up to rounding.
    """
    slots = [_Slot(task, goals[task.task], config.chunk * config.action) for task in tasks]
    while active := [slot for slot in slots if not slot.done]:
        batch = as_batch(
            config, [slot.task.observe() for slot in active], [slot.recent for slot in active]
        )
        chunks = predict(batch).float().cpu().numpy()
        for slot, chunk in zip(active, chunks, strict=True):
            outcome = slot.act(chunk, execute)
            if outcome is not None:
                yield outcome
