"""Linear maps that keep to a grid of sizes when they run in bfloat16 on a CPU.

A CPU's matrix library compiles a bfloat16 product for every new shape (several milliseconds here,
longer than the product), and a packed pass has other row counts at every step. So the rows are
padded up to a geometric grid, and the compiled products are met again and again: five to six times
faster over varying sizes (benchmarks/linear.py). Results do not change: rows are independent, and
padded rows are zero in the weight gradient.
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
    """y = x W^T + b for x [N, K]; gradients dx = g W, dW = g^T x, db = sum g, all on the grid.

    W and b are narrow copies; the gradients go to the float32 parts that they were joined from.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, count: int, *parts: Tensor
    ) -> Tensor:
        filled = _fill(x, grid_size(len(x)))
        ctx.save_for_backward(filled, weight)
        ctx.rows, ctx.count = len(x), count
        ctx.sizes = [len(part) for part in parts[:count]]
        return F.linear(filled, weight, bias)[: len(x)]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        filled, weight = ctx.saved_tensors
        g = _fill(grad.contiguous(), len(filled))
        d_x = torch.mm(g, weight)[: ctx.rows] if ctx.needs_input_grad[0] else None
        if not any(ctx.needs_input_grad[4:]):
            return d_x, None, None, None, *([None] * (2 * ctx.count))
        d_weights = torch.split(torch.mm(g.t(), filled).float(), ctx.sizes)
        d_biases = torch.split(grad.sum(0, dtype=torch.float32), ctx.sizes)
        return d_x, None, None, None, *d_weights, *d_biases


class Narrow:
    """Keeps the narrow copy of weights and biases, joined along the outputs, until they change."""

    def __init__(self) -> None:
        """Begin empty."""
        self._stamp: tuple[object, ...] = ()
        self._copy: tuple[Tensor, Tensor] | None = None

    def __call__(self, parts: Sequence[Tensor], kind: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return (weight, bias) of type `kind` for parts (weights first, then biases)."""
        stamp = (kind, *((id(part), part._version) for part in parts))
        if self._copy is None or stamp != self._stamp:
            half = len(parts) // 2
            with torch.no_grad():
                weight = torch.cat([part.detach().to(kind) for part in parts[:half]])
                bias = torch.cat([part.detach().to(kind) for part in parts[half:]])
            self._copy, self._stamp = (weight, bias), stamp
        return self._copy


def linear(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], narrow: Narrow
) -> Tensor:
    """Apply x [..., K] to linears joined along their outputs; on the grid under CPU autocast."""
    if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        if len(weights) == 1:
            return F.linear(x, weights[0], biases[0])
        return F.linear(x, torch.cat(list(weights)), torch.cat(list(biases)))
    kind = torch.get_autocast_dtype("cpu")
    with torch.autocast("cpu", enabled=False):
        parts = (*weights, *biases)
        weight, bias = narrow(parts, kind)
        flat = x.reshape(-1, x.shape[-1]).to(kind)
        if torch.is_grad_enabled() and (flat.requires_grad or weights[0].requires_grad):
            out: Tensor = _GridLinear.apply(  # type: ignore[no-untyped-call]
                flat, weight, bias, len(weights), *parts
            )
        else:
            out = F.linear(_fill(flat, grid_size(len(flat))), weight, bias)[: len(flat)]
    return out.view(*x.shape[:-1], weight.shape[0])


class Linear(nn.Linear):
    """`nn.Linear` that runs on the grid where that pays; the same parameters, the same names."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """Make a map from `inputs` to `outputs`, with bias."""
        super().__init__(inputs, outputs)
        self._narrow = Narrow()

    def forward(self, input: Tensor) -> Tensor:
        """Map [..., in] to [..., out]."""
        return linear(input, (self.weight,), (self.bias,), self._narrow)
