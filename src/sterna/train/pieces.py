"""A recorded batch in pieces, one after the other: the same gradient in less memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sterna.models.topomap import MapRows
from sterna.train.imitation import Recorded
from sterna.train.task import TaskOutput


def split(batch: Recorded, count: int) -> list[Recorded]:
    """Cut a batch into up to `count` groups of episodes of similar instruction length.

    Weights stay those of the whole batch, so that losses and gradients of the pieces add up to
    those of the batch (teacher normalisation apart, which each piece does for itself).
    """
    if count == 1:
        return [batch]
    lengths = np.array([len(e.token_ids or ()) for e in batch.episodes])
    groups = np.array_split(np.argsort(lengths, kind="stable"), min(count, len(lengths)))
    return [_take(batch, group) for group in groups]


def _take(batch: Recorded, group: np.ndarray) -> Recorded:
    rows = np.flatnonzero(np.isin(batch.rows.agent, group))
    place = np.full(len(batch.episodes), -1)
    place[group] = np.arange(len(group))
    chosen = batch.rows.select(rows)
    return Recorded(
        episodes=tuple(batch.episodes[i] for i in group),
        rows=MapRows(**(vars(chosen) | {"agent": place[chosen.agent]})),
        labels=batch.labels[rows],
        weight=batch.weight[rows],
        row_share=batch.row_share[rows],
        episode_share=batch.episode_share[group],
        taught=None
        if batch.taught is None
        else batch.taught[torch.from_numpy(rows), : chosen.nodes.shape[1]],
        taught_objects=None
        if batch.taught_objects is None
        else batch.taught_objects[torch.from_numpy(rows)],
    )


def summed(outputs: Sequence[TaskOutput]) -> TaskOutput:
    """Put the outputs of pieces together: losses add up, agreement is a mean over rows."""
    if len(outputs) == 1:
        return TaskOutput(outputs[0].loss.detach(), outputs[0].metrics)
    # What is read beside the walks is in the first piece alone, walks without labels are the last.
    names = dict.fromkeys(name for output in outputs for name in output.metrics)
    total = {name: sum(o.metrics.get(name, 0.0) for o in outputs) for name in names}
    agreed = [(o.metrics["agree"], o.metrics["rows"]) for o in outputs if "agree" in o.metrics]
    total["agree"] = sum(share * rows for share, rows in agreed) / total["rows"]
    loss = outputs[0].loss.detach()
    for output in outputs[1:]:
        loss = loss + output.loss.detach()
    return TaskOutput(loss, total)
