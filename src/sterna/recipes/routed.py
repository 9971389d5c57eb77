"""What `sterna actdistill probe | distill | calibrate | eval` do.

A probe's folder holds ``heads.safetensors``, ``targets/`` and, of a DUET, ``walks.json`` (which
stage 2 walks again); a student's ``student.safetensors``, ``router.safetensors`` (with a fixed gate
``keep.json``), ``policy/`` (the same weights as their own kind is saved, graph parts and router
left out) and, once calibrated, ``calibration.json``.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState  # type: ignore[import-untyped]
from safetensors.torch import load, save
from torch import Tensor, nn

from sterna.actdistill.adapters.duet import DuetStack
from sterna.actdistill.distill import (
    DistillTask,
    Live,
    RouteConfig,
    Source,
    Stored,
    inherit_heads,
    stream_map,
)
from sterna.actdistill.gates import measure_costs
from sterna.actdistill.graph import GraphHeads
from sterna.actdistill.losses import last_step
from sterna.actdistill.probe import ProbeTask, Teacher, write_targets
from sterna.actdistill.router import Router
from sterna.actdistill.stack import Decide, Stack, static
from sterna.actdistill.stages import Samples, StageRunner
from sterna.actdistill.targets import INDEX, TargetStore
from sterna.actdistill.tuning import merge, student_of
from sterna.actdistill.walking import WalkSamples, read_walks, write_walks
from sterna.errors import InputError
from sterna.files import read_bytes, read_json, write_bytes, write_json
from sterna.recipes.actdistill import ActRun, DuetAct, NavigatorAct, VlaAct
from sterna.recipes.routing import DuetSubject, Subject
from sterna.recipes.runs import as_json, defaults_of, write_run
from sterna.recipes.selections import Selections
from sterna.train.loop import STATE_FILE

HEADS, TARGETS, WALKS = "heads.safetensors", "targets", "walks.json"
STUDENT, ROUTER, POLICY = "student.safetensors", "router.safetensors", "policy"
KEPT, CALIBRATION = "keep.json", "calibration.json"
KIND = "kind"
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


def about_run(config: ActRun) -> dict[str, Any]:
    """Return a configuration as JSON values, with its kind."""
    kind = next(name for name, made in _KINDS.items() if isinstance(config, made))
    return {KIND: kind, **as_json(config)}


# Stage 1.


def run_probe(
    config: ActRun, root: Path | None, out: Path, *, threads: int | None = None
) -> dict[str, Any]:
    """Train the heads beside the frozen teacher, then write every sample's targets; resumable."""
    subject = open_subject(config, root)
    # Walks of a run that goes on, whose configuration is checked; others may be of another teacher.
    goes_on = (out / STATE_FILE).is_file()
    samples = _samples(config, subject, out if goes_on else None)
    if isinstance(subject, DuetSubject) and isinstance(samples, WalkSamples) and not goes_on:
        write_walks(out / WALKS, samples.drawn, subject.digest)
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


def _samples(config: ActRun, subject: Subject, probed: Path | None) -> Samples:
    """Return what both stages learn from; in a further round the student's own walks too.

    Walks that a probe recorded are walked again as they were.
    """
    if isinstance(subject, DuetSubject) and probed and (probed / WALKS).is_file():
        subject.known = read_walks(probed / WALKS, subject.digest)
    samples = subject.learn()
    if walker := _walker(config):
        assert isinstance(subject, DuetSubject) and isinstance(samples, WalkSamples)
        earlier = open_run(walker)
        stack, router = open_student(earlier, subject, walker)
        decide, _ = student_gates(stack, router, walker, config.route.rho)
        assert isinstance(stack, DuetStack)
        subject.add_own(samples, stack, decide)
    return samples


def _walker(config: ActRun) -> Path | None:
    return config.walker if isinstance(config, DuetAct) else None


def _kind(config: ActRun, stack: Stack) -> Any:
    return last_step(stack.kind) if config.losses.variant == "paper" else None


def _run(
    task: nn.Module,
    samples: Samples,
    config: ActRun,
    out: Path,
    *,
    probing: bool,
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
        config=about_run(config),
        defaults=defaults_of(config),
    )
    return dict(vars(runner.run()))


