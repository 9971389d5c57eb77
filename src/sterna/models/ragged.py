"""Tokens without padding: rows of different lengths laid end to end.

Linears, norms and activations then run over real tokens alone; only attention sees rows. The
results are those of the padded computation.

Legend: R rows, Q slots of the longest row, N tokens in all rows together, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


class _Pick(torch.autograd.Function):
    """x[index] along the first axis; `rest` are all other places. The gradient is copied there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, rest: Tensor) -> Tensor:
        ctx.save_for_backward(index, rest)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _scatter(grad, *ctx.saved_tensors), None, None


class _Place(torch.autograd.Function):
    """Rows of x copied to `index`, zeros in `rest`: the other way round."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, rest: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        return _scatter(x, index, rest)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (index,) = ctx.saved_tensors
        return grad.index_select(0, index), None, None


def _scatter(x: Tensor, index: Tensor, rest: Tensor) -> Tensor:
    out = x.new_empty(len(index) + len(rest), *x.shape[1:])
    return out.index_copy_(0, index, x).index_fill_(0, rest, 0)


class Ragged:
    """Where the tokens of padded rows lie: slot [r, q] is a token where `mask` [R, Q] is true.

    Tokens are ordered by row, then slot.
    """

    def __init__(self, mask: Tensor) -> None:
        """Number the tokens of a mask."""
        self.mask = mask
        flat = mask.reshape(-1)
        self.index, self.rest = _both(flat)

    def pick(self, x: Tensor) -> Tensor:
        """Return the tokens [N, ...] of padded rows [R, Q, ...]."""
        out: Tensor = _Pick.apply(  # type: ignore[no-untyped-call]
            x.flatten(0, 1), self.index, self.rest
        )
        return out

    def place(self, tokens: Tensor) -> Tensor:
        """Return padded rows [R, Q, ...] of tokens [N, ...], zero where there is no token."""
        out: Tensor = _Place.apply(tokens, self.index, self.rest)  # type: ignore[no-untyped-call]
        return out.view(*self.mask.shape, *tokens.shape[1:])

    def firsts(self) -> Tensor:
        """Return the number of the token in slot 0 of every row (there must be one), [R]."""
        return (self.index % self.mask.shape[1] == 0).nonzero().squeeze(1)

    def within(self, part: Tensor) -> Part:
        """Return those of the tokens where `part` [R, Q] is true too."""
        return Part(*_both(part.reshape(-1).index_select(0, self.index)))


@dataclass(frozen=True)
class Part:
    """Some of N tokens: their numbers, and those of the others."""

    index: Tensor
    rest: Tensor

    def pick(self, tokens: Tensor) -> Tensor:
        """Return these of the tokens [N, ...]."""
        out: Tensor = _Pick.apply(tokens, self.index, self.rest)  # type: ignore[no-untyped-call]
        return out


def _both(flags: Tensor) -> tuple[Tensor, Tensor]:
    """Return where flags [n] are true, and where they are not."""
    return flags.nonzero().squeeze(1), (~flags).nonzero().squeeze(1)
