"""HDF5 feature files in the layout of HAMT and DUET: their angles, sizes, and how to write one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from sterna.errors import InputError

Floats = NDArray[np.floating[Any]]
KNOWN_SIZES = (512, 768, 1024)
LOGITS = 1000
# What h5py raises, one time or another, for a damaged file.
HDF5_ERRORS = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    OverflowError,
    MemoryError,
)
_ANGLES = ("view_headings", "view_elevations")


@dataclass(frozen=True, kw_only=True)
class Shot:
    """The camera behind features, as each dataset of HAMT's files states it."""

    width: int = 640
    height: int = 480
    vfov: int = 60
    """Vertical field of view in degrees."""

    def attrs(self, key: str) -> dict[str, str | int]:
        """Return the attributes of the dataset ``scan_viewpoint``."""
        scan, _, viewpoint = key.rpartition("_")
        return {
            "scanId": scan,
            "viewpointId": viewpoint,
            "image_w": self.width,
            "image_h": self.height,
            "vfov": self.vfov,
        }


def camera_angles() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Headings and elevations (radians, float64 [36]) of the simulator's 36 discrete views."""
    index = np.arange(36)
    return np.deg2rad(30.0 * (index % 12)), np.deg2rad(30.0 * (index // 12 - 1))


def write_views(
    path: str | os.PathLike[str],
    items: Mapping[str, Floats] | Iterable[tuple[str, Floats]],
    headings: ArrayLike,
    elevations: ArrayLike,
    attrs: Mapping[str, str | int | float] | None = None,
    *,
    logits: bool = False,
    shot: Shot | None = None,
) -> int:
    """Write (key, array [V, F]) pairs as an HDF5 view store; return how many were written.

    `logits` says that the last 1000 columns are ImageNet logits; `shot` writes datasets as HAMT's
    extractor does: compressed, each with its scan, viewpoint and camera. The file appears under its
    name only when complete. Arrays keep their dtype; another shape, NaN or infinity is an
    `InputError`.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    pairs = items.items() if isinstance(items, Mapping) else items
    angles = np.asarray(headings, np.float64), np.asarray(elevations, np.float64)
    try:
        with h5py.File(partial, "w") as file:
            file.attrs[_ANGLES[0]], file.attrs[_ANGLES[1]] = angles
            file.attrs.update(dict(attrs or {}))
            count, width = _write_all(file, target, pairs, len(angles[0]), shot)
            file.attrs["feature_size"] = width - LOGITS if logits else width
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return count


def _write_all(
    file: h5py.File,
    target: Path,
    pairs: Iterable[tuple[str, Floats]],
    views: int,
    shot: Shot | None,
) -> tuple[int, int]:
    count, width = 0, None
    for key, values in pairs:
        width = values.shape[-1] if width is None and values.ndim else width
        if values.shape != (views, width) or values.dtype.kind != "f":
            raise InputError(
                f"{target}: {key}: expected floats of shape {(views, width)}, "
                f"found {values.dtype} {values.shape}"
            )
        if not np.isfinite(values).all():
            raise InputError(f"{target}: {key}: NaN or infinity in the features to write")
        if key in file:
            raise InputError(f"{target}: {key}: given twice")
        if shot is None:
            file.create_dataset(key, data=values)
        else:
            item = file.create_dataset(key, data=values, compression="gzip")
            item.attrs.update(shot.attrs(key))
        count += 1
    if width is None:
        raise InputError(f"{target}: no viewpoint to write")
    return count, width


@dataclass(frozen=True)
class ViewForm:
    """What every array of a file looks like: V angles (radians), `size` of `width` columns."""

    headings: NDArray[np.float64]
    elevations: NDArray[np.float64]
    size: int
    width: int


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file read-only; `InputError` for a missing, foreign or shortened one."""
    if not path.is_file():
        raise InputError(f"{path}: no such feature file; check the path or --data")
    try:
        return h5py.File(path, "r")
    except HDF5_ERRORS as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path}: expected an HDF5 file, found something else or a file cut short ({reason})"
        ) from error


def read_form(file: h5py.File, feature_size: int | None) -> ViewForm:
    """Read angles and sizes off the root attributes and the first dataset, or say what is wrong."""
    name = str(file.filename)
    try:
        first = next(iter(file), None)
        dataset = None if first is None else file[first]
        shape = dataset.shape if isinstance(dataset, h5py.Dataset) else None
        angles = [np.asarray(file.attrs[n]) for n in _ANGLES if n in file.attrs]
        stated = file.attrs.get("feature_size") if feature_size is None else feature_size
        stated = None if stated is None else int(stated)
    except HDF5_ERRORS as error:
        raise unreadable(name, error) from error
    if first is None or shape is None or len(shape) != 2:
        raise InputError(
            f"{name}: expected datasets scan_viewpoint of shape [views, features], found "
            f"{'nothing' if first is None else f'{first} of shape {shape}'}; is it a feature file?"
        )
    headings, elevations = _checked_angles(name, angles, shape[0])
    return ViewForm(headings, elevations, feature_columns(name, first, shape[1], stated), shape[1])


def unreadable(where: str, error: Exception) -> InputError:
    """Turn an error of the HDF5 library into the `InputError` to raise."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(f"{where}: cannot be read ({reason}); the file is damaged, fetch it again")


def _checked_angles(
    name: str, found: list[NDArray[Any]], views: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Angles from the root attributes, or the camera's 36 when the file states none."""
    if not found and views == 36:
        return camera_angles()
    good = len(found) == 2 and all(a.shape == (views,) and a.dtype.kind == "f" for a in found)
    if not good or not all(np.isfinite(a).all() for a in found):
        raise InputError(
            f"{name}: {views} views need the root attributes {_ANGLES[0]} and {_ANGLES[1]} "
            f"({views} finite radians each); found {[a.shape for a in found] or 'none'}"
        )
    return found[0].astype(np.float64), found[1].astype(np.float64)


def feature_columns(name: str, key: str, width: int, stated: int | None) -> int:
    """Decide how many of `width` columns are features (the rest, if any, 1000 logits).

    `name` and `key` stand in the `InputError` for a width that is no usual nor the stated one.
    """
    allowed = KNOWN_SIZES if stated is None else (stated,)
    for size in allowed:
        if size > 0 and width in (size, size + LOGITS):
            return size
    expected = " or ".join(f"{size} (+{LOGITS} logits)" for size in allowed)
    raise InputError(
        f"{name}: {key}: expected {expected} columns, found {width}; "
        "state the size with feature_size"
    )
