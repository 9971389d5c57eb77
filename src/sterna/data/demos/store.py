"""Demonstrations on disk: plain arrays a task, read through memory maps.

A folder holds ``manifest.json`` and one folder a task with ``images.npy`` [F, K, S, S, 3] uint8,
``proprio.npy`` [F, P] float32, ``actions.npy`` [F, T, A] float32 (the expert's next T actions) and
``episodes.json`` (seed, noisy, steps, frames of each). Legend: F frames, K cameras, S pixels a
side, P proprioception, T steps of a chunk, A width of an action.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sterna.errors import InputError
from sterna.files import read_json, sha256, write_bytes, write_json

FORMAT = "sterna-demonstrations-1"
MANIFEST, EPISODES = "manifest.json", "episodes.json"
ARRAYS = ("images", "proprio", "actions")


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """One successful episode: F frames and what the expert does from each on."""

    seed: int
    noisy: bool
    steps: int
    """Simulator steps until success."""
    images: NDArray[np.uint8]
    proprio: NDArray[np.float32]
    actions: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class EpisodeRow:
    """What is known of a stored episode; its frames are rows `first` to `first` + `frames`."""

    seed: int
    noisy: bool
    steps: int
    first: int
    frames: int


def write_task(folder: Path, demos: Sequence[Demonstration], *, tried: int) -> dict[str, Any]:
    """Write a task's folder, whole or not at all (episodes.json comes last); return its entry."""
    arrays = {name: np.concatenate([getattr(demo, name) for demo in demos]) for name in ARRAYS}
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        write_bytes(folder / f"{name}.npy", buffer.getvalue())
    rows, first = [], 0
    for demo in demos:
        frames = len(demo.proprio)
        row = EpisodeRow(
            seed=demo.seed, noisy=demo.noisy, steps=demo.steps, first=first, frames=frames
        )
        rows.append(asdict(row))
        first += frames
    entry = {
        "episodes": len(demos),
        "frames": first,
        "tried": tried,
        "sha256": {name: sha256(folder / f"{name}.npy") for name in ARRAYS},
    }
    write_json(folder / EPISODES, {"entry": entry, "rows": rows})
    return entry


def finished_entry(folder: Path) -> dict[str, Any] | None:
    """Return the entry of a task that was written whole, else None."""
    if not (folder / EPISODES).is_file():
        return None
    entry: dict[str, Any] = read_json(folder / EPISODES)["entry"]
    return entry


def write_manifest(folder: Path, config: Mapping[str, Any], entries: Mapping[str, Any]) -> None:
    """Write the manifest; with it the folder is complete."""
    totals = {key: sum(entry[key] for entry in entries.values()) for key in ("episodes", "frames")}
    value = {"format": FORMAT, "config": dict(config), "tasks": dict(entries), "totals": totals}
    write_json(folder / MANIFEST, value)


class DemoStore:
    """The demonstrations of a folder; frames are numbered through all tasks.

    `task` [F] says which of `tasks` a frame belongs to, `held_out` [F] whether its episode is kept
    from training: of every twenty episodes the first two, one without and one with noise. `begins`
    [F] is true for the first frame of an episode.
    """

    def __init__(self, folder: str | Path, *, check: bool = False) -> None:
        """Open a complete folder; `check` computes every checksum (about 1 s a GB)."""
        self.folder = Path(folder)
        manifest = read_json(self.folder / MANIFEST)
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise InputError(f"{self.folder}: not a folder of `sterna metaworld demos`")
        self.config: dict[str, Any] = manifest["config"]
        self.tasks: tuple[str, ...] = tuple(manifest["tasks"])
        self._arrays: dict[str, list[NDArray[Any]]] = {name: [] for name in ARRAYS}
        task: list[NDArray[np.int64]] = []
        held: list[NDArray[np.bool_]] = []
        rows: list[list[EpisodeRow]] = []
        for number, name in enumerate(self.tasks):
            entry = manifest["tasks"][name]
            self._open(name, entry, check)
            stored = [EpisodeRow(**row) for row in read_json(self._path(name, EPISODES))["rows"]]
            rows.append(stored)
            task.append(np.full(entry["frames"], number))
            held.extend(np.full(row.frames, place % 20 < 2) for place, row in enumerate(stored))
        self.episodes = tuple(tuple(part) for part in rows)
        self.task = np.concatenate(task)
        self.held_out = np.concatenate(held)
        self.begins = np.zeros(len(self.task), bool)
        counts = [len(part) for part in self._arrays["proprio"]]
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        for start, part in zip(self._starts[:-1], self.episodes, strict=True):
            self.begins[[start + row.first for row in part]] = True

    def _path(self, task: str, file: str) -> Path:
        return self.folder / task / file

    def _open(self, task: str, entry: Mapping[str, Any], check: bool) -> None:
        for name in ARRAYS:
            path = self._path(task, f"{name}.npy")
            if check and sha256(path) != entry["sha256"][name]:
                raise InputError(f"{path}: its checksum is not the manifest's; make it again")
            try:
                array = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise InputError(f"{path}: cannot be read ({error}); make it again") from error
            if len(array) != entry["frames"]:
                raise InputError(
                    f"{path}: expected {entry['frames']} frames, found {len(array)}; make it again"
                )
            self._arrays[name].append(array)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, name: str, frames: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows of "images", "proprio" or "actions", in the order asked for."""
        parts = self._arrays[name]
        out = np.empty((len(frames), *parts[0].shape[1:]), parts[0].dtype)
        task = self.task[frames]
        for number in np.unique(task):
            here = np.flatnonzero(task == number)
            out[here] = parts[number][frames[here] - self._starts[number]]
        return out

    def before(self, frames: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the chunk of the frame before each, zeros where an episode begins."""
        out = self.take("actions", np.maximum(frames - 1, 0))
        out[self.begins[frames]] = 0.0
        return out

    @property
    def chunk(self) -> int:
        """Actions of a frame's label."""
        return int(self._arrays["actions"][0].shape[1])
