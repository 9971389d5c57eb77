"""Object features of every viewpoint: what DUET's object tokens carry, from a file or from names.

The file layout is DUET's (``obj.*.hdf5``): one dataset per key ``{scan}_{viewpoint}``, of shape
(n, F) or (n, F + 1000) with 1000 logits in the last columns, and the attributes ``obj_ids`` [n],
``directions`` [n, 2] (absolute heading and elevation, radians) and ``sizes`` [n, 2] (width and
height in pixels of a 640 x 480 view). A viewpoint without objects has no dataset.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sterna.data.boxes import IMAGE_HEIGHT, IMAGE_WIDTH, Boxes, SeenObject
from sterna.data.textobs import Encoder
from sterna.data.viewfile import HDF5_ERRORS, Shot, feature_columns, open_hdf5, unreadable
from sterna.errors import InputError
from sterna.world.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS, Floats, Ints, wrap

_FOCAL = IMAGE_HEIGHT / 2 / np.tan(np.deg2rad(60.0) / 2)  # pixels; the 36 views have 60 degrees
_MOST_OBJECTS = 10_000


@dataclass(frozen=True, kw_only=True, eq=False)
class PlacedObjects:
    """The n objects that one viewpoint sees: `ids` [n], `features` [n, F], and where they are.

    `directions` [n, 2] absolute heading and elevation in radians, `sizes` [n, 2] width and height
    in pixels of a 640 x 480 view, `logits` [n, K] class logits where a file holds them and they
    were asked for.
    """

    ids: Ints
    features: NDArray[np.float32]
    directions: Floats
    sizes: Floats
    logits: NDArray[np.float32] | None = None
    boxes: Floats | None = None
    """(x, y, width, height) in pixels of the view that `directions` is of, [n, 4]; or None."""

    def __len__(self) -> int:
        return len(self.ids)


class ObjectStore:
    """Objects of many viewpoints by key ``scan_viewpoint``; `size` is the feature width F."""

    def __init__(self, objects: Mapping[str, PlacedObjects], size: int, name: str) -> None:
        """Keep objects; an array of another shape, NaN or infinity is an `InputError`."""
        self.size, self.name = size, name
        self._objects = dict(objects)
        for key, placed in self._objects.items():
            _check(f"{name}: {key}", placed, size)

    def at(self, key: str) -> PlacedObjects:
        """Return what a viewpoint sees; none where the store has no entry."""
        return self._objects.get(key, _nothing(self.size))

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys that have an entry."""
        return tuple(self._objects)

    def blind(self) -> ObjectStore:
        """Return the same objects at the same places with features of zeros (a control)."""
        hidden = {
            key: replace(placed, features=np.zeros_like(placed.features), logits=None)
            for key, placed in self._objects.items()
        }
        return ObjectStore(hidden, self.size, f"{self.name}, blind")


def read_objects(
    path: str | os.PathLike[str],
    keys: Iterable[str] | None = None,
    *,
    feature_size: int | None = None,
    logits: bool = False,
) -> ObjectStore:
    """Read an object feature file in DUET's layout; `keys` limits it to some viewpoints.

    `logits` keeps the class logits behind the features, where there are some. `feature_size` states
    F where the width is no usual one (512, 768, 1024, each with or without 1000 logits) and the
    root attribute ``feature_size`` is absent. Raises `InputError` naming file, key and field.
    """
    with open_hdf5(Path(path)) as file:
        try:
            present = set(file)
            stated = file.attrs.get("feature_size") if feature_size is None else feature_size
            size = None if stated is None else int(stated)
            wanted = sorted(present if keys is None else present & set(keys))
            "".join(wanted).encode()  # a damaged file may hold names that are no text
        except HDF5_ERRORS as error:
            raise unreadable(str(path), error) from error
        objects = {}
        for key in wanted:
            where = f"{path}: {key}"
            try:
                objects[key], size = _read(where, file[key], size, logits)
            except InputError:
                raise
            except HDF5_ERRORS as error:
                raise unreadable(where, error) from error
    if size is None:
        raise InputError(f"{path}: no object features for any of the viewpoints asked for")
    return ObjectStore(objects, size, str(path))


