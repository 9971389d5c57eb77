"""A house as a world to walk in: which boxes are solid, where floors are, and how stairs rise.

Everything that is seen is solid: walls, furniture, the shut front door, panes of windows. What is
lower than an agent's step (a rug, the tray of a shower) is walked over, as `world.surface` says.
"""

from __future__ import annotations

import numpy as np

from sterna.world import surface
from sterna.world.geometry import Floats, Ints
from sterna.world.houses.scene import House, Rectangle, Stairs
from sterna.world.space import Space
from sterna.world.surface import Agent, Scene, Way


def ground_of(house: House, agent: Agent | None = None, *, cell: float = 0.05) -> Space:
    """Return the house as an agent can walk it; `cell` metres is the resolution."""
    return Space(scene_of(house), agent, cell=cell)


def scene_of(house: House) -> Scene:
    """Return floors of all storeys, stairs as ramps with a level landing, and all solid boxes."""
    # Corners lie on a grid of 1 mm; float32 has moved them off it.
    boxes = house.boxes.astype(np.float64).round(3)
    carries = house.box_class == house.classes.index("floor")
    floors = boxes[carries][:, [0, 1, 3, 4, 5]]
    landings = [_landing(stairs) for stairs in house.stairs]
    flights = [flight for stairs in house.stairs for flight in _flights(stairs)]
    return Scene(
        boxes=boxes[~carries],
        floors=np.concatenate([floors, np.array(landings).reshape(-1, 5)]),
        stairs=tuple(flights),
    )


def _axis(stairs: Stairs) -> tuple[int, int]:
    """Return along which axis the flights run, and +1 or -1: the way up the first."""
    away = np.subtract(stairs.turn[0], stairs.foot)[:2]
    axis = int(np.abs(away).argmax())
    return axis, 1 if away[axis] > 0 else -1


def _lengthwise(stairs: Stairs, low: float, high: float) -> tuple[list[float], list[float]]:
    """Return the part of the stairwell from `low` to `high` metres after the first step."""
    axis, sign = _axis(stairs)
    corner, far = list(stairs.hole[:2]), list(stairs.hole[2:])
    first = corner[axis] if sign > 0 else far[axis]
    corner[axis], far[axis] = sorted((first + sign * low, first + sign * high))
    return corner, far


def _run(stairs: Stairs) -> float:
    """Metres of a flight on the plan: its last riser ends at a floor, which is no tread of it."""
    return (stairs.steps // 2 - 1) * stairs.tread


def _landing(stairs: Stairs) -> tuple[float, ...]:
    axis, _ = _axis(stairs)
    depth = stairs.hole[2 + axis] - stairs.hole[axis]
    corner, far = _lengthwise(stairs, _run(stairs), depth)
    return (*corner, *far, stairs.turn[0][2])


def _flights(stairs: Stairs) -> list[surface.Stairs]:
    """Return the two ramps: up to the landing, and back up over the other half of the well."""
    axis, sign = _axis(stairs)
    ways: tuple[Way, Way] = ("+x", "-x") if axis == 0 else ("+y", "-y")
    up, back = ways[::sign]
    lower, upper = stairs.turn[0][2] - stairs.steps // 2 * stairs.rise, stairs.top[2]
    out = []
    for turn, way, bottom, top in (
        (stairs.turn[0], up, lower, stairs.turn[0][2]),
        (stairs.turn[1], back, stairs.turn[1][2], upper),
    ):
        corner, far = _lengthwise(stairs, 0.0, _run(stairs))
        corner[1 - axis], far[1 - axis] = _across(stairs.hole, axis, turn[1 - axis])
        low, high = (corner[0], corner[1]), (far[0], far[1])
        out.append(surface.Stairs(low=low, high=high, bottom=bottom, top=top, up=way))
    return out


def _across(hole: Rectangle, axis: int, middle: float) -> tuple[float, float]:
    """Return the two sides of a flight whose middle is given; one side is the well's own."""
    low, high = hole[1 - axis], hole[3 - axis]
    if middle - low < high - middle:
        return low, 2 * middle - low
    return 2 * middle - high, high


def room_cells(house: House, ground: Space) -> list[Ints]:
    """Return for each room its level walkable cells that can be reached (the stairwell is none)."""
    surface = ground.surface
    centres = surface.centres
    level = (surface.island == 0) & (surface.slope == 0).all(1)
    out = []
    for room in house.rooms:
        x0, y0, x1, y1 = room.rectangles[0]
        inside = level & (np.abs(centres[:, 2] - house.floors[room.storey]) < 0.01)
        inside &= (centres[:, :2] > (x0, y0)).all(1) & (centres[:, :2] < (x1, y1)).all(1)
        out.append(np.flatnonzero(inside))
    return out


def room_points(house: House, ground: Space) -> Floats:
    """Return for each room the walkable point nearest to its middle, [rooms, 3] metres."""
    points = []
    for room, cells in zip(house.rooms, room_cells(house, ground), strict=True):
        x0, y0, x1, y1 = room.rectangles[0]
        own = ground.surface.centres[cells]
        away = np.hypot(*(own[:, :2] - ((x0 + x1) / 2, (y0 + y1) / 2)).T)
        points.append(own[away.argmin()])
    return np.array(points)
