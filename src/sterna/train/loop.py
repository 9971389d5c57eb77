"""The training loop of imitation and distillation: resumable, logged, early to evaluate."""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import (  # type: ignore[import-untyped]
    Accelerator,
    DistributedDataParallelKwargs,
    DistributedType,
)
from torch import nn
from tqdm import tqdm

from sterna import processes
from sterna.data.episodes import Episode
from sterna.errors import InputError
from sterna.files import read_json, write_json
from sterna.train.average import WeightMean
from sterna.train.checkpoint import dump_memory, load_memory, load_state, save_state
from sterna.train.grounding import aimed
from sterna.train.imitation import ImitationTask, Recorded
from sterna.train.log import NoLog, RunLog
from sterna.train.memory import Memory
from sterna.train.optimizer import make_optimizer
from sterna.train.pieces import split, summed
from sterna.train.schedule import Batches, OptimizerConfig, uniform_draws
from sterna.train.task import TaskOutput
from sterna.world.geometry import Floats

Scores = dict[str, float]
"""Means of an evaluation, rates from 0 to 1."""

STATE_FILE = "state.pt"
"""Name of the training state in a run's folder."""
_RECALL = 1000
"""Stream of the draws that choose remembered walks."""
_GOALS = 2000
"""Stream of the draws that choose one of several goals."""
_REPLICATED = (DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
"""Ways to share a run in which every process holds all weights."""

_COUNTS = (
    "iterations",
    "batch_size",
    "pieces",
    "log_every",
    "eval_every",
    "save_every",
    "ahead",
)
"""Settings of a loop that count something."""

Log = Callable[[str, int, dict[str, float]], None]
"""Takes (kind, number, values) of a log entry."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long, how big, how often."""

    iterations: int = 200_000
    """Optimiser steps."""
    batch_size: int = 8
    """Episodes of each of the two roll-outs, over all processes."""
    demonstrations: int | None = None
    """Demonstrations an iteration after the warm start; None: as many as `batch_size` (DUET)."""
    warm_start: int = 0
    """First iterations that learn from demonstrations alone."""
    replay: int = 0
    """Iterations that learn again from remembered walks after each that walks anew."""
    memory: int = 32
    """Recorded batches that are remembered for `replay`."""
    ahead: int = 1
    """Batches that are explored in one walk, before the first of them is learnt from: cheaper walks
    by slightly older weights."""
    length_window: int = 1
    """Batches' worth of episodes sorted by length together (less padding); 1: plain shuffling."""
    pieces: int = 1
    """Groups of episodes whose gradients are added one after the other: less memory, the same
    gradient."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: autocast; pays on GPUs and on CPUs with AMX."""
    log_every: int = 50
    """Iterations between log entries."""
    eval_every: int = 1000
    """Iterations between evaluations on the selection split (and at the end)."""
    save_every: int = 500
    """Iterations between training states."""
    average: float = 0.0
    """Decay of an exponential mean of the weights, which is then what is scored and kept; 0: the
    weights as they are."""
    select_by: Literal["SPL", "SR", "SR+SPL", "RGSPL", "SPL+RGSPL", "last"] = "SPL"
    """Score of the selection split that names the best weights (RGSPL: REVERIE alone); last: no
    selection."""
    seed: int = 0
    """Seed of weights, order, actions and dropout."""

    def __post_init__(self) -> None:
        """Check the values."""
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise InputError(f"loop: {name} must be at least 1, found {getattr(self, name)}")
        if self.replay < 0 or self.memory < 1:
            raise InputError(
                "loop: replay must be 0 or more and memory at least 1, found "
                f"{self.replay} and {self.memory}"
            )
        if self.ahead > self.memory:
            raise InputError(
                f"loop: ahead must be at most memory ({self.memory}), found {self.ahead}; batches "
                "that wait to be learnt from are remembered"
            )
        if self.demonstrations is not None and self.demonstrations < 1:
            raise InputError("loop: demonstrations must be at least 1, or none for DUET's way")
        if not 0 <= self.average < 1:
            raise InputError(f"loop: average must be in [0, 1), found {self.average}")
        if self.precision not in ("fp32", "bf16"):
            raise InputError(f"loop: precision must be fp32 or bf16, found {self.precision!r}")

    def criterion(self, scores: Scores) -> float:
        """Return the number that selection maximises."""
        if self.select_by == "last":
            return math.nan
        return sum(scores[name] for name in self.select_by.split("+"))


@dataclass
class Progress:
    """Where a run stands; what a training state holds beside the weights."""

    iteration: int = 0
    best: float = -math.inf
    best_iteration: int = -1
    seconds: float = 0.0
    scores: list[dict[str, Any]] = field(default_factory=list)


def _flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Return nested settings as ``group.name: value``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{above}{key}.")
        else:
            flat[above + key] = value
    return flat


class Runner(ABC):
    """Runs a task to its last iteration, from wherever it stopped.

    Subclasses say what an iteration learns from (`_pieces`). `evaluate` scores the policy on the
    selection split; `keep` is called with "best" or "last" to save the policy. `prelude` runs
    before the first iteration (a run killed there begins anew). Everything random is a function of
    (seed, iteration), so that weights after iteration N do not depend on how often the run was
    killed. Dropout is a function of the process too; all else is drawn by sample, so that without
    dropout weights do not depend on how many processes share the run (docs/scale.md). A run is
    continued with the `config` it began with; what it did not know of then counts as its value in
    `defaults`. Where `scores_start` is set, the weights that it begins with take part in the
    selection.
    """

    scores_start = False

    def __init__(
        self,
        task: nn.Module,
        episodes: Sequence[Episode],
        folder: str | Path,
        loop: LoopConfig,
        optimizer: OptimizerConfig,
        *,
        evaluate: Callable[[], Scores] | None = None,
        keep: Callable[[str], None] | None = None,
        prelude: Callable[[Log], None] | None = None,
        config: dict[str, Any] | None = None,
        defaults: dict[str, Any] | None = None,
        handlers: Sequence[Any] = (),
    ) -> None:
        """Prepare a run in `folder`; an existing training state there is continued."""
        processes.join()
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision="bf16" if loop.precision == "bf16" else "no",
            kwargs_handlers=list(handlers),
        )
        self.learner, self.folder, self.loop, self.options = task, Path(folder), loop, optimizer
        # Before the optimiser exists, so that its state is restored onto the right device.
        task.to(self.accelerator.device)
        self.evaluate, self.keep, self.prelude = evaluate, keep, prelude
        self.shown = self._batches(episodes, loop.batch_size, 0)
        self.optimizer = self._make_optimizer(task)
        self.mean = WeightMean(task, loop.average) if loop.average else None
        self.progress, self.memory = Progress(), self._new_memory()
        self._check_config(config or {}, defaults or {})
        if self.state_file.exists():
            self._restore(episodes)
        self._check_together()
        self.model, self.optimizer = self.accelerator.prepare(task, self.optimizer)

    def _make_optimizer(self, task: nn.Module) -> torch.optim.AdamW:
        """Return the optimiser of what may be trained."""
        return make_optimizer(task, self.options)

    def _new_memory(self) -> Memory:
        """Return what a training state keeps of recorded batches."""
        return Memory(self.loop.memory)

    def _restore(self, episodes: Sequence[Episode]) -> None:
        """Take up weights, optimiser and progress from the training state."""
        values, memory = load_state(self.state_file, self._modules(), self.optimizer)
        self.progress = Progress(**values)
        named = {episode.instr_id: episode for episode in episodes}
        self.memory.from_state(self._own_memory(memory), named)

    def _check_together(self) -> None:
        """Refuse processes that do not all see the same folder."""
        reached = processes.everyones(self.progress.iteration)
        if len(set(reached)) > 1:
            raise InputError(
                f"{self.folder}: processes found the run at iterations {sorted(set(reached))}; "
                "--out must be one folder that all machines see"
            )

    def _own_memory(self, memory: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return what this process remembered; `InputError` if others shared the run then."""
        parts = {values.pop("parts", 1) for values in memory}
        if parts - {processes.count()}:
            raise InputError(
                f"{self.state_file}: it remembers the walks of {parts.pop()} processes; continue "
                f"with as many, found {processes.count()}"
            )
        return [values for values in memory if values.pop("part", 0) == processes.number()]

    def _all_memory(self) -> list[dict[str, Any]]:
        """Return what all processes remember, each batch with whose it is (not of one alone)."""
        own = self.memory.to_state()
        if processes.alone():
            return own
        every = [load_memory(part) for part in processes.everyones_bytes(dump_memory(own))]
        return [
            {"part": part, "parts": len(every), **values}
            for part, memory in enumerate(every)
            for values in memory
        ]

    def _kept(self, name: str) -> None:
        """Let the main process save the policy under a name."""
        if self.keep is not None and self.accelerator.is_main_process:
            with self._as_kept():
                self.keep(name)

    def _save(self) -> None:
        """Let the main process write the training state, with what every process remembers."""
        values, memory = vars(self.progress), self._all_memory()
        if self.accelerator.is_main_process:
            save_state(self.state_file, self._modules(), self.optimizer, values, memory)

    def _modules(self) -> dict[str, nn.Module]:
        """Return what has weights that a training state holds."""
        mean = {} if self.mean is None else {"mean": self.mean}
        return {"task": self.learner, **mean}

    def _as_kept(self) -> AbstractContextManager[None]:
        """While it lasts, the policy has the weights that are scored and kept."""
        return nullcontext() if self.mean is None else self.mean.shown()

    def _batches(self, episodes: Sequence[Episode], size: int, stream: int) -> Batches:
        """Return this process's share of shuffled batches."""
        return Batches(
            episodes,
            size,
            self.loop.seed,
            stream=stream,
            part=self.accelerator.process_index,
            parts=self.accelerator.num_processes,
            window=self.loop.length_window,
        )

    @abstractmethod
    def _pieces(self, iteration: int) -> Sequence[object]:
        """Return the pieces that an iteration learns from; their gradients are added."""

    @property
    def state_file(self) -> Path:
        """Where the training state lies."""
        return self.folder / STATE_FILE

    @property
    def cycle(self) -> int:
        """Iterations that learn from what one of them walked."""
        return self.loop.replay + 1

    def _check_config(self, config: dict[str, Any], defaults: dict[str, Any]) -> None:
        path = self.folder / "recipe.json"
        wanted = json.loads(json.dumps(config))
        if self.state_file.exists() and path.exists():
            found = _flat(defaults) | _flat(dict(read_json(path)))
            asked = _flat(wanted)
            changed = [
                f"{key} {found.get(key)!r}, asked for {asked.get(key)!r}"
                for key in sorted(asked.keys() | found.keys())
                if asked.get(key) != found.get(key)
            ]
            if changed:
                more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
                raise InputError(
                    f"{self.folder}: holds a run with another configuration (different: "
                    f"{'; '.join(changed[:3])}{more}); give another --out, or delete the folder"
                )
        elif self.accelerator.is_main_process:
            write_json(path, wanted)

    def run(self) -> Progress:
        """Train to the end and return the progress."""
        begin = RunLog if self.accelerator.is_main_process else NoLog
        log = begin(self.folder, iteration=self.progress.iteration)
        bar = tqdm(
            total=self.loop.iterations,
            initial=self.progress.iteration,
            desc=self.folder.name,
            unit="it",
            disable=not self.accelerator.is_main_process,
        )
        began = time.perf_counter() - self.progress.seconds
        if self.prelude is not None and not self.progress.iteration:
            with self.accelerator.autocast():
                self.prelude(log.write)
            processes.share_weights(self.learner.parameters())
            if self.mean is not None:
                self.mean.restart()
        if self.scores_start and self.evaluate is not None and not self.progress.iteration:
            self._select(log, self._scores(self.evaluate))
        while self.progress.iteration < self.loop.iterations:
            output, norm = self.step(self.progress.iteration)
            self.progress.iteration += 1
            self.progress.seconds = time.perf_counter() - began
            bar.update()
            bar.set_postfix(loss=f"{float(output.loss.detach()):.3f}", refresh=False)
            self._after(log, output, norm)
        bar.close()
        log.close()
        return self.progress

    def step(self, iteration: int) -> tuple[TaskOutput, float]:
        """Take the optimiser step of an iteration; return its output and the gradient norm."""
        loop = self.loop
        torch.manual_seed(_mix(loop.seed, iteration, self.accelerator.process_index))
        self.learner.train()
        rate = self.options.rate(iteration, loop.iterations)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        pieces = self._pieces(iteration)
        self.optimizer.zero_grad(set_to_none=True)
        last = len(pieces) - 1
        output = summed([self._learn(p, iteration, last=n == last) for n, p in enumerate(pieces)])
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.options.clip_norm)
        self.optimizer.step()
        if self.mean is not None:
            self.mean.follow(iteration)
        return output, float(norm)

    def _learn(self, piece: object, iteration: int, *, last: bool = True) -> TaskOutput:
        """Add the gradient of a piece; processes that hold all weights share that of the last."""
        waits = not last and self.accelerator.distributed_type in _REPLICATED
        with self.accelerator.no_sync(self.model) if waits else nullcontext():
            return self._gradient(piece, iteration)

    def _gradient(self, piece: object, iteration: int) -> TaskOutput:
        with self.accelerator.autocast():
            output: TaskOutput = self.model(piece)
        if not bool(torch.isfinite(output.loss)):
            raise InputError(
                f"iteration {iteration}: the loss is {output.loss.item()}; lower the learning "
                "rate, or check the view features with `sterna data check`"
            )
        self.accelerator.backward(output.loss)
        return output

    def _after(self, log: RunLog, output: TaskOutput, norm: float) -> None:
        done, loop = self.progress.iteration, self.loop
        last = done == loop.iterations
        if done % loop.log_every == 0 or last:
            rate = self.options.rate(done - 1, loop.iterations)
            loss, metrics = shared(float(output.loss.detach()), output.metrics)
            log.write("train", done, metrics | {"loss": loss, "norm": norm, "rate": rate})
        if self.evaluate is not None and (done % loop.eval_every == 0 or last):
            self._select(log, self._scores(self.evaluate))
        if done % loop.save_every == 0 or last:
            if last:
                self._kept("last")
            self._save()
            self.accelerator.wait_for_everyone()

    def _scores(self, evaluate: Callable[[], Scores]) -> Scores:
        with self._as_kept():
            return evaluate()

    def _select(self, log: RunLog, scores: Scores) -> None:
        done = self.progress.iteration
        log.write("select", done, scores)
        self.progress.scores.append({"iteration": done, **scores})
        value = self.loop.criterion(scores)
        better = value >= self.progress.best or self.loop.select_by == "last"
        if better and self.keep is not None:
            self.progress.best, self.progress.best_iteration = value, done
            if self.loop.select_by == "last":
                self.progress.best = -math.inf
            self._kept("best")


