"""Small pre-training models and tasks on the toy world, with made-up class logits and objects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.models.config import DuetConfig
from sterna.models.pretraining import PretrainModel
from sterna.train.pretrain.ends import EndsConfig
from sterna.train.pretrain.masking import MaskingConfig
from sterna.train.pretrain.objects import NodeObjects, Objects, object_locations
from sterna.train.pretrain.task import PretrainConfig, PretrainTask, TaskMix
from toy import TINY, tiny_model

CLASSES, OBJECT_WIDTH, OBJECT_CLASSES = 12, 6, 5
MASKING = MaskingConfig(mask_id=3, first_word=4, end_word=64)
MIX = {"mlm": 1.0, "mrc": 1.0, "sap": 1.0}
CALM = replace(TINY, lang2visn=True, dropout=0.0, feature_dropout=0.0)


def pretrain_model(seed: int = 0, config: DuetConfig = CALM) -> PretrainModel:
    """A small model with all heads; objects have other classes than views."""
    objects = None if config.object_size is None else OBJECT_CLASSES
    return PretrainModel(tiny_model(seed, config), image_classes=CLASSES, object_classes=objects)


def view_logits(panoramas: Panoramas, seed: int = 5) -> np.ndarray:
    """Random class logits [nodes, views, classes]."""
    shape = (len(panoramas.atlas), panoramas.view_count, CLASSES)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * 2


def toy_objects(panoramas: Panoramas, seed: int = 6) -> Objects:
    """None to three objects at every node, called 0, 1, 2."""
    rng, nodes = np.random.default_rng(seed), {}
    for key in panoramas.atlas.keys:
        count = int(rng.integers(0, 4))
        nodes[key] = NodeObjects(
            ids=[str(i) for i in range(count)],
            features=rng.standard_normal((count, OBJECT_WIDTH)).astype(np.float32),
            locations=object_locations(*rng.uniform(0.1, 1.0, (2, count)), *([[50.0] * count] * 2)),
            logits=rng.standard_normal((count, OBJECT_CLASSES)).astype(np.float32),
        )
    return Objects.of(panoramas.atlas.keys, nodes)


def with_goals(panoramas: Panoramas, episodes: list[Episode]) -> list[Episode]:
    """The episodes in REVERIE's way: an object at the end, seen from its neighbours too."""
    atlas, out = panoramas.atlas, []
    for number, episode in enumerate(episodes):
        end = atlas.node(episode.scan, episode.goal)
        near = [atlas.viewpoints[n] for n in atlas.candidates[end] if n >= 0][:2]
        goals = (episode.goal, *near)
        out.append(replace(episode, goals=goals, object_id=number % 3))
    return out


def pretrain_task(panoramas: Panoramas, model: PretrainModel, **change: Any) -> PretrainTask:
    """A task of all kinds that the model can do."""
    seen = model.policy.config.object_size is not None
    mix = change.pop("mix", MIX | ({"og": 1.0} if seen else {}))
    ends = EndsConfig(rule="goals" if seen else "path")
    return PretrainTask(
        model,
        panoramas,
        PretrainConfig(mix=TaskMix(**mix), ends=ends, masking=MASKING),
        view_logits=view_logits(panoramas),
        objects=toy_objects(panoramas) if seen else None,
        **change,
    )
