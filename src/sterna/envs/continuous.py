"""What an environment in continuous space offers, whoever simulates it.

Positions are (x, y, z) in metres, z up; headings are radians clockwise from +y. A simulator with
another frame converts at its own border (`sterna.world.frames`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import ArrayLike, NDArray

from sterna.errors import InputError
from sterna.metrics import protocol as protocols
from sterna.world.frames import Pose
from sterna.world.geometry import Floats
from sterna.world.space import Bools, MapTransform, Step

Obs = dict[str, Any]


class Ground(Protocol):
    """A world to walk in; `sterna.world.space.Space` and `sterna.world.plane.OpenPlane` are."""

    def is_navigable(self, points: ArrayLike) -> Bools:
        """Whether an agent may be at each point [..., 3]."""

    def snap(self, points: ArrayLike) -> Floats:
        """Nearest points [..., 3] where an agent may be."""

    def move(
        self, positions: ArrayLike, headings: ArrayLike, distance: float, *, sliding: bool = True
    ) -> Step:
        """Walk `distance` metres along headings [n] from positions [n, 3]."""

    def distances(self, points: ArrayLike, goal: ArrayLike) -> Floats:
        """Geodesic metres from points [n, 3] to a goal [3], or each to its own [n, 3].

        Infinite where no way leads.
        """

    def geodesic(self, a: ArrayLike, b: ArrayLike) -> float:
        """Geodesic metres from a [3] to b [3], or to the nearest of b [k, 3]."""

    def shortest_path(self, a: ArrayLike, b: ArrayLike) -> Floats:
        """Corners [m, 3] of the shortest way, both ends included; [0, 3] if there is none."""

    def topdown(self, height: float, metres_per_pixel: float = ...) -> tuple[Bools, MapTransform]:
        """Walkable area around a height as a map, and where its pixels are."""


class ContinuousNavEnv(Protocol):
    """An agent in continuous space: Gymnasium's `reset` and `step`, and questions to the world."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Any]]:
        """Begin an episode; ``options["instr_id"]`` names one."""

    def step(self, action: Any) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Act: an `Action`. Returns observation, reward, terminated, truncated, info."""

    def pose(self) -> Pose:
        """Where the agent stands."""

    def geodesic(self, a: ArrayLike, b: ArrayLike) -> float:
        """Geodesic metres from a [3] to b [3], or to the nearest of b [k, 3]; may be infinite."""

    def shortest_path(self, a: ArrayLike, b: ArrayLike) -> Floats:
        """Corners [m, 3] of the shortest way."""

    def is_navigable(self, point: ArrayLike) -> bool:
        """Whether the agent may be at a point [3]."""

    def snap(self, point: ArrayLike) -> Floats:
        """Nearest point [3] where the agent may be."""

    def observe_at(self, pose: Pose) -> Obs:
        """What the agent would observe at a pose, without moving."""

    def collided(self) -> bool:
        """Whether the last action met something."""

    def topdown(self, height: float, metres_per_pixel: float) -> tuple[Bools, MapTransform]:
        """Walkable area around a height as a map, and where its pixels are."""


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A level pinhole camera; pixels are square."""

    width: int
    height: int
    hfov: float
    """Horizontal field of view in degrees."""
    elevation: float
    """Metres above the floor."""
    near: float = 0.0
    """Least depth it tells, metres."""
    far: float = math.inf
    """Greatest depth it tells, metres."""


class FrameSource(Protocol):
    """Draws what a camera sees."""

    def __call__(
        self, scan: str, eye: Floats, heading: float, camera: Camera, sensor: str
    ) -> NDArray[Any]:
        """Return a frame of `sensor` seen from `eye` [3] (metres) towards `heading` (radians).

        "rgb": uint8 [height, width, 3]. "depth": metres [height, width] along the camera's axis.
        """


def cameras_of(protocol: protocols.Protocol) -> Mapping[str, Camera]:
    """Return the cameras "rgb" and "depth" that a protocol fixes; `InputError` if it does not."""
    p = protocol
    needed = (
        *("camera_width", "camera_height", "camera_hfov", "camera_elevation"),
        *("depth_width", "depth_height", "depth_hfov", "depth_far"),
    )
    missing = [name for name in needed if getattr(p, name) is None]
    if missing:
        raise InputError(f"protocol {p.name}: no {', '.join(missing)}; cameras need them")
    values = {name: getattr(p, name) for name in needed}
    rgb, depth = (
        {part: values[f"{kind}_{part}"] for part in ("width", "height", "hfov")}
        for kind in ("camera", "depth")
    )
    elevation = values["camera_elevation"]
    return {
        "rgb": Camera(**rgb, elevation=elevation),
        "depth": Camera(
            **depth, elevation=elevation, near=p.depth_near or 0.0, far=values["depth_far"]
        ),
    }
