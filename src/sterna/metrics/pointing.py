"""SOON's answer to "which object": a direction, right if it lies inside the target's outline.

The publisher's files and evaluator hold heading and elevation as shares of a whole turn, heading /
2 pi and (elevation + pi) / 2 pi, and test whether the point lies in the polygon of the outline's
corners, in the plane: a point on its edge is outside, and headings do not wrap. Here angles are
radians; the test is the same.
"""

from __future__ import annotations

import math
from itertools import pairwise

from sterna.data.episodes import Direction, Episode


def is_pointed_at(episode: Episode, end: str, direction: Direction | None) -> bool:
    """Say whether a direction (radians; None: nowhere) points at the target from viewpoint `end`.

    False where the target is not seen from there. Of several outlines at one viewpoint the first
    counts, as in the publisher's evaluator.
    """
    seen = next((outline for outline in episode.outlines if outline.viewpoint == end), None)
    return direction is not None and seen is not None and inside(direction, seen.corners)


def inside(point: Direction, corners: tuple[Direction, ...]) -> bool:
    """Say whether a point lies strictly inside a polygon given by its corners in order.

    A ray from it to the right crosses the outline an odd number of times.
    """
    x, y = point
    odd = False
    for (ax, ay), (bx, by) in pairwise([*corners, corners[0]]):
        turn = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
        if turn == 0 and min(ax, bx) <= x <= max(ax, bx) and min(ay, by) <= y <= max(ay, by):
            return False
        if (ay > y) != (by > y) and (turn > 0) == (by > ay):
            odd = not odd
    return odd


def to_shares(direction: Direction) -> tuple[float, float]:
    """Return a direction in radians as shares of a turn; the heading falls into [0, 1)."""
    heading, elevation = direction
    level = math.remainder(elevation, 2 * math.pi)
    return heading / (2 * math.pi) % 1.0, (level + math.pi) / (2 * math.pi)


def from_shares(heading: float, elevation: float) -> Direction:
    """Return shares of a turn as radians; undoes `to_shares` but for rounding."""
    return 2 * math.pi * heading, 2 * math.pi * elevation - math.pi
