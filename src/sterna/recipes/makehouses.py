"""Write houses as a data folder in the field's own files: in parallel, resumable, reproducible.

Every house first becomes a part, a folder of its own under ``.parts``; when all are there they are
joined. A part appears under its name only when it is whole, so a killed run goes on where it was.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sterna.data.viewfile import camera_angles, write_views
from sterna.errors import InputError
from sterna.files import read_json, write_json, write_text
from sterna.recipes.housefiles import PER_HOUSE, Part, connectivity, r2r_episodes
from sterna.world.houses import make_house, scan_of
from sterna.world.houses.ground import ground_of
from sterna.world.houses.language.episodes import make_episodes
from sterna.world.houses.language.map import HouseMap
from sterna.world.houses.viewpoints import place_viewpoints

FINISHED = "houses.json"
"""What was asked for, and the digest of every house; written last."""
PARTS = ".parts"
UNSEEN = 500_000  # seeds of unseen houses begin here: the same ones for any number of others
VLNCE = "vlnce/R2R_VLNCE_v1-3"
SPLITS = ("train", "val_seen", "val_unseen")


@dataclass(frozen=True, kw_only=True)
class HousesConfig:
    """Which houses, and how much is asked in each."""

    train: int = 120
    """Training houses."""
    val_unseen: int = 20
    """Houses that no training sees."""
    seed: int = 0
    """Seed of the first training house; that of the first unseen one is 500,000 more."""
    paths: int = 60
    """Training paths a house, three instructions each."""
    seen_paths: int = 4
    """Further paths of each training house, for val_seen."""
    unseen_paths: int = 40
    """Paths of each unseen house."""
    continuous: bool = True
    """Also write VLN-CE's files, with reference trajectories."""

    def __post_init__(self) -> None:
        for name in ("train", "val_unseen", "paths", "seen_paths", "unseen_paths"):
            if getattr(self, name) < 1:
                raise InputError(f"houses: {name} is at least 1, found {getattr(self, name)}")
        if max(self.paths + self.seen_paths, self.unseen_paths) > PER_HOUSE:
            raise InputError(f"houses: at most {PER_HOUSE} paths a house")
        if self.seed < 0 or self.train + self.val_unseen > UNSEEN:
            raise InputError(f"houses: seed from 0 up and at most {UNSEEN} houses, please")

    @property
    def train_seeds(self) -> range:
        """Seeds of the training houses."""
        return range(self.seed, self.seed + self.train)

    @property
    def unseen_seeds(self) -> range:
        """Seeds of the unseen houses."""
        first = self.seed + UNSEEN
        return range(first, first + self.val_unseen)


def make_houses(config: HousesConfig, out: Path, *, workers: int | None = None) -> Path:
    """Write a data folder of houses; return it. The same command continues a killed run.

    The same configuration gives the same bytes, whatever the number of `workers` (processes;
    default: one a core). `InputError` if `out` holds houses of another configuration.
    """
    wanted = json.loads(json.dumps(asdict(config)))
    if (out / FINISHED).is_file():
        _check_same(out / FINISHED, read_json(out / FINISHED).get("config"), wanted)
        return out
    begun = out / PARTS / "config.json"
    if begun.is_file():
        _check_same(begun, read_json(begun), wanted)
    else:
        write_json(begun, wanted)
    seeds = [*config.train_seeds, *config.unseen_seeds]
    _make_parts(config, out / PARTS, seeds, workers or os.cpu_count() or 1)
    _join(config, out, seeds)
    shutil.rmtree(out / PARTS)
    return out


def _check_same(file: Path, found: Any, wanted: dict[str, Any]) -> None:
    if found == wanted:
        return
    other = found if isinstance(found, dict) else {}
    differs = [
        f"{k}: {other.get(k)} there, {v} now" for k, v in wanted.items() if other.get(k) != v
    ]
    raise InputError(
        f"{file}: these houses were made with other settings ({'; '.join(differs)}); give another "
        "--out, or the settings they were begun with"
    )


