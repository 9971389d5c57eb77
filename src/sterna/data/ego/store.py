"""Egocentric walks in a folder: frames once a step, actions and expert labels beside them.

A folder holds `ego.json` (what was asked for, protocol, camera, counts) and `shards/NAME/`, each
with `frames.bin` (JPEG files one after another), `offsets.npy` (where they begin, and the end),
`steps.npy` (a record a frame) and `episodes.json`. Everything but the last is memory-mapped. A
shard appears under its name only when it is whole. Instructions told of the same walk share its
frames.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from sterna.errors import InputError
from sterna.files import read_json
from sterna.world.frames import Vec3
from sterna.world.geometry import Floats, Ints

FORMAT = "sterna-ego-1"
MANIFEST, SHARDS = "ego.json", "shards"
FRAMES_FILE, OFFSETS_FILE = "frames.bin", "offsets.npy"
STEPS_FILE, EPISODES_FILE = "steps.npy", "episodes.json"

Frame = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class EgoCamera:
    """The camera that saw the frames: pixels, degrees, metres above the floor."""

    width: int
    height: int
    hfov: float
    elevation: float


@dataclass(frozen=True, kw_only=True, eq=False)
class EgoEpisode:
    """An instruction and the walk that was made for it: T steps, a frame each."""

    instr_id: str
    scan: str
    instruction: str
    path_id: int | str
    first: int
    """Frame number of step 0; step t has frame ``first + t``."""
    steps: NDArray[np.void]
    """[T] records as stored: `taken`, `expert`, `pose`, `collided`."""
    goal_positions: tuple[Vec3, ...]
    goal_radius: float | None
    distance: float | None
    """Geodesic metres from the start to the goal, as the episode states it."""
    split: str | None
    source: str
    """What chose the actions: "reference", "expert" or an agent's name."""

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def taken(self) -> Ints:
        """Actions taken [T]; the last is STOP unless the protocol's steps ran out."""
        return np.asarray(self.steps["taken"], np.int64)

    @property
    def expert(self) -> Ints:
        """The expert's next actions [T, n_max] from each state reached; STOP after a STOP."""
        return np.asarray(self.steps["expert"], np.int64)

    @property
    def poses(self) -> Floats:
        """Where the agent stood [T, 4]: x, y, z in metres, heading in radians."""
        return np.asarray(self.steps["pose"], np.float64)

    @property
    def collided(self) -> NDArray[np.bool_]:
        """Whether the action that led to each step [T] met something; False at the first."""
        return np.asarray(self.steps["collided"], np.bool_)


