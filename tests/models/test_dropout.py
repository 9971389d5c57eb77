"""The fast dropout: its rate, its mean, its gradient, its reproducibility."""

from __future__ import annotations

import pytest
import torch

from sterna.models.dropout import FastDropout, dropped_lanes, keep_mask, keep_scale

TYPES = [torch.float32, torch.bfloat16, torch.float64]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("rate", [0.1, 0.4, 0.5])
def test_rate_and_mean(rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    x = torch.ones(1000, 999, dtype=dtype)
    y = FastDropout(rate)(x)
    share = (y == 0).float().mean().item()
    assert share == pytest.approx(rate, abs=4 * (rate * (1 - rate) / x.numel()) ** 0.5 + 1e-5)
    assert y.double().mean().item() == pytest.approx(1.0, abs=6e-3)
    kept = y[y != 0]
    assert y.dtype == dtype and (kept == kept[0]).all()
    # Lanes of one draw, neighbours and rows are independent.
    dropped = (y == 0).float().flatten()
    for lag in (1, 2, 3, 4, 999):
        together = (dropped[lag:] * dropped[:-lag]).mean().item()
        assert together == pytest.approx(rate * rate, abs=2e-3)


def test_rounded_rate_is_unbiased() -> None:
    assert dropped_lanes(0.1) == 6554
    assert keep_scale(0.1) * (1 - 6554 / 65536) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("dtype", TYPES)
def test_seed_decides(dtype: torch.dtype) -> None:
    x, drop = torch.ones(7, 13, dtype=dtype), FastDropout(0.5)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, second = drop(x), drop(x)
    assert not torch.equal(first, second)
    torch.set_rng_state(state)
    assert torch.equal(drop(x), first) and torch.equal(drop(x), second)


def test_identity_when_not_training() -> None:
    x = torch.randn(3, 4)
    assert FastDropout(0.5).eval()(x) is x
    assert FastDropout(0.0)(x) is x
    assert torch.equal(FastDropout(0.5).eval().add(x, x), x + x)


@pytest.mark.parametrize("dtype", TYPES)
def test_gradient_passes_where_kept(dtype: torch.dtype) -> None:
    x = torch.randn(5, 11, dtype=dtype, requires_grad=True)
    y = FastDropout(0.4)(x)
    (y * 3).sum().backward()
    assert x.grad is not None
    wanted = torch.where(y == 0, 0.0, 3 * keep_scale(0.4))
    torch.testing.assert_close(x.grad.float(), wanted.float(), rtol=1e-2, atol=0)


@pytest.mark.parametrize("dtype", TYPES)
def test_add_equals_dropout_then_addition(dtype: torch.dtype) -> None:
    x = torch.randn(5, 12, dtype=dtype, requires_grad=True)
    r = torch.randn(5, 12, dtype=dtype, requires_grad=True)
    drop = FastDropout(0.4)
    torch.manual_seed(0)
    fused = drop.add(x, r)
    torch.manual_seed(0)
    plain = r + drop(x)
    tolerance = 0.04 if dtype == torch.bfloat16 else 1e-6  # one rounding less
    torch.testing.assert_close(fused, plain, rtol=0, atol=tolerance)
    gradients = torch.autograd.grad(fused.sum(), (x, r)), torch.autograd.grad(plain.sum(), (x, r))
    torch.testing.assert_close(*gradients)


def test_mask_forms() -> None:
    narrow = keep_mask(torch.Size([3, 5]), 0.5, torch.bfloat16)
    assert narrow.dtype == torch.int16 and set(narrow.flatten().tolist()) <= {0, -1}
    wide = keep_mask(torch.Size([3, 5]), 0.5, torch.float32)
    assert wide.dtype == torch.float32 and set(wide.flatten().tolist()) <= {0.0, 2.0}
