"""Angles of the discrete world: 36 views, angle features, relative positions.

Conventions are Matterport3DSimulator's: heading 0 looks along +y and grows clockwise, elevation 0
is the horizon and grows upwards, z is up. View ``12 * row + column`` looks 30 degrees * column in
heading and 30 degrees * (row - 1) in elevation. All angles are in radians.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

VIEWS = 36
COLUMNS = 12
STEP = math.radians(30.0)
FIELD_HALF = math.radians(40.0)  # a neighbour is seen within 40 degrees of a view's centre

VIEW_HEADINGS: Floats = (np.arange(VIEWS) % COLUMNS).astype(np.float64) * STEP
VIEW_ELEVATIONS: Floats = (np.arange(VIEWS) // COLUMNS - 1).astype(np.float64) * STEP

# Scales of DUET's 7-dimensional relative positions (map_nav_src/models/graph_utils.py).
DISTANCE_SCALE = 30.0
HOPS_SCALE = 10.0


def wrap(angle: ArrayLike) -> Any:
    """Wrap angles to [-pi, pi)."""
    return (np.asarray(angle) + math.pi) % (2 * math.pi) - math.pi


def view_of_heading(heading: ArrayLike) -> Any:
    """Return the level view (12-23) whose heading is nearest, half a step rounding up.

    345-360 degrees belong to column 0, not to a column 12 that does not exist.
    """
    column = np.floor(np.asarray(heading, np.float64) % (2 * math.pi) / STEP + 0.5)
    return column.astype(np.int64) % COLUMNS + COLUMNS


def angle_features(heading: ArrayLike, elevation: ArrayLike) -> NDArray[np.float32]:
    """Return ``[sin h, cos h, sin e, cos e]`` along a new last axis (DUET's 4-d angle feature)."""
    h, e = np.broadcast_arrays(heading, elevation)
    return np.stack([np.sin(h), np.cos(h), np.sin(e), np.cos(e)], axis=-1).astype(np.float32)


def directions(offsets: Floats) -> tuple[Floats, Floats, Floats]:
    """Return heading (0 to 2 pi), elevation and length in metres of 3-d offsets [..., 3].

    The formulas of the simulator: atan2(dx, dy) and atan2(dz, hypot(dx, dy)).
    """
    flat = np.hypot(offsets[..., 0], offsets[..., 1])
    heading = np.arctan2(offsets[..., 0], offsets[..., 1]) % (2 * math.pi)
    return heading, np.arctan2(offsets[..., 2], flat), np.sqrt(np.square(offsets).sum(-1))


def relative_positions(
    offsets: Floats, heading: ArrayLike, elevation: ArrayLike, path_length: Floats, hops: ArrayLike
) -> NDArray[np.float32]:
    """Return DUET's 7-d relative positions of nodes as seen from a pose.

    ``[sin h, cos h, sin e, cos e, straight / 30, path / 30, hops / 10]`` with h and e relative to
    the pose. `offsets` [..., 3] and `path_length` [...] are in metres; a node at zero offset has
    h = -heading and e = -elevation, exactly as `calculate_vp_rel_pos_fts` computes it.
    """
    h, e, straight = directions(offsets)
    angles = angle_features(h - np.asarray(heading), e - np.asarray(elevation))
    rest = np.stack(
        [straight / DISTANCE_SCALE, path_length / DISTANCE_SCALE, np.asarray(hops) / HOPS_SCALE],
        axis=-1,
    )
    return np.concatenate([angles, rest.astype(np.float32)], axis=-1)


def edge_views(heading: Floats, elevation: Floats) -> tuple[Ints, Floats, Ints, Floats]:
    """Describe how directions [E] appear in the simulator's sweep over the 36 views.

    Returns the nearest view [E] (smallest sqrt(dh^2 + de^2), earlier view on ties), that angular
    distance [E], the first view in which the direction is seen [E] and its distance there [E].
    """
    dh = wrap(heading[:, None] - VIEW_HEADINGS)
    apart = np.hypot(dh, elevation[:, None] - VIEW_ELEVATIONS)
    seen = np.abs(dh) <= FIELD_HALF
    apart = np.where(seen, apart, np.inf)
    nearest = apart.round(9).argmin(1)  # so that rounding noise does not break a tie
    first = seen.argmax(1)
    rows = np.arange(len(heading))
    return nearest, apart[rows, nearest], first, apart[rows, first]