def _plain(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}


def fill(module: nn.Module, file: Path) -> None:
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
    samples = _samples(config, subject, probed)
    route = _selected(config, subject)
    torch.manual_seed(config.loop.seed)
    task = _distillation(config, route, subject, samples, probed)
    progress = _run(task, samples, config, out, probing=False)
    stack, router = task.learnt
    merge(stack)
    if route.gate == "fixed":
        write_json(out / KEPT, {"keep": list(route.keep)})
    write_bytes(out / STUDENT, save(_plain(stack)))
    if router is not None:
        write_bytes(out / ROUTER, save(_plain(router)))
    if not config.smaller:
        subject.keep(stack.eval(), out / POLICY, _notes(config))
    write_run(out, config, progress_values=progress, threads=threads)
    return {"samples": len(samples), "units": len(stack.units), **progress}


def _selected(config: ActRun, subject: Subject) -> RouteConfig:
    """Return the gates with the units of a fixed one found, where they are not named."""
    route = config.route
    if route.gate != "fixed" or route.select == "keep":
        return route
    keep = Selections(subject, config, 1).fitting(route.select, route.rho, config.loop.seed)
    return replace(route, keep=keep, select="keep")


def _distillation(
    config: ActRun, route: RouteConfig, subject: Subject, samples: Samples, probed: Path
) -> DistillTask:
    teacher = subject.stack
    kind = _kind(config, teacher)
    theirs = GraphHeads(teacher, config.graph, kind)
    fill(theirs, probed / HEADS)
    source: Source = Live(Teacher(teacher, theirs))
    if not config.live:
        store = TargetStore(probed / TARGETS)
        store.check(teacher, samples.ids)
        source = Stored(store, teacher)
    walker = _walker(config)
    student = _begun(config, subject, walker) if walker else new_student(config, teacher)
    units = stream_map(teacher, student) if config.smaller else tuple(range(len(teacher.units)))
    heads = GraphHeads(student, config.graph, kind)
    inherit_heads(heads, theirs, units)
    router = None if route.gate == "fixed" else Router(student, config.router)
    if walker:
        route = replace(route, warm_up=0.0, anneal=0.0, noise=(route.noise[1], route.noise[1]))
        if router is not None and (walker / ROUTER).is_file():
            fill(router, walker / ROUTER)
    some = samples.batch(range(min(config.loop.batch_size, len(samples))))
    return DistillTask(
        student,
        heads,
        source,
        config.losses,
        route,
        router=router,
        units=units,
        frozen_heads=config.frozen_heads,
        costs=measure_costs(student.eval(), [some]).each,
        average=config.average,
    )


def _begun(config: ActRun, subject: Subject, walker: Path) -> Stack:
    """Return a student that begins as an earlier one, which must keep the same units."""
    earlier = open_run(walker)
    if earlier.smaller != config.smaller:
        raise InputError(
            f"{walker}: a student of units {list(earlier.smaller) or 'all'}, the new one has "
            f"{list(config.smaller) or 'all'}; give --smaller as it was given there"
        )
    student, _ = open_student(earlier, subject, walker)
    return student_of(student, config.tune, rank=config.rank)


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


def student_gates(
    student: Stack, router: Router | None, folder: Path, rho: float
) -> tuple[Decide, dict[str, Any]]:
    """Return a student's gates at a budget, and what they follow: a threshold, or units kept."""
    if router is None:
        keep = read_json(folder / KEPT)["keep"]
        return static(student, keep), {"keep": keep}
    threshold = threshold_of(folder, rho)
    return router.decide(threshold), {"threshold": threshold}


def open_student(config: ActRun, subject: Subject, folder: Path) -> tuple[Stack, Router | None]:
    """Return a trained student and its router, in eval mode."""
    student = new_student(config, subject.stack)
    merge(student)
    fill(student, folder / STUDENT)
    router = None
    if config.route.gate != "fixed":
        router = Router(student, config.router)
        fill(router, folder / ROUTER)
        router.eval()
    return student.eval(), router
