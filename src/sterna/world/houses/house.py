"""Make a house from a seed."""

from __future__ import annotations

import numpy as np

from sterna.errors import InputError
from sterna.world.houses.dice import Dice
from sterna.world.houses.furnish import furnish
from sterna.world.houses.names import room_names, single_beds
from sterna.world.houses.objects import KINDS
from sterna.world.houses.openings import HALF_WALL, Opening, Wall, doors, walls, windows
from sterna.world.houses.paint import Palette
from sterna.world.houses.place import Site
from sterna.world.houses.placed import Placed
from sterna.world.houses.plan import FLIGHT_TREADS, LANDING, TREAD, Rect, Space, draw_plan
from sterna.world.houses.scene import (
    STRUCTURE,
    Door,
    House,
    Room,
    Stairs,
    Thing,
    Window,
)
from sterna.world.houses.shell import (
    CORE,
    FLIGHT,
    Boxes,
    Finish,
    Heights,
    build_shell,
    build_stairs,
    finishes,
    heights,
    place_in_well,
    well_start,
)

CLASSES = (*STRUCTURE, *KINDS)
Level = list[Heights]


def make_house(seed: int) -> House:
    """Return the house of a seed (0 or more): the same one on every machine."""
    if seed < 0:
        raise InputError(f"a house's seed is a whole number from 0 up, found {seed}")
    dice = Dice(seed, 0)
    spaces, storeys = draw_plan(dice)
    levels = heights(dice, storeys)
    stretches = walls(spaces)
    holes = doors(dice, spaces, stretches)
    holes += windows(spaces, stretches, holes)
    looks = finishes(dice, spaces, levels)
    boxes = Boxes()
    build_shell(boxes, spaces, stretches, holes, levels, looks)
    stairs = _stairs(boxes, spaces, levels, looks)
    things = _things(seed, boxes, spaces, holes, levels)
    return _pack(seed, boxes, spaces, holes, levels, looks, stairs, things)


def _m(*values: int) -> tuple[float, ...]:
    return tuple(value / 1000 for value in values)


def _clear(space: Space, number: int) -> Rect:
    """Return a rectangle between wall faces; a stairwell is open towards its corridor."""
    x0, y0, x1, y1 = space.rects[number]
    h = HALF_WALL
    a, b, c, d = x0 + h, y0 + h, x1 - h, y1 - h
    if number == space.well:
        m = space.rects[0]
        if y0 == m[3]:
            b = y0 - h
        elif y1 == m[1]:
            d = y1 + h
        elif x0 == m[2]:
            a = x0 - h
        else:
            c = x1 + h
    return a, b, c, d


def _stairs(boxes: Boxes, spaces: list[Space], levels: Level, looks: list[Finish]) -> list[Stairs]:
    with_well = [i for i, s in enumerate(spaces) if s.well is not None]
    if len(with_well) < 2:
        return []
    low, high = with_well
    space, level = spaces[low], levels[0]
    build_stairs(boxes, space, level, looks[high].floor)
    rect = space.rects[space.well or 0]
    start, rise = well_start(rect, space), (level.top - level.floor) // 16
    end = start + FLIGHT_TREADS * TREAD

    def spot(u: int, v: int, z: int) -> tuple[float, float, float]:
        a, b, c, d = place_in_well(rect, space, u - 5, v - 5, u + 5, v + 5)
        return ((a + c) / 2000, (b + d) / 2000, z / 1000)

    left, right = FLIGHT // 2, FLIGHT + CORE + FLIGHT // 2
    hole = place_in_well(rect, space, 0, start, 2 * FLIGHT + CORE, end + LANDING)
    middle = end + LANDING // 2
    return [
        Stairs(
            id=0,
            rooms=(low, high),
            storey=0,
            foot=spot(left, start - 350, level.floor),
            turn=(
                spot(left, middle, level.floor + 8 * rise),
                spot(right, middle, level.floor + 8 * rise),
            ),
            top=spot(right, start - 350, level.top),
            hole=(hole[0] / 1000, hole[1] / 1000, hole[2] / 1000, hole[3] / 1000),
            steps=16,
            rise=rise / 1000,
            tread=TREAD / 1000,
        )
    ]


SIDES = {(0, -1): 0, (1, -1): 1, (0, 1): 2, (1, 1): 3}


