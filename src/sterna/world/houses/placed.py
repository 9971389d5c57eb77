"""Models turned and moved to a place.

Whole millimetres. Turning a model by quarter q (0 north, 1 east, 2 south, 3 west) makes its front
look there.
"""

from __future__ import annotations

from dataclasses import dataclass

from sterna.world.houses.model import Box, Model
from sterna.world.houses.paint import Paint
from sterna.world.houses.plan import Rect


def rotated(x: int, y: int, quarter: int) -> tuple[int, int]:
    """Turn a point clockwise by quarters around the origin."""
    for _ in range(quarter % 4):
        x, y = y, -x
    return x, y


def turned(box: Box, quarter: int) -> Box:
    """Turn a box clockwise by quarters around the origin."""
    x0, y0, z0, x1, y1, z1 = box
    for _ in range(quarter):
        x0, y0, x1, y1 = y0, -x1, y1, -x0
    return x0, y0, z0, x1, y1, z1


def meet(a: Box, b: Box) -> bool:
    """Say whether two boxes share volume; touching faces do not count."""
    return (
        a[0] < b[3] and b[0] < a[3] and a[1] < b[4] and b[1] < a[4] and a[2] < b[5] and b[2] < a[5]
    )


@dataclass(frozen=True)
class Placed:
    """A model in its place: parts in the house's millimetres."""

    model: Model
    parts: tuple[tuple[Box, Paint], ...]
    box: Box
    quarter: int
    x: int
    y: int
    z: int
    on: Placed | None

    @property
    def tops(self) -> list[tuple[int, int, int, int, int]]:
        """Return the surfaces others can stand on, as (x0, y0, x1, y1, z)."""
        out = []
        for x0, y0, x1, y1, z in self.model.tops:
            a, b, _, c, d, _ = turned((x0, y0, 0, x1, y1, 1), self.quarter)
            out.append((a + self.x, b + self.y, c + self.x, d + self.y, z + self.z))
        return out


def put(model: Model, x: int, y: int, z: int, quarter: int, on: Placed | None = None) -> Placed:
    """Move a model to a place."""

    def moved(box: Box) -> Box:
        a, b, c, d, e, f = turned(box, quarter)
        return a + x, b + y, c + z, d + x, e + y, f + z

    parts = tuple((moved(box), paint) for box, paint in model.parts)
    return Placed(model, parts, moved(model.box), quarter, x, y, z, on)


def strip_in_front(placed: Placed, depth: int) -> Rect:
    """Return the floor before a thing's front, as wide as the thing."""
    x0, y0, _, x1, y1, _ = placed.box
    return (
        (x0, y1, x1, y1 + depth),
        (x1, y0, x1 + depth, y1),
        (x0, y0 - depth, x1, y0),
        (x0 - depth, y0, x0, y1),
    )[placed.quarter]
