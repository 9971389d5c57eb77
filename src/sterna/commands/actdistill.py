"""`sterna actdistill probe | distill | calibrate | eval`: run only the layers that are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from sterna.commands.common import find_data, parse, say
from sterna.commands.training import recipe_first
from sterna.errors import InputError
from sterna.recipes.actdistill import ACTDISTILL, ActRun, DuetAct
from sterna.recipes.arguments import choices
from sterna.recipes.options import Common, use_threads


@dataclass(frozen=True, kw_only=True)
class ProbeArguments(Common):
    """Stage 1 of this recipe; every value can be changed."""

    config: Annotated[Any, tyro.conf.arg(name="")]
    out: Path
    """Folder of the probe; the same command continues a run that was killed."""
    seed: int | None = None
    """Seed of heads, order and dropout, in both stages."""
    iterations: int | None = None
    """Optimiser steps (short for --probe.iterations)."""


@dataclass(frozen=True, kw_only=True)
class DistillArguments(Common):
    """Stage 2 of this recipe; every value can be changed."""

    config: Annotated[Any, tyro.conf.arg(name="")]
    out: Path
    """Folder of the student; the same command continues a run that was killed."""
    probed: Path = Path("runs/probe")
    """Folder of the probe."""
    seed: int | None = None
    """Seed of router, order, gates and dropout."""
    iterations: int | None = None
    """Optimiser steps (short for --loop.iterations)."""


@dataclass(frozen=True, kw_only=True)
class CalibrateArguments(Common):
    """Thresholds of a trained student for several budgets."""

    student: Annotated[Path, tyro.conf.Positional]
    """Folder of `sterna actdistill distill`."""
    rhos: tuple[float, ...] = ()
    """Budgets: shares of all units' FLOPs; none given: 1, 0.75, 0.5, 0.35, 0.25 and the one it was
    trained for, as far as what always runs leaves them."""


@dataclass(frozen=True, kw_only=True)
class EvalArguments(Common):
    """A student at several budgets, its teacher, and what else is as cheap."""

    student: Annotated[Path, tyro.conf.Positional]
    """Folder of `sterna actdistill distill`."""
    split: str = "val_unseen"
    rhos: tuple[float, ...] = (0.5,)
    """Budgets that the student was calibrated for."""
    arms: tuple[str, ...] = ("student", "teacher", "first-k", "cosine", "greedy", "random-k")
    draws: int = 3
    """Random selections a budget."""
    about: int | None = None
    """Walk every k-th episode, about this many."""
    beside: tuple[Path, ...] = ()
    """Other policies of the teacher's kind, scored as they are: a shallower one, say."""
    measure: int = 4
    """Episodes that are walked again one by one, timed and counted."""
    out: Path | None = None
    """Folder for actdistill_SPLIT.json."""


def _recipes(kind: type[Any]) -> Any:
    """Return one subcommand a recipe; the configuration's own type shows its options."""
    marked = []
    for name, recipe in ACTDISTILL.items():
        made = _typed(kind, type(recipe()))
        marked.append(choices(made, {name: recipe}))
    out = marked[0]
    for more in marked[1:]:
        out = out | more
    return out


def _typed(kind: type[Any], config: type[Any]) -> Any:
    """Return the arguments with a configuration of one kind."""
    made = type(kind.__name__, (kind,), {"__doc__": kind.__doc__, "__module__": kind.__module__})
    made.__annotations__ = {"config": Annotated[config, tyro.conf.arg(name="")]}
    return dataclass(frozen=True, kw_only=True)(made)


def _root(config: ActRun, data: Path | None) -> Path | None:
    return find_data(data) if isinstance(config, DuetAct) or data is not None else None


def probe(argv: Sequence[str]) -> int:
    """Train heads beside a frozen teacher and write its targets."""
    from sterna.recipes.routed import run_probe

    about = (
        "Stage 1 of ActDistill: heads learn what each layer of the frozen teacher knows, then "
        "every sample's targets are written. Choose a recipe:"
    )
    args = parse(_recipes(ProbeArguments), recipe_first(argv), "actdistill probe", about)
    use_threads(args.threads)
    config = _seeded(args.config, args.seed)
    if args.iterations is not None:
        config = replace(config, probe=replace(config.probe, iterations=args.iterations))
    found = run_probe(config, _root(config, args.data), args.out, threads=args.threads)
    text = (
        f"{args.out}: {found['units']} units probed on {found['samples']} samples in "
        f"{found['seconds']:.0f} s\nnext: sterna actdistill distill RECIPE --probed {args.out}"
    )
    say(text, {"out": str(args.out), **found}, args.json)
    return 0


