"""View and object features of panoramas in the published HDF5 layouts, resumable.

Every viewpoint is encoded by itself and kept as a part beside the file to come; when all parts are
there they are joined, and the file appears. So a killed run goes on where it was, and neither the
number of processes nor where a run was killed changes a bit of what is written.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sterna.data.boxes import IMAGE_HEIGHT, IMAGE_WIDTH, Boxes, SeenObject, read_boxes
from sterna.data.layout import Layout
from sterna.data.objects import ObjectStore, place_objects, write_objects
from sterna.data.panoramas import SIZE, PanoramaFolder, Pictures, Place
from sterna.data.viewfile import (
    LOGITS,
    Shot,
    camera_angles,
    open_hdf5,
    write_views,
)
from sterna.errors import InputError
from sterna.files import read_json, write_bytes, write_json
from sterna.models.vision import VisionEncoder, find_device, open_vision
from sterna.recipes.featureconfig import FeatureConfig, ObjectConfig
from sterna.recipes.featuremerge import read_settings
from sterna.recipes.jobs import Job, differences, job_pool
from sterna.world.graph import load_graph
from sterna.world.houses import make_house, seed_of
from sterna.world.panorama import VFOV

SETTINGS = "settings.json"
_CHUNK = 8  # viewpoints a job: enough to read ahead, few enough that bars move


@dataclass(frozen=True)
class Written:
    """What a run wrote: `viewpoints` in `path`, `size` columns of features, `logits` behind."""

    path: Path
    viewpoints: int
    size: int
    logits: int
    encoder: str
    digest: str


class Source(Protocol):
    """Where the 36 views of viewpoints come from."""

    @property
    def places(self) -> Sequence[Place]:
        """Every (scan, viewpoint), sorted."""
        ...

    def size_of(self, scan: str, viewpoint: str) -> tuple[int, int]:
        """Return width and height of the views of one."""
        ...

    def views(self, scan: str, viewpoint: str) -> Pictures:
        """Return the views of one, uint8 [36, H, W, 3]."""
        ...


class RenderedHouses:
    """The viewpoints of houses made from seeds, rendered as the simulator would show them."""

    def __init__(self, root: Path, scans: Sequence[str]) -> None:
        """Read the graphs; `InputError` for a building that is not made from a seed."""
        folder = Layout(root).connectivity
        found = list(scans) or Layout(root).scans
        foreign = [scan for scan in found if seed_of(scan) is None]
        if foreign:
            raise InputError(
                f"{root}: {foreign[0]} is no house made from a seed; give a folder of "
                "`sterna data make houses`, or pictures"
            )
        self._graphs = {scan: load_graph(folder, scan) for scan in found}
        self._rendered: tuple[str, Any] | None = None

    @property
    def places(self) -> tuple[Place, ...]:
        """Every (scan, viewpoint), sorted."""
        return tuple(sorted((s, v) for s, graph in self._graphs.items() for v in graph.viewpoints))

    def size_of(self, scan: str, viewpoint: str) -> tuple[int, int]:
        """Return width and height of what is rendered."""
        return SIZE

    def views(self, scan: str, viewpoint: str) -> Pictures:
        """Render 36 views, 640 x 480 pixels, 60 degrees high."""
        if self._rendered is None or self._rendered[0] != scan:
            from sterna.world.houses.render import Renderer

            self._rendered = scan, Renderer(make_house(int(seed_of(scan) or 0)))
        graph = self._graphs[scan]
        frames = self._rendered[1].panorama(graph.positions[graph.index(viewpoint)], SIZE, VFOV)
        pictures: Pictures = frames.rgb
        return pictures


def extract_views(
    config: FeatureConfig, out: Path, *, workers: int = 1, shard: tuple[int, int] = (1, 1)
) -> Written:
    """Write view features [36, F (+ 1000)] of all viewpoints as one HDF5 file; see the module.

    `shard` (i, n) takes the i-th of n parts of the viewpoints (`merge_features` joins files).
    Raises `InputError` for bad pictures, an encoder that cannot be read, or a file of other
    settings at `out`.
    """
    places = _share(open_source(config).places, shard)
    run = _Run(config, out, places)
    if not run.done:
        run.extract(workers)
        attrs = run.attrs
        angles = camera_angles()
        items = ((key, run.part(key)) for key in run.keys)
        write_views(out, items, *angles, attrs, logits=run.logits, shot=run.shot)
        run.clean()
    return run.written(len(places))


def extract_objects(
    config: ObjectConfig,
    out: Path,
    boxes: Boxes,
    *,
    workers: int = 1,
    shard: tuple[int, int] = (1, 1),
) -> Written:
    """Write features of the objects that viewpoints see as one HDF5 file in DUET's layout.

    An object is cut out of the views of its `top` largest boxes, each cut widened about its middle
    to `least` pixels; its feature is the mean. Place and size are those of the largest box.
    """
    source = open_source(config)
    seen = {place: boxes.visible(*place) for place in _share(source.places, shard)}
    seen = {place: things for place, things in seen.items() if things}
    if not seen:
        raise InputError("features: no object is seen from any of these viewpoints; check --boxes")
    run = _Run(config, out, tuple(seen), seen, boxes)
    if not run.done:
        run.extract(workers)
        placed = {
            key: place_objects(things, run.part(key))
            for key, things in zip(run.keys, seen.values(), strict=True)
        }
        width = run.encoder.size
        split = {
            key: replace(
                value, features=value.features[:, :width], logits=value.features[:, width:]
            )
            if run.logits
            else value
            for key, value in placed.items()
        }
        store = ObjectStore(split, width, str(out))
        write_objects(out, store, run.attrs, shot=run.shot, dtype=config.dtype)
        run.clean()
    return run.written(len(seen))


def open_source(config: FeatureConfig) -> Source:
    """Open the pictures or houses that a configuration names."""
    if config.pictures is not None:
        return PanoramaFolder(config.pictures, north=config.north, scans=config.scans or None)
    assert config.houses is not None
    return RenderedHouses(config.houses, config.scans)


def find_boxes(config: ObjectConfig, data: Path | None) -> Boxes:
    """Read the boxes that a configuration names, else those of the houses or of a data folder."""
    if config.boxes is not None:
        return read_boxes(config.boxes)
    folder = config.houses or data
    if folder is None:
        raise InputError("features: no boxes; give --boxes FILE (REVERIE's BBox.tar.gz) or --data")
    return read_boxes(Layout(folder).boxes)


def _share(places: Sequence[Place], shard: tuple[int, int]) -> tuple[Place, ...]:
    number, count = shard
    first, last = ((number - 1) * len(places) // count, number * len(places) // count)
    if first == last:
        raise InputError(f"--shard {number}/{count}: nothing left of {len(places)} viewpoints")
    return tuple(places[first:last])


class _Run:
    """The parts of one file to come, and whether it has come."""

    def __init__(
        self,
        config: FeatureConfig,
        out: Path,
        places: Sequence[Place],
        seen: Mapping[Place, tuple[SeenObject, ...]] | None = None,
        boxes: Boxes | None = None,
    ) -> None:
        self.config, self.out, self.places, self.seen = config, out, places, seen
        self.keys = [f"{scan}_{viewpoint}" for scan, viewpoint in places]
        self.folder = out.with_name(f".{out.name}.parts")
        self.encoder = _encoder(config)
        self.logits = keep_logits(config, self.encoder)
        self._settings = _settings(config, self.encoder, boxes)
        self.done = out.is_file()
        if self.done:
            self._check(out, read_settings(out))
            _check_keys(out, self.keys)
        elif (self.folder / SETTINGS).is_file():
            found = read_json(self.folder / SETTINGS)
            self._check(self.folder / SETTINGS, found, begun=True)

    @property
    def shot(self) -> Shot:
        """The camera, as the first viewpoint's pictures show it."""
        width, height = _source(self.config).size_of(*self.places[0])
        return Shot(width=width, height=height)

    @property
    def attrs(self) -> dict[str, str | int | float]:
        """Root attributes of the file."""
        return {
            "source": self.encoder.name,
            "digest": self.encoder.digest,
            "settings": json.dumps(self._settings, sort_keys=True),
        }

    @property
    def _begun(self) -> dict[str, Any]:
        """What parts are bound to: the settings, and where exactly the pictures lie.

        The file itself says only what their folder is called: shards come from many machines.
        """
        place = self.config.pictures or self.config.houses
        return self._settings | {"from": str(place.resolve() if place else "")}

    def _check(self, file: Path, found: Any, *, begun: bool = False) -> None:
        wanted = self._begun if begun else self._settings
        if found == wanted:
            return
        raise InputError(
            f"{file}: features of other settings ({differences(found, wanted)[:300]}); give "
            "another --out, or delete it"
        )

    def extract(self, workers: int) -> None:
        """Encode every viewpoint that has no part yet."""
        write_json(self.folder / SETTINGS, self._begun)
        todo = [
            place
            for place, key in zip(self.places, self.keys, strict=True)
            if not _part(self.folder, key).is_file()
        ]
        chunks = [todo[i : i + _CHUNK] for i in range(0, len(todo), _CHUNK)]
        total = len(chunks) + (len(self.places) - len(todo)) // _CHUNK
        jobs: list[Job] = []
        for chunk in chunks:
            things = None if self.seen is None else [self.seen[place] for place in chunk]
            jobs.append((_encode_chunk, (self.config, self.folder, chunk, things)))
        with job_pool(min(workers, max(1, len(chunks)))) as run:
            run(jobs, "viewpoints, by eight", total)

    def part(self, key: str) -> NDArray[Any]:
        """Read a part; one that is damaged is named."""
        file = _part(self.folder, key)
        try:
            array: NDArray[Any] = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{file}: damaged; delete it and run again") from error
        return array

    def clean(self) -> None:
        """Remove the parts: the file holds them all; and what a kill while joining left."""
        shutil.rmtree(self.folder)
        for left in self.out.parent.glob(f".{self.out.name}.*.tmp"):
            left.unlink(missing_ok=True)

    def written(self, count: int) -> Written:
        """Say what lies there now."""
        classes = LOGITS if self.logits else 0
        return Written(
            self.out, count, self.encoder.size, classes, self.encoder.name, self.encoder.digest
        )


