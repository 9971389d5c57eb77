"""Angles: wrapping, views, angle features and relative positions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sterna.world.geometry import (
    VIEW_ELEVATIONS,
    VIEW_HEADINGS,
    angle_features,
    directions,
    edge_views,
    relative_positions,
    view_of_heading,
    wrap,
)

ANGLES = st.floats(-50, 50)
OFFSETS = arrays(np.float64, (5, 3), elements=st.floats(-30, 30).map(lambda x: round(x, 3)))


def test_view_grid() -> None:
    assert VIEW_HEADINGS[[0, 11, 12, 35]] == pytest.approx(np.radians([0, 330, 0, 330]))
    assert VIEW_ELEVATIONS[[0, 11, 12, 24]] == pytest.approx(np.radians([-30, -30, 0, 30]))


@pytest.mark.parametrize(
    ("degrees", "view"),
    [(0, 12), (14.9, 12), (15, 13), (44.9, 13), (330, 23), (344.9, 23), (345, 12)]
    + [(d, 12) for d in (346, 350, 355, 359, 359.999, 360, 374.9)]
    + [(-14.9, 12), (-15.1, 23), (705, 12)],
)
def test_view_of_heading(degrees: float, view: int) -> None:
    """345 to 360 degrees round to column 0, never to a column 12."""
    assert view_of_heading(math.radians(degrees)) == view


@given(ANGLES)
def test_view_of_heading_is_the_nearest_level_view(heading: float) -> None:
    apart = np.abs(wrap(heading - VIEW_HEADINGS[12:24]))
    view = int(view_of_heading(heading))
    assert 12 <= view < 24
    assert apart[view - 12] <= apart.min() + 1e-9


@given(ANGLES)
def test_wrap_keeps_the_direction(angle: float) -> None:
    wrapped = float(wrap(angle))
    assert -math.pi <= wrapped < math.pi
    assert math.isclose(math.sin(wrapped), math.sin(angle), abs_tol=1e-9)
    assert math.isclose(math.cos(wrapped), math.cos(angle), abs_tol=1e-9)


@given(ANGLES, ANGLES)
def test_angle_features_are_unit_circles(heading: float, elevation: float) -> None:
    f = angle_features(heading, elevation).astype(np.float64)
    assert f[0] ** 2 + f[1] ** 2 == pytest.approx(1, abs=1e-6)
    assert math.atan2(f[2], f[3]) == pytest.approx(float(wrap(elevation)), abs=1e-5) or (
        abs(abs(float(wrap(elevation))) - math.pi) < 1e-5
    )


@given(OFFSETS)
def test_directions_point_back_at_the_offset(offsets: np.ndarray) -> None:
    heading, elevation, length = directions(offsets)
    assert ((heading >= 0) & (heading < 2 * math.pi)).all()
    again = np.stack(
        [
            length * np.cos(elevation) * np.sin(heading),
            length * np.cos(elevation) * np.cos(heading),
            length * np.sin(elevation),
        ],
        -1,
    )
    np.testing.assert_allclose(again, offsets, atol=1e-9)


@given(OFFSETS, st.integers(0, 35))
def test_relative_positions_turn_with_the_pose(offsets: np.ndarray, view: int) -> None:
    """Turning the pose turns the angles and changes nothing else (DUET's graph_utils)."""
    heading, elevation = VIEW_HEADINGS[view], VIEW_ELEVATIONS[view]
    lengths, hops = np.arange(5) * 1.5, np.arange(5)
    found = relative_positions(offsets, heading, elevation, lengths, hops)
    for (dx, dy, dz), row, length, hop in zip(offsets, found, lengths, hops, strict=True):
        h = math.atan2(dx, dy) - heading
        e = math.atan2(dz, math.hypot(dx, dy)) - elevation
        straight = math.sqrt(dx * dx + dy * dy + dz * dz)
        wanted = [math.sin(h), math.cos(h), math.sin(e), math.cos(e)]
        wanted += [straight / 30, length / 30, hop / 10]
        np.testing.assert_allclose(row, wanted, atol=2e-6)


@given(OFFSETS)
def test_arcsine_form_of_duet_is_the_same_angle(offsets: np.ndarray) -> None:
    """DUET computes heading by arcsin with a case for dy < 0 and elevation by arcsin(dz / r)."""
    offsets = offsets[np.hypot(offsets[:, 0], offsets[:, 1]) > 0.01]
    heading, elevation, length = directions(offsets)
    flat = np.hypot(offsets[:, 0], offsets[:, 1])
    arcsine = np.arcsin(np.clip(offsets[:, 0] / flat, -1, 1))
    arcsine = np.where(offsets[:, 1] < 0, math.pi - arcsine, arcsine)
    np.testing.assert_allclose(np.sin(arcsine), np.sin(heading), atol=1e-7)
    np.testing.assert_allclose(np.cos(arcsine), np.cos(heading), atol=1e-5)
    np.testing.assert_allclose(np.arcsin(offsets[:, 2] / length), elevation, atol=1e-6)


@given(OFFSETS)
def test_edge_views_equal_a_sweep(offsets: np.ndarray) -> None:
    """The simulator's sweep, one view after another."""
    heading, elevation, _ = directions(offsets)
    view, apart, first, first_apart = edge_views(heading, elevation)
    for e in range(len(offsets)):
        seen = {}
        for v in range(36):
            turn = float(wrap(heading[e] - VIEW_HEADINGS[v]))
            if abs(turn) <= math.radians(40):
                seen[v] = math.hypot(turn, elevation[e] - VIEW_ELEVATIONS[v])
        near = [v for v, distance in seen.items() if distance < min(seen.values()) + 1e-8]
        assert view[e] in near and (first[e] == next(iter(seen)))
        assert apart[e] == pytest.approx(min(seen.values()), abs=1e-8)
        assert first_apart[e] == pytest.approx(seen[int(first[e])], abs=1e-12)


@pytest.mark.parametrize("degrees", range(15, 360, 30))
def test_the_earlier_view_wins_a_tie(degrees: int) -> None:
    """Half-way between two columns; 345 degrees lies between columns 11 and 0, and 0 is earlier."""
    view = int(edge_views(np.radians([float(degrees)]), np.zeros(1))[0][0])
    assert view == 12 + (0 if degrees == 345 else (degrees - 15) // 30)