def _make_parts(config: HousesConfig, folder: Path, seeds: Sequence[int], workers: int) -> None:
    for left in folder.glob("*.tmp"):  # what a killed run was at
        shutil.rmtree(left)
    missing = [seed for seed in seeds if not (folder / scan_of(seed)).is_dir()]
    bar = tqdm(total=len(seeds), initial=len(seeds) - len(missing), desc="houses", unit="house")
    for _ in _each(lambda seed: (config, folder, seed), missing, workers):
        bar.update()
    bar.close()


def _each(
    arguments: Callable[[int], tuple[Any, ...]], seeds: Sequence[int], workers: int
) -> Iterator[None]:
    """Make parts, here or in processes of their own; the first error ends it all."""
    if workers == 1 or len(seeds) < 2:
        for seed in seeds:
            make_part(*arguments(seed))
            yield
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(seeds)), mp_context=context) as pool:
        jobs = [pool.submit(make_part, *arguments(seed)) for seed in seeds]
        try:
            for job in as_completed(jobs):
                job.result()
                yield
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def make_part(config: HousesConfig, folder: Path, seed: int) -> None:
    """Write the part of one house."""
    house = make_house(seed)
    ground = ground_of(house)
    viewpoints = place_viewpoints(house, ground)
    part = folder / f"{scan_of(seed)}.tmp"
    write_json(part / "connectivity.json", connectivity(viewpoints), indent=None)
    unseen = seed in config.unseen_seeds
    counts = (
        {"val_unseen": config.unseen_paths}
        if unseen
        else {"train": config.paths, "val_seen": config.seen_paths}
    )
    described = make_episodes(HouseMap(house, viewpoints), sum(counts.values()))
    first = 0
    for split, count in counts.items():
        chosen = described[first : first + count]
        start = _path_id(config, seed) + first
        episodes = r2r_episodes(viewpoints.graph, chosen, start, split)
        Part(folder=part, split=split).write(
            viewpoints, ground if config.continuous else None, episodes
        )
        first += count
    write_json(part / "house.json", {"seed": seed, "digest": house.digest()})
    part.rename(folder / scan_of(seed))


def _path_id(config: HousesConfig, seed: int) -> int:
    """Return the first path id of a house: houses count from 0, unseen ones behind the others."""
    number = (
        seed - config.seed
        if seed in config.train_seeds
        else config.train + seed - config.unseen_seeds.start
    )
    return number * PER_HOUSE


# --- joining -------------------------------------------------------------------------------------


def _join(config: HousesConfig, out: Path, seeds: Sequence[int]) -> None:
    folders = [out / PARTS / scan_of(seed) for seed in seeds]
    for folder in folders:
        target = out / "connectivity" / f"{folder.name}_connectivity.json"
        write_text(target, (folder / "connectivity.json").read_text("utf-8"))
    write_text(out / "connectivity" / "scans.txt", "".join(f"{f.name}\n" for f in folders))
    for split in SPLITS:
        parts = [Part(folder=folder, split=split) for folder in folders]
        there = [part for part in parts if part.r2r.is_file()]
        rows = [entry for part in there for entry in read_json(part.r2r)]
        write_json(out / "r2r" / f"R2R_{split}.json", rows)
        if config.continuous:
            _join_continuous(out / VLNCE / split, split, there)
    houses = {folder.name: read_json(folder / "house.json") for folder in folders}
    write_json(out / FINISHED, {"config": asdict(config), "houses": houses})


def _join_continuous(folder: Path, split: str, parts: Sequence[Part]) -> None:
    episodes = [entry for part in parts for entry in read_json(part.vlnce)["episodes"]]
    walks = {name: walk for part in parts for name, walk in read_json(part.trajectories).items()}
    write_json(folder / f"{split}.json.gz", {"episodes": episodes}, indent=None)
    write_json(folder / f"{split}_gt.json.gz", walks, indent=None)


def write_features(
    target: Path, parts: Sequence[Path], attrs: dict[str, str | int | float]
) -> None:
    """Join the view features of parts into one HDF5 file."""

    def items() -> Iterator[tuple[str, Any]]:
        for folder in parts:
            names = [entry["image_id"] for entry in read_json(folder / "connectivity.json")]
            views = np.load(folder / "views.npy", allow_pickle=False)
            for name, values in zip(names, views, strict=True):
                yield f"{folder.name}_{name}", values

    write_views(target, items(), *camera_angles(), attrs)