def step_type(n_max: int) -> np.dtype[np.void]:
    """Return the record kept of every step."""
    return np.dtype(
        [("taken", "u1"), ("expert", "u1", (n_max,)), ("pose", "<f8", (4,)), ("collided", "?")]
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shard:
    """A shard's files; `first` is the number of its first frame in the store."""

    folder: Path
    first: int
    offsets: NDArray[np.uint64]
    steps: NDArray[np.void]

    def frame_bytes(self) -> NDArray[np.uint8]:
        """Map the JPEG bytes."""
        return np.memmap(self.folder / FRAMES_FILE, np.uint8, "r")


class EgoStore:
    """Reads a folder of egocentric walks; `InputError` names what is missing or broken.

    `episodes` in the order of shards and files; `camera`; `protocol` are the fields of
    `metrics.protocol.Protocol` (``Protocol.from_dict(store.protocol)``) and `protocol_hash` its
    hash; `n_max` expert actions are kept of every state; `manifest` is `ego.json` as it stands.
    Frames are numbered from 0 through all shards. Give `partial` to read a folder that is still
    being written.
    """

    def __init__(self, folder: str | os.PathLike[str], *, partial: bool = False) -> None:
        self.folder, self.partial = Path(folder), partial
        self.manifest = read_manifest(self.folder)
        if not (partial or self.manifest["finished"]):
            raise InputError(
                f"{self.folder}: the walks are not all there yet; run the command that makes them "
                "again, it continues"
            )
        self.protocol: Mapping[str, Any] = self.manifest["protocol"]
        self.protocol_hash: str = self.manifest["protocol_hash"]
        self.camera = EgoCamera(**self.manifest["camera"])
        self.n_max: int = self.manifest["n_max"]
        self._shards: list[_Shard] = []
        self.episodes: list[EgoEpisode] = []
        for shard in sorted(p for p in (self.folder / SHARDS).glob("*") if p.suffix != ".tmp"):
            self._add(shard)
        self._starts = np.array([0, *(s.first + len(s.steps) for s in self._shards)])
        self._bytes: dict[int, NDArray[np.uint8]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Loader processes open the folder anew; mapped files do not travel."""
        return _reopen, (self.folder, self.partial)

    def _add(self, folder: Path) -> None:
        offsets = np.load(folder / OFFSETS_FILE, mmap_mode="r", allow_pickle=False)
        steps = np.load(folder / STEPS_FILE, mmap_mode="r", allow_pickle=False)
        size = (folder / FRAMES_FILE).stat().st_size
        good = steps.dtype == step_type(self.n_max) and len(offsets) == len(steps) + 1
        if not good or offsets[0] != 0 or offsets[-1] != size:
            raise InputError(f"{folder}: its files disagree; delete this folder and make it again")
        first = self._shards[-1].first + len(self._shards[-1].steps) if self._shards else 0
        self._shards.append(_Shard(folder=folder, first=first, offsets=offsets, steps=steps))
        for entry in read_json(folder / EPISODES_FILE)["episodes"]:
            self.episodes.append(_episode(entry, first, steps))

    @property
    def turn_angle(self) -> float:
        """Degrees of a turn."""
        return float(self.protocol["turn_angle"])

    @property
    def forward_step(self) -> float:
        """Metres of a step forward."""
        return float(self.protocol["forward_step"])

    @property
    def frame_count(self) -> int:
        """How many frames the store holds."""
        return int(self._starts[-1])

    def jpeg(self, number: int) -> bytes:
        """Return the JPEG file of a frame; `InputError` for a number that is none."""
        if not 0 <= number < self.frame_count:
            raise InputError(f"{self.folder}: frames are 0 to {self.frame_count - 1}, not {number}")
        index = int(np.searchsorted(self._starts, number, "right")) - 1
        shard = self._shards[index]
        if index not in self._bytes:
            self._bytes[index] = shard.frame_bytes()
        begin, end = shard.offsets[number - shard.first : number - shard.first + 2].tolist()
        return self._bytes[index][begin:end].tobytes()

    def frame(self, number: int) -> Frame:
        """Return a frame, uint8 [height, width, 3]."""
        return decode(self.jpeg(number))

    def frames(self, numbers: ArrayLike) -> Frame:
        """Return frames uint8 [k, height, width, 3]."""
        out = np.empty((np.size(numbers), self.camera.height, self.camera.width, 3), np.uint8)
        for row, number in enumerate(np.ravel(numbers).tolist()):
            out[row] = self.frame(number)
        return out


def _reopen(folder: Path, partial: bool) -> EgoStore:
    return EgoStore(folder, partial=partial)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read `ego.json` of a folder; `InputError` if it holds no walks of this format."""
    file = folder / MANIFEST
    if not file.is_file():
        raise InputError(f"{folder}: no {MANIFEST} there; make walks with `sterna ego make`")
    found = read_json(file)
    form = found.get("format") if isinstance(found, dict) else None
    if form != FORMAT:
        raise InputError(f"{file}: expected format {FORMAT}, found {form}; make the walks anew")
    manifest: dict[str, Any] = found
    return manifest


def _episode(entry: Mapping[str, Any], first: int, steps: NDArray[np.void]) -> EgoEpisode:
    begin, count = entry["first"], entry["steps"]
    return EgoEpisode(
        first=first + begin,
        steps=steps[begin : begin + count],
        goal_positions=_points(entry["goal_positions"]),
        **{key: entry[key] for key in PLAIN},
    )


PLAIN = ("instr_id", "scan", "instruction", "path_id", "goal_radius", "distance", "split", "source")
"""Fields of an episode that are kept in `episodes.json` as they are."""


def _points(values: Sequence[Sequence[float]]) -> tuple[Vec3, ...]:
    return tuple((x, y, z) for x, y, z in values)


def encode(frame: Frame, quality: int) -> bytes:
    """Return a frame uint8 [height, width, 3] as a JPEG file, its colours at full resolution.

    (Small frames would lose what instructions speak of: red things.)
    """
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def decode(file: bytes) -> Frame:
    """Return the frame uint8 [height, width, 3] of a JPEG file."""
    with Image.open(io.BytesIO(file)) as picture:
        return np.asarray(picture.convert("RGB"))
