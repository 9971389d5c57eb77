"""Make a house from a seed."""

from __future__ import annotations

from sterna.errors import InputError
from sterna.world.houses.building import Boxes, Building, finishes, heights
from sterna.world.houses.dice import Dice
from sterna.world.houses.furnish import furnish
from sterna.world.houses.names import single_beds
from sterna.world.houses.openings import doors, walls, windows
from sterna.world.houses.pack import pack
from sterna.world.houses.placed import Placed
from sterna.world.houses.plan import draw_plan
from sterna.world.houses.prepare import prepare
from sterna.world.houses.scene import House
from sterna.world.houses.shell import build_shell
from sterna.world.houses.stairwell import make_stairs


def make_house(seed: int) -> House:
    """Return the house of a seed (0 or more): the same one on every machine."""
    if seed < 0:
        raise InputError(f"a house's seed is a whole number from 0 up, found {seed}")
    building, boxes = _building(Dice(seed, 0)), Boxes()
    build_shell(boxes, building)
    stairs = make_stairs(building, boxes)
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
