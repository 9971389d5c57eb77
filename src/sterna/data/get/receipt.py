"""What was put into a folder, and whether it is still that: a small file beside the data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sterna import __version__
from sterna.data.remote import Source, Tree
from sterna.errors import InputError
from sterna.files import read_json, sha256, write_json

RECEIPT = "sterna-receipt.json"


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What came from where, and every file that was made of it, by path: bytes and SHA-256."""

    name: str
    fetched: Sequence[Mapping[str, Any]]
    files: Mapping[str, tuple[int, str]]


def survey(folder: Path) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of every file in a folder, by its path there, sorted."""
    found = {
        path.relative_to(folder).as_posix(): (path.stat().st_size, sha256(path))
        for path in folder.rglob("*")
        if path.is_file() and path != folder / RECEIPT
    }
    return dict(sorted(found.items()))


def check(source: Source, found: Mapping[str, tuple[int, str]]) -> None:
    """`InputError` unless the files are those of the data set, as far as that is known."""
    if not found:
        raise InputError(f"{source.name}: holds no file")
    for remote in source.remotes:
        if remote.inside is not None:
            continue
        if remote.path not in found:
            raise InputError(f"{source.name}: lacks {remote.path}")
        size, digest = found[remote.path]
        if remote.sha256 not in (None, digest):
            raise InputError(
                f"{source.name}: {remote.path}: expected SHA-256 {remote.sha256}, "
                f"found {digest} ({size:,} bytes)"
            )
    for tree in source.trees:
        _check_tree(source, tree, found)
    for pattern in source.holds:
        if not any(fnmatchcase(path, pattern) for path in found):
            raise InputError(f"{source.name}: expected a file like {pattern}, found none")


def _check_tree(source: Source, tree: Tree, found: Mapping[str, tuple[int, str]]) -> None:
    start = f"{tree.folder}/"
    lines = [
        f"{digest}  {path.removeprefix(start)}\n"
        for path, (_, digest) in sorted(found.items())
        if path.startswith(start)
    ]
    if len(lines) != tree.files:
        raise InputError(
            f"{source.name}: expected {tree.files:,} files in {tree.folder}, found {len(lines):,}"
        )
    if hashlib.sha256("".join(lines).encode()).hexdigest() != tree.sha256:
        raise InputError(f"{source.name}: the files in {tree.folder} are not those published")


def write(folder: Path, name: str, source: Source, receipt: Receipt) -> None:
    """Write the receipt into the folder that it speaks of."""
    value = {
        "data": name,
        "name": source.name,
        "publisher": source.where,
        "terms": source.terms,
        "sterna": __version__,
        "fetched": list(receipt.fetched),
        "files": {path: list(what) for path, what in receipt.files.items()},
    }
    write_json(folder / RECEIPT, value)


def read(folder: Path) -> Receipt | None:
    """Return the receipt in a folder, None if there is none (or none that can be read)."""
    try:
        value = read_json(folder / RECEIPT)
        files = {str(k): (int(v[0]), str(v[1])) for k, v in value["files"].items()}
        fetched = [dict(one) for one in value["fetched"]]
        return Receipt(name=str(value["data"]), fetched=fetched, files=files)
    except (InputError, KeyError, TypeError, IndexError, ValueError, AttributeError):
        return None


def changed(folder: Path, receipt: Receipt) -> list[str]:
    """Paths in the receipt whose file is gone or is not the one that was put there."""
    found = survey(folder)
    return [path for path, what in receipt.files.items() if found.get(path) != what]
