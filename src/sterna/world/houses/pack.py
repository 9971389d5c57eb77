"""A drawn house as arrays and records: millimetres become metres."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sterna.world.houses.building import Boxes, Building, Finish
from sterna.world.houses.names import room_names
from sterna.world.houses.objects import KINDS
from sterna.world.houses.openings import Opening
from sterna.world.houses.paint import Palette
from sterna.world.houses.placed import Placed
from sterna.world.houses.plan import Space
from sterna.world.houses.prepare import clear_floor
from sterna.world.houses.scene import STRUCTURE, Door, House, Room, Stairs, Thing, Window

CLASSES = (*STRUCTURE, *KINDS)
BELOW_LAMP = 0.02  # metres from a lamp down to the point that shines


def pack(
    seed: int,
    building: Building,
    boxes: Boxes,
    stairs: list[Stairs],
    things: list[tuple[int, Placed]],
) -> House:
    """Return the house; `things` are (room, thing), whose boxes come last, in the same order."""
    palette = Palette()
    classes = {name: number for number, name in enumerate(CLASSES)}
    packed = _things(boxes, building.spaces, things)
    lamps = [t for t in packed if t.kind in ("ceiling lamp", "hanging lamp")]
    return House(
        seed=seed,
        rooms=tuple(_rooms(building.spaces, building.looks)),
        doors=tuple(_doors(building.openings)),
        windows=tuple(_windows(building.openings)),
        stairs=tuple(stairs),
        things=tuple(packed),
        floors=tuple(level.floor / 1000 for level in building.levels),
        ceilings=tuple(level.ceiling / 1000 for level in building.levels),
        boxes=(np.array(boxes.corners, np.float64) / 1000).astype(np.float32),
        box_class=np.array([classes[kind] for kind in boxes.kinds], np.int32),
        box_instance=np.array(boxes.instances, np.int32),
        box_material=np.array([palette.number(paint) for paint in boxes.paints], np.int32),
        materials=palette.table(),
        paints=palette.paints(),
        classes=CLASSES,
        lamps=_shining(lamps),
        lamp_room=np.array([t.room for t in lamps], np.int32),
    )


def _shining(lamps: list[Thing]) -> NDArray[np.float32]:
    points = [(*t.centre[:2], t.centre[2] - t.half[2] - BELOW_LAMP) for t in lamps]
    return np.array(points, np.float32).reshape(-1, 3)


def _rooms(spaces: list[Space], looks: list[Finish]) -> list[Room]:
    return [
        Room(
            id=i,
            kind=space.kind,
            name=name,
            storey=space.storey,
            rectangles=tuple(
                (a / 1000, b / 1000, c / 1000, d / 1000)
                for a, b, c, d in (clear_floor(space, k) for k in range(len(space.rects)))
            ),
            floor_colour=look.floor.colour,
            floor_material=look.floor.material,
            wall_colour=look.wall.colour,
            wall_material=look.wall.material,
        )
        for i, (space, look, name) in enumerate(zip(spaces, looks, room_names(spaces), strict=True))
    ]


def _doors(holes: list[Opening]) -> list[Door]:
    ways = [hole for hole in holes if hole.kind != "window"]
    return [
        Door(
            id=i,
            rooms=(hole.wall.a, hole.wall.b),
            storey=hole.wall.storey,
            axis="xy"[hole.wall.axis],
            at=hole.wall.at / 1000,
            low=hole.low / 1000,
            high=hole.high / 1000,
            height=hole.top / 1000,
            wide=hole.kind == "wide",
        )
        for i, hole in enumerate(ways)
    ]


def _windows(holes: list[Opening]) -> list[Window]:
    panes = [hole for hole in holes if hole.kind == "window"]
    return [
        Window(
            id=i,
            room=hole.wall.a,
            storey=hole.wall.storey,
            axis="xy"[hole.wall.axis],
            at=hole.wall.at / 1000,
            low=hole.low / 1000,
            high=hole.high / 1000,
            sill=hole.bottom / 1000,
            head=hole.top / 1000,
        )
        for i, hole in enumerate(panes)
    ]


def _things(boxes: Boxes, spaces: list[Space], things: list[tuple[int, Placed]]) -> list[Thing]:
    number = {id(thing): i for i, (_, thing) in enumerate(things)}
    out, first = list[Thing](), boxes.instances.index(1)
    for i, (room, thing) in enumerate(things):
        on = None if thing.on is None else number[id(thing.on)]
        out.append(_thing(thing, i, room, spaces[room].storey, on, first))
        first += len(thing.parts)
    return out


def _thing(thing: Placed, number: int, room: int, storey: int, on: int | None, first: int) -> Thing:
    x0, y0, z0, x1, y1, z1 = thing.box
    return Thing(
        id=number,
        kind=thing.model.kind,
        colour=thing.model.colour,
        material=thing.model.material,
        size=thing.model.size,
        room=room,
        storey=storey,
        centre=((x0 + x1) / 2000, (y0 + y1) / 2000, (z0 + z1) / 2000),
        half=((x1 - x0) / 2000, (y1 - y0) / 2000, (z1 - z0) / 2000),
        heading=thing.quarter,
        on=on,
        first=first,
        last=first + len(thing.parts),
    )
