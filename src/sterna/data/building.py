"""A building of one's own: where its panoramas were taken, read from a table and checked.

A table is CSV with a head line or a JSON list of objects: ``id, x, y, z, heading`` and, where there
are any, ``neighbours`` (ids; in CSV separated by spaces or semicolons) and ``image`` (a file name).
Positions are metres times `scale`, z up, at the camera; the heading is that of a panorama's middle.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from sterna.errors import InputError
from sterna.files import read_bytes, read_json
from sterna.world.geometry import Floats

ENDINGS = (".jpg", ".jpeg", ".png")
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NEEDED = ("id", "x", "y", "z", "heading")
_SAME = 0.05  # metres within which two panoramas stand at one place
_FAR, _NEAR = 15.0, 0.15  # metres: nearest neighbours usually are between these


@dataclass(frozen=True, kw_only=True)
class PosesConfig:
    """What the numbers of a table of poses mean, and who can walk to whom."""

    angles: Literal["degrees", "radians"] = "degrees"
    """Unit of headings."""
    turns: Literal["compass", "ros"] = "compass"
    """compass: headings grow clockwise from +y; ros: anticlockwise from +x (yaw)."""
    scale: float = 1.0
    """Metres that a unit of x, y, z is (0.001 for millimetres)."""
    reach: float = 3.5
    """Where a table names no neighbours: metres up to which two places are neighbours."""
    climb: float = 1.0
    """Where a table names no neighbours: metres of height between them at most."""
    walls: Path | None = None
    """Where a table names no neighbours: a table x1, y1, x2, y2 (as poses) of walls that nobody
    walks or looks through; add low, high where a wall ends in z."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("scale", "reach", "climb"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise InputError(f"import: --{name} must be positive and finite, found {value}")

    def heading(self, value: float) -> float:
        """Return a heading in radians, clockwise from +y, 0 to 2 pi."""
        angle = math.radians(value) if self.angles == "degrees" else value
        return (angle if self.turns == "compass" else math.pi / 2 - angle) % (2 * math.pi)


@dataclass(frozen=True, kw_only=True)
class Place:
    """One panorama: its file, position (metres, z up) and heading (radians, clockwise from +y)."""

    name: str
    image: Path
    position: tuple[float, float, float]
    heading: float
    neighbours: tuple[str, ...] | None = None
    """None: the table names none."""


def read_rows(file: Path) -> list[tuple[str, dict[str, Any]]]:
    """Read a table, CSV or JSON: for every row where it stands and its fields."""
    if file.suffix.lower() == ".json":
        content = read_json(file)
        if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
            raise InputError(f"{file}: expected a JSON list of objects")
        return [(f"{file}: entry {i}", row) for i, row in enumerate(content)]
    try:
        text = read_bytes(file).decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: no CSV table in UTF-8 ({error})") from error
    return [
        (f"{file}: line {i}", {str(k).strip(): v for k, v in row.items()})
        for i, row in enumerate(rows, 2)
    ]


def number(row: Mapping[str, Any], name: str, where: str) -> float:
    """Return a finite number of a row; `InputError` for anything else."""
    value = row.get(name)
    try:
        found = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise InputError(f"{where}: {name} must be a finite number, found {str(value)[:40]!r}")
    return found


