"""Objects of REVERIE: their names, and the views and boxes in which each viewpoint sees them.

One file a viewpoint, ``<scan>_<viewpoint>.json`` (Qi et al., CVPR 2020)::

    {viewpoint: {object: {"name": text, "visible_pos": [view 0-35], "bbox2d": [[x, y, w, h]]}}}

in pixels of a 640 x 480 view: the publisher's ``BBox.tar.gz``, a folder of these files, or DUET's
``BBoxes.json`` (``{"<scan>_<viewpoint>": {object: ...}}``). An object of a viewpoint may be hidden
there (no view); the viewpoints that do see it are the goals of its instructions.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sterna.data.r2r import Entry, check_field, is_finite, is_name
from sterna.errors import InputError
from sterna.files import read_json, write_json
from sterna.world.geometry import VIEWS

IMAGE_WIDTH, IMAGE_HEIGHT = 640, 480
Box = tuple[float, float, float, float]

# The published archive holds 10,567 files, 23 MB in all; a larger one is another thing.
_MOST_BYTES = 1 << 30
_LARGEST_FILE = 1 << 24
_ARCHIVE_ERRORS = (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, IndexError)


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenObject:
    """One object as a viewpoint sees it.

    `boxes[k]` is (x, y, width, height) in pixels of view `views[k]` (0-35, first 12 look down);
    both are empty where the object is hidden.
    """

    object_id: int
    name: str
    views: tuple[int, ...]
    boxes: tuple[Box, ...]

    @property
    def plain_name(self) -> str:
        """The name as one writes it; files have ``#`` for a blank."""
        return self.name.replace("#", " ")


class Boxes:
    """All objects by viewpoint, and for every object the viewpoints that see it."""

    def __init__(self, objects: Mapping[tuple[str, str], Iterable[SeenObject]]) -> None:
        """Take the objects of each (scan, viewpoint), in file order, hidden ones included."""
        self._objects = {key: tuple(seen) for key, seen in objects.items()}
        seen_from: dict[tuple[str, int], list[str]] = {}
        for (scan, viewpoint), seen in self._objects.items():
            for thing in seen:
                if thing.views:
                    seen_from.setdefault((scan, thing.object_id), []).append(viewpoint)
        self._seen_from = {key: tuple(sorted(names)) for key, names in seen_from.items()}

    def __len__(self) -> int:
        return len(self._objects)

    @property
    def viewpoints(self) -> list[tuple[str, str]]:
        """Every (scan, viewpoint) that has an entry, empty ones included."""
        return list(self._objects)

    def objects(self, scan: str, viewpoint: str) -> tuple[SeenObject, ...]:
        """Return what is near a viewpoint in file order, hidden objects too (() if unknown)."""
        return self._objects.get((scan, viewpoint), ())

    def visible(self, scan: str, viewpoint: str) -> tuple[SeenObject, ...]:
        """Return the objects a viewpoint sees, in file order."""
        return tuple(thing for thing in self.objects(scan, viewpoint) if thing.views)

    def seen_from(self, scan: str, object_id: int) -> tuple[str, ...]:
        """Return the viewpoints that see an object, sorted; () if none does."""
        return self._seen_from.get((scan, object_id), ())


def read_boxes(source: str | os.PathLike[str]) -> Boxes:
    """Read the publisher's archive, a folder of its files, or DUET's ``BBoxes.json``.

    An archive is checked whole before anything in it is parsed (regular files only, plain names,
    bounded sizes) and read in memory: nothing is unpacked. Raises `InputError` naming file,
    viewpoint, object and field.
    """
    path = Path(source)
    if path.is_dir():
        parts: Iterable[tuple[str, str, Any]] = _folder(path)
    elif path.name.endswith((".tar.gz", ".tgz")):
        parts = _archive(path)
    else:
        parts = _single(path)
    objects: dict[tuple[str, str], tuple[SeenObject, ...]] = {}
    for where, stem, content in parts:
        scan, viewpoint, things = _viewpoint(where, stem, content)
        if (scan, viewpoint) in objects:
            raise InputError(f"{where}: viewpoint {stem[:80]} occurs twice; remove one")
        objects[scan, viewpoint] = _things(where, things)
    if not objects:
        raise InputError(f"{path}: expected <scan>_<viewpoint>.json files, found none")
    return Boxes(objects)


def write_boxes(path: str | os.PathLike[str], boxes: Boxes) -> None:
    """Write all boxes as one JSON file in DUET's form (gzipped when the name ends in ``.gz``)."""
    write_json(
        path,
        {
            f"{scan}_{viewpoint}": {
                str(thing.object_id): {
                    "name": thing.name,
                    "visible_pos": list(thing.views),
                    "bbox2d": [list(box) for box in thing.boxes],
                }
                for thing in boxes.objects(scan, viewpoint)
            }
            for scan, viewpoint in boxes.viewpoints
        },
        indent=None,
    )


def _folder(folder: Path) -> Iterator[tuple[str, str, Any]]:
    for file in sorted(folder.glob("*.json")):
        yield str(file), file.stem, read_json(file)


def _single(path: Path) -> Iterator[tuple[str, str, Any]]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: expected an object {{<scan>_<viewpoint>: objects}}, "
            f"found {type(content).__name__}"
        )
    for key, things in content.items():
        viewpoint = key.rpartition("_")[2]
        yield f"{path}: {ascii(key)[:90]}", key, {viewpoint: things}


