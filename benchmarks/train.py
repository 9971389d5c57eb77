"""Time training iterations: pre-training by task and mixed, DAgger, DAgger beside a teacher.

An arm is a method, a size, a batch size and a precision; each runs in a process of its own, so that
its peak memory is its own. Features and weights are random; episodes and graphs are R2R's where
--data (or STERNA_DATA) holds them, else those of generated houses. Walks are forced, the same at
every iteration, so that all arms see the same states and a teacher's caches are warm (its words and
panoramas; its decisions are computed anew). The teacher of minivln is duet-r2r, that of student-s
is teacher-s; other sizes have none and leave `distil` out.

Reported, without warm-up: iterations a second by the clock; median CPU seconds of an iteration;
shares of the CPU time by part, parts apart: `batch` is environment, map and expert (pre-training:
drawing walks), `packing` turns decisions into tensors, `other` is losses and the rest; peak
resident memory. `distil` alternates with the student's own iteration on the same states in one
process and reports the median ratio of the two (the machine may be shared, hence CPU time).

Usage: python benchmarks/train.py [--data FOLDER] [--methods dagger distil ...] [--sizes minivln]
       [--batches 8 16] [--precisions fp32 bf16] [--iterations 5]
       [--teacher-precision run] [--threads 1] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dagger import forced, world
from stepwise import noise_model

from sterna.errors import InputError
from sterna.files import write_json
from sterna.minivln.stage2 import DistillConfig, DistillTask
from sterna.models.agent import Agent, TextReader
from sterna.models.duet import DUET
from sterna.models.presets import preset
from sterna.models.pretraining import PretrainModel
from sterna.recipes.toyworld import write_toy_world
from sterna.train.imitation import ImitationConfig, ImitationTask, Recorded, joined, record
from sterna.train.optimizer import make_optimizer
from sterna.train.pieces import split
from sterna.train.pretrain.task import PretrainConfig, PretrainTask, TaskMix
from sterna.train.schedule import OptimizerConfig

METHODS = ("mlm", "mrc", "sap", "mixed", "dagger", "distil")
SIZES = ("duet-r2r", "minivln", "teacher-s", "student-s")
TEACHERS = {"minivln": "duet-r2r", "student-s": "teacher-s"}
PARTS = ("batch", "packing", "model", "teacher", "backward", "optimiser", "other")
PIECES = {"fp32": 8, "bf16": 2}
"""Groups whose gradients are added (DAgger): less memory; bf16 compiles products by shape."""
CLASSES = 1000
CONFIG = ImitationConfig()


class Stopwatch:
    """CPU seconds by part; a part inside another stops the outer one's clock."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open, self._since = ["other"], time.process_time()

    def _switch(self) -> None:
        now = time.process_time()
        self.seconds[self._open[-1]] += now - self._since
        self._since = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._switch()
        # What a teacher runs is the teacher's, though it is a model too.
        self._open.append("teacher" if "teacher" in self._open else name)
        yield
        self._switch()
        self._open.pop()

    def watch(self, owner: Any, method: str, part: str) -> None:
        """Count the time in a method of a class for a part."""
        inner: Callable[..., Any] = getattr(owner, method)

        @wraps(inner)
        def timed(*given: Any, **named: Any) -> Any:
            with self.part(part):
                return inner(*given, **named)

        setattr(owner, method, timed)

    def take(self) -> dict[str, float]:
        """Return what was counted since the last call."""
        self._switch()
        taken = dict(self.seconds)
        self.seconds.clear()
        return taken


def data_folder(data: str | None, folder: str) -> tuple[Path, str]:
    """R2R where it is, else generated houses."""
    if data is not None:
        try:
            world(data, 2)
            return Path(data), "R2R"
        except InputError as error:
            print(f"no R2R ({error}): generated houses", file=sys.stderr)
    return write_toy_world(Path(folder), 0), "generated houses"


