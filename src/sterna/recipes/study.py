"""Studies: whole tables over seeds, with their controls, resumed where they were killed.

A study is a list of trainings, which may need one another, and the rows of a table. Several
processes may work on one folder: each takes what nobody else is at.
"""

from __future__ import annotations

import fcntl
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from sterna.errors import InputError
from sterna.files import write_json, write_text
from sterna.metrics import Result, read_result, score_predictions, write_result
from sterna.recipes.baselines import RandomPolicy, far_walk, with_guesses
from sterna.recipes.config import DataConfig, DistillRun, PretrainRun, Stage1Run, TrainConfig
from sterna.recipes.evaluation import run_eval
from sterna.recipes.pretraining import pretrain
from sterna.recipes.results import Arm, render, summarise
from sterna.recipes.runs import RUN_FILE, protocol_of, train
from sterna.recipes.world import World, open_world, shared_worlds
from sterna.train.evaluate import predict
from sterna.world.graph import load_graph

SPLITS = ("val_unseen", "val_seen")
RANDOM, FAR, TEACHER = "random", "far-node", "teacher"
"""Arms for which nothing is trained (a random walker, one to a random far node), and the teacher's
folder."""
_UNTRAINED = (RANDOM, FAR)
_PAUSE = 2.0
"""Seconds between looks for work while other processes are at all that can be done."""

