"""Directions as people name them: left, right, around, and how wide each word is."""

from __future__ import annotations

from sterna.world.houses.language.map import Vector

# Sectors as (least, most) cosine and side (-1 left, 1 right, 0 either): as said, as understood.
SAID = {
    "left": (-0.77, 0.71, -1),
    "right": (-0.77, 0.71, 1),
    "slightly left": (0.45, 0.95, -1),
    "slightly right": (0.45, 0.95, 1),
    "around": (-1.01, -0.72, 0),
    "straight": (0.82, 1.01, 0),
}
UNDERSTOOD = {
    "left": (-0.95, 0.94, -1),
    "right": (-0.95, 0.94, 1),
    "slightly left": (0.2, 0.99, -1),
    "slightly right": (0.2, 0.99, 1),
    "around": (-1.01, -0.35, 0),
    "straight": (0.5, 1.01, 0),
}


def dot(a: Vector, b: Vector) -> float:
    """Return the cosine of the angle between two directions."""
    return a[0] * b[0] + a[1] * b[1]


def right_of(a: Vector, b: Vector) -> float:
    """Return how far b points to the right of a (negative: to the left)."""
    return b[0] * a[1] - b[1] * a[0]


def fits(facing: Vector, way: Vector, sector: tuple[float, float, int]) -> bool:
    """Whether a direction lies in a sector of those one faces."""
    low, high, side = sector
    return low <= dot(facing, way) <= high and (side == 0 or right_of(facing, way) * side > 0)


def turned(facing: Vector, turn: str) -> Vector:
    """Return the direction after a turn by a right angle or two."""
    x, y = facing
    return {"left": (-y, x), "right": (y, -x), "around": (-x, -y)}.get(turn, facing)
