"""Environments side by side: slots that each walk one episode, and workers that each serve some.

A worker is a thread with environments of its own; they take turns in it. Rendering and waiting for
a simulator let other threads run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sterna.data.episodes import Episode
from sterna.envs.continuous import ContinuousNavEnv
from sterna.errors import InputError

Maker = Callable[[int], Sequence[ContinuousNavEnv]]
"""Makes the environments of a worker, by its number; called in the worker's thread."""

T = TypeVar("T")


class Slots:
    """All environments of some workers, numbered through."""

    def __init__(self, make_envs: Maker, workers: int = 1) -> None:
        """Make the environments; `InputError` for less than one."""
        if workers < 1:
            raise InputError(f"workers: expected at least 1, found {workers}")
        self._pools = [ThreadPoolExecutor(1, f"worker-{i}") for i in range(workers)]
        jobs = [pool.submit(make_envs, i) for i, pool in enumerate(self._pools)]
        made = [list(job.result()) for job in jobs]
        self.envs = [env for envs in made for env in envs]
        self.worker_of = [i for i, envs in enumerate(made) for _ in envs]
        if not self.envs:
            raise InputError("slots: expected at least one environment, found none")

    def __len__(self) -> int:
        """Return how many slots there are."""
        return len(self.envs)

    def each(self, slots: Sequence[int], work: Callable[[int, Any], T]) -> list[T]:
        """Return ``work(slot, env)`` of some slots, each done in its worker's thread."""
        share: dict[int, list[int]] = {}
        for slot in slots:
            share.setdefault(self.worker_of[slot], []).append(slot)

        def turn(own: list[int]) -> list[tuple[int, T]]:
            return [(slot, work(slot, self.envs[slot])) for slot in own]

        jobs = [self._pools[worker].submit(turn, own) for worker, own in share.items()]
        done = dict(pair for job in jobs for pair in job.result())
        return [done[slot] for slot in slots]

    def close(self) -> None:
        """Close the environments that can be closed, and end the threads."""
        for env in self.envs:
            close = getattr(env, "close", None)
            if close is not None:
                close()
        for pool in self._pools:
            pool.shutdown()


class Roster:
    """Which episode is walked next: each exactly once, a worker staying in its scene.

    `together`: a worker enters another scene only when none of its slots is walking, because its
    simulator holds one scene.
    """

    def __init__(self, episodes: Sequence[Episode], *, together: bool = False) -> None:
        self.together = together
        self._left: dict[str, deque[Episode]] = {}
        for episode in episodes:
            self._left.setdefault(episode.scan, deque()).append(episode)
        self._at: dict[int, str] = {}

    def take(self, worker: int, walking: int) -> Episode | None:
        """Return an episode for a slot of a worker of whose slots so many are walking.

        None: there is none now; ask again when a slot of this worker has ended.
        """
        scan = self._at.get(worker)
        if scan not in self._left:
            if (self.together and walking) or not self._left:
                return None
            scan = self._at[worker] = self._next()
        assert scan is not None
        episode = self._left[scan].popleft()
        if not self._left[scan]:
            del self._left[scan]
        return episode

    def _next(self) -> str:
        """The scene with most episodes left, of those where no worker is, if there are such."""
        taken = set(self._at.values())
        free = [scan for scan in self._left if scan not in taken] or list(self._left)
        return max(free, key=lambda scan: len(self._left[scan]))
