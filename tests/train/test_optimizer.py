"""Muon beside AdamW: what is turned, how far it moves, and that a killed run loses nothing."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sterna.errors import InputError
from sterna.train.optimizer import Muon, make_optimizer, orthogonal
from sterna.train.schedule import OptimizerConfig


class Small(nn.Module):
    """A table, two matrices of one shape, a tall one, a score row and vectors."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.word_embeddings = nn.Embedding(9, 8)
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.tall, self.score = nn.Linear(8, 24), nn.Linear(24, 1)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        x = self.second(torch.tanh(self.first(self.word_embeddings(words))))
        out: torch.Tensor = self.score(torch.tanh(self.tall(x))).sum()
        return out


MUON = OptimizerConfig(kind="muon", learning_rate=0.01, weight_decay=0.0)
WORDS = torch.arange(9)


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        loss = (model(WORDS.roll(step)[: 3 + step % 3]) - 1.0).square()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_singular_values_are_drawn_to_one() -> None:
    torch.manual_seed(1)
    for shape in ((4, 16, 16), (2, 8, 40), (2, 40, 8)):
        matrices = torch.randn(shape)
        turned = orthogonal(matrices)
        values = torch.linalg.svdvals(turned)
        assert float(values.min()) > 0.3 and float(values.max()) < 1.3
        u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
        near = (turned * (u @ vh)).flatten(1).sum(1) / turned.flatten(1).norm(dim=1)
        assert (near / min(shape[1:]) ** 0.5 > 0.95).all()


def test_matrices_turn_and_the_rest_follows_adamw() -> None:
    model = Small()
    plain = copy.deepcopy(model)
    learn(model, make_optimizer(model, MUON), 1)
    learn(plain, make_optimizer(plain, OptimizerConfig(learning_rate=0.01, weight_decay=0.0)), 1)
    begun = dict(Small().named_parameters())
    for name, value in model.named_parameters():
        moved = value.detach() - begun[name].detach()
        if name in ("first.weight", "second.weight", "tall.weight"):
            size = 0.01 * 0.2 * max(value.shape) ** 0.5
            spectral = float(torch.linalg.matrix_norm(moved, ord=2))
            assert 0.6 * size < spectral < 1.25 * size, name
        else:
            torch.testing.assert_close(value, dict(plain.named_parameters())[name])


def test_a_restored_state_goes_on_bit_for_bit() -> None:
    whole = Small()
    learn(whole, make_optimizer(whole, MUON), 3)
    first = Small()
    optimizer = make_optimizer(first, MUON)
    learn(first, optimizer, 2)
    again = Small()
    again.load_state_dict(first.state_dict())
    resumed = make_optimizer(again, MUON)
    assert isinstance(resumed, Muon)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for model, restored in ((first, optimizer), (again, resumed)):
        loss = (model(WORDS.roll(2)[:5]) - 1.0).square()
        restored.zero_grad()
        loss.backward()
        restored.step()
    for one, other, unbroken in zip(
        first.parameters(), again.parameters(), whole.parameters(), strict=True
    ):
        assert torch.equal(one, other) and torch.equal(one, unbroken)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="adamw or muon, found 'sgd'"):
        OptimizerConfig(kind="sgd")  # type: ignore[arg-type]