class Trainer(Runner):
    """Runs an imitation or distillation task; see `Runner`."""

    def __init__(
        self,
        task: ImitationTask,
        episodes: Sequence[Episode],
        folder: str | Path,
        loop: LoopConfig,
        optimizer: OptimizerConfig,
        **more: Any,
    ) -> None:
        """Prepare a run in `folder`; an existing training state there is continued."""
        # Terms that are off, or objects that a process met none of, leave weights without gradient.
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        super().__init__(task, episodes, folder, loop, optimizer, handlers=[unused], **more)
        self.task = task
        self.tried = self._batches(episodes, loop.batch_size, 1)
        few = loop.demonstrations or loop.batch_size
        self.shown_beside = self._batches(episodes, few, 2)

    @property
    def cycle(self) -> int:
        """Iterations that learn from what one of them walked: those of all batches of a walk."""
        return self.loop.ahead * (self.loop.replay + 1)

    def _pieces(self, iteration: int) -> Sequence[Recorded]:
        self.task.done = iteration / max(1, self.loop.iterations - 1)
        first, *others = split(self._batch(iteration), self.loop.pieces)
        when = (self.loop.seed, iteration)
        texts, swapped = self.task.drawn_texts(*when), self.task.swapped_texts(*when)
        pieces = [replace(first, read=texts, swapped=swapped), *others]
        beside = self.task.followed(*when)
        return pieces if beside is None else [*pieces, evened(beside, len(beside.episodes))]

    def _batch(self, iteration: int) -> Recorded:
        """Walk new episodes, or recall a walk, as the iteration says."""
        loop = self.loop
        if iteration < loop.warm_start:
            return self._recorded([(iteration, iteration)])[0]
        turn, again = divmod(iteration - loop.warm_start, loop.replay + 1)
        if again:
            draw = uniform_draws(loop.seed, _RECALL, iteration, (1,))
            return self.memory.recall(float(draw[0]))
        if member := turn % loop.ahead:  # walked before: the newest are those of one walk
            return self.memory.batches[member - loop.ahead]
        turns, cycle = range(turn, turn + loop.ahead), loop.replay + 1
        asked = [(iteration + (t - turn) * cycle, loop.warm_start + t) for t in turns]
        batches = self._recorded(asked)
        if loop.replay or loop.ahead > 1:
            for batch in batches:
                self.memory.add(batch)
        return batches[0]

    def _recorded(self, asked: Sequence[tuple[int, int]]) -> list[Recorded]:
        """Record the batches of (iteration, place in the order of episodes), in one walk."""
        loop, parts = self.loop, self.accelerator.num_processes
        plans = []
        for iteration, place in asked:
            warm = iteration < loop.warm_start
            shown = (self.shown if warm else self.shown_beside)[place]
            tried: list[Episode] = [] if warm else self.tried[place]
            if self.task.config.multi_endpoints:
                shown, tried = self._aimed(shown, tried, iteration)
            shape = (self.task.config.max_steps, max(1, len(tried)) * parts)
            plans.append((shown, tried, self._share(uniform_draws(loop.seed, 3, iteration, shape))))
        with self.accelerator.autocast():
            batches = self.task.collect_together(plans)
            batches = [
                evened(batch, len(shown))
                for batch, (shown, _, _) in zip(batches, plans, strict=True)
            ]
            if loop.replay and asked[0][0] >= loop.warm_start:
                batches = [self.task.prepare(batch) for batch in batches]
        return batches

    def _aimed(
        self, shown: list[Episode], tried: list[Episode], iteration: int
    ) -> tuple[list[Episode], list[Episode]]:
        """Choose this iteration's goals of both batches."""
        parts = self.accelerator.num_processes
        count = (len(shown) + len(tried)) * parts
        draws = uniform_draws(self.loop.seed, _GOALS, iteration, (count,))
        first, then = np.split(draws, [len(shown) * parts])
        own = np.concatenate([self._share(first), self._share(then)])
        episodes = aimed(self.task.panoramas.atlas, [*shown, *tried], own)
        return episodes[: len(shown)], episodes[len(shown) :]

    def _share(self, draws: Floats) -> Floats:
        """Return the draws [..., B] of this process's episodes of a whole batch."""
        return draws[..., self.accelerator.process_index :: self.accelerator.num_processes]


