"""Policies for Meta-World: configuration, recipes, training from demonstrations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from sterna.data.demos.store import DemoStore
from sterna.envs.metaworld import SENTENCES, sentence
from sterna.errors import InputError
from sterna.models.vla import Vla, VlaConfig
from sterna.models.vla_folder import save_pretrained
from sterna.recipes.runs import as_json, defaults_of, write_run
from sterna.train.cloning import CloningConfig, CloningRunner, CloningTask, Samples, judge
from sterna.train.loop import LoopConfig, Scores
from sterna.train.schedule import OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class CloningRun:
    """A run of behaviour cloning."""

    demos: Path = Path("demos")
    """Folder of `sterna metaworld demos`."""
    model: VlaConfig = field(default_factory=VlaConfig)
    """Sizes; words are filled in."""
    cloning: CloningConfig = field(default_factory=CloningConfig)
    """What is done to samples and weights."""
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(select_by="last"))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    warmup_share: float = 0.02
    """Share of the iterations in which the learning rate rises."""
    judged: int = 1024
    """Held-out frames that are scored, evenly over all."""

    def __post_init__(self) -> None:
        """Check what depends on several parts."""
        if self.loop.select_by != "last":
            raise InputError("loop: cloning keeps its last weights; select_by must be last")
        if not 0 <= self.warmup_share < 1 or self.judged < 1:
            raise InputError("cloning: warmup_share is from 0 to below 1, judged at least 1")


def vocabulary() -> tuple[str, ...]:
    """Return the words of all tasks' sentences, sorted."""
    return tuple(sorted({word for text in SENTENCES.values() for word in text.split()}))


def with_words(model: VlaConfig) -> VlaConfig:
    """Return sizes with the vocabulary of the tasks, unless they have one."""
    return model if model.words else replace(model, words=vocabulary())


def open_samples(folder: Path, config: VlaConfig) -> Samples:
    """Open demonstrations for a policy."""
    store = DemoStore(folder)
    return Samples(store, config, [sentence(task) for task in store.tasks])


def held_out_frames(samples: Samples, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return so many held-out frames, evenly over all."""
    places = np.linspace(0, len(samples.held_out) - 1, min(count, len(samples.held_out)))
    return samples.held_out[places.astype(np.int64)]


def train_policy(config: CloningRun, out: Path, *, threads: int | None = None) -> Path:
    """Clone demonstrations in `out`, from wherever it stopped; return `out`.

    Leaves ``last/`` (the mean of the weights, as a policy), ``run.json``, ``log.jsonl``,
    ``state.pt``.
    """
    config = replace(config, model=with_words(config.model))
    warmup = round(config.warmup_share * config.loop.iterations)
    config = replace(config, optimizer=replace(config.optimizer, warmup=warmup))
    samples = open_samples(config.demos, config.model)
    torch.manual_seed(config.loop.seed)
    policy = Vla(config.model)
    policy.proprio_mean, policy.proprio_scale = samples.statistics()
    task = CloningTask(policy, config.cloning)
    runner = CloningRunner(
        task,
        samples,
        out,
        config.loop,
        config.optimizer,
        evaluate=_judge(config, task, samples),
        keep=lambda name: _keep(task, out / name, config),
        config=as_json(config),
        defaults=defaults_of(config),
    )
    progress = runner.run()
    write_run(out, config, progress_values=vars(progress), threads=threads)
    return out


def _judge(config: CloningRun, task: CloningTask, samples: Samples) -> Callable[[], Scores]:
    frames = held_out_frames(samples, config.judged)
    return lambda: judge(task.average, samples, frames)


def _keep(task: CloningTask, folder: Path, config: CloningRun) -> None:
    notes = (
        f"Cloned from the demonstrations {config.demos.name}: {config.loop.iterations} iterations "
        f"of {config.loop.batch_size} frames, seed {config.loop.seed}; the mean of the weights "
        f"with decay {config.cloning.average}."
    )
    save_pretrained(task.average, folder, notes=notes)


def vla_s() -> CloningRun:
    """The teacher: 12 layers of width 96 (1.4M parameters). CPU, about 25 minutes of one core."""
    return CloningRun(
        loop=LoopConfig(
            iterations=2500,
            batch_size=64,
            log_every=20,
            eval_every=500,
            save_every=50,
            select_by="last",
        ),
        optimizer=OptimizerConfig(
            kind="muon",
            learning_rate=2e-3,
            schedule="cosine",
            final_rate=0.0,
            betas=(0.9, 0.98),
            weight_decay=0.02,
            decay_vectors=False,
            clip_norm=1.0,
        ),
    )


def vla_s6() -> CloningRun:
    """Half as deep, from scratch: the control of every pruned policy."""
    base = vla_s()
    return replace(base, model=replace(base.model, depth=6))


POLICIES = {"vla-s": vla_s, "vla-s6": vla_s6}
"""Recipes by name."""
