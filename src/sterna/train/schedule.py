"""Which episodes come when, and how fast the weights move: functions of the iteration alone.

Nothing here has a state, so that a resumed run continues exactly where it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from sterna.data.episodes import Episode
from sterna.errors import InputError
from sterna.world.geometry import Floats, Ints


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimiser and its learning rate."""

    kind: Literal["adamw", "muon"] = "adamw"
    """muon: matrices by orthogonal momentum, the rest by AdamW (`optimizer.Muon`); learns small
    models from scratch in about half the steps."""
    learning_rate: float = 1e-5
    """Peak learning rate."""
    language_rate: float = 1.0
    """Factor on it for the word embeddings and the language encoder."""
    warmup: int = 0
    """Iterations of linear warm-up."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """After warm-up: constant (DUET), half a cosine or a straight line (DUET's pre-training) down
    to `final_rate` at the end."""
    final_rate: float = 0.02
    """Share of the peak at the end of the cosine or the line."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's averaging factors."""
    weight_decay: float = 0.01
    """Decoupled weight decay, on all parameters as torch's default does."""
    decay_vectors: bool = True
    """Decay biases and norms too; DUET's pre-training does not."""
    epsilon: float = 1e-8
    """AdamW's guard against division by nothing."""
    clip_norm: float = 40.0
    """Largest gradient norm."""

    def __post_init__(self) -> None:
        """Check the values."""
        if not (self.learning_rate > 0 and self.clip_norm > 0 and self.warmup >= 0):
            raise InputError(
                "optimizer: learning_rate and clip_norm must be positive, warmup not negative; "
                f"found {self.learning_rate}, {self.clip_norm}, {self.warmup}"
            )
        if self.kind not in ("adamw", "muon"):
            raise InputError(f"optimizer: kind must be adamw or muon, found {self.kind!r}")
        if self.schedule not in ("constant", "cosine", "linear"):
            raise InputError(
                f"optimizer: schedule must be constant, cosine or linear: {self.schedule!r}"
            )

    def rate(self, iteration: int, iterations: int) -> float:
        """Return the learning rate of an iteration (0-based) of a run of `iterations`."""
        if iteration < self.warmup:
            return self.learning_rate * (iteration + 1) / self.warmup
        if self.schedule == "constant":
            return self.learning_rate
        done = (iteration - self.warmup) / max(1, iterations - self.warmup)
        done = min(1.0, done)
        wave = 1.0 - done if self.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
        return self.learning_rate * (self.final_rate + (1.0 - self.final_rate) * wave)


def uniform_draws(seed: int, stream: int, iteration: int, shape: tuple[int, ...]) -> Floats:
    """Return uniform numbers in [0, 1) that depend on (seed, stream, iteration) only."""
    return np.random.default_rng([seed, stream, iteration]).random(shape)


class Batches:
    """Batches of episodes without end; batch i is a function of (seed, stream, i).

    Every epoch visits every episode once (the remainder that fills no batch is left to the next
    shuffle). `window` > 1 sorts that many batches' worth of episodes by instruction length before
    cutting them, so that a batch holds similar lengths and little padding. `parts` processes share
    a batch; process `part` gets its slice.
    """

    def __init__(
        self,
        episodes: Sequence[Episode],
        size: int,
        seed: int,
        *,
        stream: int = 0,
        window: int = 1,
        part: int = 0,
        parts: int = 1,
        lengths: Ints | None = None,
    ) -> None:
        """Shuffle `episodes` in batches of `size` over all processes.

        `lengths` are what `window` sorts by, if not the lengths of instructions; `episodes` may
        then be samples of any kind.
        """
        if len(episodes) < size:
            raise InputError(
                f"a batch of {size} needs at least {size} episodes, found {len(episodes)}; "
                "lower the batch size"
            )
        if size % parts:
            raise InputError(
                f"batch size {size} does not divide among {parts} processes; give "
                f"--loop.batch-size (and --loop.demonstrations) a multiple of {parts}"
            )
        self.episodes, self.size, self.seed, self.stream = episodes, size, seed, stream
        self.window, self.part, self.parts = window, part, parts
        if lengths is None:
            lengths = np.array([len(e.token_ids or ()) for e in episodes])
        self._lengths = lengths
        self._order = lru_cache(maxsize=2)(self._epoch)

    @property
    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return len(self.episodes) // self.size

    def _epoch(self, epoch: int) -> Ints:
        rng = np.random.default_rng([self.seed, self.stream, 1, epoch])
        order = rng.permutation(len(self.episodes))[: self.per_epoch * self.size]
        if self.window > 1:
            step = self.window * self.size
            pieces = [order[i : i + step] for i in range(0, len(order), step)]
            order = np.concatenate(
                [piece[np.argsort(self._lengths[piece], kind="stable")] for piece in pieces]
            )
        batches = order.reshape(-1, self.size)
        return batches[rng.permutation(len(batches))] if self.window > 1 else batches

    def __getitem__(self, index: int) -> list[Episode]:
        """Return this process's share of batch `index`."""
        return self.whole(index)[self.part :: self.parts]

    def whole(self, index: int) -> list[Episode]:
        """Return batch `index` of all processes."""
        epoch, place = divmod(index, self.per_epoch)
        return [self.episodes[i] for i in self._order(epoch)[place]]
