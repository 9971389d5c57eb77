"""`sterna data check`, `embed` and `r4r`: what a data folder holds, and what is derived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from sterna.commands.common import find_data, parse, say
from sterna.recipes.options import Common


@dataclass(frozen=True, kw_only=True)
class Check:
    """Say what a data folder holds, what is missing, and who offers that on what terms."""

    folder: tyro.conf.Positional[Path | None] = None
    """Data folder (default: STERNA_DATA, else ./data)."""
    full: bool = False
    """Read every view feature (slow), not a sample."""
    json: bool = False
    """Print one JSON object on standard output."""


def check(argv: Sequence[str]) -> int:
    """Say what a data folder holds."""
    from sterna.data.check import check_data

    args: Check = parse(Check, argv, "data check")
    report = check_data(find_data(args.folder), full=args.full)
    say(report.text(), report.as_dict(), args.json)
    return 0 if report.ok else 1


@dataclass(frozen=True, kw_only=True)
class Embed(Common):
    """Embed text observations once into a view store (HDF5, eight views a viewpoint)."""

    out: Path
    """The HDF5 file to write; a killed run continues."""
    encoder: str = "all-MiniLM-L6-v2"
    """Sentence encoder: a folder, or a name (found installed, or on the hub)."""
    objects: bool = True
    """Beside each caption, the mean of its view's object names."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 is several times faster on recent CPUs; cosines change by about 1e-3."""


def embed(argv: Sequence[str]) -> int:
    """Embed text observations."""
    from sterna.data.layout import Layout
    from sterna.data.textobs import embed_observations
    from sterna.models.sentence import SentenceEncoder
    from sterna.recipes.options import use_threads

    args: Embed = parse(Embed, argv, "data embed")
    use_threads(args.threads)
    source = Layout(find_data(args.data)).textobs
    encoder = SentenceEncoder.from_folder(args.encoder, precision=args.precision)
    path = embed_observations(source, encoder, args.out, objects=args.objects)
    text = f"{path}\nnext: sterna train text-teacher --data.views {path}"
    say(text, {"out": str(path)}, args.json)
    return 0


@dataclass(frozen=True, kw_only=True)
class DeriveR4R(Common):
    """Derive R4R annotations from R2R (join paths whose ends lie within 3 m)."""

    split: str
    """R2R split to derive from."""
    out: Path
    """The JSON file to write."""


def r4r(argv: Sequence[str]) -> int:
    """Derive R4R."""
    from sterna.data.layout import Layout
    from sterna.data.r2r import load_graphs, read_r2r
    from sterna.data.r4r import derive_r4r
    from sterna.files import write_json

    args: DeriveR4R = parse(DeriveR4R, argv, "data r4r")
    layout = Layout(find_data(args.data))
    episodes = read_r2r(layout.root, args.split)
    entries = derive_r4r(episodes, load_graphs(layout.connectivity, episodes))
    write_json(args.out, entries)
    count = sum(len(entry["instructions"]) for entry in entries)
    found = {"out": str(args.out), "paths": len(entries), "instructions": count}
    say(f"{args.out}: {len(entries)} paths, {count} instructions", found, args.json)
    return 0
