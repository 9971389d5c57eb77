"""Dropout whose mask is cheap to draw and to apply on a CPU.

A Bernoulli mask costs more there than the linear layer before it. Here one 64-bit draw gives four
elements; in bfloat16 the mask is applied by a bitwise *and*, without a type conversion.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

LANES = 65536
"""Values of one 16-bit lane."""
NARROW = (torch.bfloat16, torch.float16)
"""Types that a 16-bit mask can be and-ed onto."""


def dropped_lanes(rate: float) -> int:
    """Return how many of the 65,536 lane values mean *drop*."""
    return round(rate * LANES)


def keep_scale(rate: float) -> float:
    """Return the factor on kept elements, 1 / (share kept); exact for the rounded rate."""
    return LANES / (LANES - dropped_lanes(rate))


def keep_mask(shape: torch.Size, rate: float, dtype: torch.dtype) -> Tensor:
    """Draw an elementwise mask, kept with probability 1 - round(65536 rate) / 65536.

    For a 16-bit `dtype`: int16, -1 (all bits) where kept, 0 where dropped. For others: `dtype`,
    1 / (share kept) or 0. One draw from torch's global generator seeds a fast one (SFC64), so
    `torch.manual_seed` and a restored generator state reproduce the mask.
    """
    count = shape.numel()
    seed = int(torch.randint(2**63 - 1, ()))
    draws = np.random.SFC64(seed).random_raw((count + 3) // 4)
    lanes = torch.from_numpy(draws.view(np.int16)[:count]).view(shape)
    kept = lanes.ge_(dropped_lanes(rate) - LANES // 2)
    return kept.neg_() if dtype in NARROW else kept.to(dtype).mul_(keep_scale(rate))


def apply_mask(x: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Return x with dropped elements zero and the others times `scale`; see `keep_mask`."""
    if mask.dtype == torch.int16:
        return (x.view(torch.int16) & mask).view(x.dtype).mul_(scale)
    return x * mask


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return apply_mask(x, mask, scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return apply_mask(grad, ctx.saved_tensors[0], ctx.scale), None, None


class _DropAdd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        if mask.dtype == torch.int16:
            kept = (x.view(torch.int16) & mask).view(x.dtype)
            return torch.add(residual, kept, alpha=scale)
        return torch.addcmul(residual, x, mask)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return apply_mask(grad, ctx.saved_tensors[0], ctx.scale), grad, None, None


class FastDropout(nn.Module):
    """Dropout at `p`: zero elements at that rate, scale the rest so that the mean stays.

    On a CPU the mask comes from `keep_mask`; elsewhere it is `torch.nn.functional.dropout`. The
    identity in eval mode.
    """

    def __init__(self, p: float) -> None:
        """`p` is the share of elements dropped, in [0, 1)."""
        super().__init__()
        self.p = p

    @property
    def rate(self) -> float:
        """The rate in force: `p` while training, else 0."""
        return self.p if self.training else 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Return x with elements dropped; same shape and type."""
        if self.rate == 0.0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.rate)
        mask = keep_mask(x.shape, self.rate, x.dtype)
        out: Tensor = _Drop.apply(x, mask, keep_scale(self.rate))  # type: ignore[no-untyped-call]
        return out

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return residual + dropout(x) in one pass less."""
        if self.rate == 0.0 or x.device.type != "cpu" or x.dtype != residual.dtype:
            return residual + self.forward(x)
        mask = keep_mask(x.shape, self.rate, x.dtype)
        scale = keep_scale(self.rate)
        out: Tensor = _DropAdd.apply(x, residual, mask, scale)  # type: ignore[no-untyped-call]
        return out

    def extra_repr(self) -> str:
        """Show the rate."""
        return f"p={self.p}"
