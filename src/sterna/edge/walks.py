"""The runtime in front of episodes: what it would see in a scan, where it goes, many at once.

Everything here runs without torch, so that worker processes stay small.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sterna.data.episodes import Episode
from sterna.data.objects import ObjectStore
from sterna.edge.runtime import Engine, Navigator, Neighbour, Objects, Observation, read_manifest
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.metrics import Prediction
from sterna.world.geometry import VIEW_HEADINGS, Floats, view_of_heading

CHUNK = 8
"""Episodes a worker takes at a time."""


class Rooms:
    """What an agent without the map of the house sees at atlas nodes."""

    def __init__(
        self,
        panoramas: Panoramas,
        headings: Floats,
        elevations: Floats,
        objects: ObjectStore | None = None,
    ) -> None:
        """Take views of panoramas; `headings`, `elevations` (radians, [V]) are their directions."""
        self.atlas = panoramas.atlas
        self.headings, self.elevations, self.objects = headings, elevations, objects
        shape = len(self.atlas), panoramas.view_count, panoramas.size
        self.views = panoramas.features.reshape(shape)

    def observation(self, node: int, heading: float | None = None) -> Observation:
        """Return what is seen at a node; `heading` (radians) where no hop says it."""
        atlas = self.atlas
        count = int(atlas.degree[node])
        near = atlas.candidates[node, :count].tolist()
        return Observation(
            node=atlas.viewpoints[node],
            position=atlas.positions[node],
            views=self.views[node],
            view_headings=self.headings,
            view_elevations=self.elevations,
            heading=heading,
            objects=self._objects(node),
            neighbours=[
                Neighbour(name=atlas.viewpoints[n], position=atlas.positions[n], distance=metres)
                for n, metres in zip(near, atlas.candidate_distance[node].tolist(), strict=False)
            ],
        )

    def _objects(self, node: int) -> Objects | None:
        if self.objects is None:
            return None
        placed = self.objects.at(self.atlas.keys[node])
        return Objects(
            ids=placed.ids,
            features=placed.features,
            directions=placed.directions,
            sizes=placed.sizes,
        )


def words_of(episode: Episode) -> list[int]:
    """Return an episode's word ids; `InputError` if it was not tokenised."""
    if not episode.token_ids:
        raise InputError(f"episode {episode.instr_id}: no token ids; tokenise the instructions")
    return list(episode.token_ids)


def start_heading(episode: Episode) -> float:
    """Return the heading at the start in radians, rounded to 30 degrees as in training."""
    return float(VIEW_HEADINGS[int(view_of_heading(episode.heading))])


def walk_one(navigator: Navigator, rooms: Rooms, episode: Episode) -> Prediction:
    """Walk one episode to its end; hops are the start, each decision's nodes, the way back."""
    navigator.start(words_of(episode))
    atlas, node = rooms.atlas, rooms.atlas.node(episode.scan, episode.start)
    hops: list[tuple[str, ...]] = [(episode.start,)]
    heading: float | None = start_heading(episode)
    while True:
        decision = navigator.step(rooms.observation(node, heading))
        if decision.path:
            hops.append(decision.path)
        if decision.stop:
            return Prediction(
                instr_id=episode.instr_id, hops=tuple(hops), object_id=decision.object_id
            )
        node, heading = atlas.node(episode.scan, decision.target), None


_Job = Callable[[Sequence[Episode]], list[Prediction]]
_WORKER: dict[str, _Job] = {}
"""What a worker process opened when it began."""


def walk_all(
    folder: Path,
    engine: str,
    rooms: Rooms,
    episodes: Sequence[Episode],
    *,
    workers: int = 1,
    threads: int = 1,
    max_steps: int | None = None,
    progress: bool = True,
) -> list[Prediction]:
    """Walk every episode once with an exported policy; predictions in the order of `episodes`.

    `workers` processes share the episodes, each with `threads` threads; the walks do not depend on
    how many there are.
    """
    if workers < 1:
        raise InputError(f"workers must be at least 1, found {workers}")
    read_manifest(folder)  # a folder that cannot be used is refused here, not in every worker
    parts = [episodes[i : i + CHUNK] for i in range(0, len(episodes), CHUNK)]
    settings = str(folder), engine, threads, max_steps
    with tqdm(
        total=len(episodes), desc="walk", unit="ep", disable=not progress, leave=False
    ) as bar:
        out: list[Prediction] = []
        for done in _run(parts, rooms, settings, min(workers, len(parts))):
            out += done
            bar.update(len(done))
    return out


def _run(
    parts: Sequence[Sequence[Episode]], rooms: Rooms, settings: tuple[Any, ...], workers: int
) -> Iterator[list[Prediction]]:
    if workers <= 1:
        yield from map(_job(rooms, *settings), parts)
        return
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="sterna-views-") as scratch:
        table = Path(scratch) / "views.npy"
        np.save(table, rooms.views, allow_pickle=False)
        bare = copy.copy(rooms)
        bare.views = rooms.views[:0]  # mapped from the file instead: one copy for all workers
        arguments = (bare, str(table), *settings)
        with ProcessPoolExecutor(workers, context, _begin, arguments) as pool:
            yield from pool.map(_work, parts)


def _job(rooms: Rooms, folder: str, engine: str, threads: int, max_steps: int | None) -> _Job:
    opened = Engine.open(folder, engine, threads=threads)
    navigator = Navigator(opened, max_steps=max_steps)
    return lambda part: [walk_one(navigator, rooms, episode) for episode in part]


def _begin(rooms: Rooms, table: str, *settings: Any) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rooms.views = np.load(table, mmap_mode="r", allow_pickle=False)
    _WORKER["walk"] = _job(rooms, *settings)


def _work(part: Sequence[Episode]) -> list[Prediction]:
    return _WORKER["walk"](part)
