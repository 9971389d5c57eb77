"""Tokens without padding: rows of different lengths laid end to end.

Linears, norms and activations then run over real tokens alone; only attention sees rows. The
results are those of the padded computation.

Legend: R rows, Q slots of the longest row, N tokens in all rows together, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Pick(torch.autograd.Function):
    """x[index] along the first axis for distinct indices; the gradient is copied, not added."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.count = len(x)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        out = grad.new_zeros(ctx.count, *grad.shape[1:])
        return out.index_copy_(0, index, grad), None


class _Place(torch.autograd.Function):
    """Zeros with rows of x copied to distinct places."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(index)
        return x.new_zeros(count, *x.shape[1:]).index_copy_(0, index, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (index,) = ctx.saved_tensors
        return grad.index_select(0, index), None, None


class Ragged:
    """Where the tokens of padded rows lie: slot [r, q] is a token where `mask` [R, Q] is true.

    Tokens are ordered by row, then slot.
    """

    def __init__(self, mask: Tensor) -> None:
        """Number the tokens of a mask."""
        self.mask = mask
        self.index = mask.reshape(-1).nonzero().squeeze(1)

    def pick(self, x: Tensor) -> Tensor:
        """Return the tokens [N, ...] of padded rows [R, Q, ...]."""
        out: Tensor = _Pick.apply(x.flatten(0, 1), self.index)  # type: ignore[no-untyped-call]
        return out

    def place(self, tokens: Tensor) -> Tensor:
        """Return padded rows [R, Q, ...] of tokens [N, ...], zero where there is no token."""
        out: Tensor = _Place.apply(  # type: ignore[no-untyped-call]
            tokens, self.index, self.mask.numel()
        )
        return out.view(*self.mask.shape, *tokens.shape[1:])

    def firsts(self) -> Tensor:
        """Return the number of the token in slot 0 of every row (there must be one), [R]."""
        return (self.index % self.mask.shape[1] == 0).nonzero().squeeze(1)

    def within(self, part: Tensor) -> Tensor:
        """Return the numbers, among the tokens, of those where `part` [R, Q] is true too."""
        return part.reshape(-1).index_select(0, self.index).nonzero().squeeze(1)


def subset(tokens: Tensor, numbers: Tensor) -> Tensor:
    """Return tokens[numbers] for distinct numbers."""
    out: Tensor = _Pick.apply(tokens, numbers)  # type: ignore[no-untyped-call]
    return out
