"""The panorama encoder: views (and objects) of one viewpoint become tokens.

Legend: R rows, V panorama tokens, O objects, F feature width, D width, H heads, E = D / H.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sterna.models.attention import attend
from sterna.models.config import DuetConfig
from sterna.models.dropout import FastDropout
from sterna.models.layers import compute_dtype, enter, key_bias, split_packed
from sterna.models.linear import Linear, linear
from sterna.models.ragged import Ragged


@dataclass(frozen=True)
class PanoramaOutput:
    """Encoded panoramas."""

    embeds: Tensor
    """Token outputs [R, V, D]."""
    mask: Tensor
    """True for tokens, [R, V]."""
    mean: Tensor
    """Mean over the valid tokens (views and objects), [R, D]: a visited node's map feature."""
    scores: tuple[Tensor, ...] = field(default=())
    """With details: Q K^T / sqrt(E) of every layer, [R, H, V, V]."""
    hidden: tuple[Tensor, ...] = field(default=())
    """With details: output of every layer before the final norm, [R, V, D]."""


class PackedAttention(nn.Module):
    """Multi-head self-attention with the parameter names of `nn.MultiheadAttention`.

    Written out because that module hides its pre-softmax scores.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        """Make the packed [q; k; v] projection and the output projection."""
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = Linear(width, width)
        self.dropout = FastDropout(dropout)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(
        self, x: Tensor, bias: Tensor, ragged: Ragged, *, details: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Attend among tokens x [N, D]; returns (output, scores [R, H, V, V] or None)."""
        packed = ragged.place(linear(x, (self.in_proj_weight,), (self.in_proj_bias,)))
        query, key, value = split_packed(packed, self.heads)
        mixed, scores = attend(query, key, value, bias, self.dropout.rate, details=details)
        return self.out_proj(ragged.pick(mixed)), scores


class PanoramaLayer(nn.Module):
    """One pre-norm transformer layer (LayerNorm eps 1e-5, exact GELU)."""

    def __init__(self, config: DuetConfig) -> None:
        """Make attention, feed-forward and norms."""
        super().__init__()
        width, drop = config.hidden_size, config.dropout
        self.self_attn = PackedAttention(width, config.heads, drop)
        self.linear1 = Linear(width, config.ffn_size)
        self.linear2 = Linear(config.ffn_size, width)
        self.norm1 = nn.LayerNorm(width, eps=1e-5)
        self.norm2 = nn.LayerNorm(width, eps=1e-5)
        self.dropout = FastDropout(drop)

    def forward(
        self, x: Tensor, bias: Tensor, ragged: Ragged, *, details: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Map tokens x [N, D] to (x' [N, D], scores [R, H, V, V] or None)."""
        branch, scores = self.self_attn(self.norm1(x), bias, ragged, details=details)
        x = self.dropout.add(branch, x)
        inner = self.dropout(F.gelu(self.linear1(self.norm2(x))))
        return self.dropout.add(self.linear2(inner), x), scores


class PanoramaLayers(nn.Module):
    """The layers and the final norm (`pano_encoder` of published checkpoints)."""

    def __init__(self, config: DuetConfig) -> None:
        """Make `config.panorama_layers` layers."""
        super().__init__()
        self.layers = nn.ModuleList(PanoramaLayer(config) for _ in range(config.panorama_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self, x: Tensor, ragged: Ragged, *, details: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Encode tokens x [N, D]; returns (normed output, scores, outputs per layer), padded."""
        bias = key_bias(ragged.mask)
        scores: list[Tensor] = []
        hidden: list[Tensor] = []
        for layer in self.layers:
            x, layer_scores = layer(x, bias, ragged, details=details)
            if layer_scores is not None:
                scores.append(layer_scores)
                hidden.append(ragged.place(x))
        return ragged.place(self.norm(x)), tuple(scores), tuple(hidden)


class ImageEmbeddings(nn.Module):
    """Features, places and kinds of panorama tokens, summed, then the panorama layers.

    token = LN( LN(linear(feature)) + LN(linear(place 7-d)) + kind + image token type ), dropout.
    """

    def __init__(self, config: DuetConfig) -> None:
        """Make linears, norms, the table of the three kinds and the layers."""
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.img_linear = Linear(config.feature_size, width)
        self.img_layer_norm = nn.LayerNorm(width, eps=eps)
        self.loc_linear = Linear(7, width)
        self.loc_layer_norm = nn.LayerNorm(width, eps=eps)
        if config.object_size is not None and not config.shared_objects:
            self.obj_linear = Linear(config.object_size, width)
            self.obj_layer_norm = nn.LayerNorm(width, eps=eps)
        self.nav_type_embedding = nn.Embedding(3, width)
        self.layer_norm = nn.LayerNorm(width, eps=eps)
        self.dropout = FastDropout(config.dropout)
        self.feature_dropout = FastDropout(config.feature_dropout)
        self.pano_encoder = PanoramaLayers(config)
        self._shared = config.shared_objects

    def forward(
        self,
        features: Tensor,
        locations: Tensor,
        nav_types: Tensor,
        mask: Tensor,
        image_type: Tensor,
        objects: Tensor | None = None,
        *,
        details: bool = False,
    ) -> PanoramaOutput:
        """Encode panoramas; see `DUET.encode_panorama`."""
        ragged = Ragged(mask)
        looks = self._looks(features, nav_types, objects, ragged)
        places = self.loc_layer_norm(self.loc_linear(ragged.pick(locations)))
        kinds = (self.nav_type_embedding.weight + image_type)[ragged.pick(nav_types)]
        x = self.dropout(enter(self.layer_norm(looks + places + kinds)))
        embeds, scores, hidden = self.pano_encoder(x, ragged, details=details)
        weight = (mask / mask.sum(1, keepdim=True).clamp(min=1)).to(compute_dtype(mask.device))
        mean = torch.einsum("rv,rvd->rd", weight, embeds)
        return PanoramaOutput(embeds, mask, mean, scores, hidden)

    def _looks(
        self, features: Tensor, nav_types: Tensor, objects: Tensor | None, ragged: Ragged
    ) -> Tensor:
        """Embed what is seen, tokens [N, D]: views, and objects moved right behind them."""
        if objects is None:
            features = self.feature_dropout(ragged.pick(features))
            looks: Tensor = self.img_layer_norm(self.img_linear(features))
            return looks
        features = self.feature_dropout(features)
        order = token_order(nav_types, features.shape[1])
        objects = self.feature_dropout(objects)
        if self._shared:
            merged = ragged.pick(_take(torch.cat([features, objects], 1), order))
            looks = self.img_layer_norm(self.img_linear(merged))
            return looks
        views = self.img_layer_norm(self.img_linear(features))
        things = self.obj_layer_norm(self.obj_linear(objects))
        return ragged.pick(_take(torch.cat([views, things], 1), order))


def token_order(nav_types: Tensor, views: int) -> Tensor:
    """Where each panorama token stands in [views ; objects], [R, T].

    `nav_types` [R, T] marks objects with 2; the k-th object of a row is entry views + k, any other
    token is the view of its own position. So a row's objects follow its own views without a gap,
    however many views the longest row has.
    """
    is_object = nav_types == 2
    rank = is_object.cumsum(1) - 1 + views
    place = torch.arange(nav_types.shape[1], device=nav_types.device).clamp(max=views - 1)
    return torch.where(is_object, rank, place)


def _take(tokens: Tensor, order: Tensor) -> Tensor:
    return tokens.gather(1, order[..., None].expand(-1, -1, tokens.shape[-1]))
