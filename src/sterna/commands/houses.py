"""`sterna data make houses`: a data folder of houses from seeds; `data encoder`: what sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import tyro

from sterna.commands.common import parse, say
from sterna.recipes.encoder import EncoderConfig
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


@dataclass(frozen=True, kw_only=True)
class Eyes(EncoderConfig):
    """Train a view encoder: a small network that names what pictures of houses show.

    A killed run goes on where its last epoch ended, by the same command. The one that comes with
    the package: --seeds 900000 900300 --held-out 950000 950004 --epochs 5 --half.
    """

    out: Path
    """The folder to write; `sterna data make houses --encoder FOLDER` sees with it."""
    workers: int | None = None
    """Processes that draw pictures (default: one a core); they change speed alone."""
    half: bool = False
    """Write weights of 16 bits."""
    json: bool = False
    """Print one JSON object on standard output."""


def encoder(argv: Sequence[str]) -> int:
    """Run the command."""
    import os

    from sterna.files import read_json
    from sterna.recipes.encoder import train_encoder

    args: Eyes = parse(Eyes, argv, "data encoder")
    config = EncoderConfig(**{f.name: getattr(args, f.name) for f in fields(EncoderConfig)})
    workers = args.workers or os.cpu_count() or 1
    out = train_encoder(config, args.out, workers=workers, half=args.half)
    notes = read_json(out / "config.json")["notes"]
    scores = {name: notes["scores"][name]["words"] for name in ("things", "rooms", "colours")}
    lines = [f"{name}: mean average precision {value:.3f}" for name, value in scores.items()]
    text = "\n".join([*lines, f"{out}\nnext: sterna data make houses --encoder {out} --out DIR"])
    say(text, {"out": str(out), **notes}, args.json)
    return 0
