"""Supervised fine-tuning of a navigator on answers: the task, its batches, its runner.

L = - sum over answer tokens log P(token | prompt, images, tokens before) / number of answer tokens
of the whole batch (VLN-R1's stage 1; equation in its section 3.3). Prompts and images are not
supervised. The number is that of all processes and pieces together, so how a batch is shared out
does not change its gradient.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sterna.data.ego.samples import EgoSample, EgoSamples
from sterna.data.episodes import Episode
from sterna.errors import InputError
from sterna.files import read_json, write_json
from sterna.models.navigator.processor import IGNORED
from sterna.models.navigator.sources import Images
from sterna.models.navigator.vlm import Batch, VlmNavigator
from sterna.train.loop import LoopConfig, Progress, Runner, Scores
from sterna.train.schedule import Batches, OptimizerConfig
from sterna.train.task import TaskOutput
from sterna.world.geometry import Ints
from sterna.world.talk.memory import history

_PROGRESS = "progress.json"


@dataclass(frozen=True)
class Weighed:
    """Samples as a batch, and one over the answer tokens that its loss is divided by."""

    batch: Batch
    scale: float


class SftTask(nn.Module):
    """Owns the navigator that is trained; see the module for the loss."""

    def __init__(self, policy: VlmNavigator) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, given: Weighed) -> TaskOutput:
        """Return the loss; `agree` is the share of samples whose first action is the expert's."""
        batch = given.batch.to(self.policy.device)
        logits, targets = self.policy(batch), self.policy.targets(batch)
        total = answer_loss(logits, targets).sum()
        agree = first_right(logits.detach(), targets).float().mean()
        metrics = {"agree": float(agree), "rows": float(len(targets))}
        return TaskOutput(total * given.scale, metrics)


def answer_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return -log P of every answer token [B, A]; 0 where there is none."""
    flat = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return flat.view(targets.shape)


def first_right(logits: Tensor, targets: Tensor) -> Tensor:
    """Return whether the likeliest first token of each answer is the expert's, bool [B].

    The first token of an answer names its first action.
    """
    place = (targets != IGNORED).int().argmax(1, keepdim=True)
    best = logits.gather(1, place[..., None].expand(-1, -1, logits.shape[-1]))[:, 0].argmax(-1)
    return best == targets.gather(1, place)[:, 0]


def image_counts(samples: EgoSamples) -> Ints:
    """Return how many images each sample shows, without making the samples."""
    longest = max((len(episode) for episode in samples.episodes), default=0)
    table = np.array([1 + len(history(t, samples.memory, samples.budget)) for t in range(longest)])
    parts = [table[: len(episode) : samples.stride] for episode in samples.episodes]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def numbers_of(samples: Sequence[EgoSample]) -> Ints:
    """Return the frame numbers of samples: each one's history and then its current frame."""
    return np.concatenate([np.append(sample.history, sample.current) for sample in samples])


def question_batch(
    navigator: VlmNavigator, samples: Sequence[EgoSample], images: Images, *, answered: bool
) -> Batch:
    """Return samples as a batch with their images, with the expert's answers or without."""
    answers = [navigator.wording.answer(sample.actions) for sample in samples]
    return navigator.batch(
        samples,
        images.size,
        answers=answers if answered else None,
        **images.take(numbers_of(samples)),
    )


