"""Scores of policies on Meta-World: resumable episodes, success by task, FLOPs and wall clock."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from sterna import __version__
from sterna.envs.metaworld import MetaworldTask, check_installed, choose_gl
from sterna.errors import InputError
from sterna.files import read_json, sha256, write_json
from sterna.metrics.manipulation import METAWORLD_10, ManipulationProtocol
from sterna.models.folder import WEIGHTS
from sterna.models.manipulate import Outcome, Predict, as_batch, roll_out
from sterna.models.vla import VlaBatch, VlaConfig
from sterna.models.vla_folder import from_pretrained

RESULT, EPISODES, SETTINGS = "result.json", "episodes.jsonl", "settings.json"


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Milliseconds of one decision at batch 1, whole policy, on the threads in use."""

    median_ms: float
    p95_ms: float
    threads: int
    repeats: int


@dataclass(frozen=True, kw_only=True)
class Flops:
    """Operations of one decision (2 a multiply-add; products and attention, torch's counter)."""

    total: float
    backbone: float
    """Of the decoder layers alone."""


def evaluate_policy(
    predict: Predict,
    config: VlaConfig,
    out: Path,
    *,
    settings: Mapping[str, Any],
    protocol: ManipulationProtocol = METAWORLD_10,
    execute: int = 4,
) -> list[dict[str, Any]]:
    """Do every episode of a protocol that `out` does not hold yet; return all, in order.

    `settings` says which policy this is; a folder with other settings is refused.
    """
    if not 1 <= execute <= config.chunk:
        raise InputError(f"eval: execute must be from 1 to {config.chunk}, found {execute}")
    check_installed()
    asked = {**settings, "execute": execute, "protocol": protocol.to_dict()}
    asked = json.loads(json.dumps(asked))
    kept = out / SETTINGS
    if kept.is_file() and read_json(kept) != asked:
        raise InputError(f"{out}: holds an evaluation of other settings; give another --out")
    write_json(kept, asked)
    rows = _read(out / EPISODES)
    done = {(row["task"], row["goal"]) for row in rows}
    goals = {
        name: [goal for goal in protocol.goals() if (name, goal) not in done]
        for name in protocol.tasks
    }
    if left := sum(map(len, goals.values())):
        tasks = [MetaworldTask(name, protocol) for name in protocol.tasks if goals[name]]
        found = roll_out(predict, config, tasks, goals, execute=execute)
        total = len(protocol.tasks) * protocol.episodes
        with (
            (out / EPISODES).open("a", encoding="utf-8") as file,
            tqdm(found, total=total, initial=total - left, desc=out.name, unit="episode") as bar,
        ):
            for outcome in bar:
                file.write(json.dumps(vars(outcome)) + "\n")
                file.flush()
                rows.append(vars(outcome))
        for task in tasks:
            task.close()
    order = {name: place for place, name in enumerate(protocol.tasks)}
    return sorted(rows, key=lambda row: (order[row["task"]], row["goal"]))


def _read(path: Path) -> list[dict[str, Any]]:
    """Read finished episodes; a line that was cut short is dropped, and the file with it."""
    if not path.is_file():
        return []
    lines = path.read_text("utf-8").split("\n")
    rows = [json.loads(line) for line in lines[:-1] if line]
    if lines[-1]:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    fields = set(Outcome.__dataclass_fields__)
    if any(set(row) != fields for row in rows):
        raise InputError(f"{path}: not the episodes of an evaluation; give another --out")
    return rows


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return success by task and over tasks, with standard errors.

    Of a task with n episodes and rate p: sqrt(p (1 - p) / n). Over T tasks, the mean of their
    rates: sqrt(sum of the squared errors) / T (tasks are fixed, goals are drawn).
    """
    tasks: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(row["task"] for row in rows):
        own = [row for row in rows if row["task"] == name]
        rate = sum(row["success"] for row in own) / len(own)
        tasks[name] = {
            "success": rate,
            "standard_error": math.sqrt(rate * (1 - rate) / len(own)),
            "episodes": len(own),
        }
    errors = math.fsum(task["standard_error"] ** 2 for task in tasks.values())
    good = [row for row in rows if row["success"]]
    return {
        "success": math.fsum(task["success"] for task in tasks.values()) / len(tasks),
        "standard_error": math.sqrt(errors) / len(tasks),
        "episodes": len(rows),
        "steps_of_successes": sum(r["steps"] for r in good) / len(good) if good else None,
        "metres_of_successes": sum(r["path"] for r in good) / len(good) if good else None,
        "tasks": tasks,
    }


def paired(
    ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Return the mean difference in success, ours - theirs, on the same episodes, and its error.

    With d_i in {-1, 0, 1}: the error within each task is sd(d) / sqrt(n), combined over tasks as
    in `summary`.
    """
    other = {(row["task"], row["goal"]): row["success"] for row in theirs}
    if {(row["task"], row["goal"]) for row in ours} != set(other):
        raise InputError("a paired difference needs the same episodes of both policies")
    by_task: dict[str, list[float]] = {}
    for row in ours:
        difference = float(row["success"]) - float(other[row["task"], row["goal"]])
        by_task.setdefault(row["task"], []).append(difference)
    means = [float(np.mean(values)) for values in by_task.values()]
    errors = [
        float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else 0.0
        for values in by_task.values()
    ]
    return {
        "difference": float(np.mean(means)),
        "standard_error": math.sqrt(math.fsum(float(error) for error in errors)) / len(means),
    }


