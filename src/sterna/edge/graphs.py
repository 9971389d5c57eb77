"""DUET as three graphs for one agent, without padding, masks or rows.

The modules are those of `sterna.models`, run over one episode; only what stands around them is
written anew, so that every size stays a free dimension of the exported graph.

Legend: L words, W views, O objects, T = W + O panorama tokens, C candidates, M map nodes, K slots
that may be chosen (STOP first), N local tokens that a decision reads, D width, H heads, E = D / H,
X cross-modal layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from sterna.envs.graph_env import OBJECT
from sterna.models.attention import fused
from sterna.models.cross import CrossLayer, CrossStack
from sterna.models.duet import DUET, fuse
from sterna.models.layers import Attention, KeyValue
from sterna.models.ragged import Ragged
from sterna.models.text import image_type


class _Whole(Ragged):
    """One row without padding: picking and placing are changes of shape alone."""

    def __init__(self) -> None:
        self.mask = torch.ones(1, 1, dtype=torch.bool)

    def pick(self, x: Tensor) -> Tensor:
        return x[0]

    def place(self, tokens: Tensor) -> Tensor:
        return tokens[None]


class TextGraph(nn.Module):
    """An instruction, read once an episode."""

    def __init__(self, model: DUET) -> None:
        """Take the text encoder, and the text's keys and values of all cross-attentions."""
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Map word ids [L] to (states [L, D], memory [2, X, 2, H, L, E]).

        Memory holds keys and values of every layer, local encoder first. Computing them here, not
        at every step, saves about an eighth of a student's work.
        """
        model, free = self.model, torch.zeros(1, 1, 1, 1)
        x, _, _ = model.lang_encoder(model.embeddings(ids[None]), free)
        both = model.local_encoder.encoder, model.global_encoder.encoder
        memory = [torch.stack([torch.cat(kv) for kv in stack.text_memory(x)]) for stack in both]
        return x[0], torch.stack(memory)


class PanoramaGraph(nn.Module):
    """What is seen at one viewpoint: encoded once, when the agent arrives."""

    def __init__(self, model: DUET) -> None:
        """Take the panorama encoder."""
        super().__init__()
        self.parts, self.type_table = model.img_embeddings, model.embeddings
        self.shared = model.config.shared_objects

    def forward(
        self,
        views: Tensor,
        locations: Tensor,
        kinds: Tensor,
        objects: Tensor | None = None,
        object_locations: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Map tokens to (outputs [T, D], their mean [D]).

        `views` [W, F] in token order (candidates first) with `locations` [W, 7] and `kinds` int64
        [W] (1 candidate, else 0); `objects` [O, F'] with `object_locations` [O, 7] behind them.
        """
        parts = self.parts
        types = parts.nav_type_embedding.weight + image_type(self.type_table)
        x = parts.img_layer_norm(parts.img_linear(views)) + self._places(locations) + types[kinds]
        if objects is not None and object_locations is not None:
            linear = parts.img_linear if self.shared else parts.obj_linear
            norm = parts.img_layer_norm if self.shared else parts.obj_layer_norm
            things = norm(linear(objects)) + self._places(object_locations) + types[OBJECT]
            x = torch.cat([x, things])
        tokens, _, _ = parts.pano_encoder(parts.layer_norm(x), _Whole())
        return tokens[0], tokens[0].mean(0)

    def _places(self, locations: Tensor) -> Tensor:
        places: Tensor = self.parts.loc_layer_norm(self.parts.loc_linear(locations))
        return places


class StepGraph(nn.Module):
    """One decision."""

    def __init__(self, model: DUET) -> None:
        """Take both cross-modal encoders and the heads."""
        super().__init__()
        self.local, self.nodes = model.local_encoder, model.global_encoder
        self.local_head, self.node_head = model.local_sap_head, model.global_sap_head
        self.fusion, self.object_head = model.sap_fuse_linear, model.og_head

    def forward(
        self,
        memory: Tensor,
        panorama: Tensor,
        local_positions: Tensor,
        candidates: Tensor,
        near: Tensor,
        features: Tensor,
        steps: Tensor,
        positions: Tensor,
        distances: Tensor,
        visited: Tensor,
        choices: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return logits [K] of `choices`, and with objects those of all of `near`, [N].

        `memory` and `panorama` [T, D] as the other graphs give them; `local_positions` [1 + C, 14]
        and `candidates` int64 [C] as in `DUET.navigate`; `near` int64 [N] says which of
        [STOP ; panorama] are read: 0 .. C, then the objects. On the map, slot 0 being STOP:
        `features` [1 + M, D], `steps` int64, `positions` [1 + M, 7], `distances` [1 + M, 1 + M],
        `visited` bool; `choices` int64 [K] are the slots that may be chosen, STOP first.
        """
        x = self.local.inputs(panorama[None], local_positions[None])
        y = self.nodes.inputs(features[None], steps[None], positions[None])
        bias = None
        if self.nodes.sprel_linear is not None:
            bias = self.nodes.bias(torch.ones(1, 1, dtype=torch.bool), distances[None])[0]
        words = torch.split(memory.flatten(0, 3), memory.shape[3])
        half = len(words) // 2
        spots = _cross(self.local.encoder, x[0], None, words[:half], near)
        places = _cross(self.nodes.encoder, y[0], bias, words[half:], choices)
        weight = self.fusion(torch.cat([places[:1], spots[:1]], -1)).sigmoid()
        slots = self.local_head(spots[: 1 + candidates.shape[0]]) * (1 - weight)
        bare = torch.zeros_like(features[None, :, 0])
        local = fuse(bare, slots[None], candidates[None], visited[None])[0]
        logits = self.node_head(places) * weight + local.index_select(0, choices)
        if self.object_head is None:
            return (logits,)
        return logits, self.object_head(spots)


def _cross(
    stack: CrossStack, x: Tensor, bias: Tensor | None, words: Sequence[Tensor], keep: Tensor
) -> Tensor:
    """Run the layers of one encoder over tokens x [Q, D]; returns the tokens `keep`, [K, D].

    `words` are the text's keys and values [H, L, E] of one layer after the other.
    Behind the last layer's projections nothing is computed for tokens that are not kept.
    """
    last = len(stack.x_layers) - 1
    for number, module in enumerate(stack.x_layers):
        layer = cast(CrossLayer, module)
        x = attend_row(layer.visual_attention, x, (words[2 * number], words[2 * number + 1]))
        x = attend_row(layer.visn_self_att, x, None, bias, keep if number == last else None)
        x = layer.visn_output(layer.visn_inter(x), x)
    return x


def attend_row(
    block: Attention,
    x: Tensor,
    context: KeyValue | None,
    bias: Tensor | None = None,
    keep: Tensor | None = None,
) -> Tensor:
    """`Attention.forward` for one row: x [Q, D], `context` [H, L, E], `bias` [H or 1, Q, Q]."""
    maps, tokens = block.projections, x.shape[0]
    if context is None:
        apart = maps.joined(x).view(tokens, 3 * maps.heads, -1).transpose(0, 1)
        query, key, value = torch.split(apart, maps.heads)
    else:
        query, (key, value) = maps.query(x).view(tokens, maps.heads, -1).transpose(0, 1), context
    if keep is not None:
        query, x = query.index_select(1, keep), x.index_select(0, keep)
        bias = None if bias is None else bias.index_select(1, keep)
    mixed = fused(query, key, value, bias)
    out: Tensor = block.output(mixed.transpose(0, 1).flatten(1), x)
    return out
