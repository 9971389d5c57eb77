"""Make a house from a seed."""

from __future__ import annotations

from sterna.errors import InputError
from sterna.world.houses.dice import Dice
from sterna.world.houses.furnish import furnish
from sterna.world.houses.names import single_beds
from sterna.world.houses.openings import doors, walls, windows
from sterna.world.houses.pack import pack
from sterna.world.houses.placed import Placed
from sterna.world.houses.plan import FLIGHT_TREADS, LANDING, TREAD, draw_plan
from sterna.world.houses.prepare import prepare
from sterna.world.houses.scene import House, Point, Stairs
from sterna.world.houses.shell import (
    CORE,
    FLIGHT,
    RISERS,
    Boxes,
    Building,
    build_shell,
    build_stairs,
    finishes,
    heights,
    place_in_well,
    well_start,
)


def make_house(seed: int) -> House:
    """Return the house of a seed (0 or more): the same one on every machine."""
    if seed < 0:
        raise InputError(f"a house's seed is a whole number from 0 up, found {seed}")
    building, boxes = _building(Dice(seed, 0)), Boxes()
    build_shell(boxes, building)
    stairs = _stairs(building, boxes)
    things = _things(seed, building, boxes)
    return pack(seed, building, boxes, stairs, things)


def _building(dice: Dice) -> Building:
    """Draw the plan, then heights, doors, windows and finishes."""
    spaces, storeys = draw_plan(dice)
    levels = heights(dice, storeys)
    stretches = walls(spaces)
    openings = doors(dice, spaces, stretches)
    openings += windows(spaces, stretches, openings)
    looks = finishes(dice, spaces, levels)
    return Building(spaces, stretches, openings, levels, looks)


def _stairs(building: Building, boxes: Boxes) -> list[Stairs]:
    """Build the stairs of a house of two storeys between its corridors."""
    spaces, levels = building.spaces, building.levels
    with_well = [i for i, s in enumerate(spaces) if s.well is not None]
    if len(with_well) < 2:
        return []
    low, high = with_well
    space, level = spaces[low], levels[0]
    build_stairs(boxes, space, level, building.looks[high].floor)
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


def _things(seed: int, building: Building, boxes: Boxes) -> list[tuple[int, Placed]]:
    """Furnish every room with dice of its own; return (room, thing) in order."""
    spaces, single = building.spaces, single_beds(building.spaces)
    dines = "dining room" not in [space.kind for space in spaces]
    out: list[tuple[int, Placed]] = []
    for number, space in enumerate(spaces):
        level = building.levels[space.storey]
        site = prepare(Dice(seed, 1, number), number, spaces, building.openings, level)
        furnish(site, space.kind, number in single, dines and space.kind == "kitchen")
        out += [(number, thing) for thing in site.things]
    for number, (_, thing) in enumerate(out):
        for box, paint in thing.parts:
            boxes.add(thing.model.kind, box, paint, number + 1)
    return out
