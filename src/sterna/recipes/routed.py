"""What `sterna actdistill probe | distill | calibrate | eval` do.

A probe's folder holds ``heads.safetensors`` and ``targets/``; a student's ``student.safetensors``,
``router.safetensors``, ``policy/`` (the same weights as their own kind is saved, graph parts and
router left out) and, once calibrated, ``calibration.json``.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState  # type: ignore[import-untyped]
from safetensors.torch import load, save
from torch import Tensor, nn

from sterna import __version__
from sterna.actdistill.distill import (
    DistillTask,
    Live,
    Source,
    Stored,
    inherit_heads,
    stream_map,
)
from sterna.actdistill.gates import (
    Costs,
    cosine_importance,
    first_order,
    greedy_path,
    held_out_loss,
    measure_costs,
    random_order,
    reach,
)
from sterna.actdistill.graph import GraphHeads
from sterna.actdistill.losses import last_step
from sterna.actdistill.probe import ProbeTask, Teacher, slices, write_targets
from sterna.actdistill.router import Router, calibrate
from sterna.actdistill.stack import Decide, RouterInput, Stack, everything, gated, static
from sterna.actdistill.stages import Samples, StageRunner
from sterna.actdistill.targets import INDEX, TargetStore
from sterna.actdistill.tuning import merge, student_of
from sterna.errors import InputError
from sterna.files import read_bytes, read_json, write_bytes, write_json
from sterna.recipes.actdistill import ActRun, DuetAct, NavigatorAct, VlaAct
from sterna.recipes.routing import DuetSubject, Subject, Walked
from sterna.recipes.runs import as_json, defaults_of, write_run

HEADS, TARGETS = "heads.safetensors", "targets"
STUDENT, ROUTER, POLICY = "student.safetensors", "router.safetensors", "policy"
CALIBRATION = "calibration.json"
KIND = "kind"
RHOS = (1.0, 0.75, 0.5, 0.35, 0.25)
"""Budgets of the usual curve."""
ARMS = ("student", "teacher", "first-k", "cosine", "greedy", "random-k")
"""What `eval` compares: the student, its teacher, and fixed selections of the teacher's units."""
_KINDS: dict[str, type[ActRun]] = {
    "duet": DuetAct,
    "navigator": NavigatorAct,
    "vla": VlaAct,
}


def open_subject(config: ActRun, root: Path | None) -> Subject:
    """Open what a configuration names."""
    if isinstance(config, DuetAct):
        if root is None:
            raise InputError("actdistill: no data folder; give --data DIR or set STERNA_DATA")
        return DuetSubject(config, root)
    if isinstance(config, NavigatorAct):
        from sterna.recipes.routing_navigator import NavigatorSubject

        return NavigatorSubject(config, root)
    if isinstance(config, VlaAct):
        from sterna.recipes.routing_vla import VlaSubject

        return VlaSubject(config)
    raise InputError(f"actdistill: no subject for {type(config).__name__}")


def _about(config: ActRun) -> dict[str, Any]:
    """Return a configuration as JSON values, with its kind."""
    kind = next(name for name, made in _KINDS.items() if isinstance(config, made))
    return {KIND: kind, **as_json(config)}


# Stage 1.


def run_probe(
    config: ActRun, root: Path | None, out: Path, *, threads: int | None = None
) -> dict[str, Any]:
    """Train the heads beside the frozen teacher, then write every sample's targets; resumable."""
    subject = open_subject(config, root)
    samples = subject.learn()
    torch.manual_seed(config.probe.seed)
    task = ProbeTask(subject.stack, config.graph, kind=_kind(config, subject.stack))
    progress = _run(task, samples, config, out, probing=True)
    write_bytes(out / HEADS, save(_plain(task.heads)))
    if not (out / TARGETS / INDEX).is_file() and not config.live:
        size = config.probe.batch_size
        write_targets(
            task.teacher,
            samples,
            out / TARGETS,
            batch_size=size,
            about={"teacher": str(config.teacher)},
        )
    write_run(out, config, progress_values=progress, threads=threads)
    return {"samples": len(samples), "units": len(subject.stack.units), **progress}


def _kind(config: ActRun, stack: Stack) -> Any:
    return last_step(stack.kind) if config.losses.variant == "paper" else None