def observations(
    protocol: ManipulationProtocol, config: VlaConfig, *, steps: int = 12
) -> list[VlaBatch]:
    """Return one observation of every task at batch 1, some steps into an expert's episode."""
    seen = []
    for name in protocol.tasks:
        task = MetaworldTask(name, protocol)
        task.reset(protocol.first_goal)
        for _ in range(steps):
            task.step(task.expert_action())
        recent = np.zeros(config.chunk * config.action, np.float32)
        seen.append(as_batch(config, [task.observe()], [recent]))
        task.close()
    return seen


@torch.no_grad()
def time_decisions(predict: Predict, batches: Sequence[VlaBatch], *, repeats: int = 200) -> Timing:
    """Time decisions at batch 1, after as many for warming up as there are observations."""
    for batch in batches:
        predict(batch)
    taken = []
    for number in range(repeats):
        begin = time.perf_counter()
        predict(batches[number % len(batches)])
        taken.append((time.perf_counter() - begin) * 1e3)
    return Timing(
        median_ms=float(np.median(taken)),
        p95_ms=float(np.percentile(taken, 95)),
        threads=torch.get_num_threads(),
        repeats=repeats,
    )


@torch.no_grad()
def count_flops(work: Callable[[VlaBatch], Any], batches: Sequence[VlaBatch]) -> float:
    """Return the mean operations of some work on observations, as they are run."""
    counts = []
    for batch in batches:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            work(batch)
        counts.append(counter.get_total_flops())
    return float(np.mean(counts))


def write_result(
    out: Path,
    rows: Sequence[Mapping[str, Any]],
    *,
    protocol: ManipulationProtocol,
    settings: Mapping[str, Any],
    flops: Flops,
    timing: Timing,
) -> dict[str, Any]:
    """Write ``result.json`` and return it."""
    result = {
        **summary(rows),
        "protocol": protocol.to_dict(),
        "protocol_hash": protocol.hash,
        "settings": dict(settings),
        "flops": vars(flops),
        "timing": vars(timing),
        "gl": choose_gl(),
        "version": __version__,
    }
    write_json(out / RESULT, result)
    return result


def score_policy(
    folder: Path, out: Path, *, protocol: ManipulationProtocol = METAWORLD_10, execute: int = 4
) -> dict[str, Any]:
    """Score a saved policy in `out`; return what ``result.json`` holds."""
    policy = from_pretrained(folder)
    config = policy.config
    settings: dict[str, Any] = {"policy": str(folder), "weights": sha256(folder / WEIGHTS)}
    rows = evaluate_policy(
        policy, config, out, settings=settings, protocol=protocol, execute=execute
    )
    batches = observations(protocol, config)

    def layers(batch: VlaBatch) -> None:
        tokens = torch.zeros(len(batch), config.tokens, config.width)
        for layer in policy.layers:
            layer(tokens, policy.bias)

    flops = Flops(total=count_flops(policy, batches), backbone=count_flops(layers, batches))
    timing = time_decisions(policy, batches)
    settings = {**settings, "execute": execute}
    return write_result(out, rows, protocol=protocol, settings=settings, flops=flops, timing=timing)
