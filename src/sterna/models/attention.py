"""Softmax attention: one fused call for inference, one hand-written pass for training on a CPU.

Legend: R rows, H heads, Q query tokens, K key tokens, E head width, D = H E.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sterna.models.dropout import apply_mask, keep_mask, keep_scale


def split_heads(x: Tensor, heads: int) -> Tensor:
    """View [R, K, D] as [R, H, K, E]."""
    rows, tokens, width = x.shape
    return x.view(rows, tokens, heads, width // heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Join [R, H, Q, E] to [R, Q, D]."""
    return x.transpose(1, 2).flatten(2)


def raw_scores(query: Tensor, key: Tensor) -> Tensor:
    """Return Q K^T / sqrt(E), [R, H, Q, K], before any mask or bias (MiniVLN Eq. 2)."""
    return torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(query.shape[-1])


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor,
    dropout: float = 0.0,
    *,
    details: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attention softmax(Q K^T / sqrt(E) + bias) V, dropout on the probabilities.

    `query` [R, H, Q, E], `key` and `value` [R, H, K, E], `bias` broadcast to [R, H, Q, K]. Returns
    (context [R, Q, D], scores [R, H, Q, K] before bias, or None without `details`).

    On a CPU the fused kernel has neither dropout nor a gradient for its bias, and its backward is
    slow in bfloat16; where dropout or a gradient is wanted there, `_Attention` replaces it.
    """
    bias = bias.to(query.dtype)
    learning = torch.is_grad_enabled() and query.requires_grad
    if query.device.type == "cpu" and (learning or dropout > 0.0):
        context, scores = _Attention.apply(  # type: ignore[no-untyped-call]
            query, key, value, bias, dropout
        )
        return merge_heads(context), scores if details else None
    scores = raw_scores(query, key) if details else None
    return merge_heads(fused(query, key, value, bias, dropout)), scores


def fused(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: float = 0.0
) -> Tensor:
    """Attention of [..., Q, E] to [..., K, E] by one fused call, without scores.

    An exporter gets the formula: it would turn the call into twice the operators.
    """
    if torch.compiler.is_exporting():
        scores = raw_scores(query, key)
        return (scores if bias is None else scores + bias).softmax(-1) @ value
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)


def _flat(x: Tensor) -> Tensor:
    """Copy [R, H, K, E] to contiguous [R H, K, E], the layout `bmm` is fast in."""
    return x.reshape(-1, *x.shape[2:]).contiguous()


def _product(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Return scale * a b for stacks of matrices."""
    out = a.new_empty(a.shape[0], a.shape[1], b.shape[2])
    return torch.baddbmm(out, a, b, beta=0, alpha=scale)


class _Attention(torch.autograd.Function):
    """Scores S = c Q K^T, P = softmax(S + bias), context = dropout(P) V; c = 1 / sqrt(E).

    Backward, with g the gradient of the context and h that of the scores (if used):
    dV = drop(P)^T g; dP = drop(g V^T); dS = P (dP - sum(P dP)) ; dQ = c (dS + h) K;
    dK = c (dS + h)^T Q; dbias = dS summed over broadcast axes.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, rate: float
    ) -> tuple[Tensor, Tensor]:
        q, k, v = _flat(query), _flat(key), _flat(value)
        scores = _product(q, k.transpose(1, 2), 1.0 / math.sqrt(q.shape[-1]))
        scores = scores.view(*query.shape[:3], key.shape[2])
        probability = (scores + bias).softmax(-1)
        mask, kept, scale = None, probability, 1.0
        if rate > 0.0:
            mask, scale = keep_mask(probability.shape, rate, probability.dtype), keep_scale(rate)
            kept = apply_mask(probability, mask, scale)
        context = torch.bmm(kept.view(len(q), q.shape[1], -1), v)
        ctx.save_for_backward(q, k, v, probability, kept, mask)
        ctx.scale, ctx.bias_shape = scale, bias.shape
        ctx.set_materialize_grads(False)
        return context.view(query.shape), scores

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, extra: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, probability, kept, mask = ctx.saved_tensors
        scale = 1.0 / math.sqrt(q.shape[-1])
        shape, d_scores, d_value, d_bias = probability.shape, None, None, None
        if grad is not None:
            g = _flat(grad)
            d_value = torch.bmm(kept.view(len(q), *shape[2:]).transpose(1, 2), g)
            d_kept = torch.bmm(g, v.transpose(1, 2)).view(shape)
            d_probability = d_kept if mask is None else apply_mask(d_kept, mask, ctx.scale)
            d_scores = torch.ops.aten._softmax_backward_data(
                d_probability, probability, -1, probability.dtype
            )
            d_bias = d_scores.sum_to_size(ctx.bias_shape) if ctx.needs_input_grad[3] else None
            d_value = d_value.view(*shape[:2], *v.shape[1:])
        if extra is not None:
            d_scores = extra if d_scores is None else d_scores + extra
        if d_scores is None:
            return None, None, None, None, None
        d = d_scores.reshape(len(q), *shape[2:])
        d_query = _product(d, k, scale).view(*shape[:2], *q.shape[1:])
        d_key = _product(d.transpose(1, 2), q, scale).view(*shape[:2], *k.shape[1:])
        return d_query, d_key, d_value, d_bias, None


class _GatherRows(torch.autograd.Function):
    """x[index] along the first axis; the gradient is summed by one matrix product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.count = len(x)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        which = F.one_hot(index, ctx.count).to(grad.dtype)
        total = torch.mm(which.t(), grad.reshape(len(index), -1))
        return total.view(ctx.count, *grad.shape[1:]), None


def gather_rows(x: Tensor, index: Tensor) -> Tensor:
    """Return x[index], [R, ...] of x [B, ...]; `index` int64 [R] may repeat episodes.

    An indexed addition in the backward pass is slow on a CPU; the product with a one-hot matrix
    [B, R] is not.
    """
    out: Tensor = _GatherRows.apply(x, index)  # type: ignore[no-untyped-call]
    return out
