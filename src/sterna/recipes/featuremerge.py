"""Files of features of shards, joined into one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sterna.data.viewfile import HDF5_ERRORS, open_hdf5, unreadable
from sterna.errors import InputError


def read_settings(path: Path) -> Any:
    """Return the settings in a file of features; None for one written by others."""
    with open_hdf5(path) as file:
        try:
            stored = file.attrs.get("settings")
            return None if stored is None else json.loads(stored)
        except (*HDF5_ERRORS, ValueError) as error:
            raise unreadable(str(path), error) from error


def merge_features(parts: Sequence[Path], out: Path) -> int:
    """Join files of shards into one, keys sorted: the bytes of values are those of one run.

    Raises `InputError` for files of other settings, other shapes, or viewpoints given twice.
    """
    if out in parts:
        raise InputError(f"{out}: is one of the files to merge; give another --out")
    places: dict[str, Path] = {}
    common = read_settings(parts[0])
    roots = _root(parts[0])
    for part in parts:
        if read_settings(part) != common or _root(part) != roots:
            raise InputError(f"{part}: was made with other settings than {parts[0]}; extract anew")
        with open_hdf5(part) as file:
            for key in file:
                if key in places:
                    raise InputError(
                        f"{part}: {key} is also in {places[key]}; merge each part once"
                    )
                places[key] = part
    _copy(places, out)
    return len(places)


def _root(path: Path) -> dict[str, Any]:
    """Return root attributes and the width of arrays, comparable."""
    with open_hdf5(path) as file:
        try:
            first = file[next(iter(file))]
            width: dict[str, Any] = {"columns": first.shape[1:], "dtype": str(first.dtype)}
            return width | {name: np.asarray(value).tolist() for name, value in file.attrs.items()}
        except (*HDF5_ERRORS, StopIteration) as error:
            raise unreadable(str(path), error) from error


def _copy(places: Mapping[str, Path], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    opened: dict[Path, h5py.File] = {}
    try:
        with h5py.File(partial, "w") as target:
            for key in sorted(places):
                part = places[key]
                if part not in opened:
                    opened[part] = open_hdf5(part)
                    target.attrs.update(dict(opened[part].attrs))
                try:
                    opened[part].copy(key, target)
                except HDF5_ERRORS as error:
                    raise unreadable(f"{part}: {key}", error) from error
        os.replace(partial, out)
    finally:
        for file in opened.values():
            file.close()
        partial.unlink(missing_ok=True)