class Arm:
    """One way of learning; `iterate` takes an optimiser step."""

    def __init__(self, options: argparse.Namespace) -> None:
        method, size, self.batch = options.arm[0], options.arm[1], int(options.arm[2])
        self.narrow, self.watch = options.arm[3] == "bf16", Stopwatch()
        self.pieces = PIECES[options.arm[3]]
        config = replace(preset(size), lang2visn=method not in ("dagger", "distil"))
        self.panoramas, self.episodes = world(options.data, 2 * self.batch, config.feature_size)
        self.method, self.their_precision = method, options.teacher_precision
        self.task = self._task(noise_model(config), TEACHERS.get(size))
        self.optimizer = make_optimizer(self.task, OptimizerConfig())
        self.weight = getattr(self.task, "distill", DistillConfig()).weight
        self._time_parts()

    def _task(self, policy: DUET, teacher: str | None) -> Any:
        if self.method == "dagger":
            return ImitationTask(policy, self.panoramas, CONFIG)
        if self.method == "distil":
            assert teacher is not None
            theirs = noise_model(preset(teacher))
            distill = DistillConfig(teacher_precision=self.their_precision)
            return DistillTask(policy, theirs, self.panoramas, CONFIG, distill)
        asked = ("mlm", "mrc", "sap") if self.method == "mixed" else (self.method,)
        mix = TaskMix(**({"mlm": 0.0, "sap": 0.0} | dict.fromkeys(asked, 1.0)))
        logits = None
        if "mrc" in asked:
            shape = (len(self.panoramas.atlas), 36, CLASSES)
            logits = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        model = PretrainModel(policy, image_classes=CLASSES if "mrc" in asked else None)
        return PretrainTask(model, self.panoramas, PretrainConfig(mix=mix), view_logits=logits)

    def _time_parts(self) -> None:
        for method in ("navigate", "encode_text", "encode_panorama"):
            self.watch.watch(DUET, method, "model")
        self.watch.watch(TextReader, "__call__", "model")
        self.watch.watch(PretrainModel, "forward", "model")
        self.watch.watch(PretrainTask, "draw", "batch")
        self.watch.watch(PretrainTask, "inputs", "packing")
        self.watch.watch(ImitationTask, "groups", "packing")
        for method in ("prepare", "explain", "read", "remember"):
            self.watch.watch(DistillTask, method, "teacher")

    def _recorded(self) -> Recorded:
        """Both roll-outs; the second goes where `forced` sends it."""
        shown, tried = self.episodes[: self.batch], self.episodes[self.batch :]
        with self.watch.part("batch"), torch.no_grad():
            self.task.policy.eval()
            agent = Agent(self.task.policy, self.panoramas, cache=False)
            one, labels, _ = record(self.panoramas, shown, None, config=CONFIG)
            two, expert, _ = record(self.panoramas, tried, forced, agent=agent, config=CONFIG)
            self.task.train()
            parts = [(one, labels, CONFIG.ml_weight, len(shown)), (two, expert, 1.0, len(tried))]
            return joined((*shown, *tried), parts)

    def _batches(self, number: int) -> list[Any]:
        if self.method not in ("dagger", "distil"):
            names = self.task.config.mix.tasks()
            half = self.episodes[: self.batch]
            return [self.task.draw(half, 0, 0, task=names[number % len(names)])]
        batch = self._recorded()
        with self.watch.part("packing"):
            return split(batch, self.pieces)

    def iterate(self, number: int, *, alone: bool = False) -> tuple[float, float]:
        """One optimiser step; its seconds by the clock and of CPU time. `alone`: no teacher."""
        start = time.perf_counter(), time.process_time()
        if self.method == "distil":
            self.task.distill = replace(self.task.distill, weight=0.0 if alone else self.weight)
        self.task.train()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.narrow):
            batches = self._batches(number)
        for batch in batches:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.narrow):
                loss = self.task(batch).loss
            with self.watch.part("backward"):
                loss.backward()
        with self.watch.part("optimiser"):
            torch.nn.utils.clip_grad_norm_(self.task.parameters(), 40.0)
            self.optimizer.step()
        return time.perf_counter() - start[0], time.process_time() - start[1]


