"""The loop of closed-loop GRPO: draw walks, learn from them once or several times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sterna.data.episodes import Episode
from sterna.errors import InputError
from sterna.models.topomap import MapRows
from sterna.train.loop import LoopConfig, Runner
from sterna.train.memory import Memory, episodes_named
from sterna.train.packed import Shared
from sterna.train.schedule import OptimizerConfig, uniform_draws
from sterna.vlnr1.graph_task import ClosedLoopTask, Walked, cut

_IMITATION = ("demonstrations", "warm_start", "replay", "memory")
"""Settings of the loop that only imitation has."""
_ARRAYS = ("row", "slot", "advantage", "weight", "expert", "expert_weight")
_DRAWS = 4000
"""Stream of the draws that choose actions."""


class LastWalks(Memory):
    """The batch of walks that several updates learn from."""

    def __init__(self) -> None:
        """Begin empty."""
        super().__init__(1)
        self.batch: Walked | None = None

    def to_state(self) -> list[dict[str, Any]]:
        """Return the batch as tensors and names, for a training state."""
        return [] if self.batch is None else [_pack(self.batch)]

    def from_state(
        self, state: Sequence[Mapping[str, Any]], episodes: Mapping[str, Episode]
    ) -> None:
        """Take over what `to_state` gave; `InputError` for an episode that is not there."""
        self.batch = _unpack(state[0], episodes) if state else None


def _pack(batch: Walked) -> dict[str, Any]:
    def tensors(value: Any) -> dict[str, Any]:
        names = [item.name for item in fields(value)]
        return {name: torch.from_numpy(getattr(value, name)) for name in names}

    arrays = {name: torch.from_numpy(getattr(batch, name)) for name in _ARRAYS}
    more = {"old": batch.old, "start": batch.start, "values": batch.values}
    names = [episode.instr_id for episode in batch.episodes]
    packed = {"rows": tensors(batch.rows), "shared": tensors(batch.shared)}
    return {"episodes": names, **packed, **more, **arrays}


def _unpack(values: Mapping[str, Any], episodes: Mapping[str, Episode]) -> Walked:
    def arrays(tensors: Mapping[str, Any]) -> dict[str, Any]:
        return {name: np.asarray(tensor.numpy()) for name, tensor in tensors.items()}

    return Walked(
        episodes=episodes_named(values["episodes"], episodes),
        rows=MapRows(**arrays(values["rows"])),
        shared=Shared(**arrays(values["shared"])),
        old=values["old"],
        start=values["start"],
        values=values["values"],
        **arrays({name: values[name] for name in _ARRAYS}),
    )


class ClosedLoopRunner(Runner):
    """Runs closed-loop GRPO; see `Runner`. An iteration is one optimiser step.

    With several updates a batch of walks, its walkers' probabilities included, is part of the
    training state.
    """

    scores_start = True

    def __init__(
        self,
        task: ClosedLoopTask,
        episodes: Sequence[Episode],
        folder: str | Path,
        loop: LoopConfig,
        optimizer: OptimizerConfig,
        **more: Any,
    ) -> None:
        """Prepare a run in `folder`; `InputError` for settings that only imitation has."""
        usual = LoopConfig()
        odd = [name for name in _IMITATION if getattr(loop, name) != getattr(usual, name)]
        if odd:
            raise InputError(f"grpo: loop.{odd[0]} belongs to imitation; leave it at its default")
        super().__init__(task, episodes, folder, loop, optimizer, **more)
        self.task = task

    @property
    def cycle(self) -> int:
        """Iterations that learn from the same walks."""
        return self.task.config.updates

    def _new_memory(self) -> LastWalks:
        return LastWalks()

    def _pieces(self, iteration: int) -> Sequence[Walked]:
        assert isinstance(self.memory, LastWalks)
        turn, again = divmod(iteration, self.cycle)
        if not again:
            batch = self._walk(turn)
            self.memory.batch = batch if self.cycle > 1 else None
            # The walkers are the policy itself: its ratios are 1, not 1 to within rounding.
            return cut(replace(batch, old=None), self.loop.pieces)
        assert self.memory.batch is not None
        return cut(self.memory.batch, self.loop.pieces)

    def _walk(self, turn: int) -> Walked:
        config, episodes = self.task.config, self.shown[turn]
        shape = (config.max_steps, len(episodes) * config.objective.group)
        stream = _DRAWS + self.accelerator.process_index
        with self.accelerator.autocast():
            return self.task.collect(episodes, uniform_draws(self.loop.seed, stream, turn, shape))
