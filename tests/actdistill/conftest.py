"""A stack of a few lines, with which everything that is not an adapter is tested."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from sterna.actdistill.stack import Chunk, RouterInput, Stack, Tokens, Unit


@dataclass(frozen=True)
class Line:
    """Tokens [R, N, D], which of them are there, and the actions to take."""

    x: Tensor
    mask: Tensor
    truth: Tensor


class LineStack(Stack):
    """Residual layers h + W tanh(h), an action read off the mean token."""

    kind = Chunk(steps=3, size=2)
    recent = 4

    def __init__(self, depth: int = 6, width: int = 8) -> None:
        super().__init__()
        self.width = width
        self.blocks = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
        self.head = nn.Linear(width, 6)
        self.units = tuple(Unit(name=f"layer {n}", fixed=n == 0) for n in range(depth))

    def prepare(self, batch: Line) -> Line:
        return batch

    def router_input(self, state: Line, phase: int) -> RouterInput:
        half = torch.zeros_like(state.mask)
        half[:, : half.shape[1] // 2] = True
        recent = state.x.new_zeros(len(state.x), 4)
        return RouterInput(state.x, state.mask & half, state.x, state.mask & ~half, recent)

    def run(self, unit: int, state: Line) -> Line:
        return replace(state, x=state.x + self.blocks[unit](state.x.tanh()))

    def read(self, unit: int, state: Line) -> tuple[Tensor, ...]:
        return (state.x,)

    def write(self, unit: int, state: Line, values: tuple[Tensor, ...]) -> Line:
        return replace(state, x=values[0])

    def select(self, unit: int, state: Line, rows: Tensor) -> Line:
        return Line(state.x[rows], state.mask[rows], state.truth[rows])

    def tokens(self, unit: int, state: Line) -> Tokens:
        return Tokens(state.x, state.mask)

    def finish(self, state: Line) -> Tensor:
        weight = state.mask[..., None] / state.mask.sum(1)[:, None, None]
        return self.head((state.x * weight).sum(1)).view(-1, 3, 2)

    def loss(self, features: Tensor, batch: Line) -> Tensor:
        return (features - batch.truth).square().mean()

    def act(self, state: Line, run: Callable[[Line], Line]) -> Tensor:
        return self.finish(run(state))

    def truth(self, unit: int, batch: Line, state: Line) -> Tensor:
        return batch.truth

    def cost(self, unit: int, state: Line) -> float:
        return float(2 * state.mask.numel() * self.width**2)

    def layers(self, unit: int) -> Sequence[nn.Module]:
        return (self.blocks[unit],)

    def pruned(self, keep: Sequence[int]) -> LineStack:
        out = LineStack(len(keep), self.width)
        for new, old in enumerate(keep):
            out.blocks[new].load_state_dict(self.blocks[old].state_dict())
        out.head.load_state_dict(self.head.state_dict())
        return out


class Lines:
    """Samples whose actions can be read off their tokens."""

    def __init__(self, count: int = 48, tokens: int = 5, width: int = 8) -> None:
        g = torch.Generator().manual_seed(5)
        self.x = torch.randn(count, tokens, width, generator=g)
        self.mask = torch.rand(count, tokens, generator=g) > 0.2
        self.mask[:, 0] = True
        read = torch.randn(width, 6, generator=g) * 0.5
        self.truth = (self.x[:, 0] @ read).tanh().view(-1, 3, 2)
        self.ids = [f"sample {n}" for n in range(count)]

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, index: Sequence[int]) -> Line:
        rows = torch.tensor(list(index))
        return Line(self.x[rows], self.mask[rows], self.truth[rows])


@pytest.fixture
def line() -> LineStack:
    torch.manual_seed(3)
    return LineStack()


@pytest.fixture
def lines() -> Lines:
    return Lines()
