"""Where the images of samples come from: a store's frames, or what a frozen tower saw in them.

A frozen tower sees every frame once, ever: its features lie in one memory-mapped file.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from sterna.data.ego.store import EgoStore
from sterna.errors import InputError
from sterna.files import read_json, write_json
from sterna.models.navigator.pixels import Frames
from sterna.models.navigator.vlm import VlmNavigator
from sterna.world.geometry import Ints
from sterna.world.talk.images import Grid

_AT_ONCE = 128  # frames read and seen together
FEATURES, KEY = "features.npy", "features.json"


class Images(Protocol):
    """Gives the images of samples by their frame numbers."""

    size: Grid
    """Rows and columns of a frame in pixels."""

    def take(self, numbers: Ints) -> dict[str, Any]:
        """Return `frames` or `features` of frames, as `VlmNavigator.batch` takes them."""


class StoreFrames:
    """The frames of a store; `blind` makes them black (a control)."""

    def __init__(self, store: EgoStore, *, blind: bool = False) -> None:
        self.store, self.blind = store, blind
        self.size = (store.camera.height, store.camera.width)

    def take(self, numbers: Ints) -> dict[str, Any]:
        """Return frames uint8 [k, h, w, 3]; one that is asked for twice is decoded once."""
        if self.blind:
            return {"frames": np.zeros((len(numbers), *self.size, 3), np.uint8)}
        once, place = np.unique(numbers, return_inverse=True)
        return {"frames": self.store.frames(once)[place]}


class SeenFrames:
    """What a frozen tower saw in the frames of a store; made once, then read.

    Features are kept as float16 [frames, T, D]. The folder is bound to the tower's weights, to the
    size of its images and to the store; another tower gets another subfolder.
    """

    def __init__(
        self, navigator: VlmNavigator, store: EgoStore, folder: Path, *, blind: bool = False
    ) -> None:
        """Open the features of a store, or make them (with a progress bar) where there are none."""
        self.size = (store.camera.height, store.camera.width)
        self.blind = blind
        if blind:
            black = np.zeros((1, *self.size, 3), np.uint8)
            with torch.no_grad():
                self._features: NDArray[Any] = navigator.features(black).half().cpu().numpy()
            return
        self.key = _key(navigator, store)
        self.folder = Path(folder) / self.key["name"]
        if not (self.folder / KEY).is_file():
            _make(navigator, store, self.folder, self.key)
        if read_json(self.folder / KEY) != self.key:
            raise InputError(f"{self.folder}: features of something else; delete this folder")
        self._features = np.load(self.folder / FEATURES, mmap_mode="r", allow_pickle=False)

    def take(self, numbers: Ints) -> dict[str, Any]:
        """Return features float32 [k, T, D] of frames."""
        rows = np.zeros_like(numbers) if self.blind else numbers
        return {"features": torch.from_numpy(self._features[rows].astype(np.float32))}


class JoinedImages:
    """The images of several stores, numbered through (`data.ego.joined`)."""

    def __init__(self, parts: Sequence[Images], starts: Ints) -> None:
        self.parts, self.starts, self.size = tuple(parts), starts, parts[0].size

    def take(self, numbers: Ints) -> dict[str, Any]:
        """Return `frames` or `features` of frames."""
        which = np.searchsorted(self.starts, numbers, "right") - 1
        out: dict[str, Any] = {}
        for part in np.unique(which).tolist():
            rows = np.flatnonzero(which == part)
            for name, values in self.parts[part].take(numbers[rows] - self.starts[part]).items():
                if name not in out:
                    shape = (len(numbers), *values.shape[1:])
                    out[name] = (
                        values.new_empty(shape)
                        if isinstance(values, Tensor)
                        else np.empty(shape, values.dtype)
                    )
                out[name][rows] = values
        return out


def _key(navigator: VlmNavigator, store: EgoStore) -> dict[str, Any]:
    """Return what the features of a store depend on, with a short name for it."""
    digest = hashlib.sha256()
    for name, weight in sorted(navigator.tower.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().float().cpu().contiguous().numpy().tobytes())
    images = navigator.processor.images
    shape = (store.frame_count, *navigator.token_shape((store.camera.height, store.camera.width)))
    key = {
        "tower": digest.hexdigest(),
        "images": json.loads(json.dumps(vars(images))),
        "store": {k: store.manifest.get(k) for k in ("settings", "counts", "camera")},
        "folder": str(store.folder.resolve()),
        "shape": list(shape),
    }
    text = json.dumps(key, sort_keys=True)
    return {"name": hashlib.sha256(text.encode()).hexdigest()[:16], **key}


@torch.no_grad()
def _make(navigator: VlmNavigator, store: EgoStore, folder: Path, key: dict[str, Any]) -> None:
    """Let the tower see every frame; the folder appears when it is whole."""
    part = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    shape = tuple(key["shape"])
    out = np.lib.format.open_memmap(part / FEATURES, mode="w+", dtype=np.float16, shape=shape)
    was_training = navigator.training
    navigator.eval()
    for first in tqdm(range(0, shape[0], _AT_ONCE), desc="frames seen", unit="batch"):
        numbers = np.arange(first, min(shape[0], first + _AT_ONCE))
        out[numbers] = seen(navigator, store.frames(numbers)).numpy()
    navigator.train(was_training)
    out.flush()
    write_json(part / KEY, key)
    part.rename(folder)


def seen(navigator: VlmNavigator, frames: Frames) -> Tensor:
    """Return the features of frames as they are kept: float16 [k, T, D] on the CPU."""
    return navigator.features(frames).half().cpu()