Config = TrainConfig | PretrainRun


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a study is asked for.

    `views`, `iterations`, `precision` override the recipes'; `share` multiplies the recipes'
    iterations; `given` are saved policies in place of trainings (``teacher``,
    ``teacher-pretrained``).
    """

    out: Path
    seeds: tuple[int, ...] = (0, 1, 2)
    views: str | None = None
    iterations: int | None = None
    precision: Literal["fp32", "bf16"] | None = None
    share: float = 1.0
    scale: str = "text"
    given: Mapping[str, Path] = field(default_factory=dict)


def sized(config: Any, options: Options, seed: int) -> Any:
    """Return a run's configuration with the seed, length and views that a study is asked for."""
    loop, data = replace(config.loop, seed=seed), config.data
    loop = replace(loop, precision=options.precision or loop.precision)
    wanted = options.iterations or max(1, round(options.share * loop.iterations))
    if wanted != loop.iterations:
        share = wanted / loop.iterations
        every = share if options.iterations is None else 1.0
        loop = replace(
            loop,
            iterations=wanted,
            warm_start=round(share * loop.warm_start),
            eval_every=max(1, round(every * loop.eval_every)),
        )
    config = replace(config, loop=loop, data=replace(data, views=options.views or data.views))
    if options.precision is not None and isinstance(config, (Stage1Run, DistillRun)):
        taught: Any = replace(config.distill, teacher_precision=options.precision)
        config = replace(config, distill=taught)
    return config


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training: its folder, the folders it needs first, and its configuration.

    `config` is called when those are there (it may depend on how they went).
    """

    folder: str
    config: Callable[[], Config]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is trained, which rows make the table, which differences are shown.

    `compared` names the arms (student, teacher) of the closing sentence; `given` are saved policies
    that stand in for trainings of the same name.
    """

    name: str
    data: DataConfig
    jobs: tuple[Job, ...]
    arms: tuple[Arm, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    compared: tuple[str, str] | None = None
    given: Mapping[str, Path] | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """A training or an evaluation: done where all files of `leaves` are there."""

    name: str
    needs: tuple[str, ...]
    leaves: tuple[Path, ...]
    run: Callable[[], object]

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do."""
        return all(file.is_file() for file in self.leaves)


def run_study(
    study: Study,
    root: Path,
    out: Path,
    *,
    threads: int | None = None,
    only: Sequence[str] = (),
) -> tuple[str, dict[str, Any]]:
    """Train what is not trained, evaluate what is not evaluated, and render the table.

    Returns the Markdown table and its numbers; both are written to ``out`` (NAME.md, NAME.json).
    With `only` (patterns of step names, see `steps`) just those steps are taken; while others are
    missing the list of steps is returned instead of a table, and the files hold the rows so far.
    """
    with shared_worlds():
        every = steps(study, root, out, threads=threads)
        chosen = [s for s in every if not only or any(fnmatchcase(s.name, p) for p in only)]
        if not chosen:
            raise InputError(f"--only {' '.join(only)}: no such step; --plan lists them")
        work(chosen, every, out)
    done = [arm for arm in study.arms if _scored(arm, study, out)]
    if done:
        text, values = _table(study, done, out)
        write_json(out / f"{study.name}.json", values)
        write_text(out / f"{study.name}.md", text + "\n")
    if len(done) < len(study.arms):
        return plan_text(every), plan_values(every)
    return text, values


def _scored(arm: Arm, study: Study, out: Path) -> bool:
    """Return whether all runs of a row are trained and evaluated."""
    trained = {job.folder for job in study.jobs} - (study.given or {}).keys()
    runs = [out / f / RUN_FILE for f in (*arm.folders, *arm.before) if f in trained]
    scores = [_result(out, folder, arm, split) for folder in arm.folders for split in SPLITS]
    return all(file.is_file() for file in (*runs, *scores))


def _table(study: Study, arms: Sequence[Arm], out: Path) -> tuple[str, dict[str, Any]]:
    """Render rows of a study as Markdown and as JSON values; say which are missing."""
    found = {
        arm.name: [
            {s: read_result(_result(out, folder, arm, s)) for s in SPLITS} for folder in arm.folders
        ]
        for arm in arms
    }
    pairs = [pair for pair in study.pairs if set(pair) <= found.keys()]
    values = {"study": study.name, **summarise(arms, found, pairs, out)}
    if study.compared is not None and set(study.compared) <= found.keys():
        values["compared"] = list(study.compared)
    text = render(values)
    missing = [arm.label for arm in study.arms if arm not in arms]
    if missing:
        values["missing"] = missing
        text += f"\n\nNot there yet: {'; '.join(missing)}."
    return text, values


def steps(study: Study, root: Path, out: Path, *, threads: int | None = None) -> list[Step]:
    """Return what a study does, in order: each training, then the evaluations of its policy."""
    given, out_steps = study.given or {}, []
    world = open_world(root, study.data)
    for folder in (*_UNTRAINED, *(job.folder for job in study.jobs)):
        job = next((job for job in study.jobs if job.folder == folder), None)
        if job is not None and folder not in given:
            run = _training(job, root, out / folder, threads)
            leaves = (out / folder / RUN_FILE,)
            out_steps.append(Step(name=folder, needs=job.needs, leaves=leaves, run=run))
        for arm in (arm for arm in study.arms if folder in arm.folders):
            step = Step(
                name=f"{folder}/{arm.evaluation}",
                needs=() if folder in given or folder in _UNTRAINED else (folder,),
                leaves=tuple(_result(out, folder, arm, split) for split in SPLITS),
                run=_evaluation(arm, folder, given.get(folder, out / folder), root, out, world),
            )
            if step.name not in {other.name for other in out_steps}:
                out_steps.append(step)
    return out_steps


def plan_values(every: Sequence[Step]) -> dict[str, Any]:
    """Return the steps of a study and whether they are done, as JSON values."""
    return {"steps": [{"name": s.name, "done": s.done, "needs": list(s.needs)} for s in every]}


def plan_text(every: Sequence[Step]) -> str:
    """Render the steps of a study and whether they are done."""
    lines = [f"{'done' if s.done else '-':<6}{s.name:<40}{' '.join(s.needs)}" for s in every]
    done = sum(s.done for s in every)
    return "\n".join(
        [f"{'':<6}{'step':<40}needs", *lines, f"{done} of {len(every)} steps are done"]
    )


def _training(job: Job, root: Path, folder: Path, threads: int | None) -> Callable[[], object]:
    def run() -> object:
        config = job.config()
        if isinstance(config, PretrainRun):
            return pretrain(config, root, folder, threads=threads)
        return train(config, root, folder, threads=threads)

    return run


def _evaluation(
    arm: Arm, folder: str, policy: Path, root: Path, out: Path, world: World
) -> Callable[[], object]:
    def run() -> None:
        for split in SPLITS:
            file = _result(out, folder, arm, split)
            if file.is_file():
                continue
            if folder in _UNTRAINED:
                _untrained(folder, world, split, file)
            else:
                run_eval(policy, root, split, permute=arm.permute, blind=arm.blind, out=file.parent)

    return run


def _result(out: Path, folder: str, arm: Arm, split: str) -> Path:
    return out / folder / arm.evaluation / f"result_{split}.json"


def work(chosen: Sequence[Step], every: Sequence[Step], out: Path) -> None:
    """Take the chosen steps, one after the other, beside other processes that do the same."""
    by_name = {step.name: step for step in every}
    waiting = False
    while todo := [step for step in chosen if not step.done]:
        ready = [s for s in todo if all(by_name[n].done for n in s.needs if n in by_name)]
        if any(_taken(step, out) for step in ready):
            waiting = False
            continue
        ahead = {need for step in todo for need in step.needs if need in by_name}
        if not ready and not any(_busy(name, out) for name in ahead if not by_name[name].done):
            lacking = next(n for s in todo for n in s.needs if not by_name[n].done)
            raise InputError(f"{todo[0].name}: needs {lacking}, which is not done; run that first")
        if not waiting:
            print("waiting for steps that other processes are at", file=sys.stderr, flush=True)
            waiting = True
        time.sleep(_PAUSE)


def _taken(step: Step, out: Path) -> bool:
    """Take a step unless another process is at it; return whether it was taken."""
    with _claim(step.name, out) as mine:
        if mine and not step.done:
            print(f"step {step.name}", file=sys.stderr, flush=True)
            step.run()
        return mine


def _busy(name: str, out: Path) -> bool:
    with _claim(name, out) as mine:
        return not mine


@contextmanager
def _claim(name: str, out: Path) -> Iterator[bool]:
    """Hold a step's lock (released by the system if the process dies); False if it is held."""
    path = out / ".claims" / (name.replace("/", "--") + ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _untrained(folder: str, world: World, split: str, file: Path) -> Result:
    episodes, connectivity = world.episodes(split), world.layout.connectivity
    panoramas = world.panoramas(episodes)
    if folder == RANDOM:
        predictions = predict(RandomPolicy(), panoramas, episodes)
    else:
        predictions = [far_walk(e, load_graph(connectivity, e.scan)) for e in episodes]
    predictions = with_guesses(predictions, episodes, panoramas)
    result = score_predictions(predictions, episodes, connectivity, protocol_of(world.config))
    result = replace(result, seed=0)
    write_result(file, result)
    return result
