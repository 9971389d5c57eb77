"""What objects look like to a run: embedded names, or a file of object features."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sterna.data.boxes import Boxes
from sterna.data.layout import Layout
from sterna.data.objects import ObjectStore, named_objects, read_objects
from sterna.models.sentence import SentenceEncoder
from sterna.recipes.config import DataConfig
from sterna.world.atlas import Atlas

NAMES, NONE = "names", "none"
"""Values of `DataConfig.objects` that are no file."""


class NameVectors:
    """Sentence embeddings of object names, made once and kept in a file; reads as an encoder."""

    def __init__(self, encoder: SentenceEncoder, texts: Sequence[str], folder: Path) -> None:
        """Embed `texts`, or take them from `folder`, where they were embedded before."""
        self.name, self.digest = encoder.name, encoder.digest
        self._place = {text: i for i, text in enumerate(sorted(set(texts)))}
        print_ = "\n".join(self._place)
        stamp = hashlib.sha256(f"{encoder.digest}{print_}".encode()).hexdigest()[:12]
        path = folder / f"names-{stamp}.npz"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".part.npz")
            np.savez(partial, vectors=encoder.encode(list(self._place)))
            partial.replace(path)
        with np.load(path, allow_pickle=False) as saved:
            self._vectors: NDArray[np.float32] = saved["vectors"]

    def encode(self, sentences: Sequence[str], /) -> NDArray[np.float32]:
        """Return the vectors [n, D] of names that were embedded."""
        return self._vectors[[self._place[text] for text in sentences]]


def open_objects(
    layout: Layout, config: DataConfig, boxes: Boxes, atlas: Atlas, *, logits: bool = False
) -> ObjectStore | None:
    """Return the objects of an atlas as `config.objects` says; None where it says none.

    `logits` keeps the class logits of a feature file.
    """
    if config.objects == NONE:
        return None
    if config.objects == NAMES:
        things = (thing for place in boxes.viewpoints for thing in boxes.visible(*place))
        texts = [thing.plain_name for thing in things]
        folder = config.cache or Path.home() / ".cache" / "sterna"
        encoder = SentenceEncoder.from_folder(config.encoder)
        scans = [graph.scan for graph in atlas.graphs]
        store = named_objects(boxes, NameVectors(encoder, texts, folder), scans)
    else:
        named = Path(config.objects)
        path = named if named.is_file() else layout.features(config.objects)
        store = read_objects(path, atlas.keys, logits=logits)
    return store.blind() if config.blind else store
