"""Headings, quaternions and the two frames, against rotations written out as matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sterna.world.frames import (
    Action,
    direction,
    from_habitat,
    heading_of,
    quaternion_of,
    to_habitat,
    turned,
)


def test_axes():
    """Habitat looks along -z at rest, which is our north; its right is our east."""
    assert from_habitat([0, 0, -1]).tolist() == [0, 1, 0]
    assert from_habitat([1, 0, 0]).tolist() == [1, 0, 0]
    assert from_habitat([0, 1, 0]).tolist() == [0, 0, 1]
    points = np.random.default_rng(0).normal(size=(5, 7, 3))
    assert np.array_equal(to_habitat(from_habitat(points)), points)


@given(st.floats(0, 6.28), st.floats(-1.5, 1.5))
def test_heading_is_that_of_the_rotated_camera(heading: float, tilt: float) -> None:
    """scipy rotates the forward axis; we only look where it then points."""
    level = Rotation.from_quat(quaternion_of(heading))
    tilted = level * Rotation.from_euler("x", tilt)
    for rotation in (level, tilted):
        east, north, _ = from_habitat(rotation.apply([0, 0, -1]))
        assert np.allclose([east, north], np.hypot(east, north) * direction(heading), atol=1e-9)
        found = heading_of(rotation.as_quat())
        assert math.cos(found - heading) > 1 - 1e-9


def test_a_negated_quaternion_is_the_same_heading_and_a_vertical_one_has_none():
    q = quaternion_of([0.3, 2.0, 5.0])
    assert np.allclose(heading_of(q), [0.3, 2.0, 5.0]) and np.allclose(
        heading_of(-q), heading_of(q)
    )
    assert np.isnan(heading_of(Rotation.from_euler("x", 90, degrees=True).as_quat()))


def test_left_is_anticlockwise():
    headings = turned([0.0, 0.0, 0.0, 6.2], [Action.LEFT, Action.RIGHT, Action.FORWARD, 3], 0.2)
    assert headings == pytest.approx([2 * math.pi - 0.2, 0.2, 0.0, 6.4 - 2 * math.pi])
    assert direction(headings[0])[0] < 0, "a left turn from north looks west"