def write_objects(
    path: str | os.PathLike[str],
    store: ObjectStore,
    attrs: Mapping[str, str | int | float] | None = None,
    *,
    shot: Shot | None = None,
    dtype: str | None = None,
) -> None:
    """Write a store in DUET's layout; the file appears under its name only when complete.

    `attrs` go to the root; `shot` compresses and adds scan, viewpoint, camera and boxes to each
    dataset (as HAMT's files have); `dtype` is that of the features, float32 unless given.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with h5py.File(partial, "w") as file:
            file.attrs.update(dict(attrs or {}))
            file.attrs["feature_size"] = store.size
            for key in store.keys:
                placed = store.at(key)
                if not len(placed):
                    continue  # as DUET's file: no objects, no dataset
                columns = (
                    [placed.features]
                    if placed.logits is None
                    else [
                        placed.features,
                        placed.logits,
                    ]
                )
                values = np.concatenate(columns, axis=1, dtype=dtype)
                packed = None if shot is None else "gzip"
                item = file.create_dataset(key, data=values, compression=packed)
                item.attrs.update({} if shot is None else shot.attrs(key))
                item.attrs["obj_ids"] = placed.ids
                item.attrs["directions"], item.attrs["sizes"] = placed.directions, placed.sizes
                if shot is not None and placed.boxes is not None:
                    item.attrs["bboxes"] = placed.boxes
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def named_objects(boxes: Boxes, encoder: Encoder, scans: Iterable[str]) -> ObjectStore:
    """Make features where none are published: the sentence embedding of each object's name.

    An object stands in the middle of its largest box of that viewpoint (the first on ties), which
    also gives its size; ``#`` in names is a blank. Hidden objects are left out.
    """
    wanted = set(scans)
    places = [place for place in boxes.viewpoints if place[0] in wanted]
    seen = {place: boxes.visible(*place) for place in places}
    names = sorted({thing.plain_name for things in seen.values() for thing in things})
    vectors = encoder.encode(names) if names else np.zeros((0, 1), np.float32)
    row = {name: i for i, name in enumerate(names)}
    objects = {}
    for (scan, viewpoint), things in seen.items():
        if things:
            named = vectors[[row[thing.plain_name] for thing in things]]
            objects[f"{scan}_{viewpoint}"] = place_objects(things, named)
    return ObjectStore(objects, vectors.shape[1], f"names of objects by {encoder.name}")


def direction_of_pixel(view: int, x: float, y: float) -> tuple[float, float]:
    """Return absolute heading and elevation (radians) of a pixel of a view (0-35), y downwards.

    A pinhole camera of 640 x 480 pixels and 60 degrees of vertical view, as in the simulator.
    """
    right = (x - IMAGE_WIDTH / 2) / _FOCAL
    up = (IMAGE_HEIGHT / 2 - y) / _FOCAL
    tilt = VIEW_ELEVATIONS[view]
    ahead = np.cos(tilt) - up * np.sin(tilt)
    rise = np.sin(tilt) + up * np.cos(tilt)
    heading = VIEW_HEADINGS[view] + np.arctan2(right, ahead)
    elevation = np.arctan2(rise, np.hypot(right, ahead))
    return float(wrap(heading)), float(elevation)


def largest_box(thing: SeenObject) -> int:
    """Return which of an object's boxes is the largest, the first on ties."""
    return int(np.argmax([w * h for _, _, w, h in thing.boxes]))


