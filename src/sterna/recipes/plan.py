"""What a run will cost on this machine, measured before it starts: memory, seconds, total."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from sterna.minivln.stage2 import DistillTask
from sterna.recipes.config import ClosedLoopRun, DistillRun, PretrainRun, TrainConfig
from sterna.recipes.runs import Ready

_WALKED = 48
"""Episodes that an evaluation is measured on."""
_SAID = 16
"""Instructions and viewpoints that a teacher's reading is measured on."""

Prepare = Callable[[Any, Path, Path], Ready]


def plan_run(
    prepare: Prepare,
    config: TrainConfig | PretrainRun | ClosedLoopRun,
    root: Path,
    *,
    cycles: int = 2,
) -> tuple[str, dict[str, Any]]:
    """Measure a few iterations and some walks of a run; return the plan as text and as values.

    What is timed has been run once before, so that compiling and a teacher's first reading do not
    count. Nothing is left behind. First lessons of a student are not part of the total.
    """
    bare = config
    if isinstance(config, DistillRun):  # its cache on disk stays as it is
        bare = replace(config, distill=replace(config.distill, cache=False))
    with TemporaryDirectory() as folder:
        run = prepare(bare, root, Path(folder))
        seconds = _iteration(run, cycles)
        walks = _evaluation(run)
        reading = _reading(run)
    loop = config.loop
    evaluations = -(-loop.iterations // loop.eval_every)
    values: dict[str, Any] = {
        "iterations": loop.iterations,
        "batch_size": loop.batch_size,
        "precision": loop.precision,
        "device": str(run.runner.accelerator.device),
        "threads": torch.get_num_threads(),
        "parameters": count(run.policy),
        "teacher_parameters": None if run.teacher is None else count(run.teacher),
        "peak_bytes": peak_bytes(),
        "seconds_per_iteration": seconds,
        "evaluations": evaluations,
        "evaluation_episodes": len(run.chosen),
        "seconds_per_evaluation": walks,
        "seconds_of_teacher_reading": reading,
        "total_seconds": seconds * loop.iterations + walks * evaluations + reading,
    }
    return _text(values), values


def _iteration(run: Ready, cycles: int) -> float:
    """Return seconds an iteration: means over a fresh walk and its replays, then their median."""
    loop, cycle = run.runner.loop, run.runner.cycle
    first = min(loop.warm_start, max(0, loop.iterations - cycle))
    each = []
    for _ in range(cycles + 1):
        began = time.perf_counter()
        for iteration in range(first, first + cycle):
            run.runner.step(iteration)
        each.append((time.perf_counter() - began) / cycle)
    return median(each[1:])


def _evaluation(run: Ready) -> float:
    """Return seconds of an evaluation, from some of its episodes."""
    some = run.chosen[:: max(1, len(run.chosen) // _WALKED)][:_WALKED]
    began = time.perf_counter()
    run.score(some)
    return (time.perf_counter() - began) / len(some) * len(run.chosen)


def _reading(run: Ready) -> float:
    """Return seconds in which a teacher reads and sees all that its cache on disk will hold."""
    task = run.runner.learner
    if not isinstance(task, DistillTask):
        return 0.0
    return task.reading_time(run.episodes, _SAID)


def count(model: nn.Module) -> int:
    """Return the parameters of a model."""
    return sum(parameter.numel() for parameter in model.parameters())


def peak_bytes() -> int:
    """Return the most memory used so far: of the GPU where there is one, else resident."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def _text(values: dict[str, Any]) -> str:
    taught = values["teacher_parameters"]
    sizes = f"{values['parameters']:,} parameters"
    sizes += f", beside a teacher of {taught:,}" if taught else ""
    lines = [
        ("model", sizes),
        ("memory", f"{values['peak_bytes'] / 1e9:.2f} GB at the peak, data included"),
        (
            "iteration",
            f"{values['seconds_per_iteration']:.3g} s (batch {values['batch_size']}, "
            f"{values['precision']}, {values['device']}, {values['threads']} threads)",
        ),
        (
            "evaluation",
            f"{span(values['seconds_per_evaluation'])}, {values['evaluations']} times "
            f"({values['evaluation_episodes']:,} episodes)",
        ),
    ]
    if values["seconds_of_teacher_reading"]:
        once = span(values["seconds_of_teacher_reading"])
        lines.append(("teacher", f"{once} to read and see all once; kept on disk for later runs"))
    total = f"{span(values['total_seconds'])} for {values['iterations']:,} iterations"
    lines.append(("total", total))
    return "\n".join(f"{name:<12}{text}" for name, text in lines)


def span(seconds: float) -> str:
    """Say a time as people do: 12 s, 3 min, 5.2 h, 41 days."""
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (unit == "min" and seconds >= 90):
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
