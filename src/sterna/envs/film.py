"""Frames of many poses at once: what the data engine and batches of agents see."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sterna.envs.continuous import Camera, FrameSource
from sterna.envs.houses import HouseFrames
from sterna.world.geometry import Floats
from sterna.world.houses.render import Camera as Lens

Frames = NDArray[np.uint8]

_AT_ONCE = 64  # frames rendered in one go; bounds memory


class Film(Protocol):
    """Draws what agents see; `camera` says with which camera."""

    camera: Camera

    def __call__(self, scan: str, positions: Floats, headings: Floats) -> Frames:
        """Return frames uint8 [n, height, width, 3] of agents at positions [n, 3] (the floor)."""


class HouseFilm:
    """Frames of houses, rendered in batches; a frame is the same in any batch."""

    def __init__(self, frames: HouseFrames, camera: Camera) -> None:
        self.frames, self.camera = frames, camera
        self._lens = Lens(width=camera.width, height=camera.height, hfov=camera.hfov)

    def __call__(self, scan: str, positions: Floats, headings: Floats) -> Frames:
        """Return frames uint8 [n, height, width, 3]."""
        renderer = self.frames.renderer(scan)
        eyes = positions + np.array([0.0, 0.0, self.camera.elevation])
        out = np.empty((len(eyes), self.camera.height, self.camera.width, 3), np.uint8)
        for first in range(0, len(eyes), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            out[part] = renderer.render(self._lens, eyes[part], headings[part]).rgb
        return out


class SourceFilm:
    """Frames of any `FrameSource`, one by one."""

    def __init__(self, source: FrameSource, camera: Camera) -> None:
        self.source, self.camera = source, camera

    def __call__(self, scan: str, positions: Floats, headings: Floats) -> Frames:
        """Return frames uint8 [n, height, width, 3]."""
        eyes = positions + np.array([0.0, 0.0, self.camera.elevation])
        shots = [
            self.source(scan, eye, heading, self.camera, "rgb")
            for eye, heading in zip(eyes, headings.tolist(), strict=True)
        ]
        return np.stack(shots).astype(np.uint8, copy=False)
