"""`sterna ego sight`: a small navigator's vision tower learns to see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sterna.commands.common import parse, say
from sterna.data.ego.store import EgoCamera
from sterna.models.navigator.small import SMALL_SIZES, SmallConfig
from sterna.recipes.ego import EgoConfig
from sterna.recipes.options import use_threads
from sterna.recipes.sight import SMALL_SIGHT, SightConfig, learn_sight


@dataclass(frozen=True, kw_only=True)
class Sight:
    """Let the vision tower of a small navigator learn to see, from labels of rendered houses.

        sterna ego sight --out sight
        sterna sft navigator-s --walks.train walks --start.eyes sight --out run

    Runs that share a tower share what it saw in the walks. `sterna sft navigator-s` learns its own
    where none is named.
    """

    out: Path
    """The folder to write."""
    protocol: str = "R2R_CE_NAVID"
    """Whose camera it has, but for `camera`."""
    camera: str = "64x64@90"
    """WIDTHxHEIGHT@DEGREES, as that of the walks."""
    small: SmallConfig = field(default_factory=lambda: SMALL_SIZES)
    """Sizes of the navigator."""
    sight: SightConfig = field(default_factory=lambda: SMALL_SIGHT)
    threads: int | None = None
    """Threads of the arithmetic (default: torch's own)."""
    json: bool = False
    """Print one JSON object on standard output."""


def sight(argv: Sequence[str]) -> int:
    """Run `sterna ego sight`."""
    args: Sight = parse(Sight, argv, "ego sight")
    use_threads(args.threads)
    seen = EgoConfig(seeds="0:1", camera=args.camera, protocol=args.protocol).lens()
    camera = EgoCamera(
        width=seen.width, height=seen.height, hfov=seen.hfov, elevation=seen.elevation
    )
    scores = learn_sight(args.small, camera, args.sight, args.out)
    text = f"{args.out}: " + ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
    say(text, {"out": str(args.out), **scores}, args.json)
    return 0
