"""Small things that stand on surfaces, and things that hang on walls or from the ceiling."""

from collections.abc import Callable

from sterna.world.houses.dice import Dice
from sterna.world.houses.model import Model
from sterna.world.houses.objects.chores import CHORES
from sterna.world.houses.objects.desk import DESK
from sterna.world.houses.objects.home import HOME
from sterna.world.houses.objects.hung import (
    ceiling_lamp,
    coat_hooks,
    hood,
    mirror,
    picture,
    television,
    towel_rail,
    wall_cabinet,
    wall_clock,
    wall_shelf,
)
from sterna.world.houses.objects.kitchen import KITCHEN

SMALL: dict[str, Callable[[Dice], Model]] = {**KITCHEN, **DESK, **HOME, **CHORES}
"""What makes a small thing of a kind."""

KINDS: tuple[str, ...] = tuple(sorted([
    *SMALL, "armchair", "basket", "bathtub", "bed", "bench", "bin", "bookshelf", "box", "bucket",
    "ceiling lamp", "chair", "chest of drawers", "clock", "coat", "coat rack", "coffee table",
    "console table", "desk", "desk chair", "dining table", "dishwasher", "dryer", "extractor hood",
    "filing cabinet", "fireplace", "floor lamp", "fridge", "hanging lamp", "ironing board",
    "kitchen cabinet", "kitchen counter", "kitchen sink", "mirror", "night table", "piano",
    "picture", "plant", "play house", "radiator", "rug", "shelf", "shower", "sideboard", "sofa",
    "stool", "stove", "suitcase", "television", "television stand", "toilet", "towel", "toy chest",
    "umbrella stand", "vacuum cleaner", "wall shelf", "wardrobe", "washbasin", "washing machine",
]))  # fmt: skip
"""Kinds of all things in houses, sorted."""

__all__ = [
    "KINDS",
    "SMALL",
    "ceiling_lamp",
    "coat_hooks",
    "hood",
    "mirror",
    "picture",
    "television",
    "towel_rail",
    "wall_cabinet",
    "wall_clock",
    "wall_shelf",
]
