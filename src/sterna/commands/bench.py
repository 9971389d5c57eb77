"""`sterna bench`: what policies cost on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from sterna.commands.common import parse, say


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Time one agent's episodes and steps, with memory, file sizes and FLOPs, in one table.

    A model is a preset (random weights), a run or saved policy, a student of ActDistill, or an
    exported folder. Engines: torch, torch-compile, onnx, onnx-int8, and of students onnx-static,
    onnx-static-int8; a model without engines takes all it has. What is not
    exported yet is exported for the occasion. Ratios are against the first arm named.
    """

    models: tyro.conf.Positional[tuple[str, ...]] = (
        "duet-r2r:torch",
        "minivln:torch,torch-compile,onnx,onnx-int8",
    )
    """MODEL or MODEL:ENGINE,ENGINE, one or more."""
    out: Path = Path("runs/latency")
    """Folder for latency.json, latency.md and latency.png."""
    threads: tuple[int, ...] = (1, 2)
    """Numbers of CPU threads; every arm is measured with each."""
    rounds: int = 8
    """Turns of every arm; all arms take turns."""
    episodes: int = 4
    """Measured episodes a turn, after one that is not."""
    steps: int = 7
    """Decisions an episode."""
    words: int = 44
    """Word pieces of the instruction."""
    views: int = 36
    """Views at every place."""
    objects: int = 8
    """Objects at every place, for policies that read them."""
    seed: int = 0
    """Of random weights, words and features."""
    rho: float | None = None
    """Budget of routed policies (default: each one's usual one)."""
    demos: Path | None = None
    """Demonstrations whose held-out frames policies of actions see, or egocentric walks for
    navigators that answer in words (default: made-up frames)."""
    json: bool = False
    """Print one JSON object on standard output."""


def latency(argv: Sequence[str]) -> int:
    """Measure latency."""
    from sterna.edge.bench.episode import Shape
    from sterna.edge.bench.process import Plan
    from sterna.edge.bench.table import markdown
    from sterna.recipes.latency import run_latency

    args: Latency = parse(Latency, argv, "bench latency")
    names = ("steps", "words", "views", "objects", "seed", "rho")
    shape = Shape(**{name: getattr(args, name) for name in names})
    plan = Plan(rounds=args.rounds, episodes=args.episodes)
    result = run_latency(
        args.models, args.out, threads=args.threads, shape=shape, plan=plan, demos=args.demos
    )
    say(f"{markdown(result)}\nwritten: {', '.join(result['files'])}", result, args.json)
    return 0
