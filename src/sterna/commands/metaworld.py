"""`sterna metaworld`: demonstrations, training and scores of small policies on Meta-World."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from sterna.commands.common import parse, say
from sterna.metrics.manipulation import METAWORLD_10, ManipulationProtocol


@dataclass(frozen=True, kw_only=True)
class Demos:
    """Let scripted experts demonstrate tasks; keep what succeeded.

    Every second episode is disturbed, its labels are not. A killed run goes on by the same command.
    """

    out: Path
    """The folder to write."""
    tasks: tuple[str, ...] = METAWORLD_10.tasks
    """Tasks of Meta-World."""
    episodes: int = 100
    """Successful episodes of each task."""
    stride: int = 3
    """Every so-manieth step is a frame."""
    sigma: float = 0.3
    """Noise on the actions of every second episode, standard deviation."""
    push: float = 0.04
    """Chance a step that a random push of four steps begins there."""
    seed: int = 0
    """Chooses the scenes; never those of evaluations."""
    workers: int = 1
    """Processes side by side; they change speed alone."""
    json: bool = False
    """Print one JSON object on standard output."""


def demos(argv: Sequence[str]) -> int:
    """Run `sterna metaworld demos`."""
    args: Demos = parse(Demos, argv, "metaworld demos")
    from sterna.envs.demonstrate import NoiseConfig
    from sterna.recipes.demos import DemosConfig, make_demos

    config = DemosConfig(
        protocol=suite(args.tasks),
        episodes=args.episodes,
        stride=args.stride,
        noise=NoiseConfig(sigma=args.sigma, push=args.push),
        seed=args.seed,
    )
    manifest = make_demos(config, args.out, workers=args.workers)
    totals = manifest["totals"]
    text = (
        f"{args.out}: {totals['episodes']} demonstrations of {len(args.tasks)} tasks, "
        f"{totals['frames']} frames\nnext: sterna metaworld train vla-s --demos {args.out} "
        "--out runs/vla-s"
    )
    say(text, {"out": str(args.out), **totals}, args.json)
    return 0


def suite(tasks: tuple[str, ...]) -> ManipulationProtocol:
    """Return the protocol of some tasks: the published one for its own, else another name."""
    if tasks == METAWORLD_10.tasks:
        return METAWORLD_10
    return replace(METAWORLD_10, name="METAWORLD_CUSTOM", tasks=tasks)


def train(argv: Sequence[str]) -> int:
    """Run `sterna metaworld train`."""
    from sterna.recipes.arguments import CloningArguments, choices, configured
    from sterna.recipes.metaworld import POLICIES, train_policy
    from sterna.recipes.options import use_threads

    args: CloningArguments = parse(choices(CloningArguments, POLICIES), argv, "metaworld train")
    use_threads(args.threads)
    out = train_policy(configured(args), args.out, threads=args.threads)
    text = f"{out}: trained\nnext: sterna metaworld eval {out}/last --out {out}/eval"
    say(text, {"out": str(out)}, args.json)
    return 0


@dataclass(frozen=True, kw_only=True)
class Eval:
    """Score a policy on Meta-World: the same goals for every policy.

    A killed evaluation goes on by the same command.
    """

    policy: Annotated[Path, tyro.conf.Positional]
    """A policy's folder (`RUN/last`)."""
    out: Path
    """The folder to write."""
    tasks: tuple[str, ...] = METAWORLD_10.tasks
    """Tasks of Meta-World."""
    episodes: int = 50
    """Episodes of each task."""
    execute: int = 4
    """Actions of a chunk that are executed before the next decision."""
    threads: int | None = None
    """CPU threads (default: all cores)."""
    json: bool = False
    """Print one JSON object on standard output."""


def evaluate(argv: Sequence[str]) -> int:
    """Run `sterna metaworld eval`."""
    args: Eval = parse(Eval, argv, "metaworld eval")
    from sterna.recipes.manipulation import score_policy
    from sterna.recipes.options import use_threads

    use_threads(args.threads)
    protocol = suite(args.tasks)
    if args.episodes != protocol.episodes:
        protocol = replace(protocol, name="METAWORLD_CUSTOM", episodes=args.episodes)
    result = score_policy(args.policy, args.out, protocol=protocol, execute=args.execute)
    lines = [
        f"{name:24s} {100 * task['success']:5.1f} ± {100 * task['standard_error']:.1f}"
        for name, task in result["tasks"].items()
    ]
    lines += [
        f"{'mean':24s} {100 * result['success']:5.1f} ± {100 * result['standard_error']:.1f} "
        f"({result['episodes']} episodes, protocol {protocol.name} {protocol.hash})",
        f"a decision: {result['flops']['total'] / 1e6:.1f} MFLOPs "
        f"({result['flops']['backbone'] / 1e6:.1f} in the layers), "
        f"{result['timing']['median_ms']:.2f} ms at batch 1",
    ]
    say("\n".join(lines), result, args.json)
    return 0
