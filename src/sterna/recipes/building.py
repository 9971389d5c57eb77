"""`sterna data import`: a folder of panoramas with poses becomes a data folder.

Panoramas are cut into the 36 views of R2R's simulator and seen by a view encoder, one file a
panorama under ``.parts`` until all are there, so that a killed import goes on where it was.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sterna.data.building import (
    NAME,
    Place,
    PosesConfig,
    poses_file,
    read_panorama,
    read_places,
    settings_of,
)
from sterna.data.check import IMPORTED
from sterna.data.episodes import Episode
from sterna.data.placement import connectivity, edges
from sterna.data.r2r import write_r2r
from sterna.data.viewfile import camera_angles, write_views
from sterna.errors import InputError
from sterna.files import read_bytes, read_json, write_bytes, write_json, write_text
from sterna.models import encoder as encoder_files
from sterna.models.encoder import Encoder, load_encoder
from sterna.recipes.makehouses import FEATURES, PARTS, SHIPPED, write_words
from sterna.recipes.ownepisodes import own_episodes
from sterna.world.graph import build_graph
from sterna.world.panorama import views_of


@dataclass(frozen=True, kw_only=True)
class ImportConfig(PosesConfig):
    """How a folder of panoramas becomes a data folder."""

    scan: str | None = None
    """Name of the building (default: the folder's)."""
    poses: Path | None = None
    """Table of poses (default: poses.csv or poses.json in the folder)."""
    camera_height: float = 1.5
    """Metres of the camera over the floor, for the graph's file."""
    encoder: str = SHIPPED
    """What looks at the views: shipped (the houses' own, offline), the folder of one that `sterna
    data encoder` trained, or an image model of transformers by name."""
    features: str = FEATURES
    """Name of the feature file; policies ask for it by this name (--data.views, eval --views)."""
    episodes: Path | None = None
    """Table of your own episodes: path (ids) or start and goal, instruction, and heading where it
    is known (else the agent faces its way). Without it plain directions are made of the graph."""
    split: str = "val_unseen"
    """Split of your own episodes, or of the paths drawn."""
    paths: int = 40
    """Paths drawn for it, two instructions each, where there are no episodes of your own."""
    train: int = 0
    """Further paths drawn for a split train, to adapt a policy to the building."""
    seed: int = 0
    """Seed of what is drawn."""

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if self.paths < 1 or self.train < 0:
            raise InputError(
                f"import: paths must be 1 or more, train 0 or more: {self.paths}, {self.train}"
            )
        if not 0 < self.camera_height < 10:
            raise InputError(f"import: a camera height in metres, found {self.camera_height}")
        for what, name in (("--features", self.features), ("--split", self.split)):
            if not NAME.fullmatch(name):
                raise InputError(f"import: {what} has letters, digits, _ and -, found {name!r}")


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import made."""

    out: Path
    scan: str
    panoramas: int
    edges: int
    episodes: Mapping[str, int]
    """Instructions by split."""


def import_building(config: ImportConfig, folder: Path, out: Path) -> Imported:
    """Write a data folder of the panoramas in a folder; the same command continues a killed one.

    All is read and checked before anything is written; faults are `InputError`s of one line.
    """
    poses = config.poses or poses_file(folder)
    scan = config.scan or folder.resolve().name
    if not NAME.fullmatch(scan):
        raise InputError(f"{scan!r}: a building's name has letters, digits, _ and -; give --scan")
    places = read_places(folder, poses, config)
    linked = edges(places, config)
    graph = build_graph(
        scan, [p.name for p in places], np.array([p.position for p in places]), linked
    )
    splits = own_episodes(config, graph)
    encoder = _encoder(config.encoder)
    wanted = _settings(config, scan, poses, places, encoder)
    if not _is_done(out, wanted):
        _write(config, out, places, linked, encoder, scan, splits)
        write_json(out / IMPORTED, wanted)
        shutil.rmtree(out / PARTS)
    counts = {split: len(episodes) for split, episodes in splits.items()}
    count = int(linked.sum()) // 2
    return Imported(out=out, scan=scan, panoramas=len(places), edges=count, episodes=counts)


def _write(
    config: ImportConfig,
    out: Path,
    places: Sequence[Place],
    linked: NDArray[np.bool_],
    encoder: Encoder,
    scan: str,
    splits: Mapping[str, Sequence[Episode]],
) -> None:
    headings, elevations = camera_angles()
    attrs: dict[str, str | int | float] = {"source": encoder.name, "digest": encoder.digest}
    features = _see(places, encoder, out / PARTS)
    keys = ((f"{scan}_{place.name}", views) for place, views in features)
    write_views(out / "features" / f"{config.features}.hdf5", keys, headings, elevations, attrs)
    for split, episodes in splits.items():
        write_r2r(out / "r2r" / f"R2R_{split}.json", episodes)
    write_words(out)
    write_text(out / "connectivity" / "scans.txt", f"{scan}\n")
    rows = connectivity(places, linked, config.camera_height)
    write_json(out / "connectivity" / f"{scan}_connectivity.json", rows, indent=None)


def _settings(
    config: ImportConfig, scan: str, poses: Path, places: Sequence[Place], encoder: Encoder
) -> dict[str, Any]:
    """Return what decides the folder's content, as JSON values."""
    tables = [poses, *(file for file in (config.walls, config.episodes) if file is not None)]
    digest = hashlib.sha256(b"".join(read_bytes(file) for file in tables))
    for place in places:
        digest.update(f"{place.image.name} {place.image.stat().st_size} ".encode())
    values = settings_of(config) | {
        name: getattr(config, name)
        for name in ("camera_height", "features", "split", "paths", "train", "seed")
    }
    known = {"scan": scan, "encoder": encoder.digest, "inputs": digest.hexdigest()}
    found: dict[str, Any] = json.loads(json.dumps(values | known))
    return found


def _is_done(out: Path, wanted: dict[str, Any]) -> bool:
    """Return whether the folder is made; else begin, or go on with, an import of these settings.

    `InputError` for a folder that holds other data, or an import of other settings.
    """
    done, begun = out / IMPORTED, out / PARTS / "import.json"
    for file in (done, begun):
        found = read_json(file) if file.is_file() else wanted
        other = found if isinstance(found, dict) else {}
        differs = sorted(k for k in {*wanted, *other} if other.get(k) != wanted.get(k))
        if differs:
            raise InputError(
                f"{file}: made with another {', '.join(differs)}; give another --out, or delete "
                "the folder"
            )
    if not done.is_file() and not begun.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise InputError(f"{out}: holds other files already; give an --out of its own")
        write_json(begun, wanted)
    return done.is_file()


def _encoder(name: str) -> Encoder:
    folder = encoder_files.SHIPPED if name == SHIPPED else Path(name)
    if (folder / "config.json").is_file() and not (folder / "preprocessor_config.json").is_file():
        return load_encoder(folder)
    from sterna.models.pictures import TransformersEncoder

    return TransformersEncoder(name)


def _see(
    places: Sequence[Place], encoder: Encoder, parts: Path
) -> Iterator[tuple[Place, NDArray[np.float16]]]:
    """Yield the features [36, F] of every panorama; those seen before are read."""
    for place in tqdm(places, desc="panoramas", unit="panorama"):
        file = parts / f"{place.name}.npy"
        if not file.is_file():
            views = views_of(read_panorama(place), encoder.pixels, heading=place.heading)
            buffer = io.BytesIO()
            np.save(buffer, encoder(views).astype(np.float16), allow_pickle=False)
            write_bytes(file, buffer.getvalue())
        yield place, np.load(file, allow_pickle=False)
