"""What a training stage computes: a loss and the numbers worth logging."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class TaskOutput:
    """The loss of a batch (a scalar with gradient) and its parts (plain floats, detached)."""

    loss: Tensor
    metrics: dict[str, float] = field(default_factory=dict)


class Task(Protocol):
    """A training stage; owns its teacher and alignment matrices, if it has any."""

    def __call__(self, batch: object) -> TaskOutput:
        """Return the loss of a batch."""
