"""What the learnability tests learn from: twelve toy houses whose landmarks are objects too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.metrics import R2R_DUET
from sterna.models.config import DuetConfig
from sterna.models.duet import DUET
from sterna.models.pretraining import TASKS, PretrainModel
from sterna.recipes.config import DataConfig
from sterna.recipes.pretraining import toy_pretraining
from sterna.recipes.r2r import toy_teacher
from sterna.recipes.start import begin
from sterna.recipes.toyworld import COLOURS, FEATURE_SIZE, OBJECTS, word_vectors
from sterna.recipes.world import World
from sterna.train.evaluate import evaluate
from sterna.train.pretrain.objects import NodeObjects, Objects, object_locations
from sterna.train.pretrain.task import PretrainConfig, PretrainTask, TaskMix

THINGS = [(colour, thing) for colour in COLOURS for thing in OBJECTS]
CLASSES = len(COLOURS) + len(OBJECTS)


@dataclass(frozen=True)
class School:
    """Episodes, panoramas, objects and class logits of a toy world."""

    root: Path

    @cached_property
    def world(self) -> World:
        return World(self.root, DataConfig(views="toy"))

    @cached_property
    def episodes(self) -> dict[str, list[Episode]]:
        """Episodes by split; each asks for the landmark at its end."""
        return {
            split: [replace(e, object_id=_last_landmark(e)) for e in self.world.episodes(split)]
            for split in ("train", "val_seen")
        }

    @cached_property
    def panoramas(self) -> Panoramas:
        return self.world.panoramas([e for part in self.episodes.values() for e in part])

    @cached_property
    def view_logits(self) -> NDArray[np.float32]:
        """How much of each landmark word a view shows, [nodes, views, words]."""
        views: NDArray[np.float32] = self.world.views.table(self.panoramas.atlas.keys)
        return _words_in(views)

    @cached_property
    def objects(self) -> Objects:
        """A viewpoint's own landmark among three others; they look like their words."""
        rng, nodes = np.random.default_rng(0), {}
        every = [e for part in self.episodes.values() for e in part]
        own = {f"{e.scan}_{e.goal}": int(e.object_id or 0) for e in every}
        for key in self.panoramas.atlas.keys:
            others = rng.choice(len(THINGS), size=4, replace=False).tolist()
            first = own.get(key, others[0])
            ids = [first, *[i for i in others if i != first][:3]]
            ids = [ids[i] for i in rng.permutation(len(ids))]
            count, vectors = len(ids), word_vectors()
            looks = np.array([sum(vectors[w] for w in THINGS[i]) for i in ids], np.float32)
            angles = rng.uniform(-1.0, 1.0, (2, count))
            nodes[key] = NodeObjects(
                ids=[str(i) for i in ids],
                features=looks,
                locations=object_locations(*angles, *([[50.0] * count] * 2)),
                logits=_words_in(looks),
            )
        return Objects.of(self.panoramas.atlas.keys, nodes)

    def model(self, sizes: DuetConfig, seed: int) -> PretrainModel:
        """A model that begins as the toy recipes do, with all heads."""
        sizes = replace(sizes, lang2visn=True, object_size=FEATURE_SIZE)
        policy = begin(sizes, toy_teacher().start, seed, self.world)
        return PretrainModel(policy, image_classes=CLASSES, object_classes=CLASSES)

    def task(self, model: PretrainModel, **mix: float) -> PretrainTask:
        """Pre-training of a model; tasks that `mix` does not name are left out."""
        return PretrainTask(model, self.panoramas, self.lesson(**mix), **self.extras)

    def lesson(self, **mix: float) -> PretrainConfig:
        """Which tasks; many views are hidden, which teaches mrc in fewer steps."""
        shares = TaskMix(**(dict.fromkeys(TASKS, 0.0) | mix))
        masking = replace(toy_pretraining().pretrain.masking, regions=0.4)
        return PretrainConfig(mix=shares, masking=masking)

    @property
    def extras(self) -> dict[str, Any]:
        """What tasks need beside the panoramas."""
        return {"view_logits": self.view_logits, "objects": self.objects}

    def success(self, policy: DUET) -> float:
        """Success rate on unseen paths of the training houses."""
        chosen = self.episodes["val_seen"]
        folder = self.world.layout.connectivity
        result, _ = evaluate(policy, self.panoramas, chosen, folder, R2R_DUET, batch_size=64)
        return float(result.scores["SR"].mean)

    def losses(self, task: PretrainTask) -> dict[str, float]:
        """Losses and shares of right answers on unseen paths, one batch of all a task."""
        chosen, out = self.episodes["val_seen"], {}
        task.eval()
        with torch.no_grad():
            for name in TASKS:
                out |= task(task.draw(chosen, 1, 0, task=name)).metrics
        return out


def _words_in(features: NDArray[np.float32]) -> NDArray[np.float32]:
    vectors = np.array(list(word_vectors().values()), np.float32)
    return features @ vectors.T * (3.0 / 4.0)


def _last_landmark(episode: Episode) -> int:
    words = episode.instruction.split()
    named: Sequence[tuple[str, str]] = [p for p in pairwise(words) if p in set(THINGS)]
    return THINGS.index(named[-1])
