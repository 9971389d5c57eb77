"""A short DAgger run in the toy world; as a program: toy_run.py <world> <folder> <iterations>."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sterna.data.r2r import read_r2r
from sterna.minivln.stage2 import DistillConfig, DistillTask
from sterna.train.imitation import ImitationConfig, ImitationTask
from sterna.train.loop import LoopConfig, Trainer
from sterna.train.schedule import OptimizerConfig
from toy import TINY, tiny_model, toy_panoramas


def toy_trainer(world: Path, folder: Path, iterations: int = 20, **more: Any) -> Trainer:
    """Dropout on, fp32, saved every 5 iterations; `distil` (or a `DistillConfig`) adds a teacher of
    another width.

    `replay` learns again from remembered walks; `ahead` batches are walked at once; `average` is
    the decay of a mean of the weights; `texts` are there to be read or followed.
    """
    panoramas = toy_panoramas(world)
    imitation = ImitationConfig(explore_with_dropout=True, expert="ndtw")
    student = tiny_model()
    if distil := more.pop("distil", False):
        teacher = tiny_model(1, replace(TINY, hidden_size=32))
        distill = DistillConfig() if distil is True else distil
        texts = read_r2r(world, "val_seen") if more.pop("texts", False) else ()
        task: ImitationTask = DistillTask(
            student, teacher, panoramas, imitation, distill, texts=texts
        )
    else:
        task = ImitationTask(student, panoramas, imitation)
    loop = LoopConfig(
        iterations=iterations,
        batch_size=4,
        save_every=5,
        log_every=1,
        warm_start=3,
        replay=more.pop("replay", 0),
        ahead=more.pop("ahead", 1),
        average=more.pop("average", 0.0),
        memory=3,
    )
    rate = OptimizerConfig(learning_rate=1e-3, schedule="cosine", warmup=2)
    return Trainer(task, read_r2r(world, "train"), folder, loop, rate, **more)


if __name__ == "__main__":
    torch.set_num_threads(1)
    toy_trainer(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])).run()
