"""What the commands do: train, distil, evaluate; each resumable, each leaving a result file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeGuard

import torch
from accelerate.state import AcceleratorState  # type: ignore[import-untyped]

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.files import write_json
from sterna.metrics import (
    R2R_DUET,
    R4R_DUET,
    Protocol,
)
from sterna.minivln.inherit import inherit
from sterna.minivln.lessons import give_lessons
from sterna.minivln.remembered import Remembered
from sterna.minivln.stage2 import DistillTask
from sterna.models.duet import DUET
from sterna.models.pretrained import save_pretrained
from sterna.recipes.config import DataConfig, DistillRun, TrainConfig
from sterna.recipes.policies import check_fit, open_policy, policy_folder
from sterna.recipes.start import begin
from sterna.recipes.world import World
from sterna.train.evaluate import evaluate
from sterna.train.imitation import ImitationTask
from sterna.train.loop import Log, Scores, Trainer

RUN_FILE = "run.json"
SHOWN = ("SR", "SPL", "OSR", "NE", "TL", "nDTW")
"""Scores of the selection split that a run keeps."""


def as_json(config: Any) -> dict[str, Any]:
    """Return a configuration as JSON values (paths as text)."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config), default=str))
    return values


def protocol_of(data: DataConfig) -> Protocol:
    """Return the protocol that a task is scored with by default (DUET's evaluator)."""
    return R4R_DUET if data.task == "r4r" else R2R_DUET


def train(config: TrainConfig, root: Path, out: Path, *, threads: int | None = None) -> Path:
    """Train (or distil, for a `DistillRun`) in `out`, from wherever it stopped; return `out`.

    Leaves ``best/`` and ``last/`` (saved policies), ``run.json`` (configuration, curve, time),
    ``log.jsonl`` and ``state.pt``.
    """
    if needs_teacher(config) or config.start.from_teacher:
        if not isinstance(config, DistillRun):
            raise InputError("start: from_teacher needs a teacher; use `sterna distil`")
        policy_folder(config.need_teacher())  # before minutes are spent on reading data
    world = World(root, config.data)
    episodes = world.episodes("train")
    chosen = world.episodes(config.select.split, about=config.select.episodes)
    panoramas = world.panoramas([*episodes, *chosen])
    config = _fit(config, panoramas.size)
    policy = begin(config.model, config.start, config.loop.seed, world)
    check_fit(policy.config, panoramas, [*episodes, *chosen], "model")
    task = _task(config, policy, panoramas, episodes)
    if config.start.from_teacher:
        _from_teacher(config, policy, task, panoramas, episodes)
    connectivity, protocol = world.layout.connectivity, protocol_of(config.data)

    def score() -> Scores:
        result, _ = evaluate(
            policy,
            panoramas,
            chosen,
            connectivity,
            protocol,
            batch_size=config.select.batch_size,
        )
        return {name: result.scores[name].mean for name in SHOWN}

    def keep(name: str) -> None:
        save_pretrained(policy, out / name, notes=_notes(config))

    # accelerate keeps one precision a process; a study trains a bf16 teacher, then fp32 students.
    AcceleratorState._reset_state()
    trainer = Trainer(
        task,
        episodes,
        out,
        config.loop,
        config.optimizer,
        evaluate=score,
        keep=keep,
        prelude=_prelude(config, task, episodes),
        config=as_json(config),
    )
    progress = trainer.run()
    write_run(out, config, progress_values=vars(progress), threads=threads)
    return out


def _fit(config: TrainConfig, size: int) -> TrainConfig:
    if config.model.feature_size == size:
        return config
    return replace(config, model=replace(config.model, feature_size=size))


def needs_teacher(config: TrainConfig) -> TypeGuard[DistillRun]:
    """Return whether a run has a teacher: a distillation whose weight is not 0."""
    return isinstance(config, DistillRun) and config.distill.weight > 0


def _task(
    config: TrainConfig, policy: DUET, panoramas: Panoramas, episodes: Sequence[Episode]
) -> ImitationTask:
    if not needs_teacher(config):
        return ImitationTask(policy, panoramas, config.imitation)
    folder = config.need_teacher()
    teacher, _ = open_policy(folder)
    check_fit(teacher.config, panoramas, episodes, str(folder))
    kept = (
        (config.data.cache or Path.home() / ".cache" / "sterna") if config.distill.cache else None
    )
    remembered = Remembered(teacher, panoramas, folder=kept, episodes=episodes)
    return DistillTask(
        policy, teacher, panoramas, config.imitation, config.distill, remembered=remembered
    )


def _from_teacher(
    config: TrainConfig,
    policy: DUET,
    task: ImitationTask,
    panoramas: Panoramas,
    episodes: Sequence[Episode],
) -> None:
    """Fill a student from its teacher (also one that then learns alone), and the width maps."""
    assert isinstance(config, DistillRun)
    teacher, _ = open_policy(config.need_teacher())
    back = inherit(policy, teacher, panoramas, episodes)
    if isinstance(task, DistillTask):
        for linear in (task.text_map, task.panorama_map):
            linear.weight.data.copy_(back)


def _prelude(
    config: TrainConfig, task: ImitationTask, episodes: Sequence[Episode]
) -> Callable[[Log], None] | None:
    if not isinstance(task, DistillTask):
        return None
    rate, seed = config.optimizer.learning_rate, config.loop.seed

    def prepare(write: Log) -> None:
        task.warm()
        give_lessons(task, episodes, learning_rate=rate, seed=seed, write=write)

    return prepare


def _notes(config: TrainConfig) -> str:
    return (
        f"Trained by imitation on {config.data.task} (views: {config.data.views}"
        f"{', blind' if config.data.blind else ''}), seed {config.loop.seed}, "
        f"{config.loop.iterations} iterations, weights selected on {config.select.split} by "
        f"{config.loop.select_by}."
    )


def write_run(
    out: Path, config: Any, *, progress_values: Mapping[str, Any], threads: int | None
) -> None:
    """Write ``run.json``: configuration, threads, machine, and how the run went."""
    values = {k: v for k, v in progress_values.items() if k != "best" or v > float("-inf")}
    write_json(
        out / RUN_FILE,
        {
            "config": as_json(config),
            "threads": threads or torch.get_num_threads(),
            "machine": _machine(),
            **values,
        },
    )


def _machine() -> str:
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"CPU ({torch.backends.cpu.get_cpu_capability()})"
