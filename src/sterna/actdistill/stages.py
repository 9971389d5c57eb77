"""What both stages share: samples, the batches drawn from them, the runner, the optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import nn

from sterna.data.episodes import Episode
from sterna.errors import InputError
from sterna.train.loop import LoopConfig, Runner
from sterna.train.optimizer import Muon, is_matrix
from sterna.train.schedule import Batches, OptimizerConfig
from sterna.train.task import TaskOutput


class Samples(Protocol):
    """What a policy learns from: samples with ids, put into batches that its stack reads."""

    @property
    def ids(self) -> Sequence[str]:
        """The ids of all samples, each once."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def batch(self, index: Sequence[int]) -> Any:
        """Return samples as a batch, in this order."""


@dataclass(frozen=True)
class Drawn:
    """A batch, the ids of its samples, and how far the run is (0 to 1)."""

    batch: Any
    ids: tuple[str, ...]
    done: float


class StageRunner(Runner):
    """Runs a task over shuffled samples; see `Runner`. A piece is a slice of the batch."""

    def __init__(
        self,
        task: nn.Module,
        samples: Samples,
        folder: str | Path,
        loop: LoopConfig,
        optimizer: OptimizerConfig,
        *,
        rates: Sequence[tuple[str, float]] = (),
        **more: Any,
    ) -> None:
        """Prepare a run in `folder`; an existing training state there is continued.

        `rates` are (beginning of a parameter's name, factor on its learning rate); the first that
        fits counts. `InputError` for settings that only imitation has.
        """
        usual = LoopConfig()
        for name in ("demonstrations", "warm_start", "replay", "memory", "length_window"):
            if getattr(loop, name) != getattr(usual, name):
                raise InputError(f"actdistill: loop.{name} belongs to imitation; leave it alone")
        if loop.average:
            raise InputError(
                "actdistill: it has a mean of its own; set --average, not loop.average"
            )
        self.samples, self.rates = samples, tuple(rates)
        # The runner remembers no walks here, so it needs no episodes.
        super().__init__(task, (), folder, loop, optimizer, **more)

    def _batches(self, episodes: Sequence[Episode], size: int, stream: int) -> Batches:
        return Batches(
            cast("Sequence[Episode]", range(len(self.samples))),
            size,
            self.loop.seed,
            stream=stream,
            part=self.accelerator.process_index,
            parts=self.accelerator.num_processes,
            lengths=np.zeros(len(self.samples), np.int64),
        )

    def _make_optimizer(self, task: nn.Module) -> torch.optim.AdamW:
        return grouped(task, self.options, self.rates)

    def step(self, iteration: int) -> tuple[TaskOutput, float]:
        """Take the optimiser step of an iteration; a task's mean of its weights follows."""
        found = super().step(iteration)
        follow = getattr(self.learner, "follow", None)
        if follow is not None:
            follow(iteration)
        return found

    def _pieces(self, iteration: int) -> Sequence[Drawn]:
        index = cast("list[int]", self.shown[iteration])
        done = iteration / max(1, self.loop.iterations - 1)
        parts = np.array_split(np.array(index), min(self.loop.pieces, len(index)))
        return [
            Drawn(
                self.samples.batch(part.tolist()),
                tuple(self.samples.ids[i] for i in part.tolist()),
                done,
            )
            for part in parts
        ]


def grouped(
    task: nn.Module, options: OptimizerConfig, rates: Sequence[tuple[str, float]]
) -> torch.optim.AdamW:
    """Return an optimiser with a group for each factor on the learning rate; see `StageRunner`.

    Muon is for matrices that `rates` do not name: routers and heads are small, and learn by AdamW.
    """
    groups: dict[tuple[float, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in task.named_parameters():
        if parameter.requires_grad:
            factor = next((f for begin, f in rates if name.startswith(begin)), None)
            turned = options.kind == "muon" and factor is None and is_matrix(name, parameter)
            calm = parameter.ndim < 2 and not options.decay_vectors
            groups.setdefault((factor or 1.0, turned, calm), []).append(parameter)
    make = Muon if options.kind == "muon" else torch.optim.AdamW
    return make(
        [
            {"params": groups[factor, turned, calm], "factor": factor}
            | ({"muon": True} if turned else {})
            | ({"weight_decay": 0.0} if calm else {})
            for factor, turned, calm in sorted(groups)
        ],
        lr=options.learning_rate,
        betas=options.betas,
        eps=options.epsilon,
        weight_decay=options.weight_decay,
    )
