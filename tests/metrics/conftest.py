"""Answers of the real splits, and a corridor small enough to score by hand."""

from __future__ import annotations

import gzip
import itertools
import json
import tarfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sterna.data.episodes import Episode

CORRIDOR = ("a", "b", "c", "d", "e")  # 2 m apart on a line; f lies 1.5 m beside c


def load(path: Path) -> Any:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return json.load(file)


@cache
def _read(path: Path, split: str) -> tuple[Episode, ...]:
    return tuple(
        Episode(
            instr_id=f"{item.get('id', item['path_id'])}_{j}",
            scan=item["scan"],
            path=tuple(item["path"]),
            heading=item["heading"],
            instruction=text,
            path_id=item["path_id"],
            split=split,
            object_id=item.get("objId"),
        )
        for item in load(path)
        for j, text in enumerate(item["instructions"])
    )


@cache
def _boxes(archive: Path, scans: frozenset[str]) -> dict[tuple[str, int], list[str]]:
    seen: dict[tuple[str, int], list[str]] = defaultdict(list)
    with tarfile.open(archive) as tar:
        for member in tar:
            scan = Path(member.name).name.split("_")[0]
            if not member.isfile() or scan not in scans:
                continue
            for viewpoint, objects in json.load(tar.extractfile(member)).items():
                for number, box in objects.items():
                    if box["visible_pos"]:
                        seen[scan, int(number)].append(viewpoint)
    return seen


@pytest.fixture
def r2r(data_dir: Path) -> Callable[[str], list[Episode]]:
    return lambda split: list(_read(data_dir / "r2r" / f"R2R_{split}.json.gz", split))


@pytest.fixture
def r4r(data_dir: Path) -> list[Episode]:
    return list(_read(data_dir / "r4r" / "R4R_val_seen.json.gz", "val_seen"))


@pytest.fixture
def reverie(data_dir: Path) -> Callable[[set[str]], list[Episode]]:
    """REVERIE v1 val_unseen episodes with the given ids, goal sets filled from the boxes."""

    def read(names: set[str]) -> list[Episode]:
        folder = data_dir / "reverie" / "v1"
        chosen = [
            e
            for e in _read(folder / "REVERIE_val_unseen.json.gz", "val_unseen")
            if e.instr_id in names
        ]
        seen = _boxes(folder / "BBox.tar.gz", frozenset(e.scan for e in chosen))
        return [replace(e, goals=tuple(seen[e.scan, e.object_id])) for e in chosen]

    return read


@pytest.fixture
def connectivity(data_dir: Path) -> Path:
    return data_dir / "mp3d" / "connectivity"


def write_connectivity(
    folder: Path, scan: str, positions: dict[str, tuple[float, ...]], edges: list[tuple[str, str]]
) -> None:
    pairs = {frozenset(edge) for edge in edges}
    entries = []
    for name, (x, y, z) in positions.items():
        linked = [frozenset((name, other)) in pairs for other in positions]
        pose = [1, 0, 0, x, 0, 1, 0, y, 0, 0, 1, z, 0, 0, 0, 1]
        entries.append(
            {
                "image_id": name,
                "pose": pose,
                "included": True,
                "visible": linked,
                "unobstructed": linked,
                "height": 1.5,
            }
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{scan}_connectivity.json").write_text(json.dumps(entries))


@pytest.fixture
def write_graph() -> Callable[..., None]:
    return write_connectivity


@pytest.fixture(scope="session")
def corridor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one scan "hall": a-b-c-d-e in a line 2 m apart, f 1.5 m beside c, g alone."""
    folder = tmp_path_factory.mktemp("hall")
    positions = {name: (2.0 * i, 0.0, 1.5) for i, name in enumerate(CORRIDOR)}
    positions |= {"f": (4.0, 1.5, 1.5), "g": (50.0, 0.0, 1.5)}
    edges = [*itertools.pairwise(CORRIDOR), ("c", "f")]
    write_connectivity(folder, "hall", positions, edges)
    return folder


@pytest.fixture
def hall_episodes() -> list[Episode]:
    paths = {"1_0": "abc", "1_1": "abc", "2_0": "abcde", "3_0": "fcde"}
    return [
        Episode(
            instr_id=name,
            scan="hall",
            path=tuple(path),
            heading=0.0,
            instruction="go",
            path_id=int(name[0]),
            split="toy",
        )
        for name, path in paths.items()
    ]
