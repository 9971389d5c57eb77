"""ActDistill on Meta-World: probe the teacher, distil a routed student, calibrate it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from sterna.actdistill.adapters.vla import VlaStack
from sterna.actdistill.distill import DistillTask, RouteConfig, Stored, inherit_heads
from sterna.actdistill.gates import measure_costs
from sterna.actdistill.graph import GraphConfig, GraphHeads
from sterna.actdistill.losses import LossConfig
from sterna.actdistill.probe import ProbeTask, write_targets
from sterna.actdistill.router import Router, RouterConfig, calibrate
from sterna.actdistill.stages import StageRunner
from sterna.actdistill.targets import INDEX, TargetStore
from sterna.actdistill.tuning import Tune, merge, student_of
from sterna.actdistill.vla_policy import all_logits, save_routed
from sterna.files import sha256, write_bytes
from sterna.models.pretrained import WEIGHTS
from sterna.models.vla import VlaBatch
from sterna.models.vla_folder import from_pretrained
from sterna.models.weights import read_tensors
from sterna.recipes.metaworld import held_out_frames, open_samples
from sterna.recipes.runs import as_json, defaults_of, write_run
from sterna.train.cloning import Frames, Samples
from sterna.train.loop import LoopConfig
from sterna.train.schedule import OptimizerConfig

HEADS = "heads.safetensors"


def _loop(iterations: int) -> LoopConfig:
    return LoopConfig(
        iterations=iterations,
        batch_size=64,
        log_every=20,
        eval_every=iterations,
        save_every=100,
        select_by="last",
    )


def _optimizer(rate: float) -> OptimizerConfig:
    return OptimizerConfig(
        learning_rate=rate,
        schedule="cosine",
        final_rate=0.0,
        weight_decay=0.01,
        clip_norm=1.0,
        warmup=20,
    )


@dataclass(frozen=True, kw_only=True)
class RoutesRun:
    """Both stages for a teacher on Meta-World."""

    demos: Path = Path("demos")
    """Folder of `sterna metaworld demos`."""
    teacher: Path = Path("runs/vla-s/last")
    """The policy to make faster."""
    graph: GraphConfig = field(default_factory=lambda: GraphConfig(width=32, size=32))
    """Graphs over tokens and layers; training alone."""
    probe: LoopConfig = field(default_factory=lambda: _loop(300))
    """Stage 1."""
    probe_optimizer: OptimizerConfig = field(default_factory=lambda: _optimizer(2e-3))
    router: RouterConfig = field(default_factory=RouterConfig)
    route: RouteConfig = field(default_factory=RouteConfig)
    """Gates and their budget."""
    losses: LossConfig = field(default_factory=LossConfig)
    tune: Tune = "full"
    """What of the student learns beside the router."""
    loop: LoopConfig = field(default_factory=lambda: _loop(1000))
    """Stage 2."""
    optimizer: OptimizerConfig = field(default_factory=lambda: _optimizer(3e-4))
    router_rate: float = 10.0
    """Factor on the learning rate for the router."""
    shift: int = 2
    """Largest random shift of a picture the student sees, pixels."""
    judged: int = 1024
    """Held-out frames that calibrate the threshold and order the baselines."""


def opened(config: RoutesRun) -> tuple[VlaStack, Samples]:
    """Open the teacher and its demonstrations."""
    teacher = VlaStack(from_pretrained(config.teacher))
    return teacher, open_samples(config.demos, teacher.model.config)


def held_out(config: RoutesRun, samples: Samples) -> list[VlaBatch]:
    """Return held-out frames in batches."""
    frames = held_out_frames(samples, config.judged)
    return [samples.batch(frames[n : n + 128]) for n in range(0, len(frames), 128)]


def probe_teacher(config: RoutesRun, out: Path) -> Path:
    """Stage 1 in `out`: heads beside the frozen teacher, then targets of every training frame."""
    if (out / "targets" / INDEX).is_file():
        return out
    teacher, samples = opened(config)
    frames = Frames(samples, samples.train)
    torch.manual_seed(config.probe.seed)
    task = ProbeTask(teacher, config.graph)
    runner = StageRunner(
        task,
        frames,
        out,
        config.probe,
        config.probe_optimizer,
        config=_about(config),
        defaults=defaults_of(config),
    )
    progress = runner.run()
    state = {name: value.contiguous() for name, value in task.heads.state_dict().items()}
    write_bytes(out / HEADS, save(state, metadata={"format": "pt"}))
    write_targets(task.teacher, frames, out / "targets", batch_size=128, about=_about(config))
    write_run(out, config, progress_values=vars(progress), threads=None)
    return out


def _about(config: RoutesRun) -> dict[str, Any]:
    """Return what decides the targets."""
    values = as_json(config)
    kept = {name: values[name] for name in ("demos", "graph", "probe", "probe_optimizer")}
    return {**kept, "teacher": sha256(config.teacher / WEIGHTS)}


def distil_policy(config: RoutesRun, probed: Path, out: Path) -> Path:
    """Stage 2 in `out`: the student beside the teacher's targets; then the threshold for rho.

    A fixed gate (`route.keep`) leaves a physically pruned policy, others a routed one, in
    ``last/``.
    """
    teacher, samples = opened(config)
    torch.manual_seed(config.loop.seed)
    student = student_of(teacher, config.tune)
    assert isinstance(student, VlaStack)
    heads = _heads(teacher, student, config, probed)
    fixed = config.route.gate == "fixed"
    task = DistillTask(
        student,
        heads,
        Stored(TargetStore(probed / "targets"), teacher),
        config.losses,
        config.route,
        router=None if fixed else Router(student, config.router),
    )
    runner = StageRunner(
        task,
        Frames(samples, samples.train, shift=config.shift),
        out,
        config.loop,
        config.optimizer,
        rates=(("router.", config.router_rate),),
        config=as_json(config),
        defaults=defaults_of(config),
    )
    progress = runner.run()
    if config.tune == "lora":
        merge(student)
    _keep(config, task, samples, out / "last")
    write_run(out, config, progress_values=vars(progress), threads=None)
    return out


def _heads(teacher: VlaStack, student: VlaStack, config: RoutesRun, probed: Path) -> GraphHeads:
    """Return the student's heads, begun as those of the probe."""
    theirs = GraphHeads(teacher, config.graph)
    theirs.load_state_dict(read_tensors(probed / HEADS))
    mine = GraphHeads(student, config.graph)
    inherit_heads(mine, theirs, range(len(student.units)))
    return mine


def _keep(config: RoutesRun, task: DistillTask, samples: Samples, folder: Path) -> None:
    student = task.stack.eval()
    assert isinstance(student, VlaStack)
    notes = f"Distilled from {config.teacher} ({config.route.gate}, rho {config.route.rho})."
    if task.router is None:
        student.pruned(config.route.keep).model.save_pretrained(folder, notes=notes)
        return
    batches = held_out(config, samples)
    costs = measure_costs(student, batches[:1])
    logits = all_logits(student, task.router, batches)
    threshold = calibrate([logits], [student.of_phase(0)], costs, config.route.rho)
    save_routed(student, task.router, threshold, folder, notes=notes)


def fixed_run(config: RoutesRun, keep: tuple[int, ...]) -> RoutesRun:
    """Return the same distillation with units that are always the same."""
    return replace(config, route=replace(config.route, gate="fixed", keep=keep))