def _run(
    task: nn.Module,
    samples: Samples,
    config: ActRun,
    out: Path,
    *,
    probing: bool,
    keep: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    # accelerate keeps one precision a process.
    AcceleratorState._reset_state()
    rates = () if probing else (("router.", config.router_rate), ("heads.", config.head_rate))
    runner = StageRunner(
        task,
        samples,
        out,
        config.probe if probing else config.loop,
        config.probe_optimizer if probing else config.optimizer,
        rates=rates,
        config=_about(config),
        defaults=defaults_of(config),
        keep=keep,
    )
    return dict(vars(runner.run()))


def _plain(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}


def _fill(module: nn.Module, file: Path) -> None:
    """Load weights strictly; `InputError` for those of another module."""
    state = load(read_bytes(file))
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()[:120]
        raise InputError(f"{file}: weights of another model ({reason}); run it again") from error


# Stage 2.


def run_distill(
    config: ActRun, root: Path | None, probed: Path, out: Path, *, threads: int | None = None
) -> dict[str, Any]:
    """Train the student beside the probe's targets; resumable."""
    if not (probed / HEADS).is_file():
        raise InputError(
            f"{probed}: holds no probe ({HEADS}); run `sterna actdistill probe` first and name its "
            "folder (--probed)"
        )
    subject = open_subject(config, root)
    samples = subject.learn()
    torch.manual_seed(config.loop.seed)
    task = _distillation(config, subject, samples, probed)
    progress = _run(task, samples, config, out, probing=False, keep=None)
    merge(task.stack)
    write_bytes(out / STUDENT, save(_plain(task.stack)))
    if task.router is not None:
        write_bytes(out / ROUTER, save(_plain(task.router)))
    if not config.smaller:
        subject.keep(task.stack.eval(), out / POLICY, _notes(config))
    write_run(out, config, progress_values=progress, threads=threads)
    return {"samples": len(samples), "units": len(task.stack.units), **progress}


def _distillation(config: ActRun, subject: Subject, samples: Samples, probed: Path) -> DistillTask:
    teacher = subject.stack
    kind = _kind(config, teacher)
    theirs = GraphHeads(teacher, config.graph, kind)
    _fill(theirs, probed / HEADS)
    source: Source = Live(Teacher(teacher, theirs))
    if not config.live:
        store = TargetStore(probed / TARGETS)
        store.check(teacher, samples.ids)
        source = Stored(store, teacher)
    student = new_student(config, teacher)
    units = stream_map(teacher, student) if config.smaller else tuple(range(len(teacher.units)))
    heads = GraphHeads(student, config.graph, kind)
    inherit_heads(heads, theirs, units)
    router = None if config.route.gate == "fixed" else Router(student, config.router)
    some = samples.batch(range(min(config.loop.batch_size, len(samples))))
    return DistillTask(
        student,
        heads,
        source,
        config.losses,
        config.route,
        router=router,
        units=units,
        frozen_heads=config.frozen_heads,
        costs=measure_costs(student.eval(), [some]).each,
    )


def new_student(config: ActRun, teacher: Stack) -> Stack:
    """Return the student as stage 2 begins: the teacher's copy, or its chosen units alone."""
    begin = teacher.pruned(config.smaller) if config.smaller else teacher
    return student_of(begin, config.tune, rank=config.rank)


def _notes(config: ActRun) -> str:
    return (
        f"Distilled from {config.teacher} by ActDistill ({config.losses.variant}), gate "
        f"{config.route.gate}, rho {config.route.rho:g}, seed {config.loop.seed}; it needs its "
        "router to skip layers, without it all run."
    )


# What is read back.


def open_run(folder: Path) -> ActRun:
    """Return the configuration of a run; `InputError` for a folder of another kind."""
    file = folder / "recipe.json"
    if not (folder / STUDENT).is_file() or not file.is_file():
        raise InputError(
            f"{folder}: holds no student ({STUDENT}); give the folder of `sterna actdistill "
            "distill`"
        )
    values = dict(read_json(file))
    kind = _KINDS.get(str(values.pop(KIND, "")))
    if kind is None:
        raise InputError(f"{file}: no configuration of ActDistill; update sterna")
    found: ActRun = rebuilt(kind, values)
    return found


def rebuilt(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """Return a configuration from its JSON values, nested ones too."""
    hints = typing.get_type_hints(kind)
    odd = set(values) - {item.name for item in fields(kind)}
    if odd:
        raise InputError(f"recipe.json: unknown settings {sorted(odd)}; update sterna")
    return kind(**{name: _value(hints[name], value) for name, value in values.items()})


def _value(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    options = (
        typing.get_args(hint)
        if typing.get_origin(hint) in (typing.Union, types.UnionType)
        else (hint,)
    )
    for option in options:
        if is_dataclass(option):
            return rebuilt(option, value)  # type: ignore[arg-type]
        if option is Path:
            return Path(value)
        if typing.get_origin(option) is tuple and isinstance(value, list):
            return tuple(value)
    return value


def open_student(config: ActRun, subject: Subject, folder: Path) -> tuple[Stack, Router | None]:
    """Return a trained student and its router, in eval mode."""
    student = new_student(config, subject.stack)
    merge(student)
    _fill(student, folder / STUDENT)
    router = None
    if config.route.gate != "fixed":
        router = Router(student, config.router)
        _fill(router, folder / ROUTER)
        router.eval()
    return student.eval(), router


# Calibration.


def run_calibrate(folder: Path, root: Path | None, rhos: Sequence[float] = ()) -> dict[str, Any]:
    """Find the threshold of each budget on held-out samples; write ``calibration.json``.

    Without `rhos` those of `RHOS` that leave room for what always runs.
    """
    config = open_run(folder)
    subject = open_subject(config, root)
    student, router = open_student(config, subject, folder)
    if router is None:
        raise InputError(f"{folder}: a fixed gate has no thresholds; its units are route.keep")
    samples = subject.held_out()
    batches = _batches(samples, config.loop.batch_size)
    costs = measure_costs(student, batches)
    logits = router_logits(student, router, batches)
    phases = [student.of_phase(phase) for phase in range(student.phases)]
    table = []
    for rho in rhos or [rho for rho in RHOS if rho >= costs.share(())]:
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


def _batches(samples: Samples, size: int) -> list[Any]:
    return [samples.batch(index) for index in slices(len(samples), size)]


@torch.no_grad()
def router_logits(stack: Stack, router: Router, batches: Sequence[Any]) -> list[Tensor]:
    """Return the logits of all rows by phase, [R, U]; later phases see what open gates leave."""
    kept: list[list[Tensor]] = [[] for _ in range(stack.phases)]

    def decide(phase: int, seen: RouterInput) -> Tensor:
        logits = router.logits(phase, seen)
        kept[phase].append(logits.cpu())
        return router.held(phase, (logits > 0).float())

    for batch in batches:
        gated(stack, stack.prepare(batch), decide, skip=True)
    return [torch.cat(parts) for parts in kept]


def threshold_of(folder: Path, rho: float) -> float:
    """Return a budget's threshold; `InputError` where it was not calibrated for."""
    if not (folder / CALIBRATION).is_file():
        raise InputError(f"{folder}: not calibrated; run `sterna actdistill calibrate {folder}`")
    budgets = read_json(folder / CALIBRATION)["budgets"]
    for row in budgets:
        if abs(row["rho"] - rho) < 1e-9:
            return float(row["threshold"])
    known = ", ".join(f"{row['rho']:g}" for row in budgets)
    raise InputError(f"{folder}: calibrated for rho {known}, not {rho:g}; calibrate for it too")


# Evaluation.


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
    out: Path | None = None,
) -> dict[str, Any]:
    """Score the student at each budget, and every baseline at the FLOPs the student then used.

    Baselines keep fixed units of the teacher, chosen on held-out samples, never fewer FLOPs than
    the student spent (`gates.reach`); `draws` of random-k are walked. The first `measured` episodes
    are walked again one by one to time and count them. A student with a fixed gate
    has one budget, what it keeps.
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
    baselines = _Baselines(subject, config, draws)
    for rho in rhos if router is not None else (config.route.rho,):
        decide, named = _student_gates(config, student, router, folder, rho)
        walked = subject.score(student, decide, split, about, measured)
        if "student" in arms:
            rows.append(_row("student", rho, walked, **named))
        for arm in arms:
            if arm not in ("student", "teacher"):
                for keep, more in baselines.chosen(arm, walked.share):
                    decide = static(subject.stack, keep)
                    score = subject.score(subject.stack, decide, split, about, measured)
                    rows.append(_row(arm, rho, score, keep=list(keep), **more))
    result = {
        "version": __version__,
        "split": split,
        "student": str(folder),
        "teacher": str(config.teacher),
        "seed": config.loop.seed,
        "threads": torch.get_num_threads(),
        "units": [unit.name for unit in subject.stack.units],
        "config": _about(config),
        "rows": rows,
    }
    if out is not None:
        write_json(out / f"actdistill_{split}.json", result)
    return result


def _student_gates(
    config: ActRun, student: Stack, router: Router | None, folder: Path, rho: float
) -> tuple[Decide, dict[str, Any]]:
    if router is None:
        keep = config.route.keep
        return static(student, keep), {"keep": list(keep)}
    threshold = threshold_of(folder, rho)
    return router.decide(threshold), {"threshold": threshold}


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


class _Baselines:
    """Fixed selections of the teacher's units at given costs; orders are worked out once."""

    def __init__(self, subject: Subject, config: ActRun, draws: int) -> None:
        self.subject, self.config, self.draws = subject, config, draws
        self._held: list[Any] | None = None
        self._costs: Costs | None = None
        self._orders: dict[str, list[int]] = {}

    def chosen(self, arm: str, share: float) -> list[tuple[tuple[int, ...], dict[str, Any]]]:
        """Return the selections of an arm that cost `share` of all, or just above."""
        if arm == "random-k":
            return [
                (reach(random_order(self.costs, n), self.costs, share), {"draw": n})
                for n in range(self.draws)
            ]
        return [(reach(self._order(arm), self.costs, share), {})]

    @property
    def held(self) -> list[Any]:
        if self._held is None:
            self._held = _batches(self.subject.held_out(), self.config.loop.batch_size)
        return self._held

    @property
    def costs(self) -> Costs:
        if self._costs is None:
            self._costs = measure_costs(self.subject.stack, self.held)
        return self._costs

    def _order(self, arm: str) -> list[int]:
        stack = self.subject.stack
        if arm not in self._orders:
            if arm == "first-k":
                order = first_order(stack)
            elif arm == "cosine":
                found = cosine_importance(stack, self.held)
                order = sorted(range(len(found)), key=lambda n: -found[n])
            else:
                order = greedy_path(held_out_loss(stack, self.held), self.costs)
            self._orders[arm] = order
        return self._orders[arm]
