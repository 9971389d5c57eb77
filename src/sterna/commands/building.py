"""`sterna data import`: bring your own building."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import tyro

from sterna.commands.common import parse, say
from sterna.recipes.building import ImportConfig


@dataclass(frozen=True, kw_only=True)
class Import(ImportConfig):
    """Make a data folder of panoramas with poses: graph, episodes, view features.

    FOLDER holds equirectangular pictures (JPEG, PNG; level, twice as wide as high) and poses.csv or
    poses.json: id, x, y, z (metres, z up, at the camera), heading (of a picture's middle), and, if
    you like, neighbours and image. Everything is checked first. A killed import goes on by the same
    command. The way through, with a house as if it were yours: docs/guides/own-building.md.
    """

    folder: tyro.conf.Positional[Path]
    """Folder of panoramas and their poses."""
    out: Path
    """The data folder to write."""
    threads: int | None = None
    """CPU threads (default: all cores)."""
    json: bool = False
    """Print one JSON object on standard output."""


def bring(argv: Sequence[str]) -> int:
    """Run the command."""
    from sterna.recipes.building import import_building
    from sterna.recipes.options import use_threads

    args: Import = parse(Import, argv, "data import")
    use_threads(args.threads)
    config = ImportConfig(**{f.name: getattr(args, f.name) for f in fields(ImportConfig)})
    made = import_building(config, args.folder, args.out)
    told = ", ".join(f"{count} instructions ({split})" for split, count in made.episodes.items())
    text = (
        f"{made.out}: building {made.scan} of {made.panoramas} panoramas and {made.edges} edges, "
        f"{told}\nnext: sterna data check {made.out}"
    )
    say(text, asdict(made) | {"out": str(made.out)}, args.json)
    return 0
