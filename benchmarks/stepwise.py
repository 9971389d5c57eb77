"""The way the original code works, for comparison, built from our own modules.

Every decision is a padded batch of all agents, those that have ended included, until the last one
ends; keys and values of the text are computed again at every step; nothing is cached; training
keeps the gradient of every step's forward pass until one backward pass through all of them.
`ordinary_kernels` also puts PyTorch's own dropout and the textbook form of attention in place.
`whole_layers` keeps the last local layer from skipping tokens that no decision reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sterna.data.episodes import Episode
from sterna.data.views import ViewStore, camera_angles
from sterna.envs.graph_env import Panoramas
from sterna.models import layers, panorama
from sterna.models.agent import Agent
from sterna.models.attention import merge_heads, raw_scores
from sterna.models.config import DuetConfig
from sterna.models.dropout import FastDropout
from sterna.models.duet import DUET, NavigationOutput
from sterna.models.presets import preset
from sterna.models.text import TextMemory
from sterna.models.topomap import MapRows, TopoMap

SIZES = {312: "minivln", 768: "duet-r2r"}


class NoiseViews(ViewStore):
    """Features of any viewpoint, made up: benchmarks need their size, not their meaning."""

    def __init__(self, width: int = 768) -> None:
        super().__init__({}, *camera_angles(), width, dtype=np.float16)

    def table(self, keys: Any, *, logits: bool = False, progress: bool = True) -> Any:
        rng = np.random.default_rng(0)
        shape = (len(keys), 36, self.size)
        return rng.standard_normal(shape, dtype=np.float32).astype(np.float16)


def noise_model(config: DuetConfig) -> DUET:
    """Weights N(0, 0.02), norms 1 + N(0, 0.1), biases N(0, 0.1): such policies walk far."""
    torch.manual_seed(0)
    model = DUET(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.copy_(0.1 * torch.randn_like(parameter) + float("weight" in name))
    return model


def sizes(width: int) -> DuetConfig:
    """The published configuration of a width."""
    return preset(SIZES[width])


def with_words(episodes: Sequence[Episode]) -> list[Episode]:
    """Made-up word ids in the number that the instructions have (a quarter more pieces)."""
    out = []
    for episode in episodes:
        count = min(200, 2 + len(episode.instruction.split()) * 5 // 4)
        rng = np.random.default_rng(count)
        out.append(replace(episode, token_ids=tuple(rng.integers(1000, 29000, count).tolist())))
    return out


def ordinary_attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor,
    dropout: float = 0.0,
    *,
    details: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """softmax(Q K^T / sqrt(E) + bias), dropout, times V, one operation after another."""
    scores = raw_scores(query, key)
    probability = functional.dropout((scores + bias).softmax(-1), dropout)
    return merge_heads(probability @ value), scores if details else None


def ordinary_kernels() -> None:
    """Replace our dropout and attention by what a plain PyTorch model uses (whole process)."""

    def drop(self: FastDropout, x: Tensor) -> Tensor:
        return functional.dropout(x, self.p, self.training)

    def drop_add(self: FastDropout, x: Tensor, residual: Tensor) -> Tensor:
        return residual + functional.dropout(x, self.p, self.training)

    FastDropout.forward = drop  # type: ignore[method-assign]
    FastDropout.add = drop_add  # type: ignore[method-assign]
    for module in (layers, panorama):
        module.attend = ordinary_attend


def whole_layers(model: DUET) -> DUET:
    """Make a model compute all tokens of all layers, as the original does; same logits."""
    navigate = model.navigate

    def every_token(*arguments: Any, **named: Any) -> NavigationOutput:
        return navigate(*arguments, **(named | {"decide": False}))

    model.navigate = every_token  # type: ignore[method-assign]
    return model


class StepwiseAgent(Agent):
    """A policy that decides for everybody at every step, text keys and values included."""

    def __init__(self, model: DUET, panoramas: Panoramas, *, gradient: bool = False) -> None:
        super().__init__(model, panoramas, cache=False)
        self.gradient = gradient
        self.decisions: list[tuple[MapRows, Tensor]] = []

    def reset(
        self, episodes: Sequence[Episode], topomap: TopoMap, text: TextMemory | None = None
    ) -> None:
        super().reset(episodes, topomap, text)
        self._last: dict[int, MapRows] = {}
        self.decisions = []

    def navigate(self, rows: MapRows) -> NavigationOutput:
        words = self.text.embeds
        self.text = replace(
            self.text,
            local=self.model.local_encoder.encoder.text_memory(words),
            global_=self.model.global_encoder.encoder.text_memory(words),
        )
        return super().navigate(rows)

    def act(self, rows: MapRows) -> Tensor:
        active = set(rows.agent.tolist())
        ended = [last for agent, last in self._last.items() if agent not in active]
        for i, agent in enumerate(rows.agent.tolist()):
            self._last[agent] = rows.select(np.array([i]))
        with torch.set_grad_enabled(self.gradient):
            output = self.navigate(MapRows.concatenate([rows, *ended]) if ended else rows)
        fused = output.fused[: len(rows)]
        self.decisions.append((rows, fused))
        return fused.detach()[:, : rows.nodes.shape[1]]