def poses_file(folder: Path) -> Path:
    """Return the table of poses in a folder: poses.csv or poses.json."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the one with panoramas and poses.csv")
    found = [folder / name for name in ("poses.csv", "poses.json") if (folder / name).is_file()]
    if len(found) != 1:
        state = "both lie" if found else "neither lies"
        raise InputError(
            f"{folder}: expected poses.csv or poses.json, {state} there; name one with --poses"
        )
    return found[0]


def read_places(folder: Path, poses: Path, config: PosesConfig) -> list[Place]:
    """Read and check the panoramas of a folder.

    Raises `InputError` in one line for: fields that are missing or no finite numbers, ids that are
    odd or stand twice, pictures that are missing, unreadable or no panoramas, unknown neighbours,
    two panoramas at one place, and numbers whose unit seems to be another.
    """
    rows = read_rows(poses)
    if len(rows) < 2:
        raise InputError(f"{poses}: expected two panoramas or more, found {len(rows)}")
    missing = [name for name in _NEEDED if name not in rows[0][1]]
    if missing:
        raise InputError(
            f"{rows[0][0]}: {', '.join(missing)} missing; a table of poses has {', '.join(_NEEDED)}"
            " and, if you like, neighbours and image"
        )
    _check_turns(rows, config)
    places = [_place(folder, row, where, config) for where, row in rows]
    _check_names(poses, places)
    _check_pictures(places)
    _check_positions(poses, places)
    return places


def _place(folder: Path, row: Mapping[str, Any], where: str, config: PosesConfig) -> Place:
    name = str(row.get("id", "")).strip()
    if not NAME.fullmatch(name):
        raise InputError(f"{where}: an id has letters, digits, _ and -, found {name[:40]!r}")
    x, y, z = (number(row, axis, where) * config.scale for axis in "xyz")
    return Place(
        name=name,
        image=_image(folder, row, name, where),
        position=(x, y, z),
        heading=config.heading(number(row, "heading", where)),
        neighbours=_neighbours(row.get("neighbours"), where),
    )


def _image(folder: Path, row: Mapping[str, Any], name: str, where: str) -> Path:
    stated = str(row.get("image") or "").strip()
    choices = [stated] if stated else [name + end for end in (*ENDINGS, *map(str.upper, ENDINGS))]
    inside = folder.resolve()
    for choice in choices:
        path = folder / choice
        if path.resolve().is_relative_to(inside) and path.is_file():
            return path
    wanted = stated or f"{name}.jpg, .jpeg or .png"
    raise InputError(f"{where}: panorama {name} has no picture; expected {wanted} in {folder}")


def _neighbours(value: Any, where: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        value = re.split(r"[;\s]+", value.strip()) if value.strip() else []
    if not isinstance(value, list) or not all(isinstance(name, str | int) for name in value):
        raise InputError(f"{where}: neighbours are ids, found {str(value)[:40]!r}")
    return tuple(str(name) for name in value)


def _check_turns(rows: Sequence[tuple[str, Mapping[str, Any]]], config: PosesConfig) -> None:
    turns = np.abs([number(row, "heading", where) for where, row in rows])
    if config.angles == "radians" and turns.max() > 4 * math.pi:
        raise InputError(
            f"{rows[int(turns.argmax())][0]}: a heading of {turns.max():g} radians is more than two"
            " turns; if headings are degrees, say --angles degrees"
        )
    whole = np.abs(turns - np.rint(turns)).max() < 1e-6
    if config.angles == "degrees" and len(rows) > 3 and 0.5 < turns.max() < 6.5 and not whole:
        raise InputError(
            f"{rows[0][0]}: all headings lie within {turns.max():g} degrees of 0; if they are "
            "radians, say --angles radians"
        )


def _check_names(poses: Path, places: Sequence[Place]) -> None:
    known: set[str] = set()
    for place in places:
        if place.name in known:
            raise InputError(f"{poses}: id {place.name} stands twice; ids must differ")
        known.add(place.name)
    for place in places:
        for name in place.neighbours or ():
            if name not in known or name == place.name:
                raise InputError(
                    f"{poses}: {place.name} names {name[:40]!r} as its neighbour, which is "
                    f"{'itself' if name == place.name else 'no panorama here'}"
                )


def _check_pictures(places: Sequence[Place]) -> None:
    for place in places:
        try:
            with Image.open(place.image) as picture:
                width, height = picture.size
        except (UnidentifiedImageError, OSError, ValueError) as error:
            raise InputError(f"{place.image}: no picture that can be read ({error})") from error
        if width != 2 * height or height < 64:
            raise InputError(
                f"{place.image}: expected an equirectangular panorama, twice as wide as high and "
                f"64 rows or more, found {width}x{height}"
            )


def read_panorama(place: Place) -> NDArray[np.uint8]:
    """Read a panorama as bytes [H, W, 3]; `InputError` for a damaged file."""
    try:
        with Image.open(place.image) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{place.image}: cannot be read to its end ({error})") from error


def _check_positions(poses: Path, places: Sequence[Place]) -> None:
    apart = distances(places)
    i, j = divmod(int(apart.argmin()), len(places))
    middle = float(np.median(apart.min(1)))
    if middle > _FAR or middle < _NEAR:
        raise InputError(
            f"{poses}: half of the panoramas have their nearest neighbour {middle:.3g} m away; if "
            "positions are no metres, say what a unit is with --scale (0.001: millimetres)"
        )
    if apart[i, j] < _SAME:
        raise InputError(
            f"{poses}: {places[i].name} and {places[j].name} stand at one place ({apart[i, j]:.3f}"
            " m apart); leave one of them out"
        )


def distances(places: Sequence[Place]) -> Floats:
    """Return metres in a straight line between places, [N, N]; infinite on the diagonal."""
    where = np.array([place.position for place in places])
    apart: Floats = np.linalg.norm(where[:, None] - where[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    return apart


def settings_of(config: PosesConfig) -> dict[str, Any]:
    """Return a configuration as JSON values."""
    values = {f.name: getattr(config, f.name) for f in fields(PosesConfig)}
    return {name: str(v) if isinstance(v, Path) else v for name, v in values.items()}
