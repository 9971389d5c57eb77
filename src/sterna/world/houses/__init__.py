"""Houses from a seed: rooms, furniture, and pictures of them from any camera.

`make_house(seed)` gives a `House`; `render.Renderer` takes pictures of it (it imports numba, so it
is not imported here); `check.faults` says what is wrong with one.
"""

from sterna.world.houses.check import faults
from sterna.world.houses.house import make_house
from sterna.world.houses.pack import CLASSES
from sterna.world.houses.paint import COLOURS, Paint
from sterna.world.houses.scans import scan_of, seed_of
from sterna.world.houses.scene import STRUCTURE, Door, House, Room, Stairs, Thing, Window

__all__ = [
    "CLASSES",
    "COLOURS",
    "STRUCTURE",
    "Door",
    "House",
    "Paint",
    "Room",
    "Stairs",
    "Thing",
    "Window",
    "faults",
    "make_house",
    "scan_of",
    "seed_of",
]