def place_objects(things: Sequence[SeenObject], features: NDArray[np.float32]) -> PlacedObjects:
    """Place visible objects, one row of `features` [n, F] each, at their largest boxes."""
    chosen = [(thing, largest_box(thing)) for thing in things]
    boxes = np.array([thing.boxes[k] for thing, k in chosen], np.float64).reshape(-1, 4)
    views = [thing.views[k] for thing, k in chosen]
    middles = boxes[:, :2] + boxes[:, 2:] / 2
    pairs = [direction_of_pixel(v, x, y) for v, (x, y) in zip(views, middles.tolist(), strict=True)]
    return PlacedObjects(
        ids=np.array([thing.object_id for thing in things], np.int64),
        features=features,
        directions=np.array(pairs, np.float64).reshape(-1, 2),
        sizes=boxes[:, 2:],
        boxes=boxes,
    )


def _nothing(size: int) -> PlacedObjects:
    return PlacedObjects(
        ids=np.zeros(0, np.int64),
        features=np.zeros((0, size), np.float32),
        directions=np.zeros((0, 2)),
        sizes=np.zeros((0, 2)),
    )


def _check(where: str, placed: PlacedObjects, size: int) -> None:
    count = len(placed.ids)
    shapes = {"features": (count, size), "directions": (count, 2), "sizes": (count, 2)}
    for name, shape in shapes.items():
        values = getattr(placed, name)
        if values.shape != shape or not np.isfinite(values).all():
            found = "NaN or infinity" if values.shape == shape else f"shape {values.shape}"
            raise InputError(f"{where}: {name}: expected finite values {shape}, found {found}")
    if placed.logits is not None and not np.isfinite(placed.logits).all():
        raise InputError(f"{where}: logits: expected finite values, found NaN or infinity")
    if len(np.unique(placed.ids)) != count or (placed.ids < 0).any():
        raise InputError(f"{where}: obj_ids: expected {count} different ids from 0 on")


def _read(where: str, item: Any, size: int | None, logits: bool) -> tuple[PlacedObjects, int]:
    """Read one viewpoint; the first one settles the feature width."""
    shape = item.shape if isinstance(item, h5py.Dataset) else None
    # The shape is checked before reading: a damaged one may ask for terabytes.
    good = shape is not None and len(shape) == 2 and shape[0] <= _MOST_OBJECTS
    if not good or item.dtype.kind != "f":
        raise InputError(f"{where}: expected floats [objects, features], found shape {shape}")
    size = feature_columns(where, "objects", item.shape[1], size)
    lacking = [name for name in ("obj_ids", "directions", "sizes") if name not in item.attrs]
    if lacking:
        raise InputError(f"{where}: no attribute {lacking[0]}; is it a file of object features?")
    more = logits and item.shape[1] > size
    placed = PlacedObjects(
        ids=_ids(where, np.asarray(item.attrs["obj_ids"])),
        features=np.asarray(item[:, :size], np.float32),
        logits=np.asarray(item[:, size:], np.float32) if more else None,
        directions=_pairs(where, "directions", item),
        sizes=_pairs(where, "sizes", item),
    )
    if len(placed.ids) != item.shape[0]:
        raise InputError(f"{where}: {item.shape[0]} objects, but {len(placed.ids)} obj_ids")
    _check(where, placed, size)
    return placed, size


def _pairs(where: str, name: str, item: Any) -> Floats:
    values = np.asarray(item.attrs[name])
    if values.dtype.kind not in "fiu":
        raise InputError(f"{where}: {name}: expected numbers, found {values.dtype}")
    return values.astype(np.float64)


def _ids(where: str, values: NDArray[Any]) -> Ints:
    """Read object ids as whole numbers; DUET's files hold them as texts."""
    texts = [v.decode("ascii", "replace") if isinstance(v, bytes) else str(v) for v in values.flat]
    if values.ndim != 1 or not all(t.isascii() and t.isdigit() and len(t) < 19 for t in texts):
        raise InputError(f"{where}: obj_ids: expected whole numbers, found {str(texts)[:60]!a}")
    return np.array([int(text) for text in texts], np.int64)
