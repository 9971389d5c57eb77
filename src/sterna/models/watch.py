"""An agent that tells what it looked at and how sure it was, decision by decision.

Legend: R rows, L words, V panorama tokens, M map nodes, Q visual tokens (1 + V, slot 0 is STOP),
H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.models.agent import Agent
from sterna.models.attention import raw_scores
from sterna.models.cross import CrossLayer
from sterna.models.duet import DUET, NavigationOutput
from sterna.models.layers import key_bias
from sterna.models.text import TextMemory
from sterna.models.topomap import MapRows, TopoMap
from sterna.world.geometry import Ints

Weights = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Glance:
    """One decision of one agent.

    `node` is where it stands, `pose` how (view index 0-35); `options` [K] are the atlas nodes it
    could go to, `probabilities` [K] their chances and `stop` that of stopping; `choice` is a node
    or -1 for STOP. `views` [view count] and `words` [L] are the attention of the deciding token,
    averaged over heads, each summing to 1: of the last local layer among the panorama's tokens, and
    to the instruction. The deciding token is that of the chosen candidate, or STOP's where the
    agent stops or jumps to a place it does not see.
    """

    node: int
    pose: int
    options: Ints
    probabilities: Weights
    stop: float
    choice: int
    views: Weights
    words: Weights


class WatchedAgent(Agent):
    """An `Agent` that keeps a `Glance` of each decision; `glances[i]` are those of episode i.

    Decisions are those of `Agent`: its logits follow the same formulas, without the shortcuts that
    leave out what a decision does not need.
    """

    def __init__(self, model: DUET, panoramas: Panoramas) -> None:
        """Wrap a model in eval mode."""
        super().__init__(model, panoramas)
        self.glances: list[list[Glance]] = []

    def reset(
        self, episodes: Sequence[Episode], topomap: TopoMap, text: TextMemory | None = None
    ) -> None:
        """Begin new episodes."""
        super().reset(episodes, topomap, text)
        self.glances = [[] for _ in episodes]

    def navigate(self, rows: MapRows) -> NavigationOutput:
        """Run one decision of the walking agents and note what they attended to."""
        seen = self._observe(rows)
        output = self._decide(rows, seen, details=True)
        among, words = attention(
            self.model,
            output,
            seen["text"],
            seen["panorama"],
            seen["panorama_mask"],
            seen["start_and_candidate_positions"],
        )
        chances = output.fused.softmax(-1).float().cpu().numpy()
        for i, agent in enumerate(rows.agent.tolist()):
            length = int(self.text.mask[agent].sum())
            glance = self._glance(rows, i, chances[i], among[i], words[i, :, :length])
            self.glances[agent].append(glance)
        return output

    def _glance(
        self, rows: MapRows, i: int, chances: Weights, among: Tensor, words: Tensor
    ) -> Glance:
        """Return the glance of row i from its chances [1+M] and its attention ([Q, Q], [Q, L])."""
        slot = int(chances.argmax())
        seen = np.flatnonzero(rows.candidates[i] == slot) if slot else np.zeros(0, np.int64)
        token = 1 + int(seen[0]) if len(seen) else 0
        node, open_ = int(rows.node[i]), np.flatnonzero(rows.mask[i] & ~rows.visited[i])
        open_ = open_[open_ > 0]
        return Glance(
            node=node,
            pose=int(rows.pose[i]),
            options=rows.nodes[i, open_],
            probabilities=chances[open_],
            stop=float(chances[0]),
            choice=int(rows.nodes[i, slot]) if slot else -1,
            views=_by_view(self.encoder.panoramas, node, among[token].numpy()),
            words=words[token].numpy(),
        )


def attention(
    model: DUET,
    output: NavigationOutput,
    text: TextMemory,
    panorama: Tensor,
    mask: Tensor,
    positions: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the attention of the last local layer, averaged over heads, on the CPU.

    `output` is `DUET.navigate`'s with details; `text` [R, L], `panorama` [R, V, D], its `mask`
    [R, V] and `positions` are what it was given. Returns among visual tokens [R, Q, Q], and of
    visual tokens to words [R, Q, L]; rows sum to 1.
    """
    local = model.local_encoder
    bias = key_bias(local.mask(mask))
    among = (output.local_scores[-1] + bias).float().softmax(-1).mean(1)
    before = output.local_hidden[-2] if len(output.local_hidden) > 1 else None
    x = local.inputs(panorama, positions) if before is None else before
    layer = local.encoder.x_layers[-1]
    assert isinstance(layer, CrossLayer)
    query = layer.visual_attention.projections.queries(x)
    scores = raw_scores(query, text.local[-1][0]) + text.bias
    return among.cpu(), scores.float().softmax(-1).mean(1).cpu()


def _by_view(panoramas: Panoramas, node: int, weights: Weights) -> Weights:
    """Sum weights [Q] over STOP and tokens into the views the tokens show, normalised."""
    count = int(panoramas.view_lengths[node])
    views = panoramas.token_rows[node, :count] % panoramas.view_count
    out = np.bincount(views, weights[1 : 1 + count], panoramas.view_count)
    share: Weights = (out / max(out.sum(), 1e-12)).astype(np.float32)
    return share
