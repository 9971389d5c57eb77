"""Writing egocentric walks: shard by shard, so that a killed run goes on where it was."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sterna.data.ego.store import (
    EPISODES_FILE,
    FORMAT,
    FRAMES_FILE,
    MANIFEST,
    OFFSETS_FILE,
    PLAIN,
    SHARDS,
    STEPS_FILE,
    EgoCamera,
    read_manifest,
    step_type,
)
from sterna.data.episodes import Episode
from sterna.errors import InputError
from sterna.files import read_json, write_json
from sterna.world.geometry import Floats, Ints

N_MAX = 8  # expert actions kept of each state: the paper's longest answer


@dataclass(frozen=True, kw_only=True, eq=False)
class Walk:
    """What was walked once, for one episode or for several told of the same way; T steps."""

    episodes: tuple[Episode, ...]
    taken: Ints
    """[T] actions."""
    expert: Ints
    """[T, n_max] the expert's next actions from each state."""
    poses: Floats
    """[T, 4] x, y, z in metres, heading in radians, before each action."""
    collided: NDArray[np.bool_]
    """[T] whether the action before met something."""
    source: str

    def records(self) -> NDArray[np.void]:
        """Return the walk as records [T]; see `step_type`."""
        out = np.zeros(len(self.taken), step_type(self.expert.shape[1]))
        out["taken"], out["expert"], out["pose"] = self.taken, self.expert, self.poses
        out["collided"] = self.collided
        return out


class ShardWriter:
    """Takes the walks of one shard; `EgoWriter.shard` gives one."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._file: BinaryIO = (folder / FRAMES_FILE).open("wb")
        self._offsets, self._steps, self._entries = [0], list[NDArray[np.void]](), list[Any]()
        self._left_out: list[str] = []

    def add(self, walk: Walk, frames: Sequence[bytes]) -> None:
        """Add a walk and the JPEG files of its steps."""
        if len(frames) != len(walk.taken):
            raise InputError(
                f"walk: {len(walk.taken)} steps need as many frames, not {len(frames)}"
            )
        first = len(self._offsets) - 1
        for frame in frames:
            self._file.write(frame)
            self._offsets.append(self._offsets[-1] + len(frame))
        self._steps.append(walk.records())
        for episode in walk.episodes:
            entry = {key: getattr(episode, key) for key in PLAIN if key != "source"}
            place = {"first": first, "steps": len(frames), "source": walk.source}
            goals = [list(goal) for goal in episode.goal_positions]
            self._entries.append({**entry, **place, "goal_positions": goals})

    def leave_out(self, walk: Walk) -> None:
        """Note that a walk is not worth keeping: a demonstration that did not arrive."""
        self._left_out += [episode.instr_id for episode in walk.episodes]

    def close(self, n_max: int) -> None:
        """Write what is held back."""
        self._file.close()
        steps = np.concatenate([np.empty(0, step_type(n_max)), *self._steps])
        np.save(self.folder / STEPS_FILE, steps, allow_pickle=False)
        np.save(self.folder / OFFSETS_FILE, np.array(self._offsets, np.uint64), allow_pickle=False)
        content = {"episodes": self._entries, "left_out": self._left_out}
        write_json(self.folder / EPISODES_FILE, content, indent=None)


class EgoWriter:
    """Begins a folder of walks, or continues one that was begun with the same settings.

    `protocol` are the fields of a `Protocol` and `protocol_hash` its hash; `settings` whatever
    decides the content, as JSON. `InputError` if the folder was begun with others.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settings: Mapping[str, Any],
        protocol: Mapping[str, Any],
        protocol_hash: str,
        camera: EgoCamera,
        n_max: int = N_MAX,
    ) -> None:
        self.folder, self.n_max = folder, n_max
        self._head = {
            "format": FORMAT,
            "settings": dict(settings),
            "protocol": dict(protocol),
            "protocol_hash": protocol_hash,
            "camera": asdict(camera),
            "n_max": n_max,
        }
        if (folder / MANIFEST).is_file():
            check_same(folder, read_manifest(folder), self._head)
        elif folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder}: holds something else; give a new folder")
        else:
            write_json(folder / MANIFEST, {**self._head, "finished": False})

    def manifest(self) -> dict[str, Any]:
        """Return `ego.json` as it stands."""
        return read_manifest(self.folder)

    @property
    def finished(self) -> bool:
        """Whether all that was asked for is there."""
        return bool(self.manifest()["finished"])

    def has(self, name: str) -> bool:
        """Whether a shard is there, whole."""
        return (self.folder / SHARDS / name).is_dir()

    def clean(self) -> None:
        """Remove what a killed run was at."""
        for left in (self.folder / SHARDS).glob("*.tmp"):
            shutil.rmtree(left)

    @contextmanager
    def shard(self, name: str) -> Iterator[ShardWriter]:
        """Open a shard to write; it appears under its name when the block ends without error."""
        target = self.folder / SHARDS / name
        part = ShardWriter(target.with_name(f"{name}.tmp"))
        try:
            yield part
        except BaseException:
            part._file.close()
            shutil.rmtree(part.folder)
            raise
        part.close(self.n_max)
        part.folder.rename(target)

    def finish(self) -> dict[str, Any]:
        """Write the manifest with counts; return it."""
        manifest = {**self._head, "counts": count(self.folder), "finished": True}
        write_json(self.folder / MANIFEST, manifest)
        return manifest


def count(folder: Path) -> dict[str, int]:
    """Count episodes, walks, frames, samples (a step of an episode each), bytes of JPEG."""
    names = ("shards", "episodes", "left_out", "walks", "frames", "samples", "bytes")
    out = dict.fromkeys(names, 0)
    for shard in sorted((folder / SHARDS).iterdir()):
        content = read_json(shard / EPISODES_FILE)
        entries = content["episodes"]
        offsets = np.load(shard / OFFSETS_FILE, mmap_mode="r", allow_pickle=False)
        out["shards"] += 1
        out["episodes"] += len(entries)
        out["left_out"] += len(content["left_out"])
        out["walks"] += len({entry["first"] for entry in entries})
        out["frames"] += len(offsets) - 1
        out["samples"] += sum(entry["steps"] for entry in entries)
        out["bytes"] += int(offsets[-1])
    return out


def check_same(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a folder that was begun with other settings; the line names what differs."""
    differs = []
    for key in ("settings", "camera", "n_max", "protocol"):
        before, now = found.get(key), wanted[key]
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            names = [name for name in {**now, **before} if before.get(name) != now.get(name)]
            differs += [f"{n}: {before.get(n)} there, {now.get(n)} now" for n in names]
        else:
            differs.append(f"{key}: {before} there, {now} now")
    if differs:
        raise InputError(
            f"{folder}: begun with other settings ({'; '.join(differs)}); give another --out, or "
            "the settings it was begun with"
        )
