"""What the commands do: train, distil, evaluate; each resumable, each leaving a result file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

import torch
from accelerate.state import AcceleratorState  # type: ignore[import-untyped]
from torch import nn

from sterna import processes
from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.files import write_json
from sterna.metrics import Protocol, Result, find_protocol
from sterna.minivln.inherit import inherit
from sterna.minivln.lessons import give_language_lessons, give_lessons
from sterna.minivln.maps import fit_maps
from sterna.minivln.remembered import Remembered
from sterna.minivln.stage2 import DistillTask
from sterna.models.duet import DUET
from sterna.models.pretrained import save_pretrained
from sterna.recipes.answers import PROTOCOL_OF_PATH, PROTOCOL_OF_TASK
from sterna.recipes.config import (
    ClosedLoopRun,
    DataConfig,
    DistillRun,
    PretrainRun,
    TrainConfig,
)
from sterna.recipes.policies import check_fit, check_teacher, fitted, open_teacher
from sterna.recipes.start import begin
from sterna.recipes.world import World, open_world
from sterna.train.evaluate import evaluate
from sterna.train.imitation import ImitationTask, check_demonstrations
from sterna.train.loop import STATE_FILE, Log, Runner, Scores, Trainer

RUN_FILE = "run.json"
SHOWN = ("SR", "SPL", "OSR", "NE", "TL", "nDTW", "GP", "RGS", "RGSPL")
"""Scores of the selection split that a run keeps, where its task has them."""


def as_json(config: Any) -> dict[str, Any]:
    """Return a configuration as JSON values (paths as text)."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config), default=str))
    return values


def defaults_of(config: Any) -> dict[str, Any]:
    """Return the default of every setting that has one, as JSON values, groups as they are nested.

    A setting that came after a run began is, for that run, what it is by default.
    """
    values: dict[str, Any] = {}
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            values[item.name] = defaults_of(value)
        elif item.default is not MISSING:
            values[item.name] = json.loads(json.dumps(item.default, default=str))
    return values


