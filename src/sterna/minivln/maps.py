"""Width maps that begin where they fit best: W_l and W_r by least squares, before the first step.

From random maps the first errors of eqs. (6) and (7) say little about the student and pull its
encoders out of shape, those of a student that stage 1 has just taught most of all.

Legend: N words or viewpoints, D student width, E teacher width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from sterna.data.episodes import Episode
from sterna.minivln.stage2 import DistillTask
from sterna.models.agent import look, token_batch
from sterna.world.geometry import VIEWS

_STREAM = 13
"""Keeps these draws apart from those of the training loop and of the lessons."""
_RIDGE = 1e-4
"""Share of the mean square of a student coordinate that is added to all of them."""
_BATCH = 64


@torch.no_grad()
def fit_maps(task: DistillTask, episodes: Sequence[Episode], *, seed: int, size: int = 512) -> None:
    """Set W_l and W_r to the least-squares maps of the student as it is.

    Over `size` instructions of `episodes` and as many viewpoints of their scans at random headings;
    what is drawn is a function of `seed`.
    """
    rng = np.random.default_rng([seed, _STREAM])
    training = task.training
    task.eval()
    drawn = rng.choice(len(episodes), size=min(size, len(episodes)), replace=False)
    read = [_words(task, [episodes[i] for i in part]) for part in _parts(drawn)]
    _solve(task.text_map, read)
    nodes = rng.choice(viewpoints(task, episodes), size=size)
    poses = rng.integers(VIEWS, size=size)
    seen = [_means(task, nodes[part], poses[part]) for part in _parts(np.arange(size))]
    _solve(task.panorama_map, seen)
    task.train(training)


def viewpoints(task: DistillTask, episodes: Sequence[Episode]) -> np.ndarray:
    """Return the viewpoints of the episodes' scans, as atlas nodes."""
    atlas = task.panoramas.atlas
    scans = [atlas.scan_number[name] for name in sorted({e.scan for e in episodes})]
    return np.flatnonzero(np.isin(atlas.scan_of, scans))


def _parts(numbers: np.ndarray) -> list[np.ndarray]:
    return np.array_split(numbers, max(1, len(numbers) // _BATCH))


def _words(task: DistillTask, episodes: Sequence[Episode]) -> tuple[Tensor, Tensor]:
    device = next(task.policy.parameters()).device
    ids, mask = (t.to(device) for t in token_batch(episodes))
    return task.policy.encode_text(ids, mask).embeds[mask], task.read(episodes)[mask]


def _means(task: DistillTask, nodes: np.ndarray, poses: np.ndarray) -> tuple[Tensor, Tensor]:
    mine = look(task.policy, task.panoramas, task.table, nodes, poses).mean
    return mine, task.remember(nodes, poses)


def _solve(linear: nn.Linear, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Set the weight [E, D] that minimises the squared error of pairs ([N, D], [N, E])."""
    x = torch.cat([mine for mine, _ in pairs]).double()
    y = torch.cat([theirs for _, theirs in pairs]).double()
    moments = x.T @ x
    moments += _RIDGE * moments.diagonal().mean() * torch.eye(len(moments)).to(moments)
    linear.weight.copy_(torch.linalg.solve(moments, x.T @ y).T)
