"""Building blocks shared by the text, panorama and cross-modal encoders.

Legend: R rows, Q query tokens, K key tokens, D width, H heads, E = D / H head width.
Attribute names follow the published checkpoints, so that a key map is only prefix stripping.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sterna.models.attention import attend, split_heads
from sterna.models.dropout import FastDropout
from sterna.models.linear import Linear, linear
from sterna.models.ragged import Part, Ragged

MASKED = -10000.0
"""Added to the scores of padded keys (BERT's constant; finite, so an empty row stays finite)."""

KeyValue = tuple[Tensor, Tensor]
"""Keys and values of one attention, each [R, H, K, E]."""


def key_bias(mask: Tensor) -> Tensor:
    """Turn a mask [R, K] (True = token) into an additive bias [R, 1, 1, K]: 0 or -10000."""
    bias = torch.zeros(mask.shape, dtype=compute_dtype(mask.device), device=mask.device)
    return bias.masked_fill_(~mask, MASKED)[:, None, None, :]


def compute_dtype(device: torch.device) -> torch.dtype:
    """Return the type of activations: autocast's type under autocast, else the default type."""
    if torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return torch.get_default_dtype()


def enter(x: Tensor) -> Tensor:
    """Cast embeddings to the activation type, so that under autocast residuals stay narrow."""
    if torch.is_autocast_enabled(x.device.type):
        return x.to(torch.get_autocast_dtype(x.device.type))
    return x


def split_packed(packed: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split [R, K, 3 D] (queries, keys, values) into three [R, H, K, E] in one copy."""
    rows, tokens, width = packed.shape
    parts = packed.view(rows, tokens, 3, heads, width // (3 * heads)).permute(2, 0, 3, 1, 4)
    query, key, value = parts.contiguous().unbind(0)
    return query, key, value


class Projections(nn.Module):
    """Query, key and value maps of one attention."""

    def __init__(self, width: int, heads: int) -> None:
        """Make three D -> D linears."""
        super().__init__()
        self.heads = heads
        self.query = Linear(width, width)
        self.key = Linear(width, width)
        self.value = Linear(width, width)

    def own(self, x: Tensor, ragged: Ragged | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values [R, H, K, E] of tokens [R, K, D], by one product.

        With `ragged` the tokens are [N, D].
        """
        joined = self.joined(x)
        return split_packed(joined if ragged is None else ragged.place(joined), self.heads)

    def joined(self, x: Tensor) -> Tensor:
        """Return queries, keys and values of tokens [..., D] side by side, [..., 3 D]."""
        maps = (self.query, self.key, self.value)
        return linear(x, [m.weight for m in maps], [m.bias for m in maps])

    def keys_values(self, context: Tensor) -> KeyValue:
        """Return keys and values [R, H, K, E] of context tokens [R, K, D]."""
        return (
            split_heads(self.key(context), self.heads).contiguous(),
            split_heads(self.value(context), self.heads).contiguous(),
        )

    def queries(self, x: Tensor, ragged: Ragged | None = None) -> Tensor:
        """Return queries [R, H, Q, E] of tokens [R, Q, D], or [N, D] with `ragged`."""
        query = self.query(x)
        return split_heads(query if ragged is None else ragged.place(query), self.heads)


class Residual(nn.Module):
    """LayerNorm(dropout(dense(y)) + x): the post-norm close of a BERT block."""

    def __init__(self, inner: int, width: int, dropout: float, eps: float) -> None:
        """Make the linear inner -> width and its norm."""
        super().__init__()
        self.dense = Linear(inner, width)
        self.LayerNorm = nn.LayerNorm(width, eps=eps)
        self.dropout = FastDropout(dropout)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """Combine the branch y [R, Q, inner] with the stream x [R, Q, D]."""
        out: Tensor = self.LayerNorm(self.dropout.add(self.dense(y), x))
        return out


class Attention(nn.Module):
    """BERT attention block: projections (named `self` or `att`), attention, `output` residual."""

    def __init__(self, width: int, heads: int, dropout: float, eps: float, name: str) -> None:
        """`name` is the child name of the projections in published checkpoints."""
        super().__init__()
        self.add_module(name, Projections(width, heads))
        self.output = Residual(width, width, dropout, eps)
        self.dropout = FastDropout(dropout)
        self._name = name

    @property
    def projections(self) -> Projections:
        """The query, key and value maps."""
        module = self._modules[self._name]
        assert isinstance(module, Projections)
        return module

    def forward(
        self,
        x: Tensor,
        bias: Tensor,
        context: KeyValue | None = None,
        *,
        details: bool = False,
        ragged: Ragged | None = None,
        keep: Part | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from x [R, Q, D] to `context`, or to x itself when it is None.

        `bias` is broadcast to [R, H, Q, K]. Returns (output [R, Q, D], scores [R, H, Q, K] or
        None); scores carry neither mask nor bias and are made only with `details`. With `ragged`,
        x and the output are its tokens [N, D]; `keep` then asks for the outputs of a part of them
        alone (all are still attended to).
        """
        maps = self.projections
        if context is None:
            query, key, value = maps.own(x, ragged)
        else:
            query, (key, value) = maps.queries(x, ragged), context
        mixed, scores = attend(query, key, value, bias, self.dropout.rate, details=details)
        if ragged is not None:
            mixed = ragged.pick(mixed)
            if keep is not None:
                mixed, x = keep.pick(mixed), keep.pick(x)
        return self.output(mixed, x), scores


class Intermediate(nn.Module):
    """gelu(dense(x)) with the exact (erf) GELU."""

    def __init__(self, width: int, inner: int) -> None:
        """Make the linear width -> inner."""
        super().__init__()
        self.dense = Linear(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        """Map [R, Q, D] to [R, Q, inner]."""
        return F.gelu(self.dense(x))


class Head(nn.Module):
    """Score of a token: Linear - ReLU - LayerNorm - Linear(1) (DUET's ClsPrediction)."""

    def __init__(self, width: int, eps: float, inputs: int | None = None) -> None:
        """Score tokens of `inputs` (default `width`) features through a layer of `width`."""
        super().__init__()
        self.net = nn.Sequential(
            Linear(inputs or width, width),
            nn.ReLU(),
            nn.LayerNorm(width, eps=eps),
            nn.Linear(width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., inputs] to scores [...], in float32 also under autocast."""
        hidden = self.net[2](F.relu(self.net[0](x)))
        with torch.autocast(x.device.type, enabled=False):
            score: Tensor = self.net[3](hidden.to(self.net[3].weight.dtype))
        return score.squeeze(-1)


def linear_norm(inputs: int, width: int, eps: float) -> nn.Sequential:
    """Linear then LayerNorm, as position features are embedded."""
    return nn.Sequential(Linear(inputs, width), nn.LayerNorm(width, eps=eps))
