"""Linear maps that keep to a grid of sizes when they run in bfloat16 on a CPU.

A CPU's matrix library compiles a bfloat16 product for every new shape (several milliseconds here,
longer than the product), and a packed pass has other row counts at every step. So the rows are
padded up to a geometric grid, and the compiled products are met again and again
(benchmarks/linear.py measures the gain). Results do not change: rows are independent, and padded
rows are zero in the weight gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def grid_size(rows: int) -> int:
    """Return the smallest grid size that holds `rows`: eight sizes an octave, at least 16."""
    if rows <= 16:
        return 16
    step = 1 << max(0, (rows - 1).bit_length() - 4)
    step = max(step, 16)
    return (rows + step - 1) // step * step


def _fill(x: Tensor, rows: int) -> Tensor:
    return x if len(x) == rows else F.pad(x, (0, 0, 0, rows - len(x)))


class _GridLinear(torch.autograd.Function):
    """y = x W^T + b for x [N, K]; gradients dx = g W, dW = g^T x, db = sum g, all on the grid."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        filled = _fill(x, grid_size(len(x)))
        ctx.save_for_backward(filled, weight)
        ctx.rows = len(x)
        return F.linear(filled, weight, bias)[: len(x)]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        filled, weight = ctx.saved_tensors
        g = _fill(grad.contiguous(), len(filled))
        d_x = torch.mm(g, weight)[: ctx.rows] if ctx.needs_input_grad[0] else None
        d_weight = torch.mm(g.t(), filled) if ctx.needs_input_grad[1] else None
        d_bias = grad.sum(0) if ctx.needs_input_grad[2] else None
        return d_x, d_weight, d_bias


def linear(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """Apply x [..., K] to linears joined along their outputs; on the grid under CPU autocast.

    Narrow copies of the weights are made at every call and never kept: a fused optimiser changes
    weights without telling (their version counter stands still).
    """
    if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        if _cheaper_apart(x, weights):
            return torch.cat([F.linear(x, w, b) for w, b in zip(weights, biases, strict=True)], -1)
        return F.linear(x, _joined(weights), _joined(biases))
    kind = torch.get_autocast_dtype("cpu")
    with torch.autocast("cpu", enabled=False):
        flat = x.reshape(-1, x.shape[-1]).to(kind)
        weight = _joined([w.to(kind) for w in weights])
        bias = _joined([b.to(kind) for b in biases])
        if torch.is_grad_enabled() and (flat.requires_grad or weight.requires_grad):
            out: Tensor = _GridLinear.apply(flat, weight, bias)  # type: ignore[no-untyped-call]
        else:
            out = F.linear(_fill(flat, grid_size(len(flat))), weight, bias)[: len(flat)]
    return out.view(*x.shape[:-1], weight.shape[0])


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


class Linear(nn.Linear):
    """`nn.Linear` that runs on the grid where that pays; the same parameters, the same names."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Make a map from `inputs` to `outputs`, with bias."""
        super().__init__(inputs, outputs)

    def forward(self, input: Tensor) -> Tensor:
        """Map [..., in] to [..., out]."""
        return linear(input, (self.weight,), (self.bias,))


def _cheaper_apart(x: Tensor, weights: Sequence[Tensor]) -> bool:
    """Say whether joining outputs copies less than joining weights (few tokens, no training)."""
    if len(weights) == 1 or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    return x.numel() < weights[0].numel()
