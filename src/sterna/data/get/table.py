"""The catalogue as people read it: a table, the terms, a plan of what a command would do."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sterna.data.get import disk
from sterna.data.get.install import Wish, addresses
from sterna.data.remote import Source

_HEAD = ("data", "what it is", "to fetch", "verified", "needed for")


def size(source: Source) -> str:
    """How much there is to fetch: to the byte where every part is known, else as told."""
    exact = source.bytes
    return source.size if exact is None else disk.human(exact)


def how(source: Source) -> str:
    """Whether a command can fetch it: "fetched", or "by hand"."""
    return "by hand" if source.by_hand else "fetched"


def row(name: str, source: Source, root: Path | None = None) -> dict[str, Any]:
    """Return one data set of the catalogue as JSON values; with `root`, whether it is there."""
    value: dict[str, Any] = {
        "data": name,
        "name": source.name,
        "publisher": source.where,
        "size": source.size,
        "bytes": source.bytes,
        "verified": source.verified,
        "terms": source.terms,
        "needed_for": source.needed_for,
        "folder": source.folder,
        "how": how(source),
        "by_hand": source.by_hand,
        "note": source.note,
        "files": [
            {"path": r.path, "urls": list(r.urls), "bytes": r.size, "sha256": r.sha256}
            for r in source.remotes
        ],
    }
    if root is not None:
        value["there"] = os.path.lexists(root / source.folder)
    return value


def catalogue(sources: Mapping[str, Source], root: Path) -> str:
    """Return the catalogue as a table for the terminal."""
    cells = [("", "data", "to fetch", "verified", "what it is")]
    for name, source in sources.items():
        there = "there" if os.path.lexists(root / source.folder) else ""
        told = "by hand" if source.by_hand else size(source).split(" (")[0].split(",")[0]
        cells.append((there, name, told, source.verified, source.name))
    return _aligned(cells)


def terms(sources: Mapping[str, Source]) -> str:
    """Return the terms of some data sets, grouped, and how to accept them."""
    grouped: dict[str, list[str]] = {}
    for name, source in sources.items():
        grouped.setdefault(source.terms, []).append(f"{name} ({source.where})")
    lines = ["These data come with terms, as their publishers state them:", ""]
    for said, names in grouped.items():
        lines += [f"  {said}", *(f"    {name}" for name in names), ""]
    return "\n".join(
        [*lines, "Read them at the publishers; the same command with --accept fetches."]
    )


def plan(sources: Mapping[str, Source], root: Path, wish: Wish) -> list[dict[str, Any]]:
    """Return what a command would fetch, from where, how much, to where; touches nothing."""
    steps = []
    for name, source in sources.items():
        there = os.path.lexists(root / source.folder)
        places = [addresses(name, source, remote, wish) for remote in source.remotes]
        if there:
            does = "nothing: it is there"
        elif wish.offered is not None:
            does = f"take it from {wish.offered}"
        elif name in wish.urls or (places and all(places)):
            does = "fetch"
        else:
            does = f"nothing: {source.by_hand}"
        steps.append(
            {
                "data": name,
                "does": does,
                "size": size(source),
                "folder": str(root / source.folder),
                "from": sorted({url for urls in places for url in urls[:1]})[:3],
                "files": len(source.remotes),
                "free": disk.free(root),
            }
        )
    return steps


def plan_text(steps: Sequence[Mapping[str, Any]]) -> str:
    """Return a plan as text."""
    lines = []
    for step in steps:
        lines += [f"{step['data']}: {step['does']}", f"  {step['size']} to {step['folder']}"]
        lines += [f"  {url}" for url in step["from"]]
        rest = step["files"] - len(step["from"])
        lines += [f"  and {rest} more files"] if step["from"] and rest > 0 else []
    free = disk.human(steps[0]["free"]) if steps else ""
    return "\n".join([*lines, f"{free} are free there; nothing was fetched (--plan)"])


def markdown(sources: Mapping[str, Source]) -> str:
    """Return the catalogue as the tables of ``docs/data.md``: what there is, then the terms."""
    rows = [
        (f"`{name}`", source.name, size(source), source.verified, source.needed_for)
        for name, source in sources.items()
    ]
    lines = [_bar(_HEAD), _bar("---" for _ in _HEAD), *(_bar(row) for row in rows), ""]
    head = ("data", "goes to", "publisher", "terms", "by hand, or left out")
    lines += [_bar(head), _bar("---" for _ in head)]
    for name, source in sources.items():
        more = "; ".join(text for text in (source.by_hand, source.note) if text)
        lines.append(_bar((f"`{name}`", f"`{source.folder}`", source.where, source.terms, more)))
    return "\n".join(lines) + "\n"


def _bar(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _aligned(cells: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )
