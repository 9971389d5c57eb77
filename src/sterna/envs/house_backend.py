"""Our houses behind the simulator server: what Habitat answers elsewhere, answered here.

It tries the whole way over HTTP without Habitat, and gives houses to other processes.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import numpy as np

import sterna
from sterna.envs import habitat_server as server
from sterna.errors import InputError
from sterna.world.frames import from_habitat, to_habitat
from sterna.world.geometry import Floats
from sterna.world.houses import make_house
from sterna.world.houses.ground import ground_of
from sterna.world.houses.render import Camera, Frames, Renderer
from sterna.world.houses.scans import scan_of, seed_of
from sterna.world.surface import Agent


class HouseBackend(server.Backend):
    """Houses by the name of their scan (``house-000017``); `threads` render."""

    name = "houses"

    def __init__(self, *, threads: int = 1, shadows: int = 0, keep: int = 8) -> None:
        self.threads, self.shadows, self.keep = threads, shadows, keep

    def versions(self) -> dict[str, str]:
        """With sterna's own."""
        return {**super().versions(), "sterna": sterna.__version__}

    def open(self, scene: str, settings: server.Settings) -> server.World:
        """Make the house that a scene names; only the last part of its path counts."""
        scan = PurePosixPath(scene).stem
        seed = seed_of(scan)
        if seed is None:
            raise server.RefusedError(
                f"no house is named {scan[:80]!r}; expected a name such as {scan_of(17)}"
            )
        return HouseWorld(self, seed, settings)


class HouseWorld(server.World):
    """One house for one body and one pair of cameras."""

    def __init__(self, backend: HouseBackend, seed: int, settings: server.Settings) -> None:
        house = make_house(seed)
        body = Agent(radius=settings["agent_radius"], height=settings["agent_height"])
        self.ground = ground_of(house, body)
        self.renderer = Renderer(house, threads=backend.threads, shadows=backend.shadows)
        self.lenses = {
            sensor: Camera(
                width=settings[f"{kind}_width"],
                height=settings[f"{kind}_height"],
                hfov=settings[f"{kind}_hfov"],
            )
            for sensor, kind in (("rgb", "camera"), ("depth", "depth"))
        }
        self._last: tuple[Any, Frames] | None = None

    def snap(self, points: Floats) -> Floats:
        """Draw points to the nearest place where an agent may be."""
        return to_habitat(self.ground.snap(from_habitat(points)))

    def navigable(self, points: Floats) -> Any:
        """Say where an agent may be."""
        return self.ground.is_navigable(from_habitat(points))

    def move(self, points: Floats, yaws: Floats, distance: float, sliding: bool) -> Any:
        """Walk along the floor."""
        step = self.ground.move(from_habitat(points), -yaws, distance, sliding=sliding)
        return to_habitat(step.positions), step.collided

    def distances(self, points: Floats, goal: Floats) -> Floats:
        """Geodesic metres."""
        return self.ground.distances(from_habitat(points), from_habitat(goal))

    def path(self, start: Floats, goal: Floats) -> Floats:
        """Corners of the shortest way."""
        return to_habitat(self.ground.shortest_path(from_habitat(start), from_habitat(goal)))

    def topdown(self, height: float, metres_per_pixel: float) -> tuple[Any, float, float]:
        """Walkable area; north is where z is least."""
        area, where = self.ground.topdown(height, metres_per_pixel)
        return area, where.west, -where.north

    def look(self, eyes: Floats, yaws: Floats, sensor: str) -> Any:
        """Render; colour and depth through one lens come from one pass."""
        lens = self.lenses[sensor]
        key = (lens, eyes.tobytes(), yaws.tobytes())
        if self._last is None or self._last[0] != key:
            self._last = key, self.renderer.render(lens, from_habitat(eyes), -yaws)
        frames = self._last[1]
        return frames.rgb if sensor == "rgb" else np.asarray(frames.depth)


class HouseAnswers(server.Answers):
    """`Answers` that pass on what our own world finds wrong with a question."""

    def ask(self, body: dict[str, Any]) -> bytes:
        """Answer a list of questions about one scene."""
        try:
            return super().ask(body)
        except InputError as error:
            raise server.RefusedError(str(error)) from None
