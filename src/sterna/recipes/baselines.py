"""Agents that learn nothing: the floors printed beside every score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.metrics import Prediction
from sterna.models.topomap import MapRows, TopoMap
from sterna.world.geometry import Ints
from sterna.world.graph import NavGraph

_SURE = 50.0
FAR_EDGES, FAR_METRES = (4, 6), 5.0
"""What makes a node far: R2R's paths have so many edges, and at least so many metres."""


class RandomPolicy:
    """Moves to a random candidate not yet visited, five times, then stops.

    The five moves are those of the random agent of Anderson et al. (CVPR 2018), which also never
    turns back. Draws depend on the seed, the episode's id and the step, not on the batch.
    """

    def __init__(self, seed: int = 0, moves: int = 5) -> None:
        """Make an agent of `moves` moves."""
        self.seed, self.moves = seed, moves
        self._names: list[int] = []

    def reset(self, episodes: Sequence[Episode], topomap: TopoMap) -> None:
        """Begin new episodes."""
        self._names = [int.from_bytes(e.instr_id.encode()[-7:], "little") for e in episodes]

    def act(self, rows: MapRows) -> Tensor:
        """Return logits [R, 1+M] that are sure of a random candidate, or of STOP."""
        logits = np.where(rows.mask & ~rows.visited, 0.0, -np.inf)
        for i, (agent, step) in enumerate(zip(rows.agent, rows.step, strict=True)):
            slots = rows.candidates[i][rows.candidates[i] > 0]
            open_ = slots[~rows.visited[i, slots]]
            rng = np.random.default_rng([self.seed, self._names[agent], int(step)])
            stop = step >= self.moves or not len(open_)
            logits[i, 0 if stop else rng.choice(open_)] = _SURE
        return torch.from_numpy(logits.astype(np.float32))


def far_walk(episode: Episode, graph: NavGraph, seed: int = 0) -> Prediction:
    """Walk to a random far node by the shortest path: what knowing the map alone is worth.

    Far are the nodes to which an annotated path could lead (`FAR_EDGES`, `FAR_METRES`); where there
    are none, the furthest one. The draw depends on the seed and the episode's id.
    """
    start = graph.index(episode.start)
    paths = [graph.shortest_path(start, int(end)) for end in _far(graph, start)]
    rng = np.random.default_rng([seed, int.from_bytes(episode.instr_id.encode()[-7:], "little")])
    path = paths[int(rng.integers(len(paths)))]
    names = tuple(graph.viewpoints[node] for node in path)
    return Prediction(instr_id=episode.instr_id, hops=tuple((name,) for name in names))


def with_guesses(
    predictions: Sequence[Prediction],
    episodes: Sequence[Episode],
    panoramas: Panoramas,
    seed: int = 0,
) -> list[Prediction]:
    """Answer each episode's walk with a random object in sight of its end: chance in grounding.

    None where nothing is in sight, or in a world without objects. The draw depends on the seed and
    the episode's id.
    """
    ends = [
        panoramas.atlas.node(episode.scan, walk.hops[-1][-1])
        for episode, walk in zip(episodes, predictions, strict=True)
    ]
    return [
        replace(walk, object_id=_guess(panoramas, end, walk.instr_id, seed))
        for walk, end in zip(predictions, ends, strict=True)
    ]


def _guess(panoramas: Panoramas, node: int, instr_id: str, seed: int) -> int | None:
    if panoramas.object_size is None:
        return None
    ids = panoramas.object_ids[node]
    ids = ids[ids >= 0]
    rng = np.random.default_rng([seed, int.from_bytes(instr_id.encode()[-7:], "little")])
    return int(rng.choice(ids)) if len(ids) else None


def _far(graph: NavGraph, start: int) -> Ints:
    away = graph.distances[start]
    there = np.flatnonzero(np.isfinite(away) & (away >= FAR_METRES))
    edges = np.array([len(graph.shortest_path(start, int(end))) - 1 for end in there], np.int64)
    far = there[(edges >= FAR_EDGES[0]) & (edges <= FAR_EDGES[1])]
    return far if len(far) else np.array([np.where(np.isfinite(away), away, -1).argmax()])