def run_arm(options: argparse.Namespace) -> None:
    """The work of one process: its numbers to standard output."""
    torch.set_num_threads(options.threads)
    arm = Arm(options)
    rounds = 3 if arm.method == "mixed" else 1  # as many as there are tasks
    for number in range(options.warmup * rounds):
        arm.iterate(number)
        if arm.method == "distil":
            arm.iterate(number, alone=True)
    seconds, busy, ratios = [], [], []
    parts = dict.fromkeys(PARTS, 0.0)
    for number in range(options.iterations * rounds):
        arm.watch.take()
        clock, cpu = arm.iterate(number)
        for name, spent in arm.watch.take().items():
            parts[name] += spent
        seconds.append(clock)
        busy.append(cpu)
        if arm.method == "distil":
            ratios.append(cpu / arm.iterate(number, alone=True)[1])
    total = sum(parts.values())
    report = dict(zip(("method", "size", "batch", "precision"), options.arm, strict=True))
    report |= {
        "iterations": len(seconds),
        "threads": options.threads,
        "per_second": round(1 / statistics.mean(seconds), 3),
        "cpu_seconds": round(statistics.median(busy), 3),
        "parts": {name: round(parts[name] / total, 3) for name in PARTS},
        "outside_model": round(sum(parts[n] for n in ("batch", "packing", "other")) / total, 3),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    if ratios:
        report["to_own_iteration"] = round(statistics.median(ratios), 2)
    print(json.dumps(report))


def start(arm: tuple[str, ...], data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run an arm in a process of its own."""
    command = [sys.executable, __file__, "--data", str(data), "--arm", *arm]
    for name in ("iterations", "warmup", "threads", "teacher_precision"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    count = str(options.threads)
    environment = os.environ | {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def line(report: dict[str, Any]) -> str:
    """Render one row of the table."""
    named = "".join(f"{report[k]:<11}" for k in ("method", "size", "batch", "precision"))
    shares = "".join(f"{100 * report['parts'][name]:>10.0f}" for name in PARTS)
    numbers = f"{report['per_second']:>8.2f}{report['cpu_seconds']:>9.2f}{report['peak_gb']:>8.2f}"
    return f"{named}{numbers}{shares}{report.get('to_own_iteration', '-'):>8}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=os.environ.get("STERNA_DATA"))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--batches", nargs="+", default=["8", "16"])
    parser.add_argument("--precisions", nargs="+", default=list(PIECES), choices=list(PIECES))
    parser.add_argument("--teacher-precision", default="run", choices=["run", "fp32", "bf16"])
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="file for the numbers, JSON")
    parser.add_argument("--arm", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        run_arm(options)
        return
    reports = []
    with tempfile.TemporaryDirectory() as folder:
        data, name = data_folder(options.data, folder)
        print(f"{name}; {options.threads} thread(s), {torch.backends.cpu.get_cpu_capability()}")
        heads = ("method", "size", "batch", "precision")
        shares = "".join(f"{f'{part} %':>10}" for part in PARTS)
        print(
            "".join(f"{h:<11}" for h in heads)
            + f"{'it/s':>8}{'CPU s':>9}{'GB':>8}{shares}{'ratio':>8}"
        )
        chosen = (options.methods, options.sizes, options.batches, options.precisions)
        for arm in itertools.product(*chosen):
            if arm[0] == "distil" and arm[1] not in TEACHERS:
                continue
            reports.append(start(arm, data, options))
            print(line(reports[-1]), flush=True)
            if options.out is not None:
                made = {"data": name, "torch": torch.__version__}
                made["teacher_precision"] = options.teacher_precision
                write_json(options.out, made | {"arms": reports})


if __name__ == "__main__":
    main()
