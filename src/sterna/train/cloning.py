"""Behaviour cloning of demonstrations: the task, its batches, its runner.

L = mean |a - a*| over the rows, steps and values of a chunk (Zhao et al., RSS 2023). Beside the
trained weights an exponential mean of them is kept; that mean is what is scored and saved.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sterna.data.demos.store import DemoStore
from sterna.data.episodes import Episode
from sterna.errors import InputError
from sterna.models.vla import Vla, VlaBatch, VlaConfig, chunk_loss
from sterna.train.average import follow
from sterna.train.loop import LoopConfig, Runner, Scores
from sterna.train.schedule import Batches, OptimizerConfig
from sterna.train.task import TaskOutput

_CHANGES = 3
"""Stream of the draws that shift pictures and disturb proprioception."""


@dataclass(frozen=True, kw_only=True)
class CloningConfig:
    """What is done to samples, and how the weights are averaged."""

    average: float = 0.995
    """Decay of the exponential mean of the weights; 0: the weights themselves."""
    shift: int = 2
    """Largest random shift of a picture, pixels."""
    feel_noise: float = 0.05
    """Noise on proprioception, in standard deviations of the training frames."""

    def __post_init__(self) -> None:
        """Check the values."""
        if not 0 <= self.average < 1 or self.shift < 0 or self.feel_noise < 0:
            raise InputError(f"cloning: average in [0, 1), the others not negative; found {self}")


class Samples:
    """Batches of demonstration frames for a policy with `config`."""

    def __init__(self, store: DemoStore, config: VlaConfig, sentences: Sequence[str]) -> None:
        """`sentences`: the instruction of each of the store's tasks."""
        self.store = store
        self._words = config.read(sentences)
        self.train = np.flatnonzero(~store.held_out)
        self.held_out = np.flatnonzero(store.held_out)
        self._check(config)

    def _check(self, config: VlaConfig) -> None:
        found = self.store.take("images", self.train[:1]).shape[1:3]
        wanted = (config.cameras, config.image_size)
        shape = self.store.take("actions", self.train[:1]).shape[1:]
        if found != wanted or shape != (config.chunk, config.action):
            raise InputError(
                f"{self.store.folder}: cameras and pixels {found}, chunks {shape}; the model "
                f"wants {wanted} and {(config.chunk, config.action)}"
            )

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of proprioception over the training frames."""
        feel = self.store.take("proprio", self.train).astype(np.float64)
        spread = np.maximum(feel.std(0), 1e-3)
        return torch.from_numpy(feel.mean(0)).float(), torch.from_numpy(spread).float()

    def batch(
        self, frames: NDArray[np.int64], *, shift: int = 0, rng: np.random.Generator | None = None
    ) -> VlaBatch:
        """Return frames with their labels; ids are frame numbers of the store."""
        images = self.store.take("images", frames)
        if shift and rng is not None:
            images = shifted(images, rng.integers(-shift, shift + 1, (len(frames), 2)))
        actions = self.store.take("actions", frames)
        return VlaBatch(
            images=torch.from_numpy(images),
            words=self._words[torch.from_numpy(self.store.task[frames])],
            proprio=torch.from_numpy(self.store.take("proprio", frames)),
            recent=torch.from_numpy(self.store.before(frames)).flatten(1),
            actions=torch.from_numpy(actions),
            ids=torch.from_numpy(frames),
        )


class Frames:
    """Some frames as samples with ids, pictures as they are."""

    def __init__(self, samples: Samples, frames: NDArray[np.int64]) -> None:
        self.samples, self.frames = samples, frames
        self.ids = [f"frame-{frame}" for frame in frames]

    def __len__(self) -> int:
        return len(self.frames)

    def batch(self, index: Sequence[int]) -> VlaBatch:
        """Return samples as a batch, in this order."""
        return self.samples.batch(self.frames[np.asarray(index, np.int64)])


def shifted(images: NDArray[np.uint8], by: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Shift pictures [B, K, S, S, 3] by rows and columns [B, 2], repeating the edge."""
    size = images.shape[2]
    places = np.clip(np.arange(size) + by[:, :, None], 0, size - 1)
    out = np.empty_like(images)
    for row, (ys, xs) in enumerate(places):
        out[row] = images[row][:, ys][:, :, xs]
    return out


