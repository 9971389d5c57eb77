"""A room before it is furnished: its clear floor, the ways in, and the air that stays free."""

from __future__ import annotations

from sterna.world.houses.building import Heights
from sterna.world.houses.dice import Dice
from sterna.world.houses.openings import HALF_WALL, Opening, Wall
from sterna.world.houses.place import Site
from sterna.world.houses.plan import Rect, Space
from sterna.world.houses.stairwell import well_sides

# Sides of a room by (axis of the wall, way to the room): 0 north, 1 east, 2 south, 3 west.
SIDES = {(0, -1): 0, (1, -1): 1, (0, 1): 2, (1, 1): 3}
BEFORE_STAIRS = 900  # mm of the corridor that stay free there


def clear_floor(space: Space, number: int) -> Rect:
    """Return a rectangle between wall faces; a stairwell is open towards its corridor."""
    x0, y0, x1, y1 = space.rects[number]
    h = HALF_WALL
    faces = [x0 + h, y0 + h, x1 - h, y1 - h]
    if number == space.well:
        axis, sign = well_sides(space.rects[number], space)
        near = axis if sign > 0 else axis + 2
        faces[near] -= 2 * sign * h
    return faces[0], faces[1], faces[2], faces[3]


def prepare(
    dice: Dice, number: int, spaces: list[Space], holes: list[Opening], level: Heights
) -> Site:
    """Prepare a room for furnishing: its ways in, and the air before them and before windows."""
    space = spaces[number]
    site = Site(dice, clear_floor(space, 0), level.floor, level.ceiling, [], [])
    for hole in holes:
        inward = _inward(hole.wall, number)
        if inward and hole.wall.storey == space.storey and _of_first(space, hole):
            _keep_air(site, hole, SIDES[hole.wall.axis, inward])
    if space.well is not None:
        _keep_well(site, space, level)
    return site


def _keep_air(site: Site, hole: Opening, side: int) -> None:
    """Note a window or a way in, and keep the air before it free."""
    wide = hole.kind == "wide"
    if hole.kind == "window":
        site.windows.append((side, hole.low, hole.high, hole.bottom))
        depth, margin = 120, 40
    else:
        site.doors.append((side, hole.low, hole.high))
        # Wide openings stay free in the middle, where people walk.
        a, b, c, d = _strip(site.rect, side, hole.low, hole.high, 1)
        site.holes.append((a, b, site.floor, c, d, site.floor + hole.top))
        margin = -max(0, (hole.high - hole.low - 1200) // 2) if wide else 80
        depth = 500 if wide else 700
    a, b, c, d = _strip(site.rect, side, hole.low - margin, hole.high + margin, depth)
    z0, z1 = site.floor + hole.bottom, site.floor + hole.top + 80
    site.kept.append((a, b, z0, c, d, z1))


def _strip(rect: Rect, side: int, low: int, high: int, depth: int) -> Rect:
    """Return the floor along a side of a room from low to high, so deep into the room."""
    x0, y0, x1, y1 = rect
    return (
        (low, y1 - depth, high, y1),
        (x1 - depth, low, x1, high),
        (low, y0, high, y0 + depth),
        (x0, low, x0 + depth, high),
    )[side]


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
    number = space.well or 0
    axis, sign = well_sides(space.rects[number], space)
    side = SIDES[1 - axis, -sign]
    clear = clear_floor(space, number)
    low, high = clear[1 - axis], clear[3 - axis]
    site.doors.append((side, low, high))
    a, b, c, d = _strip(site.rect, side, low, high, BEFORE_STAIRS)
    site.kept.append((a, b, level.floor, c, d, level.ceiling - 400))
