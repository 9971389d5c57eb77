"""REVERIE in the toy houses, in the field's own files, so that it runs without any data.

The landmark of every viewpoint is an object: seen from there and from up to two neighbours, listed
but hidden at a third. Every R2R path asks for the object at its end, in R2R's wordings. An object
looks as its words do: the sum of their vectors, in a feature file of DUET's layout.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sterna.data.boxes import Boxes, SeenObject, write_boxes
from sterna.data.objects import named_objects, write_objects
from sterna.files import read_json, write_json
from sterna.recipes.toyworld import LANDMARKS_FILE, word_vectors, write_toy_world
from sterna.world.geometry import view_of_heading
from sterna.world.graph import NavGraph, load_graph

OBJECTS_FILE = "toy_objects"
"""Name of the object features among the features of a toy world."""


def write_toy_reverie(folder: str | os.PathLike[str], seed: int = 0, **world: Any) -> Path:
    """Write a toy world (`write_toy_world` with `world`) with REVERIE files; return the folder.

    The same arguments give the same bytes.
    """
    return add_reverie(write_toy_world(folder, seed, **world), seed)


def add_reverie(root: Path, seed: int = 0) -> Path:
    """Add REVERIE files to a toy world: annotations, boxes and object features; return the folder.

    Written: ``reverie/REVERIE_{train,val_seen,val_unseen,test}.json`` (the last without answers),
    ``reverie/BBoxes.json`` and ``features/toy_objects.hdf5``.
    """
    landmarks = read_json(root / LANDMARKS_FILE)
    graphs = {scan: load_graph(root / "connectivity", scan) for scan in landmarks}
    rng = np.random.default_rng([seed, 7])
    placed: dict[tuple[str, str], list[SeenObject]] = {}
    for scan, graph in graphs.items():
        placed |= _house(graph, landmarks[scan], rng)
    boxes = Boxes(placed)
    write_boxes(root / "reverie" / "BBoxes.json", boxes)
    write_objects(
        root / "features" / f"{OBJECTS_FILE}.hdf5", named_objects(boxes, _ToyWords(), graphs)
    )
    for split in ("train", "val_seen", "val_unseen"):
        entries = read_json(root / "r2r" / f"R2R_{split}.json")
        asked = [_entry(entry, graphs[entry["scan"]]) for entry in entries]
        write_json(root / "reverie" / f"REVERIE_{split}.json", asked)
    tests = [_test_entry(i, e) for i, e in enumerate(read_json(root / "r2r/R2R_val_unseen.json"))]
    write_json(root / "reverie" / "REVERIE_test.json", tests)
    return root


class _ToyWords:
    """Embeds a name as the sum of its words' vectors."""

    name, digest = "toy words", "toy"

    def encode(self, sentences: Sequence[str], /) -> NDArray[np.float32]:
        """Return the vectors [n, 32] of names."""
        words = word_vectors()
        rows = [sum(words[word] for word in text.split()) for text in sentences]
        return np.array(rows, np.float32)


def _house(
    graph: NavGraph, names: dict[str, str], rng: np.random.Generator
) -> dict[tuple[str, str], list[SeenObject]]:
    """Place object k at viewpoint k; a viewpoint's objects are in order of their ids."""
    objects: dict[tuple[str, str], list[SeenObject]] = {
        (graph.scan, viewpoint): [] for viewpoint in graph.viewpoints
    }
    for k, viewpoint in enumerate(graph.viewpoints):
        near = rng.permutation(graph.neighbours(k)).tolist()[:3]
        for place, seen in zip((k, *near), (True, True, True, False), strict=False):
            views = (_view(graph, place, k, rng),) if seen else ()
            x, y = (float(v) for v in rng.integers(0, 300, 2))
            thing = SeenObject(
                object_id=k,
                name=names[viewpoint].replace(" ", "#"),
                views=views,
                boxes=((x, y, 80.0, 60.0),) if seen else (),
            )
            objects[graph.scan, graph.viewpoints[place]].append(thing)
    return objects


def _view(graph: NavGraph, viewer: int, target: int, rng: np.random.Generator) -> int:
    """Return the view in which `viewer` sees the object of `target`: its own one anywhere."""
    if viewer == target:
        return int(rng.integers(12, 24))
    away = graph.positions[target] - graph.positions[viewer]
    return int(view_of_heading(np.array([math.atan2(away[0], away[1])]))[0])


def _entry(entry: dict[str, Any], graph: NavGraph) -> dict[str, Any]:
    target = graph.index(entry["path"][-1])
    return entry | {"objId": target, "id": f"{entry['path_id']}_{target}"}


def _test_entry(number: int, entry: dict[str, Any]) -> dict[str, Any]:
    kept = ("scan", "heading", "instructions", "instr_encodings")
    start = {key: entry[key] for key in kept}
    return {"id": str(number), "path": entry["path"][:1], **start}


def toy_data(out: Path, seed: int = 0) -> Path:
    """Return the data folder of toy houses in a run folder, written if it is not there."""
    root = out / "toy-data"
    if not (root / "reverie" / "REVERIE_test.json").is_file():  # what is written last
        write_toy_reverie(root, seed, train_scans=12, unseen_scans=4, paths=60)
    return root
