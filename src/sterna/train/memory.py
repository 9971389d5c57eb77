"""Remembered roll-outs: DAgger learns from an aggregate of walks, not from the newest alone.

Source: Ross, Gordon and Bagnell, AISTATS 2011 (the aggregated data set), kept to a sliding window.
A remembered batch costs no walking and, in distillation, no teacher: only the pass that learns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sterna.data.episodes import Episode
from sterna.errors import InputError
from sterna.models.topomap import MapRows
from sterna.train.imitation import Recorded

_ARRAYS = ("labels", "weight", "row_share", "episode_share")


class Memory:
    """The last `capacity` recorded batches."""

    def __init__(self, capacity: int) -> None:
        """Begin empty."""
        self.capacity = capacity
        self.batches: list[Recorded] = []

    def add(self, batch: Recorded) -> None:
        """Remember a batch and forget the oldest."""
        self.batches = [*self.batches, batch][-self.capacity :]

    def recall(self, draw: float) -> Recorded:
        """Return one of the batches; `draw` in [0, 1) chooses."""
        return self.batches[int(draw * len(self.batches))]

    def to_state(self) -> list[dict[str, Any]]:
        """Return the batches as tensors and names, for a training state."""
        return [_pack(batch) for batch in self.batches]

    def from_state(
        self, state: Sequence[Mapping[str, Any]], episodes: Mapping[str, Episode]
    ) -> None:
        """Take over what `to_state` gave; `InputError` for an episode that is not there."""
        self.batches = [_unpack(values, episodes) for values in state]


def _pack(batch: Recorded) -> dict[str, Any]:
    rows = {f.name: torch.from_numpy(getattr(batch.rows, f.name)) for f in fields(MapRows)}
    arrays = {name: torch.from_numpy(getattr(batch, name)) for name in _ARRAYS}
    names = [episode.instr_id for episode in batch.episodes]
    taught = {"taught": batch.taught, "taught_objects": batch.taught_objects}
    return {"episodes": names, "rows": rows, **taught, **arrays}


def episodes_named(names: Sequence[str], episodes: Mapping[str, Episode]) -> tuple[Episode, ...]:
    """Return the episodes that a state remembers; `InputError` for one that is not there."""
    unknown = [name for name in names if name not in episodes]
    if unknown:
        raise InputError(
            f"training state: it remembers episode {unknown[0]!r}, which this split lacks; "
            "continue with the data that it was trained on"
        )
    return tuple(episodes[name] for name in names)


def _unpack(values: Mapping[str, Any], episodes: Mapping[str, Episode]) -> Recorded:
    def array(tensor: Tensor) -> Any:
        return np.asarray(tensor.numpy())

    return Recorded(
        episodes=episodes_named(values["episodes"], episodes),
        rows=MapRows(**{name: array(value) for name, value in values["rows"].items()}),
        taught=values["taught"],
        taught_objects=values.get("taught_objects"),
        **{name: array(values[name]) for name in _ARRAYS},
    )
