"""Objects in imitation (REVERIE): which one is meant where, what naming another costs, which goal.

Source: DUET's fine-tuning on REVERIE (Chen et al., CVPR 2022).

Legend: B episodes, R rows (decisions), T panorama tokens, O objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.models.topomap import MapRows
from sterna.train.packed import PackedOutput
from sterna.world.atlas import Atlas
from sterna.world.geometry import Floats, Ints

IGNORED = -100
"""Target of a row at which no object is asked for."""


class Weighted(Protocol):
    """Recorded decisions with the weight [R] of each."""

    @property
    def weight(self) -> Floats:
        """Roll-out weight / episodes of the roll-out."""


def object_targets(panoramas: Panoramas, episodes: Sequence[Episode], rows: MapRows) -> Ints:
    """Return the token of each row's target object among [STOP, panorama tokens], [R].

    -100 unless the agent stands on one of its episode's goals and the target is among the objects
    shown there.
    """
    atlas = panoramas.atlas
    wanted = np.array([-1 if e.object_id is None else e.object_id for e in episodes])[rows.agent]
    goals = [{atlas.node(e.scan, v) for v in e.goals or (e.goal,)} for e in episodes]
    there = np.array([n in goals[a] for a, n in zip(rows.agent, rows.node, strict=True)], bool)
    match = panoramas.object_ids[rows.node] == wanted[:, None]
    asked = there & (wanted >= 0) & match.any(1)
    place = 1 + panoramas.view_lengths[rows.node] + match.argmax(1)
    return np.where(asked, place, IGNORED)


def grounding_loss(output: PackedOutput, batch: Weighted, targets: Ints) -> Tensor:
    """Return sum over rows of weight * CE(object logits, target); rows without target are left out.

    As the action loss: weight of the roll-out * sum over steps / episodes of the roll-out.
    """
    losses = [output.panorama_mean.new_zeros((), dtype=torch.float32)]
    for index, logits in output.objects():
        # Also where none is asked for: every iteration gives the head a gradient, if one of zeros.
        asked = np.flatnonzero(targets[index] != IGNORED)
        rows = index[asked]
        entropy = functional.cross_entropy(
            logits[torch.from_numpy(asked).to(logits.device)].float(),
            torch.from_numpy(targets[rows]).to(logits.device),
            reduction="none",
        )
        weight = torch.from_numpy(batch.weight[rows]).to(logits.device, torch.float32)
        losses.append((entropy * weight).sum())
    return torch.stack(losses).sum()


def aimed(atlas: Atlas, episodes: Sequence[Episode], draws: Floats) -> list[Episode]:
    """Give every episode one of its goals, and a shortest path from its start to it.

    `draws` [B] in [0, 1) choose the goals; episodes without goals stay as they are.
    """
    out = []
    for episode, draw in zip(episodes, draws, strict=True):
        if episode.goals:
            goal = episode.goals[int(draw * len(episode.goals))]
            graph = atlas.graphs[atlas.scan_number[episode.scan]]
            nodes = graph.shortest_path(graph.index(episode.start), graph.index(goal))
            episode = replace(episode, path=tuple(graph.viewpoints[n] for n in nodes))
        out.append(episode)
    return out
