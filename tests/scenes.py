"""Hand-made scenes for tests of continuous space: rooms with doors, furniture, two storeys."""

from __future__ import annotations

import numpy as np

from sterna.world.surface import Scene, Stairs

WALL = 0.1
TALL = 2.5


def wall_x(y: float, x0: float, x1: float, doors: tuple[float, ...] = (), z: float = 0.0) -> list:
    """A wall along x at `y`, with doors 0.9 m wide whose middles are given."""
    cuts = [x0, *(edge for door in doors for edge in (door - 0.45, door + 0.45)), x1]
    return [
        (a, y - WALL / 2, z, b, y + WALL / 2, z + TALL)
        for a, b in zip(cuts[::2], cuts[1::2], strict=True)
    ]


def wall_y(x: float, y0: float, y1: float, doors: tuple[float, ...] = (), z: float = 0.0) -> list:
    return [(b[1], b[0], b[2], b[4], b[3], b[5]) for b in wall_x(x, y0, y1, doors, z)]


def frame(x0: float, y0: float, x1: float, y1: float, z: float = 0.0) -> list:
    return [
        *wall_x(y0, x0, x1, z=z),
        *wall_x(y1, x0, x1, z=z),
        *wall_y(x0, y0, y1, z=z),
        *wall_y(x1, y0, y1, z=z),
    ]


def room(width: float = 4.0, depth: float = 3.0) -> Scene:
    """One empty room with its corner at (0, 0)."""
    return Scene(
        boxes=np.array(frame(0, 0, width, depth)), floors=np.array([[0, 0, width, depth, 0]])
    )


def flat() -> Scene:
    """Six rooms on 12 x 8 m: walls, doors, furniture, a rug to step over, a lamp overhead."""
    walls = [
        *frame(0, 0, 12, 8),
        *wall_x(3, 0, 12, doors=(2, 6.5, 10)),
        *wall_x(5, 0, 12, doors=(3, 9)),
        *wall_y(4, 0, 3, doors=()),
        *wall_y(8, 0, 3, doors=(1,)),
        *wall_y(6, 5, 8, doors=(7,)),
    ]
    furniture = [
        (0.5, 0.5, 0, 2.5, 1.5, 0.5), (5.2, 0.9, 0, 6.8, 1.7, 0.75), (6.9, 1.0, 0, 7.3, 1.4, 0.9),
        (9.0, 0.4, 0, 11.0, 1.2, 0.8), (1.0, 6.2, 0, 2.2, 7.4, 0.6), (3.5, 6.5, 0, 4.1, 7.1, 0.5),
        (7.5, 6.0, 0, 10.0, 7.0, 0.45), (5.0, 3.8, 0, 5.4, 4.2, 1.0),
        (8.5, 3.6, 0, 10.0, 4.4, 0.02), (2.0, 3.9, 2.0, 2.4, 4.1, 2.2),
    ]  # fmt: skip
    return Scene(boxes=np.array(walls + furniture), floors=np.array([[0, 0, 12, 8, 0]]))


def maisonette() -> Scene:
    """Two storeys of 10 x 6 m; a straight flight along the south wall, steps as boxes."""
    rise, steps = 2.7, 15
    walls = [
        *frame(0, 0, 10, 6), *frame(0, 0, 10, 6, z=rise),
        *wall_y(6, 1.2, 6, doors=(4,)), *wall_x(1.2, 3, 7),
        *wall_x(3, 0, 10, doors=(2, 8), z=rise), *wall_x(1.2, 3, 7, z=rise),
    ]  # fmt: skip
    treads = [
        (3 + 4 * k / steps, 0.05, 0, 3 + 4 * (k + 1) / steps, 1.15, rise * (k + 1) / steps)
        for k in range(steps)
    ]
    slabs = [(0, 1.2, rise - 0.2, 10, 6, rise), (7, 0, rise - 0.2, 10, 1.2, rise)]
    furniture = [
        (1, 4, 0, 2.5, 5.5, 0.5),
        (7, 4.5, 0, 9, 5.5, 0.8),
        (4, 4.5, rise, 6, 5.9, rise + 1),
    ]
    return Scene(
        boxes=np.array(walls + treads + slabs + furniture),
        floors=np.array([[0, 0, 10, 6, 0], [0, 0, 10, 6, rise]]),
        stairs=(Stairs(low=(3, 0), high=(7, 1.2), bottom=0, top=rise, up="+x"),),
    )


def shut_room() -> Scene:
    """Two rooms of 2 x 2 m without a door between them."""
    walls = [*frame(0, 0, 4, 2), *wall_y(2, 0, 2)]
    return Scene(boxes=np.array(walls), floors=np.array([[0, 0, 4, 2, 0]]))