def _site(
    dice: Dice, number: int, spaces: list[Space], holes: list[Opening], level: Heights
) -> Site:
    """Prepare a room for furnishing: its ways in, and the air before them and before windows."""
    space = spaces[number]
    site = Site(dice, _clear(space, 0), level.floor, level.ceiling, [], [])
    x0, y0, x1, y1 = site.rect
    for hole in holes:
        inward = _inward(hole.wall, number)
        if inward == 0 or hole.wall.storey != space.storey or not _of_first(space, hole):
            continue
        side = SIDES[(hole.wall.axis, inward)]
        if hole.kind == "window":
            site.windows.append((side, hole.low, hole.high, hole.bottom))
            depth, margin = 120, 40
        else:
            site.doors.append((side, hole.low, hole.high))
            # Wide openings stay free in the middle, where people walk.
            spare = max(0, (hole.high - hole.low - 1200) // 2) if hole.kind == "wide" else -80
            depth, margin = 500 if hole.kind == "wide" else 700, -spare
        a, b = hole.low - margin, hole.high + margin
        z0, z1 = level.floor + hole.bottom, level.floor + hole.top + 80
        strip = (
            (a, y1 - depth, b, y1),
            (x1 - depth, a, x1, b),
            (a, y0, b, y0 + depth),
            (x0, a, x0 + depth, b),
        )
        p, q, r, s = strip[side]
        site.kept.append((p, q, z0, r, s, z1))
    if space.well is not None:
        _keep_well(site, space, level)
    return site


def _inward(wall: Wall, number: int) -> int:
    if wall.a == number:
        return wall.inward
    return -wall.inward if wall.b == number else 0


def _of_first(space: Space, hole: Opening) -> bool:
    """Say whether an opening lies in a wall of the room's main rectangle, not of its stairwell."""
    x0, y0, x1, y1 = space.rects[0]
    low, high = (x0, x1) if hole.wall.axis == 0 else (y0, y1)
    return (
        hole.wall.at in ((y0, y1) if hole.wall.axis == 0 else (x0, x1))
        and low <= hole.low
        and hole.high <= high
    )


def _keep_well(site: Site, space: Space, level: Heights) -> None:
    """Keep the way to the stairs free, and count it as a door."""
    well = space.rects[space.well or 0]
    x0, y0, x1, y1 = site.rect
    a, b, c, d = _clear(space, space.well or 0)
    main = space.rects[0]
    if well[1] == main[3]:
        side, low, high, strip = 0, a, c, (a, y1 - 900, c, y1)
    elif well[3] == main[1]:
        side, low, high, strip = 2, a, c, (a, y0, c, y0 + 900)
    elif well[0] == main[2]:
        side, low, high, strip = 1, b, d, (x1 - 900, b, x1, d)
    else:
        side, low, high, strip = 3, b, d, (x0, b, x0 + 900, d)
    site.doors.append((side, low, high))
    p, q, r, s = strip
    site.kept.append((p, q, level.floor, r, s, level.ceiling - 400))


def _things(
    seed: int, boxes: Boxes, spaces: list[Space], holes: list[Opening], levels: Level
) -> list[tuple[int, Placed]]:
    """Furnish every room with dice of its own; return (room, thing) in order."""
    kinds = [s.kind for s in spaces]
    single = single_beds(spaces)
    dines = "dining room" not in kinds
    out: list[tuple[int, Placed]] = []
    for number, space in enumerate(spaces):
        site = _site(Dice(seed, 1, number), number, spaces, holes, levels[space.storey])
        furnish(site, space.kind, number in single, dines and space.kind == "kitchen")
        out += [(number, thing) for thing in site.things]
    for number, (_, thing) in enumerate(out):
        for box, paint in thing.parts:
            boxes.add(thing.model.kind, box, paint, number + 1)
    return out


def _pack(
    seed: int,
    boxes: Boxes,
    spaces: list[Space],
    holes: list[Opening],
    levels: Level,
    looks: list[Finish],
    stairs: list[Stairs],
    things: list[tuple[int, Placed]],
) -> House:
    palette = Palette()
    material = np.array([palette.number(paint) for paint in boxes.paints], np.int32)
    classes = {name: number for number, name in enumerate(CLASSES)}
    packed = _pack_things(boxes, spaces, things)
    lamps = [t for t in packed if t.kind in ("ceiling lamp", "hanging lamp")]
    return House(
        seed=seed,
        rooms=tuple(_rooms(spaces, looks)),
        doors=tuple(_doors(holes)),
        windows=tuple(_windows(holes)),
        stairs=tuple(stairs),
        things=tuple(packed),
        floors=tuple(level.floor / 1000 for level in levels),
        ceilings=tuple(level.ceiling / 1000 for level in levels),
        boxes=(np.array(boxes.corners, np.float64) / 1000).astype(np.float32),
        box_class=np.array([classes[kind] for kind in boxes.kinds], np.int32),
        box_instance=np.array(boxes.instances, np.int32),
        box_material=material,
        materials=palette.table(),
        paints=palette.paints(),
        classes=CLASSES,
        lamps=np.array(
            [(*t.centre[:2], t.centre[2] - t.half[2] - 0.02) for t in lamps], np.float32
        ).reshape(-1, 3),
        lamp_room=np.array([t.room for t in lamps], np.int32),
    )


def _rooms(spaces: list[Space], looks: list[Finish]) -> list[Room]:
    return [
        Room(
            id=i,
            kind=space.kind,
            name=name,
            storey=space.storey,
            rectangles=tuple(
                (a / 1000, b / 1000, c / 1000, d / 1000)
                for a, b, c, d in (_clear(space, k) for k in range(len(space.rects)))
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


def _pack_things(
    boxes: Boxes, spaces: list[Space], things: list[tuple[int, Placed]]
) -> list[Thing]:
    first = boxes.instances.index(1)
    number = {id(thing): i for i, (_, thing) in enumerate(things)}
    out = []
    for i, (room, thing) in enumerate(things):
        x0, y0, z0, x1, y1, z1 = thing.box
        model = thing.model
        out.append(
            Thing(
                id=i,
                kind=model.kind,
                colour=model.colour,
                material=model.material,
                size=model.size,
                room=room,
                storey=spaces[room].storey,
                centre=((x0 + x1) / 2000, (y0 + y1) / 2000, (z0 + z1) / 2000),
                half=((x1 - x0) / 2000, (y1 - y0) / 2000, (z1 - z0) / 2000),
                heading=thing.quarter,
                on=None if thing.on is None else number[id(thing.on)],
                first=first,
                last=first + len(thing.parts),
            )
        )
        first += len(thing.parts)
    return out
