"""The pre-training tasks as losses, and which of them comes when.

Source: DUET's pre-training. The loss of a batch is the mean of the vector that each loss function
here returns.

Legend: B walks, N things asked for, L words, V panorama tokens, M map nodes, K classes, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from sterna import processes
from sterna.data.episodes import Episode
from sterna.envs.graph_env import OBJECT, Panoramas
from sterna.errors import InputError
from sterna.models.agent import TextReader
from sterna.models.pretraining import (
    TASKS,
    PretrainModel,
    PretrainOutput,
    TaskName,
    WalkInputs,
)
from sterna.train.pretrain.batch import PretrainBatch, draw_batch, walk_inputs
from sterna.train.pretrain.ends import IGNORED, EndsConfig
from sterna.train.pretrain.masking import MaskingConfig
from sterna.train.pretrain.objects import Objects, class_odds
from sterna.train.task import TaskOutput

_STREAM = 11
"""Keeps these draws apart from those of the order of episodes."""


@dataclass(frozen=True, kw_only=True)
class TaskMix:
    """Share of each task's batches; shares are relative (1:1 is 2:2), 0 leaves a task out."""

    mlm: float = 1.0
    """Masked words."""
    mrc: float = 0.0
    """Masked views and objects; needs class logits beside the features."""
    sap: float = 1.0
    """The next action."""
    og: float = 0.0
    """The object meant; needs objects."""

    def __post_init__(self) -> None:
        """Check the values."""
        shares = {name: getattr(self, name) for name in TASKS}
        if min(shares.values()) < 0 or not sum(shares.values()) > 0:
            raise InputError(
                "pre-training: shares of tasks must be 0 or more, and one of them positive; found "
                f"{shares}"
            )

    def tasks(self) -> tuple[TaskName, ...]:
        """Return the tasks with a positive share, in a fixed order."""
        return tuple(name for name in TASKS if getattr(self, name) > 0)

    def task(self, seed: int, iteration: int) -> TaskName:
        """Draw the task of an iteration, a function of (seed, iteration) alone."""
        names = self.tasks()
        shares = np.array([getattr(self, name) for name in names], np.float64)
        draw = np.random.default_rng([seed, _STREAM, iteration]).random()
        place = np.searchsorted(np.cumsum(shares / shares.sum()), draw, side="right")
        return names[min(int(place), len(names) - 1)]


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Which tasks, how often, and how they are drawn."""

    mix: TaskMix = field(default_factory=TaskMix)
    """Which tasks, how often."""
    ends: EndsConfig = field(default_factory=EndsConfig)
    """Where walks end."""
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    """What is hidden."""
    frozen_language_layers: int = 0
    """Lowest language layers (and word embeddings) that keep their first weights, as in
    imitation."""


class PretrainTask(nn.Module):
    """Pre-training of a model on walks through `panoramas`.

    `view_logits` [nodes, views, K] are the class logits stored beside the features
    (`ViewStore.table(keys, logits=True)`), needed by mrc alone; `objects` by og, and seen by all
    tasks of a model with objects. `policy` is the navigator inside.
    """

    def __init__(
        self,
        model: PretrainModel,
        panoramas: Panoramas,
        config: PretrainConfig,
        *,
        view_logits: NDArray[np.floating] | None = None,
        objects: Objects | None = None,
    ) -> None:
        """Own the model; raises `InputError` where a task of the mix misses its data or head."""
        super().__init__()
        self.model, self.panoramas, self.config, self.objects = model, panoramas, config, objects
        self.table = torch.from_numpy(panoramas.features)
        self._logits = (
            None if view_logits is None else view_logits.reshape(-1, view_logits.shape[-1])
        )
        for parameter in TextReader(model.policy, config.frozen_language_layers).parameters():
            parameter.requires_grad_(False)
        self._check()

    @property
    def policy(self) -> nn.Module:
        """The navigator that is pre-trained."""
        return self.model.policy

    def _check(self) -> None:
        size, tasks = self.model.policy.config.object_size, self.config.mix.tasks()
        found = None if self.objects is None else self.objects.size
        if size != found:
            raise InputError(
                f"pre-training: the model takes objects of width {size}, found {found}; give the "
                "object features that it was built for"
            )
        words, masking = self.model.policy.config.vocab_size, self.config.masking
        if "mlm" in tasks and max(masking.mask_id, masking.end_word - 1) >= words:
            raise InputError(
                f"mlm: the model knows {words} word pieces, masking uses {masking.mask_id} and "
                f"{masking.first_word} to {masking.end_word - 1}; set masking to its vocabulary"
            )
        if "og" in tasks and size is None:
            raise InputError("og: the model sees no objects; build it with object_size")
        if "mrc" in tasks and (self._logits is None or self.model.image_classifier is None):
            raise InputError(
                "mrc: needs stored class logits and a model with image_classes; give a view store "
                "with logits, or leave mrc out of the mix"
            )

    def draw(
        self,
        episodes: Sequence[Episode],
        seed: int,
        iteration: int,
        *,
        task: TaskName | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> PretrainBatch:
        """Draw the batch of an iteration, a function of (seed, iteration) and its episodes.

        `task` overrides the mix; `share` (i, n): the walks i, i + n, ... of it, as the process i of
        n learns from them.
        """
        name = task or self.config.mix.task(seed, iteration)
        rng = np.random.default_rng([seed, _STREAM, iteration, 1])
        config, (part, parts) = self.config, share
        return draw_batch(
            name,
            episodes,
            self.panoramas,
            self.objects,
            rng,
            config.ends,
            config.masking,
            kept=slice(part, None, parts),
        )

    def inputs(self, batch: PretrainBatch) -> WalkInputs:
        """Return the tensors of a batch on the model's device."""
        device = next(self.model.parameters()).device
        return walk_inputs(batch, self.panoramas, self.table, self.objects, device)

    def forward(self, batch: PretrainBatch) -> TaskOutput:
        """Return the mean loss of a batch; metrics: the loss by task name, and the share right."""
        return self.learn(batch, self.model(batch.task, self.inputs(batch)))

    def learn(self, batch: PretrainBatch, output: PretrainOutput) -> TaskOutput:
        """Return the mean loss of what the model made of a batch."""
        losses, right = self.losses(batch, output)
        loss = output.embeds.sum() * 0.0
        # Means are over what is asked for in all processes, whose gradients are averaged.
        usual = max(processes.mean(float(len(losses))), 1e-6)
        if len(losses):
            loss = losses.mean() if processes.alone() else losses.sum() / usual
        name = batch.task
        return TaskOutput(loss, {name: float(loss.detach()), f"{name}_right": right})

    def losses(self, batch: PretrainBatch, output: PretrainOutput) -> tuple[Tensor, float]:
        """Return the unreduced loss vector of a task, and the share of right answers."""
        run = {"mlm": self._words, "mrc": self._regions, "sap": self._actions, "og": self._objects}
        return run[batch.task](batch, output)

    def _words(self, batch: PretrainBatch, output: PretrainOutput) -> tuple[Tensor, float]:
        assert batch.word_labels is not None
        labels = torch.from_numpy(batch.word_labels).to(output.embeds.device)
        asked = labels >= 0
        logits = self.model.word_logits(output.embeds[asked])
        return masked_word_loss(logits, labels[asked]), _share(logits.argmax(1) == labels[asked])

    def _regions(self, batch: PretrainBatch, output: PretrainOutput) -> tuple[Tensor, float]:
        assert batch.hidden_views is not None and self._logits is not None
        node = batch.walks.rows.node
        walk, place = np.nonzero(batch.hidden_views)
        rows = self.panoramas.token_rows[node[walk], place]
        logits = self.model.view_logits(output.embeds[_at(walk), _at(1 + place)])
        targets = torch.from_numpy(class_odds(self._logits[rows])).to(logits.device)
        losses = [masked_region_loss(logits, targets)]
        right = [logits.argmax(1) == targets.argmax(1)]
        objects = self.objects
        if objects is not None and objects.logits is not None and batch.hidden_objects is not None:
            walk, place = np.nonzero(batch.hidden_objects)
            token = 1 + self.panoramas.lengths[node[walk]] + place
            logits = self.model.object_class_logits(output.embeds[_at(walk), _at(token)])
            odds = class_odds(objects.logits[objects.first[node[walk]] + place])
            targets = torch.from_numpy(odds).to(logits.device)
            losses.append(masked_region_loss(logits, targets))
            right.append(logits.argmax(1) == targets.argmax(1))
        return torch.cat(losses), _share(torch.cat(right))

    def _actions(self, batch: PretrainBatch, output: PretrainOutput) -> tuple[Tensor, float]:
        assert batch.actions is not None and output.navigation is not None
        out, device = output.navigation, output.embeds.device
        local, nodes = (torch.from_numpy(labels).to(device) for labels in batch.actions)
        asked = nodes != IGNORED
        right = out.fused.argmax(1)[asked] == nodes[asked]
        return action_losses(out.local, out.global_, out.fused, local, nodes), _share(right)

    def _objects(self, batch: PretrainBatch, output: PretrainOutput) -> tuple[Tensor, float]:
        assert batch.object_labels is not None
        labels = torch.from_numpy(batch.object_labels).to(output.embeds.device)
        logits = self.object_logits(output)
        views = (output.here & (output.nav_types != OBJECT)).sum(1)
        asked = labels != IGNORED
        target = 1 + views[asked] + labels[asked]
        losses = logits.new_zeros(len(labels))
        losses[asked] = F.cross_entropy(logits[asked], target, reduction="none")
        return losses, _share(logits[asked].argmax(1) == target)

    def object_logits(self, output: PretrainOutput) -> Tensor:
        """Return og's logits over the local tokens, [B, 1 + V], -inf but at objects."""
        head = self.model.policy.og_head
        assert head is not None
        logits: Tensor = head(output.embeds)
        objects = F.pad(output.here & (output.nav_types == OBJECT), (1, 0), value=False)
        return logits.masked_fill(~objects, float("-inf"))


def masked_word_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return -log softmax(logits)[label] of every masked word, [N]; logits [N, vocabulary]."""
    return F.cross_entropy(logits, labels, reduction="none")


def masked_region_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return KL(target || softmax(logits)) of every masked region, summed over classes, [N].

    sum_k t_k (log t_k - log softmax(logits)_k); `logits`, `targets` [N, K] (probabilities).
    """
    return F.kl_div(logits.log_softmax(-1), targets, reduction="none").sum(-1)


def action_losses(
    local: Tensor, global_: Tensor, fused: Tensor, local_labels: Tensor, map_labels: Tensor
) -> Tensor:
    """Return CE(local) + CE(global) + CE(fused), [B]; -100 leaves a term out.

    `local` [B, 1 + C], `global_` and `fused` [B, 1 + M], -inf where nothing may be chosen; the
    fused decision has the map's label.
    """
    parts = ((local, local_labels), (global_, map_labels), (fused, map_labels))
    return torch.stack(
        [F.cross_entropy(x.float(), y, ignore_index=IGNORED, reduction="none") for x, y in parts]
    ).sum(0)


def _at(index: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(index)


def _share(right: Tensor) -> float:
    return float(right.float().mean()) if len(right) else 0.0
