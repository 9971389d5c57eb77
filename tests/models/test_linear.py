"""The grid of sizes changes nothing but time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sterna.models.linear import Linear, grid_size, linear


@given(st.integers(1, 200_000))
def test_grid_holds_the_rows_with_little_waste(rows: int) -> None:
    size = grid_size(rows)
    assert size >= rows and size % 16 == 0
    assert size <= max(rows + 16, 1.125 * rows + 1)
    assert grid_size(size) == size


def test_grid_has_few_sizes() -> None:
    assert len({grid_size(n) for n in range(1, 20_001)}) < 80


def _pair(rows: int) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(rows)
    ours, plain = Linear(24, 40), nn.Linear(24, 40)
    plain.load_state_dict(ours.state_dict())
    inputs = torch.randn(rows, 3, 24)
    outputs = []
    for module in (ours, plain):
        x = inputs.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            y = module(x)
        y.float().square().sum().backward()
        outputs += [y, x.grad, module.weight.grad, module.bias.grad]
    return tuple(outputs)


@pytest.mark.parametrize("rows", [1, 5, 6, 37])
def test_equals_the_plain_linear_under_autocast(rows: int) -> None:
    y, dx, dw, db, y0, dx0, dw0, db0 = _pair(rows)
    assert y.dtype == torch.bfloat16 and dw.dtype == torch.float32
    torch.testing.assert_close(y, y0)
    for mine, theirs in ((dx, dx0), (dw, dw0), (db, db0)):
        torch.testing.assert_close(mine, theirs, rtol=2e-2, atol=2e-2 * float(theirs.abs().max()))


def test_without_autocast_it_is_exact() -> None:
    ours, plain = Linear(8, 5), nn.Linear(8, 5)
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(7, 8)
    assert torch.equal(ours(x), plain(x))


def test_without_gradient_it_gives_the_same_numbers() -> None:
    ours = Linear(16, 12)
    x = torch.randn(33, 16)
    with torch.autocast("cpu", torch.bfloat16):
        trained = ours(x)
        with torch.no_grad():
            walked = ours(x)
    assert torch.equal(trained, walked)


@pytest.mark.parametrize("fused", [True, False])
def test_weights_follow_the_optimiser(fused: bool) -> None:
    ours = Linear(6, 4)
    optimizer = torch.optim.AdamW(ours.parameters(), lr=0.1, fused=fused)
    x = torch.randn(5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        before = ours(x)
    before.float().sum().backward()
    optimizer.step()
    with torch.autocast("cpu", torch.bfloat16):
        after = ours(x)
        fresh = nn.functional.linear(x, ours.weight, ours.bias)
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, fresh)


def test_weights_follow_loaded_weights() -> None:
    ours, other = Linear(6, 4), Linear(6, 4)
    x = torch.randn(5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        ours(x)
        ours.load_state_dict(other.state_dict())
        assert torch.equal(ours(x), other(x))


def test_joined_linears_share_one_product_and_get_their_own_gradients() -> None:
    first, second = Linear(10, 6), Linear(10, 9)
    x = torch.randn(4, 11, 10)
    with torch.autocast("cpu", torch.bfloat16):
        weights, biases = (first.weight, second.weight), (first.bias, second.bias)
        joined = linear(x, weights, biases)
        apart = torch.cat([first(x), second(x)], -1)
    assert torch.equal(joined, apart)
    joined.float().sum().backward()
    assert first.weight.grad is not None and second.weight.grad is not None
    assert first.weight.grad.shape == (6, 10) and second.bias.grad.shape == (9,)