def keep_logits(config: FeatureConfig, encoder: VisionEncoder) -> bool:
    """Return whether logits are kept; `InputError` where they are wanted and there are not 1000."""
    if config.logits == "yes" and encoder.classes != LOGITS:
        raise InputError(
            f"encoder {encoder.name!r}: has {encoder.classes or 'no'} classes, the layout holds "
            f"{LOGITS} logits; use an ImageNet classifier, or --logits no"
        )
    return config.logits != "no" and encoder.classes == LOGITS


def _settings(config: FeatureConfig, encoder: VisionEncoder, boxes: Boxes | None) -> dict[str, Any]:
    """Return all that the numbers depend on, as JSON."""
    values = asdict(config) | {
        "encoder": encoder.name,
        "digest": encoder.digest,
        "logits": keep_logits(config, encoder),
        "device": encoder.device.type,
        "objects": None if boxes is None else _boxes_digest(boxes),
    }
    for name in ("scans", "boxes"):
        values.pop(name, None)
    for name in ("pictures", "houses"):
        values[name] = None if values[name] is None else Path(values[name]).resolve().name
    settings: dict[str, Any] = json.loads(json.dumps(values))
    return settings


def _check_keys(path: Path, keys: Sequence[str]) -> None:
    with open_hdf5(path) as file:
        present = set(file)
    if present != set(keys):
        odd = sorted(present ^ set(keys))[0]
        raise InputError(
            f"{path}: holds {len(present)} viewpoints, asked for are {len(keys)} (such as {odd}); "
            "give another --out, or delete it"
        )


