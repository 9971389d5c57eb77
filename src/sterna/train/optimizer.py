"""The optimisers of every recipe: AdamW, and Muon for the matrices of small models from scratch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sterna.train.schedule import OptimizerConfig

_LANGUAGE = ("policy.embeddings.", "policy.lang_encoder.")
_ROUND = 0.2
"""Root mean square of an AdamW update, which an orthogonal one is scaled to."""
_NEWTON = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration that draws singular values towards 1, and its steps."""
_STEPS = 5


def make_optimizer(task: nn.Module, options: OptimizerConfig) -> torch.optim.AdamW:
    """Return the optimiser of what may be trained; each group's `factor` scales the rate."""
    groups: dict[tuple[bool, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in task.named_parameters():
        if parameter.requires_grad:
            slow = name.removeprefix("model.").startswith(_LANGUAGE)
            calm = parameter.ndim < 2 and not options.decay_vectors
            matrix = options.kind == "muon" and is_matrix(name, parameter)
            groups.setdefault((matrix, calm, slow), []).append(parameter)
    # The order of groups is part of a training state.
    plain = [(False, False, slow) for slow in (False, True)]
    calmer = [(False, True, slow) for slow in (False, True)] if not options.decay_vectors else []
    turned = [(True, False, slow) for slow in (False, True)] if options.kind == "muon" else []
    rows: list[dict[str, Any]] = []
    for kind in (*plain, *calmer, *turned):
        matrix, calm, slow = kind
        row = {"params": groups.get(kind, []), "factor": options.language_rate if slow else 1.0}
        rows.append(
            row | ({"weight_decay": 0.0} if calm else {}) | ({"muon": True} if matrix else {})
        )
    make = Muon if options.kind == "muon" else torch.optim.AdamW
    return make(
        rows,
        lr=options.learning_rate,
        betas=options.betas,
        eps=options.epsilon,
        weight_decay=options.weight_decay,
        fused=True,
    )


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Return whether a parameter maps states to states: no table of embeddings, no score."""
    return (
        parameter.ndim == 2
        and min(parameter.shape) > 1
        and "embedding" not in name.rsplit(".", 2)[-2]
    )


class Muon(torch.optim.AdamW):
    """AdamW, but for groups marked ``muon``: their momentum is made orthogonal first.

    An update of a matrix [m, n] is U V^T of its Nesterov momentum U S V^T, to within the iteration,
    times 0.2 sqrt(max(m, n)), so that one learning rate serves matrices and the rest. Matrices of
    one shape go through the iteration as one batch. Source: K. Jordan et al., "Muon: an optimizer
    for hidden layers in neural networks" (2024), for the iteration; J. Liu et al., "Muon is
    scalable for LLM training" (2025), for the scale and the decay.
    """

    momentum = 0.95

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; gradients of matrices are used up."""
        for group in self.param_groups:
            if group.get("muon"):
                self._turn(group)
        loss: float | None = super().step(closure)
        return loss

    def _turn(self, group: dict[str, Any]) -> None:
        shapes: dict[tuple[int, ...], list[Tensor]] = {}
        for parameter in group["params"]:
            if parameter.grad is not None:
                shapes.setdefault(tuple(parameter.shape), []).append(parameter)
        rate, decay = group["lr"], group["weight_decay"]
        for shape, parameters in shapes.items():
            updates = orthogonal(torch.stack([self._momentum(p) for p in parameters]))
            size = _ROUND * max(shape) ** 0.5
            for parameter, update in zip(parameters, updates, strict=True):
                parameter.mul_(1 - rate * decay).add_(update, alpha=-rate * size)
                parameter.grad = None  # AdamW passes over it

    def _momentum(self, parameter: Tensor) -> Tensor:
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:  # torch looks for a step wherever it restores a state
            state["step"], state["momentum"] = torch.zeros(()), torch.zeros_like(parameter)
        mean: Tensor = state["momentum"]
        mean.lerp_(parameter.grad, 1 - self.momentum)
        return parameter.grad.lerp(mean, self.momentum)


def orthogonal(matrices: Tensor) -> Tensor:
    """Draw the singular values of matrices [B, m, n] to about 1 (0.7 to 1.2), keeping U and V."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    a, b, c = _NEWTON
    for _ in range(_STEPS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    out: Tensor = x.mT if tall else x
    return out
