"""Samples for training a navigator: made on the fly, so that a walk costs its frames alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from sterna.data.ego.joined import JoinedStore
from sterna.data.ego.store import EgoEpisode, EgoStore
from sterna.errors import InputError
from sterna.world.geometry import Ints
from sterna.world.talk.memory import history

PREVIOUS = 8
"""How many of the last actions a sample tells."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EgoSample:
    """What a navigator is asked at one step, and what the expert does there."""

    instr_id: str
    step: int
    instruction: str
    history: Ints
    """[k] frame numbers, oldest first, without the current one."""
    current: int
    """Frame number."""
    previous: Ints
    """[<= 8] the last actions taken, oldest first."""
    actions: Ints
    """[n] target: the expert's action from the current frame and the n - 1 following."""


class EgoSamples(Sequence[EgoSample]):
    """All steps of all episodes of a store, in order, as samples.

    `n` actions are the target, at most the store's `n_max`; `memory` and `budget` choose the
    history (`history`); `keep` chooses episodes. `stride` takes every so-manieth step of an
    episode, from its first. `InputError` for an `n` the store does not hold.
    """

    def __init__(
        self,
        store: EgoStore | JoinedStore,
        n: int = 6,
        memory: str = "long-short",
        budget: int = 16,
        *,
        stride: int = 1,
        keep: Callable[[EgoEpisode], bool] | None = None,
    ) -> None:
        if not 1 <= n <= store.n_max:
            raise InputError(f"{store.folder}: samples have 1 to {store.n_max} actions, not {n}")
        if stride < 1:
            raise InputError(f"samples: stride is 1 or more, found {stride}")
        history(0, memory, budget)  # refuses what is unknown at once
        self.store, self.n, self.memory, self.budget = store, n, memory, budget
        self.stride = stride
        self.episodes = [e for e in store.episodes if keep is None or keep(e)]
        counts = [-(-len(episode) // stride) for episode in self.episodes]
        self._ends = np.cumsum(counts, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, index: int) -> EgoSample: ...
    @overload
    def __getitem__(self, index: slice) -> list[EgoSample]: ...
    def __getitem__(self, index: int | slice) -> EgoSample | list[EgoSample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        row = int(np.searchsorted(self._ends, number, "right"))
        before = int(self._ends[row - 1]) if row else 0
        return self.sample(self.episodes[row], (number - before) * self.stride)

    def targets(self) -> Ints:
        """Return the actions of every sample, in order [samples, n]."""
        found = [e.steps["expert"][:: self.stride, : self.n] for e in self.episodes]
        return np.concatenate([np.zeros((0, self.n), np.int64), *found]).astype(np.int64)

    def sample(self, episode: EgoEpisode, step: int) -> EgoSample:
        """Return the sample of one step of an episode."""
        record = episode.steps[step]
        return EgoSample(
            instr_id=episode.instr_id,
            step=step,
            instruction=episode.instruction,
            history=episode.first + history(step, self.memory, self.budget),
            current=episode.first + step,
            previous=episode.taken[max(0, step - PREVIOUS) : step],
            actions=np.asarray(record["expert"][: self.n], np.int64),
        )
