"""What `sterna actdistill calibrate` and `eval` do: thresholds, and the table of all arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from sterna import __version__
from sterna.actdistill.gates import measure_costs
from sterna.actdistill.router import calibrate, router_logits
from sterna.actdistill.stack import Stack, everything, static
from sterna.errors import InputError
from sterna.files import write_json
from sterna.recipes.routed import (
    CALIBRATION,
    KEPT,
    about_run,
    open_run,
    open_student,
    open_subject,
    student_gates,
)
from sterna.recipes.routing import Walked
from sterna.recipes.selections import Selections, batches_of

RHOS = (1.0, 0.75, 0.5, 0.35, 0.25)
"""Budgets of the usual curve."""
ARMS = ("student", "teacher", "first-k", "cosine", "greedy", "random-k")
"""What `eval` compares: the student, its teacher, and fixed selections of the teacher's units."""


def run_calibrate(folder: Path, root: Path | None, rhos: Sequence[float] = ()) -> dict[str, Any]:
    """Find the threshold of each budget on held-out samples; write ``calibration.json``.

    Without `rhos`: those of `RHOS`, and the one it was trained for, that leave room for what
    always runs.
    """
    config = open_run(folder)
    subject = open_subject(config, root)
    student, router = open_student(config, subject, folder)
    if router is None:
        raise InputError(f"{folder}: a fixed gate has no thresholds; its units are in {KEPT}")
    samples = subject.held_out()
    batches = batches_of(samples, config.loop.batch_size)
    costs = measure_costs(student, batches)
    logits = router_logits(student, router, batches)
    phases = [student.of_phase(phase) for phase in range(student.phases)]
    table = []
    usual = sorted({*RHOS, config.route.rho}, reverse=True)
    for rho in rhos or [rho for rho in usual if rho >= costs.share(())]:
        threshold = calibrate(logits, phases, costs, rho)
        gates = [(found > threshold).float().mean(0).tolist() for found in logits]
        open_ = [0.0] * len(student.units)
        for units, shares in zip(phases, gates, strict=True):
            for unit, share in zip(units, shares, strict=True):
                open_[unit] = 1.0 if student.units[unit].fixed else share
        spent = float(np.dot(open_, costs.each) / sum(costs.each))
        table.append({"rho": rho, "threshold": threshold, "spent": spent, "open": open_})
    found = {
        "version": __version__,
        "units": [unit.name for unit in student.units],
        "costs": list(costs.each),
        "samples": len(samples),
        "budgets": table,
    }
    write_json(folder / CALIBRATION, found)
    return found


def run_eval(
    folder: Path,
    root: Path | None,
    split: str,
    rhos: Sequence[float],
    arms: Sequence[str],
    *,
    about: int | None = None,
    draws: int = 3,
    measured: int = 4,
    beside: Mapping[str, Path] = MappingProxyType({}),
    out: Path | None = None,
) -> dict[str, Any]:
    """Score the student at each budget, and every baseline at the FLOPs the student then used.

    Baselines keep fixed units of the teacher, chosen on held-out samples, never fewer FLOPs than
    the student spent (`gates.reach`); `draws` of random-k are walked. The first `measured` episodes
    are walked again one by one to time and count them. A student with a fixed gate has one budget,
    what it keeps; shares are of all units of the teacher. `beside` are other policies of the same
    kind by name, scored as they are (a shallower one from scratch, say).
    """
    unknown = [arm for arm in arms if arm not in ARMS]
    if unknown:
        raise InputError(f"actdistill: arm {unknown[0]!r} is none of {', '.join(ARMS)}")
    config = open_run(folder)
    subject = open_subject(config, root)
    student, router = open_student(config, subject, folder)
    rows: list[dict[str, Any]] = []
    if "teacher" in arms:
        walked = subject.score(subject.stack, everything(subject.stack), split, about, measured)
        rows.append(_row("teacher", 1.0, walked))
    baselines = Selections(subject, config, draws)
    others = {name: subject.other(folder) for name, folder in beside.items()}
    for rho in rhos if router is not None else (config.route.rho,):
        decide, named = student_gates(student, router, folder, rho)
        walked = subject.score(student, decide, split, about, measured)
        if config.smaller:  # its own units are not all of its teacher's
            walked.share *= _cost_beside(student, baselines)
        if "student" in arms:
            rows.append(_row("student", rho, walked, **named))
        for arm in arms:
            if arm not in ("student", "teacher"):
                for keep, more in baselines.chosen(arm, walked.share):
                    decide = static(subject.stack, keep)
                    score = subject.score(subject.stack, decide, split, about, measured)
                    rows.append(_row(arm, rho, score, keep=list(keep), **more))
    for name, stack in others.items():
        walked = subject.score(stack, everything(stack), split, about, measured)
        walked.share *= _cost_beside(stack, baselines)
        rows.append(_row(name, 1.0, walked))
    result = {
        "version": __version__,
        "split": split,
        "student": str(folder),
        "teacher": str(config.teacher),
        "seed": config.loop.seed,
        "threads": torch.get_num_threads(),
        "units": [unit.name for unit in subject.stack.units],
        "config": about_run(config),
        "rows": rows,
    }
    if out is not None:
        write_json(out / f"actdistill_{split}.json", result)
    return result


def _cost_beside(stack: Stack, baselines: Selections) -> float:
    """Return the FLOPs of all units of a policy over those of the teacher's."""
    return sum(measure_costs(stack, baselines.held).each) / sum(baselines.costs.each)


def _row(arm: str, rho: float, walked: Walked, **more: Any) -> dict[str, Any]:
    return {
        "arm": arm,
        "rho": rho,
        "scores": walked.scores,
        "share": walked.share,
        "flops_per_decision": walked.flops,
        "counted": walked.counted,
        "milliseconds": walked.milliseconds,
        "open": walked.open_,
        "per_episode": walked.per_episode,
        **more,
    }