class CloningTask(nn.Module):
    """Owns the policy that is trained and the mean of its weights."""

    def __init__(self, policy: Vla, config: CloningConfig) -> None:
        super().__init__()
        self.policy, self.config = policy, config
        self.average = copy.deepcopy(policy).requires_grad_(False)

    def forward(self, batch: VlaBatch) -> TaskOutput:
        """Return the loss."""
        batch = batch.to(self.policy.query.device)
        if self.training and self.config.feel_noise:
            noise = torch.randn_like(batch.proprio) * self.policy.proprio_scale
            batch = VlaBatch(
                **{**vars(batch), "proprio": batch.proprio + self.config.feel_noise * noise}
            )
        assert batch.actions is not None
        loss = chunk_loss(self.policy(batch), batch.actions)
        return TaskOutput(loss, {"L1": float(loss.detach())})

    def follow(self, iteration: int) -> None:
        """Draw the mean towards the weights after an iteration."""
        mean, own = self.average.parameters(), self.policy.parameters()
        follow(mean, own, self.config.average, iteration)


class CloningRunner(Runner):
    """Runs a `CloningTask` over demonstration frames; see `Runner`."""

    def __init__(
        self,
        task: CloningTask,
        samples: Samples,
        folder: str | Path,
        loop: LoopConfig,
        optimizer: OptimizerConfig,
        **more: Any,
    ) -> None:
        """Prepare a run in `folder`; an existing training state there is continued."""
        if loop.pieces != 1:
            raise InputError(f"loop: cloning takes its batches whole; pieces must be 1, not {loop}")
        if loop.average:
            raise InputError("loop: cloning has a mean of its own; set cloning.average instead")
        self.cloning, self.samples = task, samples
        super().__init__(task, (), folder, loop, optimizer, **more)

    def _batches(self, episodes: Sequence[Episode], size: int, stream: int) -> Batches:
        frames = cast("Sequence[Episode]", self.samples.train)
        return Batches(
            frames,
            size,
            self.loop.seed,
            stream=stream,
            part=self.accelerator.process_index,
            parts=self.accelerator.num_processes,
            lengths=np.zeros(len(frames), np.int64),
        )

    def _pieces(self, iteration: int) -> Sequence[VlaBatch]:
        frames = np.array(self.shown[iteration], np.int64)
        seed = [self.loop.seed, _CHANGES, iteration, self.accelerator.process_index]
        shift = self.cloning.config.shift
        return [self.samples.batch(frames, shift=shift, rng=np.random.default_rng(seed))]

    def step(self, iteration: int) -> tuple[TaskOutput, float]:
        """Take the optimiser step of an iteration; return its output and the gradient norm."""
        output, norm = super().step(iteration)
        self.cloning.follow(iteration)
        return output, norm


@torch.no_grad()
def judge(
    policy: Vla, samples: Samples, frames: NDArray[np.int64], *, at_once: int = 128
) -> Scores:
    """Score a policy on frames: mean absolute error of the chunk, and of its first action."""
    was_training = policy.training
    policy.eval()
    whole, first = 0.0, 0.0
    for begin in range(0, len(frames), at_once):
        batch = samples.batch(frames[begin : begin + at_once]).to(policy.query.device)
        assert batch.actions is not None
        wrong = (policy(batch) - batch.actions).abs()
        whole += float(wrong.mean((1, 2)).sum())
        first += float(wrong[:, 0].mean(1).sum())
    policy.train(was_training)
    return {"L1": whole / len(frames), "L1_first": first / len(frames)}
