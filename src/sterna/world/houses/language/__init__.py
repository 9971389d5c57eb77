"""Instructions in houses: what they mean, how they are said, and whether they are sound.

`HouseMap` is a house as a walker knows it. `make_episodes` draws paths and describes each in
several ways, as R2R does; `make_errands` draws things to go and act on, as REVERIE does;
`object_boxes` gives the things' boxes in the views. `check_instruction` and `check_errand` say what
is wrong with a meaning; `write` words one and `parse` reads one.
"""

from sterna.world.houses.language.draft import describe
from sterna.world.houses.language.english import write
from sterna.world.houses.language.episodes import Described, Sent, make_episodes, make_errands
from sterna.world.houses.language.errands import (
    check_errand,
    describe_errand,
    errands_of,
    goals,
    near_things,
    object_boxes,
    plain_errand,
    write_errand,
)
from sterna.world.houses.language.follower import check_instruction, is_true, literal, readings
from sterna.world.houses.language.map import HouseMap
from sterna.world.houses.language.meaning import Errand, Meaning, RoomRef, Step, ThingRef
from sterna.world.houses.language.reading import parse, readings_of

__all__ = [
    "Described",
    "Errand",
    "HouseMap",
    "Meaning",
    "RoomRef",
    "Sent",
    "Step",
    "ThingRef",
    "check_errand",
    "check_instruction",
    "describe",
    "describe_errand",
    "errands_of",
    "goals",
    "is_true",
    "literal",
    "make_episodes",
    "make_errands",
    "near_things",
    "object_boxes",
    "parse",
    "plain_errand",
    "readings",
    "readings_of",
    "write",
    "write_errand",
]
