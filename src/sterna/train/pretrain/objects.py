"""Objects that stand at viewpoints, as flat arrays: what mrc hides and og points at.

Legend: G atlas nodes, O objects of all nodes together, B panoramas, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sterna.data.objects import ObjectStore
from sterna.errors import InputError
from sterna.world.geometry import Floats, Ints, angle_features

IMAGE_WIDTH, IMAGE_HEIGHT = 640.0, 480.0
"""Size in pixels of the views that boxes were drawn on (Matterport3DSimulator's)."""


def object_locations(
    headings: ArrayLike, elevations: ArrayLike, widths: ArrayLike, heights: ArrayLike
) -> NDArray[np.float32]:
    """Return DUET's 7-d locations [O, 7] of objects, seen at heading 0.

    [sin, cos heading, sin, cos elevation, h / 480, w / 640, h w / (480 * 640)]; angles in radians,
    box sizes in pixels.
    """
    w, h = np.asarray(widths, np.float64), np.asarray(heights, np.float64)
    box = np.stack(
        [h / IMAGE_HEIGHT, w / IMAGE_WIDTH, h * w / (IMAGE_HEIGHT * IMAGE_WIDTH)], axis=-1
    )
    angles = angle_features(np.asarray(headings), np.asarray(elevations))
    return np.concatenate([angles, box.astype(np.float32)], axis=-1)


@dataclass(frozen=True, kw_only=True)
class NodeObjects:
    """Objects of one viewpoint: names [O], features [O, Fo], locations [O, 7], logits [O, K]."""

    ids: Sequence[str]
    features: NDArray[np.float32]
    locations: NDArray[np.float32]
    logits: NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True)
class Objects:
    """Objects of all atlas nodes; those of node g are entries first[g] .. first[g + 1]."""

    first: Ints
    ids: tuple[str, ...]
    features: NDArray[np.float32]
    locations: NDArray[np.float32]
    logits: NDArray[np.float32] | None

    @staticmethod
    def of(
        keys: Sequence[str], nodes: Mapping[str, NodeObjects], *, limit: int | None = None
    ) -> Objects:
        """Put viewpoints together in the order of `keys` (``Atlas.keys``); absent ones have none.

        At most the first `limit` objects of a viewpoint are kept (DUET: 20 in training). Raises
        `InputError` where there is no object at all, or where lengths or widths disagree.
        """
        found = [nodes.get(key) for key in keys]
        if not any(node is not None and len(node.ids) for node in found):
            raise InputError("objects: none at any viewpoint; give object features of these scans")
        parts = [(key, node) for key, node in zip(keys, found, strict=True) if node is not None]
        for key, node in parts:
            _check(key, node, parts[0][1])
        counts = [0 if n is None else min(len(n.ids), limit or len(n.ids)) for n in found]
        with_logits = parts[0][1].logits is not None
        return Objects(
            first=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            ids=tuple(name for _, n in parts for name in list(n.ids)[:limit]),
            features=np.concatenate([n.features[:limit] for _, n in parts]),
            locations=np.concatenate([n.locations[:limit] for _, n in parts]),
            logits=np.concatenate([n.logits[:limit] for _, n in parts if n.logits is not None])
            if with_logits
            else None,
        )

    @staticmethod
    def from_store(keys: Sequence[str], store: ObjectStore, *, limit: int | None = None) -> Objects:
        """Put the objects of a store together in the order of `keys`; see `of`."""
        nodes = {}
        for key in store.keys:
            placed = store.at(key)
            nodes[key] = NodeObjects(
                ids=[str(number) for number in placed.ids.tolist()],
                features=placed.features,
                locations=object_locations(*placed.directions.T, *placed.sizes.T),
                logits=placed.logits,
            )
        return Objects.of(keys, nodes, limit=limit)

    @property
    def size(self) -> int:
        """Width Fo of an object feature."""
        return int(self.features.shape[1])

    def counts(self, node: Ints) -> Ints:
        """Return how many objects stand at nodes [B]."""
        out: Ints = self.first[node + 1] - self.first[node]
        return out

    def entries(self, node: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """Return entries [B, most] of the objects at nodes [B], and which of them are there."""
        counts = self.counts(node)
        column = np.arange(int(counts.max(initial=0)))
        valid = column < counts[:, None]
        return np.where(valid, self.first[node][:, None] + column, 0), valid

    def place(self, node: int, name: str) -> int:
        """Return the number of an object among those kept at its node, -1 if it is not there."""
        here = self.ids[self.first[node] : self.first[node + 1]]
        return here.index(name) if name in here else -1


def _check(key: str, node: NodeObjects, first: NodeObjects) -> None:
    count = len(node.ids)
    shapes = [node.features.shape, node.locations.shape]
    wanted: list[tuple[int, ...]] = [(count, first.features.shape[-1]), (count, 7)]
    if node.logits is not None:
        shapes.append(node.logits.shape)
        wanted.append((count, first.logits.shape[-1] if first.logits is not None else -1))
    if shapes != wanted or (node.logits is None) != (first.logits is None):
        raise InputError(
            f"objects of {key}: expected arrays of shapes {wanted} for {count} objects, "
            f"found {shapes}; logits must be given for all viewpoints or for none"
        )


def class_odds(logits: Floats | NDArray[np.float32]) -> NDArray[np.float32]:
    """Return softmax(logits) over the last axis, float32: the targets of mrc."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    odds: NDArray[np.float32] = (shifted / shifted.sum(-1, keepdims=True)).astype(np.float32)
    return odds
