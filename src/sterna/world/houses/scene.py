"""What a house is: rooms, doors, windows, stairs, things, and the boxes they are made of.

Metres; x east, y north, z up; the floor of storey 0 lies at z = 0. All coordinates lie on a grid
of 1 mm. A heading is counted in quarter turns clockwise from north: 0 north, 1 east, 2 south,
3 west, and is where the front of a thing looks.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sterna.world.houses.paint import Paint

Rectangle = tuple[float, float, float, float]
Point = tuple[float, float, float]

# Classes of the building itself; those of things follow in `House.classes`.
STRUCTURE = ("floor", "wall", "ceiling", "door frame", "front door", "window", "stairs", "railing")


@dataclass(frozen=True)
class Room:
    """A room: rectangles (x0, y0, x1, y1) between wall faces, and what they are finished with."""

    id: int
    kind: str
    name: str
    storey: int
    rectangles: tuple[Rectangle, ...]
    floor_colour: str
    floor_material: str
    wall_colour: str
    wall_material: str

    @property
    def area(self) -> float:
        """Floor area in square metres."""
        return sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in self.rectangles)

    def holds(self, x: float, y: float) -> bool:
        """Say whether a point lies in the room (walls' faces count)."""
        return any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in self.rectangles)


@dataclass(frozen=True)
class Door:
    """An opening between rooms a and b; b is None for the front door, which is shut.

    The wall runs along `axis` ("x" or "y") at coordinate `at`; the clear opening reaches from
    `low` to `high` along it. `wide` openings have no frame.
    """

    id: int
    rooms: tuple[int, int | None]
    storey: int
    axis: str
    at: float
    low: float
    high: float
    height: float
    wide: bool

    @property
    def width(self) -> float:
        """Clear width in metres."""
        return round(self.high - self.low, 3)

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the opening on the floor plan."""
        middle = round((self.low + self.high) / 2, 4)
        return (middle, self.at) if self.axis == "x" else (self.at, middle)


@dataclass(frozen=True)
class Window:
    """A window in an outer wall; fields as for `Door`, `sill` and `head` over the floor."""

    id: int
    room: int
    storey: int
    axis: str
    at: float
    low: float
    high: float
    sill: float
    head: float


@dataclass(frozen=True)
class Stairs:
    """Two flights with a landing between; `foot`, `turn` and `top` are points to walk over.

    `rooms` are the room below and the room above, `hole` the rectangle cut out of the upper floor.
    Both flights together have `steps` risers of `rise` metres; treads are `tread` metres deep.
    """

    id: int
    rooms: tuple[int, int]
    storey: int
    foot: Point
    turn: tuple[Point, Point]
    top: Point
    hole: Rectangle
    steps: int
    rise: float
    tread: float


@dataclass(frozen=True)
class Thing:
    """A piece of furniture or an object.

    `size` is "small", "large" or "" (a kind that comes in one size). `on` is the id of the thing
    it stands on, or None (floor, wall or ceiling). Its boxes are `boxes[first:last]` of the house;
    `centre` and `half` (half its extent along x, y, z) are of the box around them all.
    """

    id: int
    kind: str
    colour: str
    material: str
    size: str
    room: int
    storey: int
    centre: Point
    half: Point
    heading: int
    on: int | None
    first: int
    last: int


@dataclass(frozen=True, eq=False)
class House:
    """A house and everything in it.

    `boxes` [N, 6] are min xyz and max xyz; `box_class` [N] indexes `classes`; `box_instance` [N]
    is 0 for the building and thing id + 1 for a thing; `box_material` [N] indexes the rows of
    `materials` [M, 8] (columns: `paint.COLUMNS`), whose names are `paints`. `floors` and
    `ceilings` are heights a storey; `lamps` [L, 3] are points of light, `lamp_room` [L] the rooms
    they light.
    """

    seed: int
    rooms: tuple[Room, ...]
    doors: tuple[Door, ...]
    windows: tuple[Window, ...]
    stairs: tuple[Stairs, ...]
    things: tuple[Thing, ...]
    floors: tuple[float, ...]
    ceilings: tuple[float, ...]
    boxes: NDArray[np.float32]
    box_class: NDArray[np.int32]
    box_instance: NDArray[np.int32]
    box_material: NDArray[np.int32]
    materials: NDArray[np.float32]
    paints: tuple[Paint, ...]
    classes: tuple[str, ...]
    lamps: NDArray[np.float32]
    lamp_room: NDArray[np.int32]

    @property
    def area(self) -> float:
        """Floor area of all rooms in square metres."""
        return sum(room.area for room in self.rooms)

    def room_at(self, x: float, y: float, z: float) -> Room | None:
        """Return the room whose rectangles hold a point, or None inside walls and outdoors."""
        storey = max((s for s, floor in enumerate(self.floors) if z >= floor - 0.05), default=0)
        for room in self.rooms:
            if room.storey == storey and room.holds(x, y):
                return room
        return None

    def digest(self) -> str:
        """Return a SHA-256 over everything in the house: equal houses have equal digests."""
        parts = (self.rooms, self.doors, self.windows, self.stairs, self.things, self.floors)
        total = hashlib.sha256(repr((self.seed, parts, self.ceilings, self.classes)).encode())
        for array in (self.boxes, self.box_class, self.box_instance, self.box_material):
            total.update(array.tobytes())
        total.update(self.materials.tobytes() + self.lamps.tobytes() + self.lamp_room.tobytes())
        return total.hexdigest()
