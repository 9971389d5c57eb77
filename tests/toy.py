"""Small things that several tests build on: toy panoramas, a tiny model, hand-made graphs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sterna.data.episodes import Episode
from sterna.data.objects import ObjectStore, PlacedObjects
from sterna.data.r2r import read_r2r
from sterna.data.views import InMemoryViews, ViewStore
from sterna.envs.graph_env import Panoramas
from sterna.models.config import DuetConfig
from sterna.models.duet import DUET
from sterna.world.atlas import Atlas
from sterna.world.graph import NavGraph, build_graph

TINY = DuetConfig(
    hidden_size=24,
    heads=4,
    ffn_size=48,
    language_layers=1,
    panorama_layers=1,
    cross_layers=1,
    vocab_size=64,
    max_positions=128,
    feature_size=32,
    feature_dropout=0.1,
)


def toy_panoramas(folder: Path) -> Panoramas:
    """Panoramas of all toy houses."""
    episodes = [e for split in ("train", "val_seen", "val_unseen") for e in read_r2r(folder, split)]
    atlas = Atlas.load(folder / "connectivity", {e.scan for e in episodes})
    with ViewStore.open(folder / "features" / "toy.hdf5", feature_size=32) as store:
        return Panoramas(atlas, store)


def tiny_model(seed: int = 0, config: DuetConfig = TINY, scale: float = 4.0) -> DUET:
    """A small model whose random weights are large enough to make walks differ."""
    torch.manual_seed(seed)
    model = DUET(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(scale)
    return model


def graph_of(
    positions: np.ndarray, edges: Sequence[tuple[int, int]], scan: str = "hand"
) -> NavGraph:
    """A graph from positions [N, 3] and undirected edges; viewpoints are called A, B, C, ..."""
    linked = np.zeros((len(positions),) * 2, bool)
    for i, j in edges:
        linked[i, j] = linked[j, i] = True
    names = [chr(65 + i) if i < 26 else f"v{i}" for i in range(len(positions))]
    return build_graph(scan, names, np.asarray(positions, np.float64), linked)


def line_graph(count: int, scan: str = "line") -> NavGraph:
    """A - B - C - ... two metres apart along +y."""
    positions = np.zeros((count, 3))
    positions[:, 1] = 2.0 * np.arange(count)
    return graph_of(positions, [(i, i + 1) for i in range(count - 1)], scan)


def random_graph(rng: np.random.Generator, count: int, scan: str = "random") -> NavGraph:
    """A connected graph: a random tree and some more edges."""
    positions = (rng.uniform(-6, 6, (count, 3)) * np.array([1, 1, 0.3])).astype(np.float32)
    edges = [(int(rng.integers(i)), i) for i in range(1, count)]
    pairs = rng.integers(0, count, (count, 2)).tolist()
    return graph_of(positions, edges + [(i, j) for i, j in pairs if i != j], scan)


def panoramas_of(graphs: Sequence[NavGraph], width: int = 32, seed: int = 0) -> Panoramas:
    """Panoramas of hand-made graphs with random features."""
    atlas = Atlas(graphs)
    rng = np.random.default_rng(seed)
    views = {key: rng.standard_normal((36, width)).astype(np.float32) for key in atlas.keys}
    return Panoramas(atlas, InMemoryViews(views))


def random_objects(atlas: Atlas, size: int = 5, seed: int = 0) -> ObjectStore:
    """0 to 6 objects a viewpoint, anywhere and of any size; every fourth viewpoint has none."""
    rng = np.random.default_rng(seed)
    objects = {}
    for i, key in enumerate(atlas.keys):
        count = 0 if i % 4 == 0 else 1 + i % 6
        objects[key] = PlacedObjects(
            ids=rng.permutation(50)[:count],
            features=rng.standard_normal((count, size)).astype(np.float32),
            directions=rng.uniform(-3, 3, (count, 2)),
            sizes=rng.uniform(1, 480, (count, 2)),
        )
    return ObjectStore({key: placed for key, placed in objects.items() if len(placed)}, size, "toy")


def episode_on(
    graph: NavGraph, path: Sequence[int], number: int = 0, heading: float = 0.0
) -> Episode:
    """An episode along nodes of a hand-made graph, with made-up word ids."""
    ids = (1, *(5 + (7 * number + 3 * i) % 50 for i in range(4 + number % 5)), 2)
    return Episode(
        instr_id=f"{number}_0",
        scan=graph.scan,
        path=tuple(graph.viewpoints[node] for node in path),
        heading=heading,
        instruction="made up",
        path_id=number,
        token_ids=ids,
    )
