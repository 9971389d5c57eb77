"""Dropout whose mask is cheap to draw on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def keep_mask(shape: torch.Size, rate: float) -> Tensor:
    """Draw a boolean mask, True with probability 1 - round(65536 rate) / 65536.

    One 64-bit draw of torch's global CPU generator yields four 16-bit lanes, each compared with a
    threshold: a quarter of the draws of a Bernoulli mask.
    """
    count = shape.numel()
    draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    return (draws.view(torch.int16)[:count] >= threshold(rate) - 32768).view(shape)


def threshold(rate: float) -> int:
    """Return the number of 16-bit values that mean *drop*."""
    return round(rate * 65536)


class FastDropout(nn.Module):
    """Dropout at `p`: zero elements at that rate, scale the rest so that the mean stays.

    On a CPU the mask comes from `keep_mask`, seeded by `torch.manual_seed`; elsewhere it is
    `torch.nn.functional.dropout`. The identity in eval mode.
    """

    def __init__(self, p: float) -> None:
        """`p` is the share of elements dropped, in [0, 1)."""
        super().__init__()
        self.p = p

    @property
    def active(self) -> bool:
        """Whether the module drops anything now."""
        return self.training and self.p > 0.0

    @property
    def rate(self) -> float:
        """The rate in force: `p` while training, else 0."""
        return self.p if self.training else 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Return x with elements dropped; same shape and type."""
        if not self.active:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        keep = keep_mask(x.shape, self.p)
        return x * keep * (65536.0 / (65536.0 - threshold(self.p)))

    def extra_repr(self) -> str:
        """Show the rate."""
        return f"p={self.p}"
