"""Episodes, objects and models of golden set B: stored batches, real annotations."""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from golden import formula_values, rng, view_features
from golden_world import SMALL
from sterna.data.episodes import Episode
from sterna.data.r2r import read_r2r
from sterna.data.views import InMemoryViews
from sterna.envs.graph_env import Panoramas
from sterna.models.duet import DUET
from sterna.models.pretraining import DECODER, PretrainModel, load_heads, pretraining_state
from sterna.models.weights import fit_weights
from sterna.train.pretrain.ends import EndsConfig
from sterna.train.pretrain.objects import NodeObjects, Objects, object_locations
from sterna.train.pretrain.task import PretrainConfig, PretrainTask, TaskMix
from sterna.world.atlas import Atlas
from sterna.world.graph import connectivity_dir

OBJECT_LIMIT = 20


def image_logits(key: str) -> np.ndarray:
    """Class logits [36, 1000] of the views of `<scan>_<viewpoint>`."""
    z = rng("prob:" + key).standard_normal((36, 1000), dtype=np.float32)
    return np.float32(2) * z


class Archive:
    """A stored batch file."""

    def __init__(self, file: Path) -> None:
        with np.load(file) as archive:
            self.arrays = {name: archive[name] for name in archive.files}
        self.ids = [str(name) for name in self.json("instr_ids")]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def json(self, name: str) -> Any:
        return json.loads(str(self.arrays[name]))


def r2r_episodes(data: Path, archive: Archive) -> list[Episode]:
    """The stored R2R episodes; words are those of mrc's batch, which hides none."""
    known = {e.instr_id: e for e in read_r2r(data, "train")}
    return _with_words([known[name] for name in archive.ids], archive)


def _with_words(episodes: Sequence[Episode], archive: Archive) -> list[Episode]:
    ids, lengths = archive["in/mrc/txt_ids"], archive["in/mrc/txt_lens"]
    return [
        replace(e, token_ids=tuple(row[:n].tolist()))
        for e, row, n in zip(episodes, ids, lengths, strict=True)
    ]


def reverie_episodes(
    data: Path, archive: Archive, seen: dict[str, dict[str, Any]]
) -> list[Episode]:
    """The stored REVERIE episodes; goals are the viewpoints that see the object."""
    with gzip.open(data / "reverie" / "v1" / "REVERIE_train.json.gz", "rt") as stream:
        entries = {f"{e['path_id']}_{e['objId']}": e for e in json.load(stream)}
    out = []
    for name in archive.ids:
        entry = entries[name.rsplit("_", 1)[0]]
        thing = str(entry["objId"])
        goals = tuple(
            key.split("_", 1)[1]
            for key, things in seen.items()
            if key.startswith(entry["scan"]) and thing in things
        )
        out.append(
            Episode(
                instr_id=name,
                scan=entry["scan"],
                path=tuple(entry["path"]),
                heading=entry["heading"],
                instruction=entry["instructions"][int(name.rsplit("_", 1)[1])],
                path_id=entry["path_id"],
                object_id=int(thing),
                goals=goals,
            )
        )
    return _with_words(out, archive)


def read_boxes(data: Path) -> dict[str, dict[str, Any]]:
    """Visible objects of every viewpoint: {scan_viewpoint: {object: entry}}, in file order."""
    out = {}
    with tarfile.open(data / "reverie" / "v1" / "BBox.tar.gz") as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is None or not member.name.endswith(".json"):
                continue
            for viewpoint, things in json.load(file).items():
                key = f"{Path(member.name).name.split('_')[0]}_{viewpoint}"
                out[key] = {k: v for k, v in things.items() if v["visible_pos"]}
    return out


def objects_of(atlas: Atlas, seen: dict[str, dict[str, Any]]) -> Objects:
    """Objects with the formula's features and logits, at most 20 a viewpoint."""
    nodes = {}
    for key in atlas.keys:
        things = seen.get(key, {})
        if not things:
            continue
        views = np.array([int(t["visible_pos"][0]) for t in things.values()])
        sizes = np.array([t["bbox2d"][0][2:4] for t in things.values()], np.float64)
        name = f"{key}_"
        nodes[key] = NodeObjects(
            ids=list(things),
            features=_drawn("obj:" + name, things, 768),
            locations=object_locations(
                np.deg2rad(30.0 * (views % 12)),
                np.deg2rad(30.0 * (views // 12 - 1)),
                sizes[:, 0],
                sizes[:, 1],
            ),
            logits=np.float32(2) * _drawn("objprob:" + name, things, 1000),
        )
    return Objects.of(atlas.keys, nodes, limit=OBJECT_LIMIT)


def _drawn(name: str, things: dict[str, Any], width: int) -> np.ndarray:
    return np.stack([rng(name + k).standard_normal(width, dtype=np.float32) for k in things])


def golden_model(objects: bool, sigma: float, tag: str, count: int) -> PretrainModel:
    """The pre-training model with formula weights, loaded as a published checkpoint is."""
    config = replace(SMALL, lang2visn=True, object_size=768 if objects else None)
    model = PretrainModel(
        DUET(config), image_classes=1000, object_classes=1000 if objects else None
    )
    shapes = {name: tuple(v.shape) for name, v in pretraining_state(model).items()}
    assert len(shapes) == count, "as many entries as the original's state dict"
    bare = {name.removeprefix("bert."): shape for name, shape in shapes.items()}
    values = formula_values(bare, sigma, tag)
    stored = {name: values[name.removeprefix("bert.")] for name in shapes}
    assert DECODER in stored
    sizes, state, report = fit_weights(stored, "golden", kind="pretraining", heads=12)
    assert sizes == replace(config, dropout=sizes.dropout)
    model.policy.load_state_dict(state)
    load_heads(model, report.heads, "golden")
    return model.eval()


def golden_task(
    data: Path, archive: Archive, rule: tuple[float, str], seen: dict[str, dict[str, Any]] | None
) -> tuple[PretrainTask, list[Episode]]:
    """The task with the formula's world and weights; `seen` are REVERIE's objects."""
    if seen is None:
        episodes = r2r_episodes(data, archive)
    else:
        episodes = reverie_episodes(data, archive, seen)
    atlas = Atlas.load(connectivity_dir(data), {e.scan for e in episodes})
    model = golden_model(seen is not None, *rule, int(archive["n_keys"]))
    mix = {"mlm": 1.0, "mrc": 1.0, "sap": 1.0} | ({"og": 1.0} if seen is not None else {})
    task = PretrainTask(
        model,
        Panoramas(atlas, InMemoryViews({key: view_features(key) for key in atlas.keys})),
        PretrainConfig(
            mix=TaskMix(**mix), ends=EndsConfig(rule="path" if seen is None else "goals")
        ),
        view_logits=np.stack([image_logits(key) for key in atlas.keys]),
        objects=None if seen is None else objects_of(atlas, seen),
    )
    return task.eval(), episodes
