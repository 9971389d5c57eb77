"""DUET: a dual-scale graph transformer that decides where to go next.

Source: Chen et al., "Think Global, Act Local" (CVPR 2022); the same network carries ScaleVLN,
AutoVLN and the MiniVLN student. Parameter names equal those of the published navigation models.

Legend: B episodes, R rows (packed (episode, step) pairs), L words, V panorama tokens, C candidate
slots, M map nodes, F view feature width, D width, H heads, E = D / H.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from sterna.models.config import DuetConfig
from sterna.models.cross import GlobalEncoder, LocalEncoder
from sterna.models.layers import Head, key_bias
from sterna.models.panorama import ImageEmbeddings, PanoramaOutput
from sterna.models.ragged import Ragged
from sterna.models.text import TextEncoder, TextMemory, WordEmbeddings, image_type, init_weights

__all__ = ["DUET", "LanguageOutput", "NavigationOutput", "PanoramaOutput", "TextMemory", "fuse"]

NEVER = float("-inf")
"""Logit of a slot that cannot be chosen."""


@dataclass(frozen=True)
class NavigationOutput:
    """Scores of one decision; slot 0 is STOP, -inf where nothing may be chosen."""

    fused: Tensor
    """Logits over [STOP, map nodes], [R, 1 + M], float32: the decision."""
    global_: Tensor
    """Logits of the map branch, already weighted by w, [R, 1 + M]."""
    local: Tensor
    """Logits of the panorama branch over [STOP, candidates], weighted by 1 - w, [R, 1 + C]."""
    fuse_weight: Tensor
    """w of the fusion, [R, 1]."""
    node_embeds: Tensor
    """Outputs of the global encoder, [R, 1 + M, D]."""
    local_embeds: Tensor
    """Outputs of the local encoder, [R, 1 + V, D] ([R, 1 + C, D] with `decide`)."""
    object_logits: Tensor | None = None
    """Logits over the local tokens, [R, 1 + V]; -inf outside objects."""
    global_scores: tuple[Tensor, ...] = field(default=())
    """With details: Q K^T / sqrt(E) of the self-attentions on the map, [R, H, 1 + M, 1 + M]."""
    global_hidden: tuple[Tensor, ...] = field(default=())
    """With details: output of every global layer, [R, 1 + M, D]."""
    local_scores: tuple[Tensor, ...] = field(default=())
    """With details: the same scores on the panorama, [R, H, 1 + V, 1 + V]."""
    local_hidden: tuple[Tensor, ...] = field(default=())
    """With details: output of every local layer, [R, 1 + V, D]."""


@dataclass(frozen=True)
class LanguageOutput:
    """Words after they looked at the map and at the panorama (pre-training)."""

    embeds: Tensor
    """Sum of the two text outputs, [R, L, D]: what the masked-word head reads."""
    global_scores: tuple[Tensor, ...] = field(default=())
    """With details: scores of `lang_self_att` of every global layer, [R, H, L, L]."""
    global_hidden: tuple[Tensor, ...] = field(default=())
    """With details: text output of every global layer, [R, L, D]."""
    local_scores: tuple[Tensor, ...] = field(default=())
    """With details: scores of `lang_self_att` of every local layer, [R, H, L, L]."""
    local_hidden: tuple[Tensor, ...] = field(default=())
    """With details: text output of every local layer, [R, L, D]."""


class DUET(nn.Module):
    """The navigator: text, panorama, map in; logits over STOP and map nodes out."""

    def __init__(self, config: DuetConfig) -> None:
        """Build the model with BERT initialisation (weights N(0, 0.02))."""
        super().__init__()
        self.config = config
        width, eps = config.hidden_size, config.layer_norm_eps
        self.embeddings = WordEmbeddings(config)
        self.lang_encoder = TextEncoder(config)
        self.img_embeddings = ImageEmbeddings(config)
        self.local_encoder = LocalEncoder(config)
        self.global_encoder = GlobalEncoder(config)
        self.global_sap_head = Head(width, eps)
        self.local_sap_head = Head(width, eps)
        self.sap_fuse_linear = Head(width, eps, inputs=2 * width)
        self.og_head = Head(width, eps) if config.object_size is not None else None
        self.apply(init_weights)

    def encode_text(self, ids: Tensor, mask: Tensor, *, details: bool = False) -> TextMemory:
        """Read instructions once an episode.

        `ids` int64 [B, L] word pieces (any id where padded), `mask` bool [B, L]. Keys and values of
        all cross-attentions are computed here; `TextMemory.rows` spreads them over decision steps.
        """
        embedding = self.embeddings(ids)
        x, scores, hidden = self.lang_encoder(embedding, key_bias(mask), details=details)
        return TextMemory(
            embeds=x,
            mask=mask,
            local=self.local_encoder.encoder.text_memory(x),
            global_=self.global_encoder.encoder.text_memory(x),
            embedding=embedding if details else None,
            scores=scores,
            hidden=hidden,
        )

    def encode_panorama(
        self,
        features: Tensor,
        locations: Tensor,
        nav_types: Tensor,
        mask: Tensor,
        objects: Tensor | None = None,
        *,
        details: bool = False,
    ) -> PanoramaOutput:
        """Encode what is seen at a viewpoint.

        Token order is DUET's: candidates, views that no candidate uses, objects. `locations`
        [R, V, 7] (sin, cos heading; sin, cos elevation; box height, width, area share),
        `nav_types` int64 [R, V] (1 candidate, 0 other view, 2 object), `mask` bool [R, V] describe
        the tokens as the encoder sees them: a row's valid tokens are contiguous, its objects right
        behind its own views. Without objects `features` is [R, V, F] in that order. With objects,
        `features` [R, W, F] holds only the views (W = most views of a row) and `objects`
        [R, O, Fo] the objects in their order; entries beyond a row's counts are never read. Both
        are put together here, guided by `nav_types`.
        """
        image = image_type(self.embeddings)
        return self.img_embeddings(  # type: ignore[no-any-return]
            features, locations, nav_types, mask, image, objects, details=details
        )

    def navigate(
        self,
        text: TextMemory,
        panorama: Tensor,
        panorama_mask: Tensor,
        start_and_candidate_positions: Tensor,
        candidate_nodes: Tensor,
        node_features: Tensor,
        node_steps: Tensor,
        node_positions: Tensor,
        node_distances: Tensor,
        node_mask: Tensor,
        node_visited: Tensor,
        *,
        details: bool = False,
        object_mask: Tensor | None = None,
        decide: bool = False,
    ) -> NavigationOutput:
        """Score STOP and every map node.

        `text` has R rows (see `TextMemory.rows`). `panorama` [R, V, D] and `panorama_mask` [R, V]
        come from `encode_panorama`; `start_and_candidate_positions` [R, 1 + V, 14] is the start
        node's 7-d position on every token (STOP too), then the candidate's own (0 elsewhere);
        it may end after the candidates, [R, 1 + C, 14], the other tokens being like STOP.
        `candidate_nodes` int64 [R, C] gives the map slot 1 .. M of each candidate, 0 for padding;
        candidates are the first C panorama tokens, distinct nodes. Map axis: slot 0 is STOP.
        `node_features` [R, 1 + M, D] (STOP zeros), `node_steps` int64 (last visit + 1, else 0),
        `node_positions` [.., 7] (STOP [0, 1, 0, 1, 0, 0, 0]), `node_distances` [R, 1 + M, 1 + M]
        metres between nodes, not scaled, 0 in STOP's row and column and where padded, `node_mask`
        and `node_visited` bool [R, 1 + M] (STOP: valid, not visited). `object_mask` bool
        [R, 1 + V] marks object tokens; needs a model with objects. `decide` asks for what a
        decision needs and no more: logits are the same, but `node_embeds` are zero for visited and
        padded nodes, `local_embeds` for tokens that are neither STOP nor candidate nor object.
        """
        seen = self.local_encoder.mask(panorama_mask)
        x = self.local_encoder.inputs(panorama, start_and_candidate_positions)
        y = self.global_encoder.inputs(node_features, node_steps, node_positions)
        bias = key_bias(seen), self.global_encoder.bias(node_mask, node_distances)
        encoders = self.local_encoder.encoder, self.global_encoder.encoder
        here, there = candidate_nodes.shape[1] + 1, node_mask & ~node_visited
        if not decide or details:
            local, *local_details = encoders[0](x, bias[0], text.local, text.bias, details=details)
            nodes, *global_details = encoders[1](
                y, bias[1], text.global_, text.bias, details=details
            )
            return replace(
                self.score(local, nodes, candidate_nodes, node_mask, node_visited, object_mask),
                global_scores=global_details[0],
                global_hidden=global_details[1],
                local_scores=local_details[0],
                local_hidden=local_details[1],
            )
        keep = _decisive(seen, candidate_nodes, object_mask)
        kept, open_ = Ragged(keep), Ragged(there)
        spots = encoders[0].kept(x, bias[0], text.local, text.bias, seen, keep)
        places = encoders[1].kept(y, bias[1], text.global_, text.bias, node_mask, there)
        return self._output(
            stops=(places[open_.firsts()], spots[kept.firsts()]),
            slots=kept.place(self.local_sap_head(spots))[:, :here],
            node_logits=open_.place(self.global_sap_head(places)),
            embeds=(kept.place(spots), open_.place(places)),
            maps=(candidate_nodes, there, node_visited),
            object_mask=object_mask,
        )

    def score(
        self,
        local: Tensor,
        nodes: Tensor,
        candidate_nodes: Tensor,
        node_mask: Tensor,
        node_visited: Tensor,
        object_mask: Tensor | None = None,
    ) -> NavigationOutput:
        """Score STOP and every map node from the outputs of both encoders.

        `local` [R, 1 + V, D] and `nodes` [R, 1 + M, D]; the others as in `navigate`.
        """
        here = candidate_nodes.shape[1] + 1
        return self._output(
            stops=(nodes[:, 0], local[:, 0]),
            slots=self.local_sap_head(local[:, :here]),
            node_logits=self.global_sap_head(nodes),
            embeds=(local, nodes),
            maps=(candidate_nodes, node_mask & ~node_visited, node_visited),
            object_mask=object_mask,
        )

    def _output(
        self,
        stops: tuple[Tensor, Tensor],
        slots: Tensor,
        node_logits: Tensor,
        embeds: tuple[Tensor, Tensor],
        maps: tuple[Tensor, Tensor, Tensor],
        object_mask: Tensor | None,
    ) -> NavigationOutput:
        """Weigh and join the scores of both scales; `maps` are candidates, open and visited."""
        (local, nodes), (candidate_nodes, there, node_visited) = embeds, maps
        weight = self.sap_fuse_linear(torch.cat(stops, -1)).sigmoid()[:, None]
        node_logits = (node_logits * weight).masked_fill(~there, NEVER)
        slots = slots * (1 - weight)
        return NavigationOutput(
            fused=fuse(node_logits, slots, candidate_nodes, node_visited),
            global_=node_logits,
            local=_hide_padding(slots, candidate_nodes),
            fuse_weight=weight,
            node_embeds=nodes,
            local_embeds=local,
            object_logits=self._object_logits(local, object_mask),
        )

    def read_with_vision(
        self,
        text: TextMemory,
        panorama: Tensor,
        panorama_mask: Tensor,
        start_and_candidate_positions: Tensor,
        node_features: Tensor,
        node_steps: Tensor,
        node_positions: Tensor,
        node_mask: Tensor,
        *,
        details: bool = False,
    ) -> LanguageOutput:
        """Pass the words through the text branches of both encoders and add the two results.

        Arguments as in `navigate`, one row an episode (R = B). The visual tokens are those at the
        entry of the encoders; they are not updated (DUET's masked-language-modelling pass). Needs
        `config.lang2visn`.
        """
        visual = self.local_encoder.inputs(panorama, start_and_candidate_positions)
        bias = key_bias(self.local_encoder.mask(panorama_mask))
        local, local_scores, local_hidden = self.local_encoder.encoder.forward_lang2visn(
            text.embeds, text.bias, visual, bias, details=details
        )
        visual = self.global_encoder.inputs(node_features, node_steps, node_positions)
        nodes, global_scores, global_hidden = self.global_encoder.encoder.forward_lang2visn(
            text.embeds, text.bias, visual, key_bias(node_mask), details=details
        )
        return LanguageOutput(
            nodes + local, global_scores, global_hidden, local_scores, local_hidden
        )

    def save_pretrained(self, folder: str | Path, *, notes: str = "") -> Path:
        """Write weights, sizes, a probe and a card; see `pretrained.save_pretrained`."""
        from sterna.models import pretrained  # it builds models, so it imports this module

        return pretrained.save_pretrained(self, folder, notes=notes)

    def push_to_hub(self, name: str, *, notes: str = "", private: bool = True) -> str:
        """Put the policy on the Hub as owner/name and return its URL; see `hub.push_to_hub`."""
        from sterna.models import hub

        return hub.push_to_hub(self, name, notes=notes, private=private)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, check: bool = True) -> DUET:
        """Load a folder, or owner/name of the Hub, strictly, in eval mode; raises `InputError`."""
        from sterna.models import pretrained

        return pretrained.from_pretrained(folder, check=check)

    def _object_logits(self, local: Tensor, object_mask: Tensor | None) -> Tensor | None:
        if object_mask is None or self.og_head is None:
            return None
        logits: Tensor = self.og_head(local)
        return logits.masked_fill(~object_mask, NEVER)


def _decisive(seen: Tensor, candidate_nodes: Tensor, object_mask: Tensor | None) -> Tensor:
    """Mark STOP, candidates and objects among the local tokens, [R, 1 + V]."""
    keep = torch.zeros_like(seen)
    keep[:, 0] = True
    keep[:, 1 : 1 + candidate_nodes.shape[1]] = candidate_nodes > 0
    return keep if object_mask is None else keep | object_mask


def fuse(nodes: Tensor, slots: Tensor, candidate_nodes: Tensor, visited: Tensor) -> Tensor:
    """Join map logits and local logits over the map axis (DUET's dynamic fusion, after weighting).

    F[0] = G[0] + L[0]; F[j] = G[j] + L[slot of j] if node j is a candidate, else G[j] + back, with
    back = sum of L over visited candidates (0 if there are none). `nodes` G [R, 1 + M], -inf where
    visited or padded; `slots` L [R, 1 + C], finite, STOP first; `candidate_nodes` [R, C] map slots,
    0 for padding; `visited` [R, 1 + M]. Returns F [R, 1 + M].
    """
    stop, candidates = slots[:, :1], slots[:, 1:]
    known = visited.gather(1, candidate_nodes)
    back = (candidates * (known & (candidate_nodes > 0))).sum(1, keepdim=True)
    # Padding points at slot 0, which STOP overwrites below.
    local = back.expand_as(nodes).scatter(1, candidate_nodes, candidates)
    return nodes + torch.cat([stop, local[:, 1:]], 1)


def _hide_padding(slots: Tensor, candidate_nodes: Tensor) -> Tensor:
    hidden = nn.functional.pad(candidate_nodes == 0, (1, 0), value=False)
    return slots.masked_fill(hidden, NEVER)
