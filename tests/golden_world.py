"""Episodes, graphs and formula features of golden sets C and D."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from golden import object_feature, view_features
from sterna.data.boxes import Boxes
from sterna.data.episodes import Episode
from sterna.data.objects import ObjectStore, PlacedObjects
from sterna.data.r2r import read_r2r
from sterna.data.views import InMemoryViews
from sterna.envs.graph_env import Panoramas
from sterna.models.config import DuetConfig
from sterna.world.atlas import Atlas
from sterna.world.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS
from sterna.world.graph import connectivity_dir

SMALL = DuetConfig(
    hidden_size=96, ffn_size=384, language_layers=3, panorama_layers=1, cross_layers=2
)


def golden_episodes(
    data: Path, split: str, ids: Sequence[str], words: Mapping[str, Sequence[int]]
) -> list[Episode]:
    """R2R episodes by instr_id, with the stored word ids."""
    known = {episode.instr_id: episode for episode in read_r2r(data, split)}
    return [replace(known[name], token_ids=tuple(words[name])) for name in ids]


def golden_panoramas(data: Path, episodes: Sequence[Episode]) -> Panoramas:
    """Panoramas of the episodes' scans with features from the formula."""
    atlas = Atlas.load(connectivity_dir(data), {e.scan for e in episodes})
    return Panoramas(atlas, InMemoryViews({key: view_features(key) for key in atlas.keys}))


def golden_objects(boxes: Boxes, atlas: Atlas) -> ObjectStore:
    """Objects of the README: the centre of the first view, the size of the first box."""
    objects = {}
    for graph in atlas.graphs:
        for viewpoint in graph.viewpoints:
            key, seen = f"{graph.scan}_{viewpoint}", boxes.visible(graph.scan, viewpoint)
            if not seen:
                continue
            views = np.array([thing.views[0] for thing in seen])
            objects[key] = PlacedObjects(
                ids=np.array([thing.object_id for thing in seen]),
                features=np.stack([object_feature(key, thing.object_id) for thing in seen]),
                directions=np.stack([VIEW_HEADINGS[views], VIEW_ELEVATIONS[views]], 1),
                sizes=np.array([thing.boxes[0][2:] for thing in seen], float),
            )
    return ObjectStore(objects, 768, "golden objects")


def by_name(atlas: Atlas, nodes: np.ndarray, values: np.ndarray) -> dict[str, Any]:
    """Values keyed by viewpoint; padding and STOP (-1) are left out."""
    return {atlas.viewpoints[n]: v for n, v in zip(nodes, values, strict=True) if n >= 0}