def protocol_of(data: DataConfig) -> Protocol:
    """Return the protocol that a task is scored with by default (DUET's evaluator)."""
    ndh = data.task == "ndh"
    return find_protocol(PROTOCOL_OF_PATH[data.path_type] if ndh else PROTOCOL_OF_TASK[data.task])


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A run that could start: all is read, nothing is done yet."""

    config: TrainConfig | PretrainRun | ClosedLoopRun
    policy: DUET
    runner: Runner
    episodes: Sequence[Episode]
    """What it learns from."""
    chosen: Sequence[Episode]
    """Episodes of the selection split."""
    score: Callable[[Sequence[Episode]], Scores]
    """Navigates such episodes with the weights as they are."""
    teacher: DUET | None = None


def train(config: TrainConfig, root: Path, out: Path, *, threads: int | None = None) -> Path:
    """Train (or distil, for a `DistillRun`) in `out`, from wherever it stopped; return `out`.

    Leaves ``best/`` and ``last/`` (saved policies), ``run.json`` (configuration, curve, time),
    ``log.jsonl`` and ``state.pt``.
    """
    return finish(prepare(config, root, out), out, threads=threads)


def prepare(config: TrainConfig, root: Path, out: Path) -> Ready:
    """Read all that `train` needs."""
    if needs_teacher(config) or config.start.from_teacher:
        if not isinstance(config, DistillRun):
            raise InputError("start: from_teacher needs a teacher; use `sterna distil`")
        check_teacher(config.need_teacher())  # before minutes are spent on reading data
    with processes.main_first():
        world = open_world(root, config.data)
        episodes = world.episodes("train")
        check_demonstrations(episodes, config.imitation)
        chosen = world.episodes(config.select.split, about=config.select.episodes)
        panoramas, every = world.training_panoramas([*episodes, *chosen])
        config = replace(config, model=fitted(config.model, panoramas))
        policy = begin(config.model, config.start, config.loop.seed, world)
        texts = texts_of(config, root)
    check_fit(policy.config, panoramas, [*episodes, *chosen], "model")
    task = _task(config, policy, panoramas, episodes, texts)
    if config.start.from_teacher and not (out / STATE_FILE).is_file():
        _from_teacher(config, policy, task, panoramas, episodes)
    return ready(
        Trainer,
        task,
        policy,
        config,
        out,
        world=world,
        seen=every,
        episodes=episodes,
        chosen=chosen,
        notes=_notes(config),
        teacher=task.teacher if isinstance(task, DistillTask) else None,
        prelude=_prelude(config, task, episodes),
    )


def ready(
    kind: type[Runner],
    task: nn.Module,
    policy: DUET,
    config: TrainConfig | PretrainRun | ClosedLoopRun,
    out: Path,
    *,
    world: World,
    seen: Panoramas,
    episodes: Sequence[Episode],
    chosen: Sequence[Episode],
    notes: str,
    teacher: DUET | None = None,
    prelude: Callable[[Log], None] | None = None,
) -> Ready:
    """Put a task into a runner that selects weights by navigating `chosen` through `seen`."""

    def score(some: Sequence[Episode]) -> Scores:
        result, _ = evaluate(
            policy,
            seen,
            some,
            world.layout.connectivity,
            protocol_of(config.data),
            batch_size=config.select.batch_size,
            share=True,
        )
        return shown_scores(result)

    def keep(name: str) -> None:
        save_pretrained(policy, out / name, notes=notes)

    # accelerate keeps one precision a process; a study trains a bf16 teacher, then fp32 students.
    AcceleratorState._reset_state()
    runner = kind(
        task,
        episodes,
        out,
        config.loop,
        config.optimizer,
        evaluate=lambda: score(chosen),
        keep=keep,
        prelude=prelude,
        config=as_json(config),
        defaults=defaults_of(config),
    )
    return Ready(
        config=config,
        policy=policy,
        runner=runner,
        episodes=episodes,
        chosen=chosen,
        score=score,
        teacher=teacher,
    )


def finish(run: Ready, out: Path, *, threads: int | None) -> Path:
    """Run to the end and write ``run.json``; return `out`."""
    progress = run.runner.run()
    write_run(out, run.config, progress_values=vars(progress), threads=threads)
    return out


def shown_scores(result: Result) -> Scores:
    """Return the means that a run keeps of an evaluation of its selection split."""
    return {name: result.scores[name].mean for name in SHOWN if name in result.scores}


def needs_teacher(config: TrainConfig) -> TypeGuard[DistillRun]:
    """Return whether a run has a teacher: a distillation whose weight is not 0."""
    return isinstance(config, DistillRun) and config.distill.weight > 0


def texts_of(config: TrainConfig, root: Path) -> list[Episode]:
    """Return the training instructions that a run reads of other tasks, renamed after them."""
    tasks = config.read if needs_teacher(config) else ()
    told = config.distill if isinstance(config, DistillRun) else None
    if tasks and told is not None and not (told.reading or told.swapped or told.follow):
        raise InputError(
            f"distil: --read {' '.join(tasks)} is read by nobody; give --distill.reading, "
            "--distill.swapped or --distill.follow, the instructions an iteration"
        )
    return [
        replace(episode, instr_id=f"{task}:{episode.instr_id}")
        for task in tasks
        for episode in open_world(root, replace(config.data, task=task)).episodes("train")
    ]


def _task(
    config: TrainConfig,
    policy: DUET,
    panoramas: Panoramas,
    episodes: Sequence[Episode],
    texts: Sequence[Episode],
) -> ImitationTask:
    if not needs_teacher(config):
        return ImitationTask(policy, panoramas, config.imitation)
    folder = config.need_teacher()
    teacher = open_teacher(folder)
    check_fit(teacher.config, panoramas, episodes, str(folder))
    kept = (
        (config.data.cache or Path.home() / ".cache" / "sterna") if config.distill.cache else None
    )
    here = panoramas.atlas.scan_number
    lasting = [*episodes, *(text for text in texts if text.scan in here)]
    return DistillTask(
        policy,
        teacher,
        panoramas,
        config.imitation,
        config.distill,
        remembered=Remembered(teacher, panoramas, folder=kept, episodes=lasting),
        texts=texts,
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
    teacher = open_teacher(config.need_teacher())
    back = inherit(policy, teacher, panoramas, episodes)
    if isinstance(task, DistillTask):
        for linear in (task.text_map, task.panorama_map):
            linear.weight.data.copy_(back)


def _prelude(
    config: TrainConfig, task: ImitationTask, episodes: Sequence[Episode]
) -> Callable[[Log], None] | None:
    if not isinstance(task, DistillTask) or not isinstance(config, DistillRun):
        return None
    rate, seed = config.optimizer.learning_rate, config.loop.seed

    def prepare(write: Log) -> None:
        task.warm()
        if config.distill.fit_maps:
            fit_maps(task, episodes, seed=seed)
        give_language_lessons(task, episodes, seed=seed, write=write)
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
    """Write ``run.json``: configuration, threads, machine, and how the run went.

    The main process writes it; the others wait until it is there.
    """
    if processes.is_main():
        _write_run(out, config, progress_values, threads)
    processes.wait()


def _write_run(
    out: Path, config: Any, progress_values: Mapping[str, Any], threads: int | None
) -> None:
    values = {k: v for k, v in progress_values.items() if k != "best" or v > float("-inf")}
    write_json(
        out / RUN_FILE,
        {
            "config": as_json(config),
            "threads": threads or torch.get_num_threads(),
            "machine": _machine(),
            **({} if processes.alone() else {"processes": processes.count()}),
            **values,
        },
    )


def _machine() -> str:
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"CPU ({torch.backends.cpu.get_cpu_capability()})"
