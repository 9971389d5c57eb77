"""Furnishing a room: the lamp, what its kind asks for, then pictures, plants and radiators."""

from __future__ import annotations

from collections.abc import Callable

from sterna.world.houses import furniture as f
from sterna.world.houses import objects as o
from sterna.world.houses.arrange import EYE, hang, light
from sterna.world.houses.place import Site
from sterna.world.houses.rooms.bedrooms import bedroom, playroom
from sterna.world.houses.rooms.kitchen import kitchen
from sterna.world.houses.rooms.living import dining_room, dining_set, living_room
from sterna.world.houses.rooms.ways import corridor, hall
from sterna.world.houses.rooms.working import bathroom, laundry, office, storage

RULES: dict[str, Callable[[Site], None]] = {
    "living room": living_room,
    "dining room": dining_room,
    "kitchen": kitchen,
    "bathroom": bathroom,
    "office": office,
    "laundry room": laundry,
    "storage room": storage,
    "playroom": playroom,
    "hall": hall,
    "corridor": corridor,
}
PICTURES = {
    "living room": 3,
    "dining room": 2,
    "bedroom": 2,
    "corridor": 3,
    "office": 2,
    "hall": 1,
    "playroom": 2,
    "kitchen": 1,
}
PLANTS = {
    "living room": 2,
    "dining room": 1,
    "office": 1,
    "bedroom": 1,
    "corridor": 1,
    "hall": 1,
    "bathroom": 1,
}


def furnish(site: Site, kind: str, single: bool, dines: bool) -> None:
    """Furnish a room; `single` beds for children and guests, `dines` puts the dining set here."""
    light(site, hanging=kind in ("dining room", "kitchen", "living room"))
    if kind == "bedroom":
        bedroom(site, single)
    else:
        RULES[kind](site)
    if dines and kind != "dining room":
        dining_set(site, "small")
    finish(site, kind)


def finish(site: Site, kind: str) -> None:
    """Hang pictures and a clock, put plants in corners, radiators under windows."""
    dice = site.dice
    for side, low, high, sill in site.windows:
        if sill >= 750 and kind != "kitchen" and dice.chance(60):
            x, y = site.spot(f.radiator(dice), side, (low + high) // 20 * 10)
            site.at(f.radiator(dice), x, y, (side + 2) % 4)
    for _ in range(dice.between(0, PLANTS.get(kind, 0))):
        site.against(f.floor_plant(dice, dice.pick(("large", "small"))), 0, None, "corner")
    for _ in range(PICTURES.get(kind, 0)):
        if dice.chance(75):
            hang(site, o.picture(dice, dice.pick(("large", "small", "small"))), EYE)
    if kind in ("kitchen", "living room", "office", "playroom", "dining room") and dice.chance(45):
        hang(site, o.wall_clock(dice), 1900)
