"""The protocol of manipulation tasks: what success means, from which goals, seen through what."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from sterna.errors import InputError

GOALS = 1_000_000
"""Seeds below are goals of evaluations; demonstrations start from seeds from here on."""


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A camera that looks straight down on the table."""

    name: str = "overhead"
    """What it is called."""
    position: tuple[float, float, float] = (0.0, 0.72, 1.2)
    """Metres, in the simulator's frame (x right, y away from the robot, z up)."""
    fovy: float = 42.0
    """Vertical field of view, degrees."""

    def __post_init__(self) -> None:
        """Check the values."""
        if len(self.position) != 3 or not 0 < self.fovy < 180 or not self.name:
            raise InputError(
                "camera: expected a name, a position of three metres and a field of view between "
                f"0 and 180 degrees, found {self}"
            )
        object.__setattr__(self, "position", tuple(float(value) for value in self.position))


@dataclass(frozen=True, kw_only=True)
class ManipulationProtocol:
    """Everything that decides a success rate, besides the policy.

    An episode is a success if the simulator says so after any of its first `max_steps` steps.
    Episode e of every task begins from the seed `first_goal` + e, the same for every policy.
    """

    name: str = "METAWORLD_10"
    """Short name, printed beside every score."""
    tasks: tuple[str, ...] = (
        "drawer-open",
        "drawer-close",
        "window-open",
        "window-close",
        "button-press-topdown",
        "door-open",
        "plate-slide",
        "handle-press",
        "faucet-open",
        "faucet-close",
    )
    """Tasks of Meta-World (v3), without the version."""
    max_steps: int = 160
    """Simulator steps of an episode (Meta-World's own limit is 500)."""
    episodes: int = 50
    """Episodes of each task."""
    first_goal: int = 0
    """Seed of the first episode's scene."""
    image_size: int = 96
    """Pixels a side of each picture."""
    cameras: tuple[Camera, ...] = (Camera(),)
    """What the policy sees through."""

    def __post_init__(self) -> None:
        """Check the values."""
        object.__setattr__(self, "tasks", tuple(self.tasks))
        object.__setattr__(self, "cameras", tuple(self.cameras))
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise InputError(f"protocol {self.name}: expected different tasks, found {self.tasks}")
        for key in ("max_steps", "episodes", "image_size"):
            if type(getattr(self, key)) is not int or getattr(self, key) < 1:
                raise InputError(f"protocol {self.name}: {key} must be a positive integer")
        if not 1 <= len(self.cameras) <= 2:
            raise InputError(f"protocol {self.name}: one or two cameras, not {len(self.cameras)}")
        if not 0 <= self.first_goal <= GOALS - self.episodes:
            raise InputError(
                f"protocol {self.name}: goals are seeds from 0 to {GOALS - 1}, found "
                f"{self.episodes} from {self.first_goal}"
            )

    def goals(self) -> range:
        """Return the seeds of a task's episodes."""
        return range(self.first_goal, self.first_goal + self.episodes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ManipulationProtocol:
        """Read what `to_dict` wrote; unknown or missing fields are an `InputError`."""
        names = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping) or set(values) != names:
            raise InputError(f"protocol: expected exactly {', '.join(sorted(names))}")
        try:
            cameras = tuple(Camera(**camera) for camera in values["cameras"])
            return cls(**{**values, "cameras": cameras})
        except TypeError as error:
            raise InputError(f"protocol: a field has the wrong type ({error})") from error

    @property
    def hash(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the canonical JSON."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


METAWORLD_10 = ManipulationProtocol()
"""Ten tasks whose goals can be seen; each pair of opening and closing needs its sentence."""