class SftRunner(Runner):
    """Runs an `SftTask` over samples, bucketed by their number of images; see `Runner`.

    The next batch is read and laid out by a thread while the present one is learnt; `wait` in the
    log is the share of time that learning stood still for it.
    """

    def __init__(
        self,
        task: SftTask,
        samples: EgoSamples,
        images: Images,
        folder: str | Path,
        loop: LoopConfig,
        optimizer: OptimizerConfig,
        **more: Any,
    ) -> None:
        """Prepare a run in `folder`; an existing training state there is continued."""
        self.samples, self.images, self.policy = samples, images, task.policy
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._ahead: tuple[int, Future[list[Batch]]] | None = None
        self._waited = 0.0
        self.gathered: dict[str, Tensor] | None = None
        # The runner remembers no walks here, so it needs no episodes.
        super().__init__(task, (), folder, loop, optimizer, **more)
        if self.shared_out:
            if loop.average:
                raise InputError(
                    "loop: weights that processes share out have no mean; set average 0"
                )
            self._take_up_shards()

    @property
    def shared_out(self) -> bool:
        """Whether each process holds a part of the weights (FSDP, DeepSpeed)."""
        return self.accelerator.distributed_type in ("FSDP", "DEEPSPEED")

    def _take_up_shards(self) -> None:
        """Continue from states that every process wrote its part of."""
        if self.accelerator.distributed_type == "DEEPSPEED" and self.loop.pieces > 1:
            raise InputError(
                "loop: DeepSpeed steps after every piece; run it with --loop.pieces 1, or take FSDP"
            )
        if (self.shards / _PROGRESS).is_file():
            self.accelerator.load_state(str(self.shards))
            self.progress = Progress(**read_json(self.shards / _PROGRESS))

    @property
    def shards(self) -> Path:
        """Where states of shared-out weights lie."""
        return self.folder / "shards"

    def _save(self) -> None:
        if not self.shared_out:
            super()._save()
            return
        self.accelerator.save_state(str(self.shards))
        if self.accelerator.is_main_process:
            write_json(self.shards / _PROGRESS, vars(self.progress))

    def _kept(self, name: str) -> None:
        """Save the policy; weights that are shared out are gathered first, by all processes."""
        if self.shared_out:
            whole = self.accelerator.get_state_dict(self.model)
            mark = "policy.model."
            self.gathered = {
                key[key.index(mark) + len(mark) :]: weight
                for key, weight in whole.items()
                if mark in key
            }
        super()._kept(name)

    def _batches(self, episodes: Sequence[Episode], size: int, stream: int) -> Batches:
        return Batches(
            cast("Sequence[Episode]", self.samples),
            size,
            self.loop.seed,
            stream=stream,
            part=self.accelerator.process_index,
            parts=self.accelerator.num_processes,
            window=self.loop.length_window,
            lengths=image_counts(self.samples),
        )

    def _read(self, iteration: int) -> list[Batch]:
        """Return this process's share of a batch, in pieces."""
        chosen = cast("list[EgoSample]", self.shown[iteration])
        parts = np.array_split(np.arange(len(chosen)), min(self.loop.pieces, len(chosen)))
        return [
            question_batch(self.policy, [chosen[i] for i in part], self.images, answered=True)
            for part in parts
        ]

    def _pieces(self, iteration: int) -> Sequence[Weighed]:
        began = time.perf_counter()
        if self._ahead is not None and self._ahead[0] == iteration:
            batches = self._ahead[1].result()
        else:
            batches = self._read(iteration)
        self._waited = time.perf_counter() - began
        if iteration + 1 < self.loop.iterations:
            self._ahead = (iteration + 1, self._reader.submit(self._read, iteration + 1))
        scale = 1.0 / self._tokens(batches)
        return [Weighed(batch, scale) for batch in batches]

    def _tokens(self, batches: Sequence[Batch]) -> float:
        """Return the answer tokens of the batch in all processes, a process."""
        count = sum(int((self.policy.targets(batch) != IGNORED).sum()) for batch in batches)
        processes = int(self.accelerator.num_processes)
        if processes == 1:
            return float(count)
        # Processes average their gradients: dividing by the mean count divides by the sum.
        own = torch.tensor(float(count), dtype=torch.float64, device=self.accelerator.device)
        total = float(self.accelerator.reduce(own, "sum"))
        return total / processes

    def step(self, iteration: int) -> tuple[TaskOutput, float]:
        """Take the optimiser step of an iteration; return its output and the gradient norm."""
        began = time.perf_counter()
        output, norm = super().step(iteration)
        seconds = time.perf_counter() - began
        rate = self.loop.batch_size / seconds
        more = {"wait": self._waited / seconds, "samples_per_second": rate}
        return TaskOutput(output.loss, output.metrics | more), norm


@torch.no_grad()
def judge(
    navigator: VlmNavigator, samples: Sequence[EgoSample], images: Images, *, at_once: int = 32
) -> Scores:
    """Score a navigator on samples: nats an answer token, first action right, whole answer right.

    Teacher-forced: "whole" asks that every token be the likeliest after the right ones before it.
    """
    was_training = navigator.training
    navigator.eval()
    nats, tokens, first, whole = 0.0, 0, 0, 0
    for begin in range(0, len(samples), at_once):
        part = list(samples[begin : begin + at_once])
        batch = question_batch(navigator, part, images, answered=True).to(navigator.device)
        logits, targets = navigator(batch), navigator.targets(batch)
        kept = targets != IGNORED
        nats += float(answer_loss(logits, targets).sum())
        tokens += int(kept.sum())
        first += int(first_right(logits, targets).sum())
        whole += int(((logits.argmax(-1) == targets) | ~kept).all(1).sum())
    navigator.train(was_training)
    count = len(samples)
    return {"nll": nats / tokens, "first": first / count, "whole": whole / count}
