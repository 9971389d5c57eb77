"""Tokens laid end to end: where they go, where they come from, and their gradients."""

from __future__ import annotations

import torch

from sterna.models.ragged import Ragged

MASK = torch.tensor([[True, True, False], [True, False, False], [True, True, True]])


def test_tokens_go_and_come_back() -> None:
    ragged = Ragged(MASK)
    x = torch.arange(18.0).view(3, 3, 2)
    tokens = ragged.pick(x)
    assert torch.equal(tokens, x[MASK])
    assert torch.equal(ragged.place(tokens), x * MASK[..., None])
    assert torch.equal(ragged.place(tokens[:, 0]), x[..., 0] * MASK)
    assert ragged.firsts().tolist() == [0, 2, 3]


def test_a_part_of_the_tokens() -> None:
    part = torch.tensor([[True, False, False], [True, False, False], [False, True, False]])
    ragged, x = Ragged(MASK), torch.arange(9.0).view(3, 3)
    assert torch.equal(ragged.within(part).pick(ragged.pick(x)), x[part])


def test_gradients() -> None:
    ragged = Ragged(MASK)
    x = torch.randn(3, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ragged.pick, (x,))
    tokens = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ragged.place, (tokens,))
    part = ragged.within(torch.eye(3, dtype=torch.bool))
    assert part.index.tolist() == [0, 5] and part.rest.tolist() == [1, 2, 3, 4]
    assert torch.autograd.gradcheck(part.pick, (tokens,))