def _boxes_digest(boxes: Boxes) -> str:
    seen = [(place, boxes.visible(*place)) for place in sorted(boxes.viewpoints)]
    return hashlib.sha256(repr(seen).encode()).hexdigest()


# --- in the processes ----------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _encoder(config: FeatureConfig) -> VisionEncoder:
    device = find_device(config.device)
    return open_vision(config.encoder, precision=config.precision, device=device, pool=config.pool)


@lru_cache(maxsize=1)
def _source(config: FeatureConfig) -> Source:
    return open_source(config)


def _part(folder: Path, key: str) -> Path:
    return folder / f"{key}.npy"


def _encode_chunk(
    config: FeatureConfig,
    folder: Path,
    places: Sequence[Place],
    seen: Sequence[tuple[SeenObject, ...]] | None,
) -> None:
    """Encode some viewpoints and write their parts; pictures are read one viewpoint ahead."""
    encoder, source = _encoder(config), _source(config)
    keep = keep_logits(config, encoder)

    def look(number: int) -> tuple[Any, list[int]]:
        views = source.views(*places[number])
        if seen is None:
            return encoder.prepare(list(views)), []
        assert isinstance(config, ObjectConfig)
        cuts = [cut_object(views, thing, config) for thing in seen[number]]
        return encoder.prepare([cut for part in cuts for cut in part]), [len(c) for c in cuts]

    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(look, 0)
        for number, (scan, viewpoint) in enumerate(places):
            pixels, counts = coming.result()
            if number + 1 < len(places):
                coming = ahead.submit(look, number + 1)
            values = _run_encoder(encoder, pixels, config.batch_size, keep)
            if seen is not None:
                starts = np.cumsum([0, *counts[:-1]])
                totals: NDArray[np.float32] = np.add.reduceat(values, starts)
                values = totals / np.array(counts, np.float32)[:, None]
            key = f"{scan}_{viewpoint}"
            _write_part(_part(folder, key), values, config.dtype, key)