def _archive(path: Path) -> Iterator[tuple[str, str, Any]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path or --data")
    try:
        # Decompressed with a bound first, so that no header can ask for more memory than that.
        with path.open("rb") as file, gzip.GzipFile(fileobj=file) as unzipped:
            raw = unzipped.read(_MOST_BYTES + 1)
        if len(raw) > _MOST_BYTES:
            raise InputError(f"{path}: more than {_MOST_BYTES >> 20} MB; expected REVERIE's boxes")
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as tar:
            members = [member for member in tar.getmembers() if not member.isdir()]
            # tarfile takes a damaged header for the end; a whole archive ends with zeros alone.
            if len(raw) < tar.offset + tarfile.BLOCKSIZE or raw[tar.offset :].strip(b"\0"):
                raise EOFError("the end of the archive is missing")
            for member in members:
                _check_member(path, member)
            contents = [(member.name, _content(tar, member)) for member in members]
    except InputError:
        raise
    except _ARCHIVE_ERRORS as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(f"{path}: not a whole archive ({reason!a}); fetch it again") from error
    for name, text in contents:
        where = f"{path}: {name}"
        yield where, Path(name).stem, _parse(where, text)


def _check_member(path: Path, member: tarfile.TarInfo) -> None:
    """Refuse anything but a small regular file with a plain relative name."""
    name = ascii(member.name)[:120]
    plain = all(is_name(part) and part != ".." for part in member.name.split("/") if part != ".")
    if not member.isreg() or not plain or not member.name.endswith(".json"):
        raise InputError(
            f"{path}: member {name}: expected a regular file <scan>_<viewpoint>.json; "
            "fetch the archive from its publisher"
        )
    if member.size > _LARGEST_FILE:
        raise InputError(
            f"{path}: member {name}: {member.size} bytes, expected at most {_LARGEST_FILE}"
        )


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    content = b"" if file is None else file.read()
    if len(content) != member.size:
        raise EOFError(f"{member.name} is cut short")
    return content


def _parse(where: str, text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:120]
        raise InputError(f"{where}: not valid JSON ({reason}); fetch the archive again") from error


def _viewpoint(where: str, stem: str, content: Any) -> tuple[str, str, Any]:
    """Take a file's name and content apart: scan, viewpoint and objects."""
    if not isinstance(content, dict) or len(content) != 1:
        found = f"{len(content)} items" if isinstance(content, dict) else type(content).__name__
        raise InputError(f"{where}: expected an object with one viewpoint, found {found}")
    ((viewpoint, things),) = content.items()
    scan = stem.removesuffix(f"_{viewpoint}")
    if scan == stem or not is_name(scan) or not is_name(viewpoint):
        raise InputError(
            f"{where}: expected the viewpoint of its name, <scan>_<viewpoint>, "
            f"found {ascii(viewpoint)[:60]}"
        )
    return scan, viewpoint, things


def _things(where: str, things: Any) -> tuple[SeenObject, ...]:
    if not isinstance(things, dict):
        raise InputError(f"{where}: expected objects by id, found {type(things).__name__}")
    read = tuple(_thing(f"{where}: object {ascii(key)[:40]}", key, v) for key, v in things.items())
    if len({thing.object_id for thing in read}) != len(read):
        raise InputError(f"{where}: an object id occurs twice (as 7 and 07?); remove one")
    return read


def _thing(where: str, key: str, value: Any) -> SeenObject:
    if not (key.isascii() and key.isdigit() and len(key) <= 18):
        raise InputError(f"{where}: the id must be a whole number")
    if not isinstance(value, dict):
        raise InputError(
            f"{where}: expected name, visible_pos, bbox2d, found {type(value).__name__}"
        )
    name, views, boxes = (value.get(field) for field in ("name", "visible_pos", "bbox2d"))
    good = isinstance(name, str) and 0 < len(name) <= 200 and name.isprintable()
    check_field(value, "name", where, good, "a printable text")
    check_field(value, "visible_pos", where, _is_views(views), "different views 0-35")
    check_field(value, "bbox2d", where, _is_boxes(value), "[x, y, w, h] for each view")
    assert isinstance(name, str) and isinstance(views, list) and isinstance(boxes, list)
    return SeenObject(
        object_id=int(key),
        name=name,
        views=tuple(views),
        boxes=tuple((x, y, w, h) for x, y, w, h in boxes),
    )


def _is_views(value: Any) -> bool:
    if not isinstance(value, list) or not all(type(i) is int for i in value):
        return False
    return all(0 <= i < VIEWS for i in value) and len(set(value)) == len(value)


def _is_boxes(value: Entry) -> bool:
    boxes, views = value.get("bbox2d"), value["visible_pos"]
    return (
        isinstance(boxes, list) and len(boxes) == len(views) and all(_is_box(box) for box in boxes)
    )


def _is_box(box: Any) -> bool:
    """Whether [x, y, w, h] lies in the picture and has a width and a height."""
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_finite, box)):
        return False
    x, y, w, h = box
    inside = x >= 0 and y >= 0 and x + w <= IMAGE_WIDTH and y + h <= IMAGE_HEIGHT
    return bool(inside and w > 0 and h > 0)
