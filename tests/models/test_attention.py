"""The hand-written attention against the fused one and against finite differences."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sterna.models.attention import attend, gather_rows, merge_heads, raw_scores


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    query = torch.randn(3, 2, 4, 5, generator=g, dtype=dtype, requires_grad=True)
    key = torch.randn(3, 2, 6, 5, generator=g, dtype=dtype, requires_grad=True)
    value = torch.randn(3, 2, 6, 5, generator=g, dtype=dtype, requires_grad=True)
    bias = torch.randn(3, 1, 4, 6, generator=g, dtype=dtype, requires_grad=True)
    return query, key, value, bias


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_gradients(rate: float) -> None:
    def run(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        torch.manual_seed(5)
        context, scores = attend(*tensors, rate, details=True)
        assert scores is not None
        return context, scores

    assert torch.autograd.gradcheck(run, inputs())


def test_gradient_of_scores_alone() -> None:
    query, key, value, bias = inputs()
    _, scores = attend(query, key, value, bias, details=True)
    assert scores is not None
    torch.testing.assert_close(scores, raw_scores(query, key))
    found = torch.autograd.grad(scores.square().sum(), (query, key))
    wanted = torch.autograd.grad(raw_scores(query, key).square().sum(), (query, key))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 3e-2)])
def test_equals_fused_call(dtype: torch.dtype, tolerance: float) -> None:
    query, key, value, bias = inputs(dtype)
    trained, _ = attend(query, key, value, bias)
    with torch.no_grad():
        fused, none = attend(query, key, value, bias)
    wanted = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    assert none is None
    torch.testing.assert_close(trained, fused, rtol=0, atol=tolerance)
    torch.testing.assert_close(fused, merge_heads(wanted), rtol=0, atol=tolerance)


def test_gathered_rows_add_their_gradients() -> None:
    x = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([2, 0, 2, 2])
    assert torch.equal(gather_rows(x, index), x[index])
    assert torch.autograd.gradcheck(lambda t: gather_rows(t, index), (x,))