def _run_encoder(
    encoder: VisionEncoder, pixels: Any, batch: int, keep: bool
) -> NDArray[np.float32]:
    rows = []
    for first in range(0, len(pixels), batch):
        features, logits = encoder(pixels[first : first + batch])
        rows.append(
            np.concatenate([features, logits], 1) if keep and logits is not None else features
        )
    return np.concatenate(rows)


def _write_part(file: Path, values: NDArray[np.float32], dtype: str, key: str) -> None:
    with np.errstate(over="ignore"):
        stored = values.astype(dtype)
    if not np.isfinite(stored).all():
        why = "too large for float16; use --dtype float32" if np.isfinite(values).all() else "NaN"
        raise InputError(f"{key}: the encoder gives a number that is {why}")
    buffer = io.BytesIO()
    np.save(buffer, stored, allow_pickle=False)
    write_bytes(file, buffer.getvalue())


def cut_object(views: Pictures, thing: SeenObject, config: ObjectConfig) -> list[Pictures]:
    """Cut an object out of the views of its largest boxes, the larger first."""
    height, width = views.shape[1:3]
    order = sorted(range(len(thing.boxes)), key=lambda k: -thing.boxes[k][2] * thing.boxes[k][3])
    cuts = []
    for k in order[: config.top]:
        x, y, w, h = thing.boxes[k]
        left, right = _widened(x, w, config.least, IMAGE_WIDTH, width)
        top, bottom = _widened(y, h, config.least, IMAGE_HEIGHT, height)
        cuts.append(views[thing.views[k], top:bottom, left:right])
    return cuts


def _widened(first: float, length: float, least: int, room: int, pixels: int) -> tuple[int, int]:
    """Widen a span to `least` of `room` about its middle, inside; in pixels of the picture."""
    wide = max(length, least)
    begin = min(max(first + length / 2 - wide / 2, 0), room - wide)
    scale = pixels / room
    low = int(np.floor(begin * scale))
    return low, max(low + 1, min(pixels, int(np.ceil((begin + wide) * scale))))
