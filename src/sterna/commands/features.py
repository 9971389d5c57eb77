"""`sterna features views`, `objects` and `merge`: what an image encoder sees, in files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import tyro

from sterna.commands.common import find_data, parse, say
from sterna.errors import InputError
from sterna.recipes.featureconfig import FeatureConfig, ObjectConfig, read_shard


@dataclass(frozen=True, kw_only=True)
class Views(FeatureConfig):
    """Encode the 36 views of every viewpoint into one HDF5 file, as HAMT and DUET read them.

    A killed run goes on by the same command. Layouts, encoders, precision: docs/features.md.
    """

    pictures: tyro.conf.Positional[Path | None] = None
    out: Path
    """The HDF5 file to write."""
    workers: int | None = None
    """Processes side by side (default: one a core, on a GPU one); they change speed alone."""
    shard: str = "1/1"
    """Only the i-th of n parts, as i/n: for several cards or machines; `features merge` joins."""
    json: bool = False
    """Print one JSON object on standard output."""


def views(argv: Sequence[str]) -> int:
    """Run the command."""
    from sterna.recipes.features import extract_views

    args: Views = parse(Views, argv, "features views")
    config = FeatureConfig(**_settings(FeatureConfig, args))
    written = extract_views(config, args.out, workers=_workers(args), shard=read_shard(args.shard))
    return _report(written, args, f"sterna train RECIPE --data.views {args.out}")


@dataclass(frozen=True, kw_only=True)
class Objects(ObjectConfig):
    """Encode what boxes mark in the views (REVERIE's objects), in DUET's object layout.

    A killed run goes on by the same command. How objects are cut out: docs/features.md.
    """

    pictures: tyro.conf.Positional[Path | None] = None
    out: Path
    """The HDF5 file to write."""
    data: Path | None = None
    """Data folder that holds the boxes (default: STERNA_DATA, else ./data)."""
    workers: int | None = None
    """Processes side by side (default: one a core, on a GPU one); they change speed alone."""
    shard: str = "1/1"
    """Only the i-th of n parts, as i/n: for several cards or machines; `features merge` joins."""
    json: bool = False
    """Print one JSON object on standard output."""


def objects(argv: Sequence[str]) -> int:
    """Run the command."""
    from sterna.recipes.features import extract_objects, find_boxes

    args: Objects = parse(Objects, argv, "features objects")
    config = ObjectConfig(**_settings(ObjectConfig, args))
    needs_data = config.boxes is None and config.houses is None
    boxes = find_boxes(config, find_data(args.data) if needs_data else None)
    shard = read_shard(args.shard)
    written = extract_objects(config, args.out, boxes, workers=_workers(args), shard=shard)
    return _report(written, args, f"sterna train RECIPE --data.objects {args.out}")


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Join the files of shards into one; viewpoints are sorted, values copied as they are."""

    parts: tyro.conf.Positional[tuple[Path, ...]]
    """The files to join."""
    out: Path
    """The HDF5 file to write."""
    json: bool = False
    """Print one JSON object on standard output."""


def merge(argv: Sequence[str]) -> int:
    """Run the command."""
    from sterna.recipes.featuremerge import merge_features

    args: Merge = parse(Merge, argv, "features merge")
    if not args.parts:
        raise InputError("features merge: give the files to join")
    count = merge_features(args.parts, args.out)
    say(
        f"{args.out}: {count:,} viewpoints of {len(args.parts)} files",
        {"out": str(args.out), "viewpoints": count, "files": len(args.parts)},
        args.json,
    )
    return 0


def _settings(kind: Any, args: Any) -> dict[str, Any]:
    return {entry.name: getattr(args, entry.name) for entry in fields(kind)}


def _workers(args: Any) -> int:
    from sterna.models.vision import find_device

    if args.workers is not None:
        if args.workers < 1:
            raise InputError(f"--workers is at least 1, found {args.workers}")
        return int(args.workers)
    return (os.cpu_count() or 1) if find_device(args.device) == "cpu" else 1


def _report(written: Any, args: Any, following: str) -> int:
    logits = f" + {written.logits} logits" if written.logits else ""
    found = {
        "out": str(written.path),
        "viewpoints": written.viewpoints,
        "size": written.size,
        "logits": written.logits,
        "encoder": written.encoder,
        "digest": written.digest,
        "shard": args.shard,
    }
    rest = f"next: {following}"
    if args.shard != "1/1":
        rest = "next: the other shards, then sterna features merge"
    text = f"{written.path}: {written.viewpoints:,} viewpoints x {written.size}{logits}\n{rest}"
    say(text, found, args.json)
    return 0
