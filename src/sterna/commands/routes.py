"""`sterna metaworld study`: ActDistill on Meta-World against everything as cheap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sterna.commands.common import parse, say


@dataclass(frozen=True, kw_only=True)
class Study:
    """Distil a routed student of a teacher; score it beside static choices of as few layers.

    Arms: the teacher; its first, most changing (cosine), greedily kept and random layers; a shallow
    policy from scratch (--shallow); routed students, one a seed; with --tuned also static choices
    that are distilled alike. The same goals for all. A killed study goes on by the same command.
    """

    teacher: Path
    """The policy to make faster (`RUN/last`)."""
    demos: Path
    """Its demonstrations."""
    out: Path
    """The folder to write."""
    shallow: Path | None = None
    """A policy as deep as the budget allows, trained from scratch (`RUN/last`)."""
    rho: float = 0.5
    """Budget: share of the teacher's layers' FLOPs."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of students and of random layers."""
    tuned: tuple[Literal["first", "cosine", "greedy"], ...] = ()
    """Static choices that are distilled like the student."""
    iterations: int = 1000
    """Optimiser steps of a student."""
    probe_iterations: int = 300
    """Optimiser steps of the heads beside the teacher."""
    episodes: int = 50
    """Episodes of each task."""
    threads: int | None = None
    """CPU threads (default: all cores)."""
    json: bool = False
    """Print one JSON object on standard output."""


def study(argv: Sequence[str]) -> int:
    """Run `sterna metaworld study`."""
    args: Study = parse(Study, argv, "metaworld study")
    from sterna.recipes.metaworld_study import run_study
    from sterna.recipes.options import use_threads

    use_threads(args.threads)
    result = run_study(_config(args), args.out)
    say(table(result), result, args.json)
    return 0


def _config(args: Study) -> Any:
    from dataclasses import replace

    from sterna.actdistill.distill import RouteConfig
    from sterna.metrics.manipulation import METAWORLD_10
    from sterna.recipes.metaworld_routes import RoutesRun
    from sterna.recipes.metaworld_study import StudyRun

    base = RoutesRun(demos=args.demos, teacher=args.teacher, route=RouteConfig(rho=args.rho))
    routes = replace(
        base,
        loop=replace(base.loop, iterations=args.iterations, eval_every=args.iterations),
        probe=replace(base.probe, iterations=args.probe_iterations),
    )
    protocol = METAWORLD_10
    if args.episodes != protocol.episodes:
        protocol = replace(protocol, name="METAWORLD_CUSTOM", episodes=args.episodes)
    return StudyRun(
        routes=routes,
        shallow=args.shallow,
        protocol=protocol,
        seeds=args.seeds,
        tuned=args.tuned,
    )


def table(result: Mapping[str, Any]) -> str:
    """Return the arms as a Markdown table."""
    lines = [
        "| policy | layers' FLOPs | success | minus teacher | ms at batch 1 | times faster |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, arm in result["arms"].items():
        gap = arm["minus_teacher"]
        lines.append(
            f"| {name} | {100 * arm['backbone_share']:.0f}% "
            f"| {100 * arm['success']:.1f} ± {100 * arm['standard_error']:.1f} "
            f"| {100 * gap['difference']:+.1f} ± {100 * gap['standard_error']:.1f} "
            f"| {arm['timing']['median_ms']:.2f} | {arm['times_faster']:.2f} |"
        )
    return "\n".join(lines)
