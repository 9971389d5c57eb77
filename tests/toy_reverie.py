"""REVERIE in the toy houses, and boxes drawn at random."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from sterna.data.boxes import Boxes, SeenObject
from sterna.data.r2r import read_r2r
from sterna.recipes.toyreverie import add_reverie
from sterna.world.graph import load_graph

NAMES = ("lamp", "chair", "coffee#table", "picture")


def toy_boxes(folder: Path, seed: int = 0) -> Boxes:
    """Object k stands at viewpoint k, seen there and by its first neighbour, hidden to the next."""
    rng = np.random.default_rng(seed)
    objects: dict[tuple[str, str], list[SeenObject]] = {}
    for scan in sorted(
        {e.scan for e in read_r2r(folder, "train") + read_r2r(folder, "val_unseen")}
    ):
        graph = load_graph(folder / "connectivity", scan)
        for name in graph.viewpoints:
            objects[scan, name] = []
        for k, name in enumerate(graph.viewpoints):
            near = [graph.viewpoints[n] for n in graph.neighbours(k)][:2]
            for place, sees in zip((name, *near), (True, True, False), strict=False):
                views = sorted(rng.choice(36, size=int(rng.integers(1, 4)), replace=False).tolist())
                views = views if sees else []
                boxes = tuple((float(rng.integers(0, 300)), 20.0, 50.0, 40.0) for _ in views)
                thing = SeenObject(object_id=k, name=NAMES[k % 4], views=tuple(views), boxes=boxes)
                objects[scan, place].append(thing)
    return Boxes(objects)


def write_toy_reverie(house: Path, root: Path) -> Path:
    """Copy a toy house and add REVERIE files."""
    return add_reverie(Path(shutil.copytree(house, root)))


def archive(members: dict[str, Any], kind: bytes = tarfile.REGTYPE) -> bytes:
    """A tar.gz of JSON members (bytes are taken as they are)."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, value in members.items():
            content = value if isinstance(value, bytes) else json.dumps(value).encode()
            member = tarfile.TarInfo(name)
            member.size, member.type = len(content), kind
            tar.addfile(member, io.BytesIO(content))
    return raw.getvalue()
