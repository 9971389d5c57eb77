"""The two cross-modal encoders: local (one panorama) and global (the map), each over the text.

Legend: R rows, L words, V panorama tokens, M map nodes, Q visual tokens (1 + V or 1 + M, slot 0 is
STOP), D width, H heads, E = D / H.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sterna.models.config import DuetConfig
from sterna.models.layers import (
    Attention,
    Intermediate,
    KeyValue,
    Residual,
    enter,
    key_bias,
    linear_norm,
)
from sterna.models.ragged import Part, Ragged

Encoded = tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]
"""Output [R, Q, D]; with details also scores [R, H, Q, Q] and output [R, Q, D] of every layer."""


class CrossLayer(nn.Module):
    """Attention to the text, attention among visual tokens, feed-forward (DUET's x-layer).

    With `lang2visn` the layer has a text branch too, which attends to the visual tokens through
    the *same* cross-attention weights.
    """

    def __init__(self, config: DuetConfig) -> None:
        """Make the visual branch, and the text branch if the configuration asks for it."""
        super().__init__()
        width, heads, inner = config.hidden_size, config.heads, config.ffn_size
        drop, eps = config.dropout, config.layer_norm_eps
        self.visual_attention = Attention(width, heads, drop, eps, "att")
        self.visn_self_att = Attention(width, heads, drop, eps, "self")
        self.visn_inter = Intermediate(width, inner)
        self.visn_output = Residual(inner, width, drop, eps)
        if config.lang2visn:
            self.lang_self_att = Attention(width, heads, drop, eps, "self")
            self.lang_inter = Intermediate(width, inner)
            self.lang_output = Residual(inner, width, drop, eps)

    def forward(
        self,
        x: Tensor,
        bias: Tensor,
        text: KeyValue,
        text_bias: Tensor,
        *,
        details: bool = False,
        ragged: Ragged | None = None,
        keep: Part | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Update visual tokens x [R, Q, D]; scores are of `visn_self_att`.

        `ragged` and `keep` as in `Attention`.
        """
        x, _ = self.visual_attention(x, text_bias, text, ragged=ragged)
        x, scores = self.visn_self_att(x, bias, details=details, ragged=ragged, keep=keep)
        return self.visn_output(self.visn_inter(x), x), scores

    def context_memory(self, context: Tensor) -> KeyValue:
        """Return keys and values [B, H, L, E] of the cross-attention for its context."""
        return self.visual_attention.projections.keys_values(context)

    def forward_lang2visn(
        self,
        words: Tensor,
        word_bias: Tensor,
        visual: Tensor,
        visual_bias: Tensor,
        *,
        details: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Update words [R, L, D] from visual tokens [R, Q, D]; scores are of `lang_self_att`."""
        context = self.context_memory(visual)
        words, _ = self.visual_attention(words, visual_bias, context)
        words, scores = self.lang_self_att(words, word_bias, details=details)
        return self.lang_output(self.lang_inter(words), words), scores


class CrossStack(nn.Module):
    """The x-layers of one encoder."""

    def __init__(self, config: DuetConfig) -> None:
        """Make `config.cross_layers` layers."""
        super().__init__()
        self.x_layers = nn.ModuleList(CrossLayer(config) for _ in range(config.cross_layers))

    def _layers(self) -> Iterator[CrossLayer]:
        for layer in self.x_layers:
            assert isinstance(layer, CrossLayer)
            yield layer

    def text_memory(self, words: Tensor) -> tuple[KeyValue, ...]:
        """Return keys and values [B, H, L, E] of the text for every layer."""
        return tuple(layer.context_memory(words) for layer in self._layers())

    def forward(
        self,
        x: Tensor,
        bias: Tensor,
        text: tuple[KeyValue, ...],
        text_bias: Tensor,
        *,
        details: bool = False,
    ) -> Encoded:
        """Run the visual branch over x [R, Q, D]."""
        scores: list[Tensor] = []
        hidden: list[Tensor] = []
        for layer, memory in zip(self._layers(), text, strict=True):
            x, layer_scores = layer(x, bias, memory, text_bias, details=details)
            if layer_scores is not None:
                scores.append(layer_scores)
                hidden.append(x)
        return x, tuple(scores), tuple(hidden)

    def kept(
        self,
        x: Tensor,
        bias: Tensor,
        text: tuple[KeyValue, ...],
        text_bias: Tensor,
        mask: Tensor,
        keep: Tensor,
    ) -> Tensor:
        """Run the visual branch and return the outputs that `keep` [R, Q] names, [K, D].

        Nothing is computed for padding (`mask` [R, Q]), nor, behind the last layer's attention, for
        tokens that are not kept. Outputs are ordered as `Ragged(keep)` orders them.
        """
        ragged = Ragged(mask)
        x, part = ragged.pick(x), ragged.within(keep)
        last = len(self.x_layers) - 1
        for number, (layer, memory) in enumerate(zip(self._layers(), text, strict=True)):
            wanted = part if number == last else None
            x, _ = layer(x, bias, memory, text_bias, ragged=ragged, keep=wanted)
        return x

    def forward_lang2visn(
        self,
        words: Tensor,
        word_bias: Tensor,
        visual: Tensor,
        visual_bias: Tensor,
        *,
        details: bool = False,
    ) -> Encoded:
        """Run the text branch over words [R, L, D]; the visual tokens stay as they are."""
        scores: list[Tensor] = []
        hidden: list[Tensor] = []
        for layer in self._layers():
            words, layer_scores = layer.forward_lang2visn(
                words, word_bias, visual, visual_bias, details=details
            )
            if layer_scores is not None:
                scores.append(layer_scores)
                hidden.append(words)
        return words, tuple(scores), tuple(hidden)


class LocalEncoder(nn.Module):
    """Fine scale: STOP and the tokens of the current panorama."""

    def __init__(self, config: DuetConfig) -> None:
        """Make the position embedding (14-d) and the x-layers."""
        super().__init__()
        self.vp_pos_embeddings = linear_norm(14, config.hidden_size, config.layer_norm_eps)
        self.encoder = CrossStack(config)

    def inputs(self, panorama: Tensor, positions: Tensor) -> Tensor:
        """[zero STOP ; panorama] + position embedding, [R, 1 + V, D].

        `positions` [R, 1 + V, 14], or [R, 1 + C, 14] when only candidates have a place of their
        own: further tokens then take the embedding of STOP's row, which is the start node's place.
        """
        x = nn.functional.pad(panorama, (0, 0, 1, 0))
        places: Tensor = self.vp_pos_embeddings(positions)
        rest = x.shape[1] - places.shape[1]
        if rest > 0:
            places = torch.cat([places, places[:, :1].expand(-1, rest, -1)], 1)
        return enter(x + places)

    @staticmethod
    def mask(panorama_mask: Tensor) -> Tensor:
        """Prepend the always valid STOP: [R, V] -> [R, 1 + V]."""
        return nn.functional.pad(panorama_mask, (1, 0), value=True)


class GlobalEncoder(nn.Module):
    """Coarse scale: STOP and the nodes of the topological map."""

    def __init__(self, config: DuetConfig) -> None:
        """Make position (7-d) and step embeddings, the distance bias and the x-layers."""
        super().__init__()
        width = config.hidden_size
        self.gmap_pos_embeddings = linear_norm(7, width, config.layer_norm_eps)
        self.gmap_step_embeddings = nn.Embedding(config.max_steps, width)
        self.sprel_linear = nn.Linear(1, 1) if config.graph_bias else None
        self.encoder = CrossStack(config)

    def inputs(self, features: Tensor, steps: Tensor, positions: Tensor) -> Tensor:
        """Node features + step embedding + position embedding, [R, 1 + M, D]."""
        x = features + self.gmap_step_embeddings(steps)
        return enter(x + self.gmap_pos_embeddings(positions))

    def bias(self, mask: Tensor, distances: Tensor) -> Tensor:
        """Padding bias plus weight * distance + offset: [R, 1 + M], [R, 1 + M, 1 + M] (metres).

        One weight and one offset for all heads and layers; [R, 1, 1 + M, 1 + M].
        """
        padding = key_bias(mask)
        if self.sprel_linear is None:
            return padding
        slope, offset = self.sprel_linear.weight.view(()), self.sprel_linear.bias
        return (padding + torch.addcmul(offset, distances, slope)[:, None]).to(padding.dtype)
