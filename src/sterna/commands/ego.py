"""`sterna ego make` and `sterna ego export`: egocentric walks for training navigators."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import tyro

from sterna.commands.common import find_data, parse, say
from sterna.recipes.ego import EgoConfig


@dataclass(frozen=True, kw_only=True)
class Make(EgoConfig):
    """Walk episodes with an expert and keep what the agent saw, did, and should have done.

    From seeds, nothing else is needed:

        sterna ego make --seeds 0:40 --task easy --noise 0.1 --camera 112x112@90 --out walks

    From a folder of `sterna data make houses`, replaying its reference trajectories:

        sterna ego make --data houses --split train --out walks

    A frame is kept once a step; samples with their history are made of them when a navigator is
    trained. A killed run goes on by the same command; other settings need another --out.
    """

    out: Path
    """The folder to write."""
    data: Path | None = None
    """With --split, the data folder (default: STERNA_DATA, else ./data)."""
    workers: int | None = None
    """Processes side by side (default: one a core); they change speed alone."""
    json: bool = False
    """Print one JSON object on standard output."""


def make(argv: Sequence[str]) -> int:
    """Run `sterna ego make`."""
    from sterna.recipes.ego import make_ego

    args: Make = parse(Make, argv, "ego make")
    config = EgoConfig(**{f.name: getattr(args, f.name) for f in fields(EgoConfig)})
    data = find_data(args.data) if config.split else None
    begin = time.perf_counter()
    manifest = make_ego(config, args.out, data=data, workers=args.workers)
    seconds = time.perf_counter() - begin
    n = manifest["counts"]
    text = (
        f"{args.out}: {n['episodes']} episodes, {n['walks']} walks, {n['frames']} frames "
        f"({n['bytes'] / 1e6:.1f} MB), {n['samples']} samples; {n['left_out']} left out\n"
        f"next: sterna ego export {args.out} --format sharegpt --out DIR, for other trainers"
    )
    value = {"out": str(args.out), "protocol": manifest["protocol_hash"], **n}
    say(text, {**value, "seconds": round(seconds, 3)}, args.json)
    return 0


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write walks for other trainers.

    sharegpt: VLN-Ego's JSON (conversations and image files), as LLaMA-Factory and others read it.
    lerobot: a LeRobotDataset v3.0 folder (Parquet; needs the extra `lerobot`).
    """

    store: tyro.conf.Positional[Path]
    """A folder of `sterna ego make`."""
    out: Path
    """The folder to write; it must be new or empty."""
    format: Literal["sharegpt", "lerobot"] = "sharegpt"
    """What to write."""
    n: int = 6
    """sharegpt: actions of an answer."""
    memory: Literal["long-short", "average", "decay", "recent"] = "long-short"
    """sharegpt: which past frames are shown (average: VLN-Ego's own)."""
    budget: int = 16
    """sharegpt: past frames shown, at most."""
    order: Literal["ABCD", "DABC"] = "ABCD"
    """sharegpt: order of the options in the prompt (DABC: VLN-Ego's own)."""
    stride: int = 1
    """sharegpt: every so-manieth step of an episode becomes a sample."""
    json: bool = False
    """Print one JSON object on standard output."""


def export(argv: Sequence[str]) -> int:
    """Run `sterna ego export`."""
    from sterna.recipes.egoexport import export_lerobot, export_sharegpt

    args: Export = parse(Export, argv, "ego export")
    if args.format == "lerobot":
        found = export_lerobot(args.store, args.out)
    else:
        found = export_sharegpt(
            args.store,
            args.out,
            n=args.n,
            memory=args.memory,
            budget=args.budget,
            order=args.order,
            stride=args.stride,
        )
    text = f"{args.out}: " + ", ".join(f"{value} {name}" for name, value in found.items())
    say(text, {"out": str(args.out), "format": args.format, **found}, args.json)
    return 0


@dataclass(frozen=True, kw_only=True)
class Episodes(EgoConfig):
    """Draw episodes in houses of seeds and write them as VLN-CE does, for eval and practice.

        sterna ego episodes --seeds 500000:500010 --task easy --walks 50 --out easy.json.gz
        sterna eval --env house --agent RUN/last --episodes easy.json.gz

    They are those that `sterna ego make` walks with the same options.
    """

    out: Path
    """The file to write: .json or .json.gz."""
    json: bool = False
    """Print one JSON object on standard output."""


def episodes(argv: Sequence[str]) -> int:
    """Run `sterna ego episodes`."""
    from sterna.recipes.ego import draw_episodes

    args: Episodes = parse(Episodes, argv, "ego episodes")
    config = EgoConfig(**{f.name: getattr(args, f.name) for f in fields(EgoConfig)})
    count = draw_episodes(config, args.out)
    say(f"{args.out}: {count} episodes", {"out": str(args.out), "episodes": count}, args.json)
    return 0
