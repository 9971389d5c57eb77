"""The training loop of pre-training: one task an iteration, drawn from the mix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import DistributedDataParallelKwargs  # type: ignore[import-untyped]

from sterna.data.episodes import Episode
from sterna.errors import InputError
from sterna.train.loop import LoopConfig, Runner
from sterna.train.pretrain.batch import PretrainBatch
from sterna.train.pretrain.task import PretrainTask
from sterna.train.schedule import OptimizerConfig

_IMITATION = ("demonstrations", "warm_start", "replay", "memory", "pieces")
"""Settings of the loop that only imitation has."""


class PretrainRunner(Runner):
    """Runs a pre-training task, alone or beside a teacher (stage 1); see `Runner`."""

    def __init__(
        self,
        task: PretrainTask,
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
            raise InputError(
                f"pre-training: loop.{odd[0]} belongs to imitation; leave it at its default"
            )
        # A task leaves the parameters of the others without a gradient.
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        super().__init__(task, episodes, folder, loop, optimizer, handlers=[unused], **more)
        self.task = task

    def _pieces(self, iteration: int) -> Sequence[PretrainBatch]:
        share = (self.accelerator.process_index, self.accelerator.num_processes)
        whole = self.shown.whole(iteration)
        return [self.task.draw(whole, self.loop.seed, iteration, share=share)]