def evened(batch: Recorded, demonstrations: int) -> Recorded:
    """Make means over the decisions of a roll-out means over those of all processes.

    The first `demonstrations` episodes are one roll-out, the others another. Every process has as
    many episodes, but not as many decisions.
    """
    if processes.alone():
        return batch
    first = batch.rows.agent < demonstrations
    own = np.array([first.sum(), (~first).sum()], np.float64)
    usual = np.maximum(1.0, processes.mean(torch.from_numpy(own)).numpy())
    factor = np.where(first, *(own / usual))
    return replace(batch, row_share=batch.row_share * factor)


def shared(loss: float, metrics: dict[str, float]) -> tuple[float, dict[str, float]]:
    """Return a loss and metrics of all processes: rows add up, agreement is a mean over rows.

    All else is a mean over processes, of those that have it.
    """
    if processes.alone():
        return loss, metrics
    every = processes.everyones(metrics | {"": loss})
    names = dict.fromkeys(name for one in every for name in one)
    found = {n: [one[n] for one in every if n in one] for n in names}
    out = {name: sum(values) / len(values) for name, values in found.items()}
    if "rows" in out:
        out["rows"] = sum(found["rows"])
        if "agree" in out:
            out["agree"] = sum(o["agree"] * o["rows"] for o in every) / max(1.0, out["rows"])
    return out.pop(""), out


def _mix(*numbers: int) -> int:
    """Return one 63-bit seed from several small integers (splitmix-like, fixed for ever)."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:
        state = (state ^ (number + 0x632BE59BD9B4E019)) * 0xBF58476D1CE4E5B9 % 2**64
        state ^= state >> 31
    return state >> 1
