"""Toy houses in the field's own files: small enough for a laptop, seen enough to be learnt.

Each house has two floors, a jittered grid of viewpoints each, joined by one stair. At every
viewpoint stands a landmark, a colour and an object ("red chair"), unique in its house. A view's
feature is the sum of the landmark vectors in its direction; a landmark's vector is the sum of two
fixed word vectors, the same in every house, so what is learnt in one house holds in another.
The vectors of all words lie beside the views (``words.npy``): a policy may begin with them.
Instructions name landmarks along a shortest path of 3 to 6 edges, in three wordings.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from sterna.data.views import camera_angles, write_views
from sterna.files import write_json, write_text
from sterna.world.graph import NavGraph, read_graph

COLOURS = ("red", "blue", "green", "yellow", "white", "black", "purple", "orange")
OBJECTS = ("chair", "lamp", "bed", "table", "sofa", "plant", "clock", "mirror", "piano")
FEATURE_SIZE = 32
LANDMARKS_FILE = "landmarks.json"
"""What stands where: {scan: {viewpoint: "red chair"}}."""
_COLUMNS, _ROWS, _SPACING, _STOREY, _CAMERA = 4, 3, 2.2, 2.8, 1.5
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_PHRASES = (
    "go straight turn left right around and walk to towards the past then stop wait at "
    "up down stairs leave ."
)
WORDS = tuple(dict.fromkeys((*_SPECIAL, *_PHRASES.split(), *COLOURS, *OBJECTS)))
"""All words of toy instructions, by id."""
Landmark = tuple[str, str]


@dataclass(frozen=True)
class _House:
    graph: NavGraph
    landmarks: list[Landmark]


def write_toy_world(
    folder: str | os.PathLike[str],
    seed: int = 0,
    *,
    train_scans: int = 2,
    unseen_scans: int = 1,
    paths: int = 120,
) -> Path:
    """Write a whole data folder of toy houses; the same arguments give the same bytes.

    Written: ``connectivity/``, ``r2r/R2R_{train,val_seen,val_unseen}.json`` (with
    ``instr_encodings``), ``features/toy.hdf5`` (36 x 32), ``tokenizer.json`` of the words used, and
    their vectors ``words.npy`` (see `word_table`), and what stands where, ``landmarks.json``.
    `paths` is the number of training paths a house; validation has a sixth of it (seen, other paths
    of the training houses) or half of it (unseen houses). Returns the folder.
    """
    root = Path(folder)
    rng = np.random.default_rng(seed)
    scans = [f"toy{_digest(seed, i)[:8]}" for i in range(train_scans + unseen_scans)]
    houses = [_write_house(root, scan, rng) for scan in scans]
    write_text(root / "connectivity" / "scans.txt", "\n".join(scans) + "\n")
    tokenizer = toy_tokenizer()
    write_text(root / "tokenizer.json", tokenizer.to_str(pretty=True))
    np.save(root / "words.npy", word_table(), allow_pickle=False)
    write_json(root / LANDMARKS_FILE, {house.graph.scan: _names(house) for house in houses})
    entries: dict[str, list[dict[str, Any]]] = {"train": [], "val_seen": [], "val_unseen": []}
    for index, house in enumerate(houses):
        drawn = [_entry(house, path, rng, tokenizer) for path in _paths(house.graph, rng)]
        if index < train_scans:
            entries["train"] += drawn[:paths]
            entries["val_seen"] += drawn[paths : paths + max(1, paths // 6)]
        else:
            entries["val_unseen"] += drawn[: max(1, paths // 2)]
    every = [entry for split in entries.values() for entry in split]
    for path_id, entry in enumerate(every):
        entry["path_id"] = path_id
    for split, rows in entries.items():
        write_json(root / "r2r" / f"R2R_{split}.json", rows)
    views = {key: array for house in houses for key, array in _views(house, rng).items()}
    attrs: dict[str, str | int | float] = {"source": "sterna toy world", "seed": seed}
    write_views(root / "features" / "toy.hdf5", views, *camera_angles(), attrs)
    return root


def word_vectors() -> dict[str, NDArray[np.float64]]:
    """Fixed vector [32] of every landmark word, orthogonal, of length 4, the same for all seeds."""
    words = COLOURS + OBJECTS
    table = np.random.default_rng(36).normal(size=(FEATURE_SIZE, len(words)))
    return dict(zip(words, 4.0 * np.linalg.qr(table)[0].T, strict=True))


def word_table() -> NDArray[np.float32]:
    """Vectors [V, 32] of all toy words, by id: landmark words look as they are seen in views.

    The other words are half as long, in directions to which no view feature points.
    """
    known = word_vectors()
    seen = np.array(list(known.values())) / 4.0
    others = np.random.default_rng(37).normal(size=(len(WORDS), FEATURE_SIZE))
    others -= others @ seen.T @ seen
    others *= 2.0 / np.linalg.norm(others, axis=1, keepdims=True)
    rows = [known.get(word, other) for word, other in zip(WORDS, others, strict=True)]
    return np.array(rows, np.float32)


def toy_tokenizer() -> Tokenizer:
    """Word-level tokenizer of the toy instructions: ``[CLS] words [SEP]``, 0 is padding."""
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(w, vocabulary[w]) for w in ("[CLS]", "[SEP]")]
    )
    return tokenizer


def _names(house: _House) -> dict[str, str]:
    return dict(zip(house.graph.viewpoints, map(" ".join, house.landmarks), strict=True))


def _digest(*parts: object) -> str:
    return hashlib.sha256("-".join(map(str, parts)).encode()).hexdigest()


def _write_house(root: Path, scan: str, rng: np.random.Generator) -> _House:
    """Lay out one house, write its connectivity file, and read it back as everybody does."""
    positions, linked = _floor_plan(rng)
    apart = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    level = np.abs(positions[:, None, 2] - positions[None, :, 2]) < 1.0
    visible = (linked | (level & (apart < 2 * _SPACING))) & (apart > 0)
    rows = []
    for i, (x, y, z) in enumerate(positions.round(4).tolist()):
        rows.append(
            {
                "image_id": _digest(scan, i)[:32],
                "pose": [1, 0, 0, x, 0, 1, 0, y, 0, 0, 1, z, 0, 0, 0, 1],
                "included": True,
                "visible": visible[i].tolist(),
                "unobstructed": linked[i].tolist(),
                "height": _CAMERA,
            }
        )
    file = root / "connectivity" / f"{scan}_connectivity.json"
    write_json(file, rows, indent=None)
    pairs = [(colour, thing) for colour in COLOURS for thing in OBJECTS]
    chosen = rng.choice(len(pairs), size=len(positions), replace=False)
    return _House(read_graph(file), [pairs[i] for i in chosen])


def _floor_plan(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Positions [N, 3] in metres and edges [N, N]: two grids, walls between some cells, a stair."""
    cells = [(f, r, c) for f in range(2) for r in range(_ROWS) for c in range(_COLUMNS)]
    grid = np.array(cells, np.float64)
    positions = np.stack([grid[:, 2] * _SPACING, grid[:, 1] * _SPACING, grid[:, 0] * _STOREY], 1)
    positions[:, :2] += rng.uniform(-0.4, 0.4, (len(cells), 2))
    below, above = cells.index((0, 0, _COLUMNS - 1)), cells.index((1, 0, _COLUMNS - 1))
    landing = positions[[below, above]].mean(0) + np.array([1.8, 0.0, 0.0])
    positions = np.vstack([positions, landing]) + np.array([0.0, 0.0, _CAMERA])
    steps = np.abs(grid[:, None] - grid[None])
    linked = np.zeros((len(positions),) * 2, bool)
    linked[:-1, :-1] = (steps.sum(-1) == 1) & (steps[..., 0] == 0)
    linked[-1, [below, above]] = linked[[below, above], -1] = True
    edges = np.argwhere(np.triu(linked[:-1, :-1]))
    for i, j in rng.permutation(edges)[: len(edges) // 6]:
        linked[i, j] = linked[j, i] = False
        if not _connected(linked):
            linked[i, j] = linked[j, i] = True
    return positions, linked


def _connected(linked: NDArray[np.bool_]) -> bool:
    reached = np.arange(len(linked)) == 0
    for _ in range(len(linked)):
        reached = reached | linked[reached].any(0)
    return bool(reached.all())


def _paths(graph: NavGraph, rng: np.random.Generator) -> list[list[int]]:
    """All shortest paths of 3 to 6 edges, in random order."""
    count = len(graph.viewpoints)
    pairs = rng.permutation([(i, j) for i in range(count) for j in range(count) if i != j])
    paths = [graph.shortest_path(int(i), int(j)) for i, j in pairs]
    return [path for path in paths if 4 <= len(path) <= 7]


def _entry(
    house: _House, path: list[int], rng: np.random.Generator, tokenizer: Tokenizer
) -> dict[str, Any]:
    graph = house.graph
    heading = round(float(rng.uniform(0, 2 * math.pi)), 3)
    texts = _instructions(house, path, heading)
    return {
        "distance": round(float(graph.distances[path[:-1], path[1:]].sum()), 2),
        "scan": graph.scan,
        "path_id": 0,
        "path": [graph.viewpoints[node] for node in path],
        "heading": heading,
        "instructions": texts,
        "instr_encodings": [tokenizer.encode(text).ids for text in texts],
    }


def _instructions(house: _House, path: list[int], heading: float) -> list[str]:
    """Three wordings: turns and landmarks; landmarks; the start, the way and the goal."""
    names = [" ".join(house.landmarks[node]) for node in path]
    moves = []
    for (i, j), name in zip(pairwise(path), names[1:], strict=True):
        step = house.graph.positions[j] - house.graph.positions[i]
        ahead = math.atan2(step[0], step[1])
        moves.append(f"{_turn(ahead - heading, step[2])} to the {name} .")
        heading = ahead
    way = " , then the ".join(names[1:-1]).replace(" ,", "")
    return [
        " ".join(moves) + f" stop at the {names[-1]} .",
        " ".join(f"walk towards the {name} ." for name in names[1:]) + " stop .",
        f"leave the {names[0]} . walk past the {way} . wait at the {names[-1]} .",
    ]


def _turn(angle: float, climb: float) -> str:
    """Words for a step that turns by `angle` radians (clockwise) and climbs `climb` metres."""
    if abs(climb) > 0.5:
        return "go up the stairs" if climb > 0 else "go down the stairs"
    degrees = math.degrees(math.remainder(angle, 2 * math.pi))
    if abs(degrees) < 45:
        return "go straight"
    if abs(degrees) > 135:
        return "turn around and walk"
    return "turn right and walk" if degrees > 0 else "turn left and walk"


def _views(house: _House, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Features [36, 32] of each viewpoint: landmarks by direction, the own one at the feet."""
    graph, words = house.graph, word_vectors()
    vectors = np.array([words[colour] + words[thing] for colour, thing in house.landmarks])
    headings, elevations = camera_angles()
    flat = np.cos(elevations)
    looks = np.stack([flat * np.sin(headings), flat * np.cos(headings), np.sin(elevations)], 1)
    views = {}
    for node, viewpoint in enumerate(graph.viewpoints):
        offsets = graph.positions - graph.positions[node]
        distance = np.linalg.norm(offsets, axis=1)
        near = (distance > 0) & (distance < 2 * _SPACING) & (np.abs(offsets[:, 2]) < 1.0)
        weight = np.where(near, 0.3, 0.0)
        weight[graph.neighbours(node)] = 1.0
        apart = np.arccos(np.clip(looks @ (offsets / np.maximum(distance, 1e-9)[:, None]).T, -1, 1))
        features = (np.exp(-0.5 * (apart / np.deg2rad(20.0)) ** 2) * weight) @ vectors
        features[:12] += 0.5 * vectors[node]
        features += rng.normal(scale=0.05, size=features.shape)
        views[f"{graph.scan}_{viewpoint}"] = features.astype(np.float32)
    return views