def distill(argv: Sequence[str]) -> int:
    """Train a routed student beside the probe's targets."""
    from sterna.recipes.routed import run_distill

    about = (
        "Stage 2 of ActDistill: the student learns to act with fewer layers, beside what the probe "
        "wrote down. Choose a recipe:"
    )
    args = parse(_recipes(DistillArguments), recipe_first(argv), "actdistill distill", about)
    use_threads(args.threads)
    config = _seeded(args.config, args.seed)
    if args.iterations is not None:
        config = replace(config, loop=replace(config.loop, iterations=args.iterations))
    root = _root(config, args.data)
    found = run_distill(config, root, args.probed, args.out, threads=args.threads)
    text = (
        f"{args.out}: {found['iteration']} iterations in {found['seconds']:.0f} s\n"
        f"next: sterna actdistill calibrate {args.out}"
    )
    say(text, {"out": str(args.out), **found}, args.json)
    return 0


def _seeded(config: ActRun, seed: int | None) -> ActRun:
    if seed is None:
        return config
    return replace(
        config, probe=replace(config.probe, seed=seed), loop=replace(config.loop, seed=seed)
    )


def calibrate(argv: Sequence[str]) -> int:
    """Find the thresholds of several budgets."""
    from sterna.recipes.routed import open_run
    from sterna.recipes.routed_table import run_calibrate

    about = "Find the threshold of each budget on held-out samples: one student serves them all."
    args = parse(CalibrateArguments, argv, "actdistill calibrate", about)
    use_threads(args.threads)
    root = _root(open_run(args.student), args.data)
    found = run_calibrate(args.student, root, args.rhos)
    lines = [
        f"rho {row['rho']:<5g} threshold {row['threshold']:+.3f}, runs {row['spent']:.3f} of all "
        "units' FLOPs"
        for row in found["budgets"]
    ]
    lines.append(f"next: sterna actdistill eval {args.student}")
    say("\n".join(lines), found, args.json)
    return 0


def evaluate(argv: Sequence[str]) -> int:
    """Score a student beside its teacher and beside fixed selections as costly."""
    from sterna.recipes.routed import open_run
    from sterna.recipes.routed_table import run_eval

    about = (
        "Score a student at several budgets, its teacher, and fixed selections of the teacher's "
        "layers that cost at least as much."
    )
    args = parse(EvalArguments, argv, "actdistill eval", about)
    use_threads(args.threads)
    found = run_eval(
        args.student,
        _root(open_run(args.student), args.data),
        args.split,
        args.rhos,
        args.arms,
        about=args.about,
        draws=args.draws,
        measured=args.measure,
        beside=_named(args.beside),
        out=args.out,
    )
    say("\n".join(_line(row) for row in found["rows"]), found, args.json)
    return 0


def _named(folders: Sequence[Path]) -> dict[str, Path]:
    named = {folder.name: folder for folder in folders}
    if len(named) < len(folders) or set(named) & {"student", "teacher"}:
        raise InputError(
            "--beside: rows take the names of the folders; give folders of different names, none "
            "called student or teacher"
        )
    return named


def _line(row: dict[str, Any]) -> str:
    shown = [
        n
        for n in ("SR", "SPL", "SR_1m", "SPL_1m", "first", "whole", "success")
        if n in row["scores"]
    ]
    scores = ", ".join(
        f"{n} {row['scores'][n]['mean']:.3f} ± {row['scores'][n]['standard_error'] or 0:.3f}"
        for n in shown
    )
    speed = row["milliseconds"].get("median")
    timed = "" if speed is None else f", {speed:.2f} ms a decision"
    return f"{row['arm']:<9} rho {row['rho']:<5g} runs {row['share']:.3f}{timed}: {scores}"
