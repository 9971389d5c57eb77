"""`sterna data make houses`: a data folder of houses made from seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import tyro

from sterna.commands.common import parse, say
from sterna.recipes.makehouses import HousesConfig


@dataclass(frozen=True, kw_only=True)
class Make(HousesConfig):
    """Make houses with instructions, in the files of R2R, REVERIE and VLN-CE.

    Houses are furnished, described and rendered from their seeds alone: the same options write the
    same bytes on every machine. A killed run goes on by the same command.
    """

    what: tyro.conf.Positional[Literal["houses"]]
    """What to make."""
    out: Path
    """The data folder to write."""
    workers: int | None = None
    """Processes side by side (default: one a core); they change speed alone."""
    json: bool = False
    """Print one JSON object on standard output."""


def make(argv: Sequence[str]) -> int:
    """Run the command."""
    from sterna.recipes.makehouses import make_houses

    args: Make = parse(Make, argv, "data make")
    config = HousesConfig(**{f.name: getattr(args, f.name) for f in fields(HousesConfig)})
    out = make_houses(config, args.out, workers=args.workers)
    counts = {"train": config.train, "val_unseen": config.val_unseen}
    text = (
        f"{out}: {config.train} training houses, {config.val_unseen} unseen ones\n"
        f"next: sterna data check {out}"
    )
    say(text, {"out": str(out), **counts}, args.json)
    return 0
