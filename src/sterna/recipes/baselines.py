"""Agents that learn nothing: the floors printed beside every score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sterna.data.episodes import Episode
from sterna.models.topomap import MapRows, TopoMap

_SURE = 50.0


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
