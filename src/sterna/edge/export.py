"""An exported folder, written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sterna import __version__
from sterna.edge.int8 import bits_of, quantise
from sterna.edge.onnx_files import check_installed, examples, write_graph
from sterna.edge.runtime.folder import ENGINES, FORMAT, MANIFEST, PARTS, digest, is_export
from sterna.errors import InputError
from sterna.files import sha256, write_json
from sterna.models.duet import DUET
from sterna.world.geometry import Floats

TOKENIZER = "tokenizer.json"
Graphs = dict[str, dict[str, str]]


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target`; take its place when the block ends without an error.

    An earlier export under that name is replaced; anything else there is an `InputError`. A block
    that fails, or is killed, leaves `target` as it was: remains of a killed one are hidden, carry
    no valid manifest, and are removed by the next.
    """
    if target.exists() and not is_export(target) and (target.is_file() or any(target.iterdir())):
        raise InputError(
            f"{target}: exists and is no export; give another folder, or remove this one"
        )
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.partial-"
    for remains in target.parent.glob(f"{prefix}*"):
        shutil.rmtree(remains, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=prefix))
    try:
        yield partial
        _settle(partial)
        _swap(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _settle(folder: Path) -> None:
    """Make files readable as others are, and push them to the disk."""
    umask = os.umask(0)
    os.umask(umask)
    folder.chmod(0o777 & ~umask)
    for file in folder.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())


def _swap(new: Path, target: Path) -> None:
    if not target.exists():
        new.rename(target)
        return
    old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.partial-"))
    target.rename(old / "old")
    try:
        new.rename(target)
    except BaseException:
        (old / "old").rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def write_engines(model: DUET, folder: Path, *, int8: int) -> Graphs:
    """Write the graphs of a model, float32 and on demand int8 (`int8.bits_of`); return their names.

    Raises `InputError` where a package of the extra ``export`` is missing.
    """
    check_installed()
    graphs: Graphs = {ENGINES[0]: {part: f"{part}.onnx" for part in PARTS}}
    for part, example in examples(model).items():
        write_graph(example, folder / graphs[ENGINES[0]][part])
    bits = bits_of(int8)
    if bits:
        graphs[ENGINES[1]] = {part: f"{part}.int8.onnx" for part in PARTS}
        for part in PARTS:
            quantise(part, folder / f"{part}.onnx", folder / graphs[ENGINES[1]][part], bits=bits)
    return graphs


def write_manifest(
    folder: Path,
    model: DUET,
    graphs: Graphs,
    *,
    views: tuple[Floats, Floats],
    max_words: int,
    max_steps: int,
    about: Mapping[str, Any],
    routes: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``manifest.json`` over all other files of a folder, with their SHA-256.

    `views` are headings and elevations (radians, [V]) of the views that the policy learnt from;
    `routes` is what `routed_folder.routes_of` says of a routed policy.
    """
    names = sorted(file.name for file in folder.iterdir() if file.name != MANIFEST)
    content: dict[str, Any] = {
        "format": FORMAT,
        "model": "DUET",
        "version": __version__,
        "sizes": asdict(model.config),
        "graphs": graphs,
        "tokenizer": TOKENIZER,
        "views": {"headings": views[0].tolist(), "elevations": views[1].tolist()},
        "max_words": max_words,
        "max_steps": max_steps,
        "about": json.loads(json.dumps(dict(about), allow_nan=False)),
        "files": {name: sha256(folder / name) for name in names},
    }
    if routes is not None:
        content["routes"] = dict(routes)
    write_json(folder / MANIFEST, content | {"digest": digest(content)})
    return folder / MANIFEST
