"""A batch of one pre-training task: what is shown, what is asked. All of it on the CPU, in NumPy.

Legend: B walks, L words, T panoramas, V tokens of a panorama, W views, O objects, M map slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sterna.data.episodes import Episode
from sterna.envs.graph_env import OBJECT, Panoramas
from sterna.models.agent import to_navigate, token_batch
from sterna.models.pretraining import TaskName, WalkInputs
from sterna.train.pretrain.ends import IGNORED, Ending, EndsConfig, Rule, draw_end, next_actions
from sterna.train.pretrain.masking import MaskingConfig, mask_regions, mask_words
from sterna.train.pretrain.objects import Objects
from sterna.train.pretrain.walks import FRONT, MEAN, Walks, lay_walks
from sterna.world.geometry import Ints


@dataclass(frozen=True, kw_only=True)
class PretrainBatch:
    """B walks of one task. What the task does not ask for is None."""

    task: TaskName
    episodes: tuple[Episode, ...]
    walks: Walks
    ids: Ints
    """Word pieces as shown, [B, L]."""
    words: NDArray[np.bool_]
    """True for words, [B, L]."""
    word_labels: Ints | None = None
    """mlm: the words asked for, -1 elsewhere, [B, L]."""
    hidden_views: NDArray[np.bool_] | None = None
    """mrc: view tokens at the ends whose features are zeroed, [B, W]."""
    hidden_objects: NDArray[np.bool_] | None = None
    """mrc: objects at the ends whose features are zeroed, [B, O]."""
    actions: tuple[Ints, Ints] | None = None
    """sap: slots among [STOP, candidates] and among [STOP, map], -100 where not asked, each [B]."""
    object_labels: Ints | None = None
    """og: number of the object meant among those at the end, -100 where it is not there, [B]."""


def draw_batch(
    task: TaskName,
    episodes: Sequence[Episode],
    panoramas: Panoramas,
    objects: Objects | None,
    rng: np.random.Generator,
    ends: EndsConfig,
    masking: MaskingConfig,
    kept: slice = slice(None),
) -> PretrainBatch:
    """Draw where walks end and what is hidden; a function of the generator's state alone.

    Of the walks those of `kept` are laid out; what is drawn for them does not depend on it.
    """
    endings = [draw_end(panoramas.atlas, episode, task, rng, ends) for episode in episodes]
    own = episodes[kept]
    batch = lay_batch(task, own, endings[kept], panoramas, objects, ends.rule)
    fields = dict(vars(batch))
    if task == "mlm":
        ids, words = (tensor.numpy() for tensor in token_batch(episodes))
        drawn, width = mask_words(ids, words, rng, masking), batch.ids.shape[1]
        fields["ids"], fields["word_labels"] = (values[kept, :width] for values in drawn)
    if task == "mrc":
        here = np.array([ending.path[-1] for ending in endings])
        hidden = mask_regions(panoramas.lengths[here], rng, masking.regions)
        fields["hidden_views"] = hidden[kept]
        if objects is not None:
            hidden = mask_regions(objects.counts(here), rng, masking.regions)
            fields["hidden_objects"] = hidden[kept]
    return PretrainBatch(**fields)


def lay_batch(
    task: TaskName,
    episodes: Sequence[Episode],
    endings: Sequence[Ending],
    panoramas: Panoramas,
    objects: Objects | None,
    rule: Rule,
) -> PretrainBatch:
    """Build the batch of walks whose ends are known, with nothing hidden yet."""
    walks = lay_walks(panoramas.atlas, episodes, endings)
    ids, words = (tensor.numpy() for tensor in token_batch(episodes))
    actions = labels = None
    if task == "sap":
        actions = next_actions(panoramas.atlas, walks.rows, endings, rule)
    if task == "og":
        labels = np.array(
            [
                IGNORED if objects is None else _object(objects, episode, node)
                for episode, node in zip(episodes, walks.rows.node, strict=True)
            ]
        )
    return PretrainBatch(
        task=task,
        episodes=tuple(episodes),
        walks=walks,
        ids=ids,
        words=words,
        actions=actions,
        object_labels=labels,
    )


def _object(objects: Objects, episode: Episode, node: int) -> int:
    found = objects.place(int(node), str(episode.object_id))
    return IGNORED if found < 0 else found


def walk_inputs(
    batch: PretrainBatch,
    panoramas: Panoramas,
    table: Tensor,
    objects: Objects | None,
    device: torch.device,
) -> WalkInputs:
    """Return the tensors of a batch; `table` [views, F] are the view features, on any device."""
    walks = batch.walks
    seen = panoramas.observe(walks.node, np.full(len(walks.node), FRONT), features=False)
    rows = torch.from_numpy(seen.token_rows).to(table.device)
    features = table[rows].to(device, torch.float32)
    if batch.hidden_views is not None:
        features = _hidden(features, walks.last, batch.hidden_views)
    locations, kinds, mask, things = seen.locations, seen.nav_types, seen.mask, None
    if objects is not None:
        entries, there = objects.entries(walks.node)
        locations, kinds, mask = _beside(seen.mask, locations, kinds, objects, entries, there)
        things = torch.from_numpy(objects.features[entries] * there[..., None]).to(device)
        if batch.hidden_objects is not None:
            things = _hidden(things, walks.last, batch.hidden_objects)
    width = locations.shape[1]
    source = np.where(walks.token == MEAN, len(walks.node) * width + walks.panorama, 0) + np.where(
        walks.token == MEAN, 0, walks.panorama * width + walks.token
    )
    slots = np.arange(walks.rows.nodes.size)

    def tensor(array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    return WalkInputs(
        ids=tensor(batch.ids),
        words=tensor(batch.words),
        features=features,
        locations=tensor(locations),
        nav_types=tensor(kinds),
        panorama_mask=tensor(mask),
        objects=things,
        last=tensor(walks.last),
        source=tensor(source),
        offsets=tensor(np.searchsorted(walks.slot, slots)),
        weight=tensor(walks.weight.astype(np.float32)),
        places=to_navigate(walks.rows, device),
    )


def _hidden(features: Tensor, last: Ints, hidden: NDArray[np.bool_]) -> Tensor:
    """Zero the features [T, W, F] that are hidden [B, W] in the panoramas `last` [B]."""
    walk, place = np.nonzero(hidden)
    features[torch.from_numpy(last[walk]), torch.from_numpy(place)] = 0.0
    return features


def _beside(
    views: NDArray[np.bool_],
    locations: NDArray[np.float32],
    kinds: Ints,
    objects: Objects,
    entries: Ints,
    there: NDArray[np.bool_],
) -> tuple[NDArray[np.float32], Ints, NDArray[np.bool_]]:
    """Put objects right behind each panorama's own views: locations, kinds and mask."""
    count = views.sum(1)
    width = int((count + there.sum(1)).max())
    extra = max(0, width - views.shape[1])
    locations = np.pad(locations, ((0, 0), (0, extra), (0, 0)))
    kinds = np.pad(np.where(views, kinds, 0), ((0, 0), (0, extra)))
    row, column = np.nonzero(there)
    place = count[row] + column
    locations[row, place] = objects.locations[entries[row, column]]
    kinds[row, place] = OBJECT
    return locations, kinds, np.arange(kinds.shape[1]) < (count + there.sum(1))[:, None]
