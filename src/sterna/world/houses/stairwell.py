"""Stairs: two flights of solid steps with a landing, in a well beside the corridor."""

from __future__ import annotations

from sterna.world.houses.building import RISERS, Boxes, Building, Heights
from sterna.world.houses.openings import HALF_WALL
from sterna.world.houses.paint import Paint
from sterna.world.houses.plan import FLIGHT_TREADS, LANDING, TREAD, Rect, Space
from sterna.world.houses.scene import Point, Stairs

RAIL = 900  # mm over the steps
FLIGHT, CORE = 1000, 80  # width of a flight, and of the wall between the two


def make_stairs(building: Building, boxes: Boxes) -> list[Stairs]:
    """Add the stairs of a house of two storeys, between its corridors; none for one storey."""
    spaces, levels = building.spaces, building.levels
    with_well = [i for i, s in enumerate(spaces) if s.well is not None]
    if len(with_well) < 2:
        return []
    low, high = with_well
    space, level = spaces[low], levels[0]
    _build(boxes, space, level, building.looks[high].floor)
    rect = space.rects[space.well or 0]
    start, rise = well_start(rect, space), (level.top - level.floor) // RISERS
    end = start + FLIGHT_TREADS * TREAD
    left, right = FLIGHT // 2, FLIGHT + CORE + FLIGHT // 2
    hole = place_in_well(rect, space, 0, start, 2 * FLIGHT + CORE, end + LANDING)
    middle, landing = end + LANDING // 2, level.floor + RISERS // 2 * rise

    def spot(u: int, v: int, z: int) -> Point:
        a, b, c, d = place_in_well(rect, space, u - 5, v - 5, u + 5, v + 5)
        return ((a + c) / 2000, (b + d) / 2000, z / 1000)

    stairs = Stairs(
        id=0,
        rooms=(low, high),
        storey=0,
        foot=spot(left, start - 350, level.floor),
        turn=(spot(left, middle, landing), spot(right, middle, landing)),
        top=spot(right, start - 350, level.top),
        hole=(hole[0] / 1000, hole[1] / 1000, hole[2] / 1000, hole[3] / 1000),
        steps=RISERS,
        rise=rise / 1000,
        tread=TREAD / 1000,
    )
    return [stairs]


def well_sides(rect: Rect, space: Space) -> tuple[int, int]:
    """Return the axis (0 x, 1 y) in which the flights run, and +1 or -1: up the first flight."""
    main = space.rects[0]
    if rect[1] == main[3]:
        return 1, 1
    if rect[3] == main[1]:
        return 1, -1
    return (0, 1) if rect[0] == main[2] else (0, -1)


def place_in_well(rect: Rect, space: Space, u0: int, v0: int, u1: int, v1: int) -> Rect:
    """Turn a rectangle of the stairwell into one of the plan.

    u runs along the corridor and v away from it, both from the well's clear corner.
    """
    axis, sign = well_sides(rect, space)
    low, high = rect[1 - axis] + HALF_WALL + u0, rect[1 - axis] + HALF_WALL + u1
    near = rect[axis] if sign > 0 else rect[axis + 2]
    a, b = sorted((near + sign * v0, near + sign * v1))
    return (low, a, high, b) if axis == 1 else (a, low, b, high)


def well_start(rect: Rect, space: Space) -> int:
    """Return how far from the corridor the first step lies."""
    axis, _ = well_sides(rect, space)
    return rect[axis + 2] - rect[axis] - HALF_WALL - LANDING - FLIGHT_TREADS * TREAD


def landing_in_front(rect: Rect, space: Space) -> Rect:
    """Return the part of a stairwell that has a floor upstairs (half walls included)."""
    width = 2 * FLIGHT + CORE
    return place_in_well(rect, space, -HALF_WALL, 0, width + HALF_WALL, well_start(rect, space))


def _build(boxes: Boxes, space: Space, level: Heights, floor: Paint) -> None:
    """Add two flights of solid steps, the landing between them, and what keeps people from falling.

    `space` is the corridor below. The first flight goes up away from it, the second comes back.
    """
    rect = space.rects[space.well or 0]
    rise = (level.top - level.floor) // RISERS
    start, z = well_start(rect, space), level.floor
    wood, rail = floor._replace(material="wood"), Paint("brown", "wood")

    def add(kind: str, u0: int, v0: int, u1: int, v1: int, top: int, paint: Paint) -> None:
        a, b, c, d = place_in_well(rect, space, u0, v0, u1, v1)
        boxes.add(kind, (a, b, z, c, d, z + top), paint)

    far = 2 * FLIGHT + CORE
    for i in range(FLIGHT_TREADS):
        v = start + i * TREAD
        add("stairs", 0, v, FLIGHT, v + TREAD, (i + 1) * rise, wood)
        add("stairs", FLIGHT + CORE, v, far, v + TREAD, (15 - i) * rise, wood)
        add("railing", FLIGHT, v, FLIGHT + CORE, v + TREAD, (15 - i) * rise + RAIL, rail)
    end = start + FLIGHT_TREADS * TREAD
    add("stairs", 0, end, far, end + LANDING, 8 * rise, wood)
    a, b, c, d = place_in_well(rect, space, 0, start - 50, FLIGHT + CORE, start)
    boxes.add("railing", (a, b, level.top, c, d, level.top + RAIL), rail)
