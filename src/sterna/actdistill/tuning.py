"""What of a student is tuned: all of it, low-rank updates of its units, or nothing but the router.

Low-rank updates are parametrisations of weights, so a layer may read its weights however it likes.
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sterna.actdistill.stack import Stack
from sterna.errors import InputError

Tune = Literal["full", "lora", "none"]


class LowRank(nn.Module):
    """W + (scale / r) B A, with B zero at the beginning."""

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        """Make A [r, in] and B [out, r] for a weight [out, in]."""
        super().__init__()
        outputs, inputs = weight.shape
        self.a = nn.Parameter(torch.randn(rank, inputs, device=weight.device) * inputs**-0.5)
        self.b = nn.Parameter(torch.zeros(outputs, rank, device=weight.device))
        self.factor = scale / rank

    def forward(self, weight: Tensor) -> Tensor:
        """Return the updated weight."""
        return weight + self.factor * (self.b @ self.a).to(weight.dtype)


def student_of(teacher: Stack, tune: Tune, *, rank: int = 8, scale: float = 16.0) -> Stack:
    """Return a copy of a teacher with what is to be tuned set to learn.

    full: all but the towers; lora: low-rank updates of the units' linears; none: nothing.
    `InputError` where lora finds no linear.
    """
    student = copy.deepcopy(teacher)
    student.requires_grad_(tune == "full")
    for tower in student.towers():
        tower.requires_grad_(False)
    if tune == "lora":
        _adapt(student, rank, scale)
    return student


def _adapt(student: Stack, rank: int, scale: float) -> None:
    found = 0
    for unit in range(len(student.units)):
        for layer in student.layers(unit):
            for part in layer.modules():
                if isinstance(part, nn.Linear) and not parametrize.is_parametrized(part):
                    update = LowRank(part.weight, rank, scale)
                    parametrize.register_parametrization(part, "weight", update)
                    found += 1
    if not found:
        raise InputError("lora: the units of this model have no linears; tune it in full")


def merge(stack: Stack) -> None:
    """Put low-rank updates into the weights, in place: the layers are plain again."""
    for part in stack.modules():
        if isinstance(part, nn.Linear) and parametrize.is_parametrized(part, "weight"):
            parametrize.remove_parametrizations(part, "weight", leave_parametrized=True)
