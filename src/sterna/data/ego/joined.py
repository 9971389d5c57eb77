"""Several folders of walks as one: demonstrations, and an agent's own walks beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sterna.data.ego.store import EgoEpisode, EgoStore
from sterna.errors import InputError


class JoinedStore:
    """The walks of several stores, the frames of each behind those of the one before.

    Has what samples are made of: `episodes`, `n_max` (the least), `folder` (the first). `starts`
    are the numbers of the first frames. `InputError` for folders that move or see otherwise.
    """

    def __init__(self, stores: Sequence[EgoStore]) -> None:
        first = stores[0]
        for other in stores[1:]:
            if other.protocol_hash != first.protocol_hash or other.camera != first.camera:
                raise InputError(
                    f"{other.folder}: its protocol or camera is another than {first.folder}'s; "
                    "make both with the same"
                )
        self.stores, self.folder = tuple(stores), first.folder
        self.n_max = min(store.n_max for store in stores)
        counts = [store.frame_count for store in stores]
        self.frame_count = sum(counts)
        self.starts = np.cumsum([0, *counts[:-1]])
        self.episodes: list[EgoEpisode] = [
            replace(episode, first=episode.first + start)
            for store, start in zip(stores, self.starts.tolist(), strict=True)
            for episode in store.episodes
        ]
