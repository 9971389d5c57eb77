"""`sterna show`: an episode as a picture, or a walk in continuous space as a video."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from sterna.commands.common import find_data, parse, say
from sterna.errors import InputError
from sterna.recipes.options import Common


@dataclass(frozen=True, kw_only=True)
class Show(Common):
    """Draw an episode: on a graph from above; in continuous space as a video beside the map."""

    episode: tyro.conf.Positional[str]
    """Episode, for example 6440_1."""
    split: str = "val_unseen"
    """Its split."""
    task: Literal["r2r", "r4r", "reverie", "reverie-v2", "rxr", "soon", "ndh", "vlnce"] = "r2r"
    """Annotations to read; vlnce: those in continuous space."""
    episodes: Path | None = None
    """Episode file of VLN-CE (.json.gz) to read instead."""
    walk: Path | None = None
    """Trajectory or submission file with the walk (continuous: a _gt file, or one that holds
    actions for each episode); none: the reference alone."""
    policy: Path | None = None
    """Run or saved policy that walks it now (graphs)."""
    agent: Literal["follower"] | None = None
    """Who walks it now (continuous): the shortest-path follower."""
    protocol: str = "R2R_CE"
    """Body, camera and actions (continuous): R2R_CE or RXR_CE."""
    fps: float = 4.0
    """Pictures a second (continuous)."""
    out: tuple[Path, ...] = field(default_factory=lambda: (Path("episode.png"),))
    """Pictures to write, .png or .svg; continuous: .mp4, .gif, or .png (the last moment)."""


def show(argv: Sequence[str]) -> int:
    """Draw an episode."""
    from sterna.recipes.options import use_threads
    from sterna.recipes.pictures import show_episode

    args: Show = parse(Show, argv, "show")
    if args.episodes is not None or args.task == "vlnce":
        return _show_walk(args)
    if args.agent is not None:
        raise InputError("show: --agent walks continuous episodes; add --task vlnce or --episodes")
    use_threads(args.threads if args.policy else None)
    root = find_data(args.data)
    files = show_episode(
        root, args.episode, args.split, args.out, task=args.task, walk=args.walk, policy=args.policy
    )
    names = [str(file) for file in files]
    say("\n".join(names), {"out": names}, args.json)
    return 0


def _show_walk(args: Show) -> int:
    from sterna.data.layout import Layout
    from sterna.recipes.options import use_threads
    from sterna.recipes.videos import show_walk

    if args.policy is not None:
        raise InputError("show: --policy walks graphs; give --walk FILE or --agent follower")
    use_threads(args.threads)
    shown = show_walk(
        args.episodes or Layout(find_data(args.data)).vlnce(args.split),
        args.episode,
        args.out,
        walk=args.walk,
        agent=args.agent,
        protocol=args.protocol,
        threads=args.threads or os.cpu_count() or 1,
        fps=args.fps,
    )
    names = [str(file) for file in shown.files]
    if shown.note:
        print(shown.note, file=sys.stderr)
    say("\n".join(names), {"out": names, "note": shown.note}, args.json)
    return 0
