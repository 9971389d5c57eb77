"""All decisions of recorded walks in one pass.

DUET carries no recurrent state: what a decision sees follows from where the agent has been. So the
decisions of whole episodes are run side by side, without padding in time, and one backward pass
serves them all. The result equals the step-by-step walk (tests hold it to 1e-6).

Legend: B episodes, R rows (decisions), P panoramas, T panorama tokens, M map slots, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sterna.envs.graph_env import Panoramas
from sterna.models.agent import look, object_mask, to_navigate
from sterna.models.duet import DUET, NavigationOutput
from sterna.models.text import TextMemory
from sterna.models.topomap import MapRows
from sterna.world.geometry import Floats, Ints


@dataclass(frozen=True)
class Bucket:
    """Rows with maps of similar size: their numbers, their map, and where node features come from.

    `source` points into [all panorama tokens; all panorama means], `offsets` starts each map
    slot's bag of sources, `weight` makes the bag a mean; `look` are the panoramas that the rows
    stand in.
    """

    index: Ints
    rows: MapRows
    source: Tensor
    offsets: Tensor
    weight: Tensor
    look: Ints


@dataclass(frozen=True)
class Shared:
    """Rows of walks that have decisions in common, each held once, and so panoramas.

    `trail` [R, steps] is the row of each decision that led to a row, its own included (-1 pads);
    `look` [R] the panorama of each row, one of `node` and `pose` [P].
    """

    trail: Ints
    look: Ints
    node: Ints
    pose: Ints


def buckets(
    rows: MapRows, tokens: int, count: int, shared: Shared | None = None
) -> Iterator[Bucket]:
    """Split rows into up to `count` groups by map size; `tokens` is T of the panorama pass.

    Without `shared` all decisions of every agent are there, and each row has a panorama of its own.
    """
    shared = shared or _unshared(rows)
    row, slot, source, weight = _node_sources(rows, tokens, shared)
    order = np.argsort(rows.mask.sum(1), kind="stable")
    for part in np.array_split(order, min(count, len(rows))):
        chosen = rows.select(part)
        width = chosen.nodes.shape[1]
        place = np.full(len(rows), -1)
        place[part] = np.arange(len(part))
        mine = place[row] >= 0
        bag = place[row[mine]] * width + slot[mine]
        rank = np.argsort(bag, kind="stable")
        starts = np.searchsorted(bag[rank], np.arange(len(part) * width))
        yield Bucket(
            index=part,
            rows=chosen,
            source=torch.from_numpy(source[mine][rank]),
            offsets=torch.from_numpy(starts),
            weight=torch.from_numpy(weight[mine][rank].astype(np.float32)),
            look=shared.look[part],
        )


def _unshared(rows: MapRows) -> Shared:
    every = np.arange(len(rows))
    number = np.full((int(rows.agent.max()) + 1, int(rows.step.max()) + 1), -1)
    number[rows.agent, rows.step] = every
    return Shared(trail=number[rows.agent], look=every, node=rows.node, pose=rows.pose)


def _node_sources(rows: MapRows, tokens: int, shared: Shared) -> tuple[Ints, Ints, Ints, Floats]:
    """Return (row, slot, source, weight) of every contribution to a node feature.

    A visited slot has one source, the panorama mean of its last visit; an unvisited one has the
    candidate tokens of every earlier decision that pointed at it, each with weight 1 / count.
    """
    count, place = len(rows), shared.look
    seen_row, seen_slot = np.nonzero(rows.visited)
    visit = rows.steps[seen_row, seen_slot] - 1
    means = len(shared.node) * tokens + place[shared.trail[seen_row, visit]]
    later = np.repeat(np.arange(count), rows.step + 1)
    ends = np.cumsum(rows.step + 1)
    time = np.arange(len(later)) - np.repeat(ends - rows.step - 1, rows.step + 1)
    earlier = shared.trail[later, time]
    slots = rows.candidates[earlier]
    fresh = (slots > 0) & ~rows.visited[later[:, None], slots]
    pair, column = np.nonzero(fresh)
    row, slot = later[pair], slots[pair, column]
    share = np.bincount(row * rows.nodes.shape[1] + slot, minlength=rows.nodes.size)
    return (
        np.concatenate([seen_row, row]),
        np.concatenate([seen_slot, slot]),
        np.concatenate([means, place[earlier[pair]] * tokens + column]),
        np.concatenate([np.ones(len(seen_row)), 1.0 / share[row * rows.nodes.shape[1] + slot]]),
    )


@dataclass(frozen=True)
class PackedOutput:
    """Outputs of a packed pass: the panorama means [P, D] and one `NavigationOutput` a bucket."""

    panorama_mean: Tensor
    parts: list[tuple[Bucket, NavigationOutput]]

    def fused(self) -> Iterator[tuple[Ints, Tensor]]:
        """Yield (row numbers, fused logits [r, 1+M]) bucket by bucket."""
        for bucket, output in self.parts:
            yield bucket.index, output.fused

    def objects(self) -> Iterator[tuple[Ints, Tensor]]:
        """Yield (row numbers, object logits [r, 1+T]) bucket by bucket, where objects are scored.

        Logits are -inf at STOP and at tokens that are no objects.
        """
        for bucket, output in self.parts:
            if output.object_logits is not None:
                yield bucket.index, output.object_logits


def packed_pass(
    model: DUET,
    panoramas: Panoramas,
    table: Tensor,
    text: TextMemory,
    rows: MapRows,
    groups: list[Bucket],
    shared: Shared | None = None,
) -> PackedOutput:
    """Run a model over recorded decisions.

    `text` holds the B episodes that `rows.agent` points at, `table` [views, F] the view features
    (on any device), `groups` the rows in buckets (`buckets`, with the same `shared`).
    """
    node, pose = (rows.node, rows.pose) if shared is None else (shared.node, shared.pose)
    panorama = look(model, panoramas, table, node, pose)
    things = object_mask(panoramas, node, panorama.embeds.device)
    return navigate_packed(
        model, text, groups, panorama.embeds, panorama.mask, panorama.mean, things
    )


def navigate_packed(
    model: DUET,
    text: TextMemory,
    groups: list[Bucket],
    tokens: Tensor,
    mask: Tensor,
    means: Tensor,
    objects: Tensor | None = None,
) -> PackedOutput:
    """Run the cross-modal encoders over buckets, given panorama tokens [P, T, D] and means [P, D].

    P = R unless rows share panoramas. `objects` [P, 1+T] marks object tokens (`object_mask`), where
    objects are to be scored.
    """
    device, width = tokens.device, tokens.shape[-1]
    pool = torch.cat([tokens.reshape(-1, width), means.to(tokens.dtype)]).float()
    parts = []
    for bucket in groups:
        features = functional.embedding_bag(
            bucket.source.to(device),
            pool,
            bucket.offsets.to(device),
            mode="sum",
            per_sample_weights=bucket.weight.to(device),
        ).view(len(bucket.index), -1, width)
        index = torch.from_numpy(bucket.look).to(device)
        agents = torch.from_numpy(bucket.rows.agent).to(device)
        output = model.navigate(
            text.rows(agents),
            tokens.index_select(0, index),
            mask.index_select(0, index),
            node_features=features,
            decide=True,
            object_mask=None if objects is None else objects.index_select(0, index),
            **to_navigate(bucket.rows, device),
        )
        parts.append((bucket, output))
    return PackedOutput(means, parts)
