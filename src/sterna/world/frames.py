"""Poses of continuous tasks, and the frames they are written in.

The library's frame: x east, y north, z up, metres; heading in radians, 0 along +y, clockwise.
Habitat's frame (VLN-CE files): x right, y up, -z forward at rest; rotations are quaternions
(x, y, z, w). One frame turns into the other by x = x, y = -z, z = y, so a Habitat rotation by t
about +y is the heading -t.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sterna.world.geometry import Floats

Vec3 = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]


class Pose(NamedTuple):
    """Where an agent stands in the library's frame: position [3] in metres, heading in radians."""

    position: Floats
    heading: float


class Action(IntEnum):
    """The actions of VLN-CE, numbered as in its files."""

    STOP = 0
    FORWARD = 1
    LEFT = 2
    RIGHT = 3


def direction(heading: ArrayLike) -> Floats:
    """Return unit vectors [..., 2] (east, north) of headings [...]."""
    angle = np.asarray(heading, np.float64)
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1)


def turned(heading: ArrayLike, actions: ArrayLike, angle: float) -> Any:
    """Return headings in [0, 2 pi) after `actions`; LEFT and RIGHT turn by `angle` radians."""
    action = np.asarray(actions)
    sign = (action == Action.RIGHT).astype(np.float64) - (action == Action.LEFT)
    return (np.asarray(heading, np.float64) + sign * angle) % (2 * math.pi)


def from_habitat(points: ArrayLike) -> Floats:
    """Bring points [..., 3] of Habitat's frame into the library's, exactly (no rounding)."""
    x, y, z = np.moveaxis(np.asarray(points, np.float64), -1, 0)
    return np.stack([x, -z, y], axis=-1)


def to_habitat(points: ArrayLike) -> Floats:
    """Bring points [..., 3] of the library's frame into Habitat's; undoes `from_habitat`."""
    x, y, z = np.moveaxis(np.asarray(points, np.float64), -1, 0)
    return np.stack([x, z, -y], axis=-1)


def heading_of(rotation: ArrayLike) -> Any:
    """Return headings [...] in [0, 2 pi) of Habitat quaternions (x, y, z, w) [..., 4].

    It is the heading of the camera's forward axis, so a tilt of the camera does not change it; a
    camera that looks straight up or down has none and gives NaN.
    """
    x, y, z, w = np.moveaxis(np.asarray(rotation, np.float64), -1, 0)
    # The rotated forward axis (0, 0, -1), of which Habitat's x is east and -z is north.
    east, north = -2 * (x * z + w * y), w * w - x * x - y * y + z * z
    heading = np.arctan2(east, north) % (2 * math.pi)
    return np.where(np.hypot(east, north) > 1e-9, heading, np.nan)


def quaternion_of(heading: ArrayLike) -> Floats:
    """Return Habitat quaternions (x, y, z, w) [..., 4] of level cameras with headings [...]."""
    half = -0.5 * np.asarray(heading, np.float64)
    zero = np.zeros_like(half)
    return np.stack([zero, np.sin(half), zero, np.cos(half)], axis=-1)
