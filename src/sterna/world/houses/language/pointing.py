"""What words for things and doors may point at, for a walker who stands somewhere."""

from __future__ import annotations

from typing import NamedTuple

from sterna.world.houses.language.landmarks import DOOR_BESIDE_LOOSE, gap
from sterna.world.houses.language.map import HouseMap, Vector, unit
from sterna.world.houses.language.meaning import DoorRef, ThingRef
from sterna.world.houses.language.turns import dot, right_of, turned


class State(NamedTuple):
    """Where a walker is: viewpoint, the one before (-1: none), room, last door (-1: none)."""

    node: int
    before: int
    room: int
    door: int


def centre_of(house: HouseMap, row: int) -> Vector:
    """Return the middle of a landmark's footprint."""
    return house.marks.middles[row]


def aim_at(house: HouseMap, node: int, row: int) -> Vector:
    """Return the direction of a landmark from a viewpoint."""
    (x, y), (a, b) = centre_of(house, row), house.points[node]
    return unit(x - a, y - b)


def things(house: HouseMap, ref: ThingRef, state: State) -> list[int]:
    """Return what a description may mean to a walker: things of the room, and what is in sight."""
    marks = house.marks
    return [
        row
        for row in house.matches(ref)
        if state.room in marks.room_pairs[row] or row in house.visible[state.node]
    ]


def doors(
    house: HouseMap, ref: DoorRef, state: State, facing: Vector, turn: str, *, surely: bool = False
) -> list[int]:
    """Return the rows of the doors that a description may mean; not the one come through.

    `surely`: only those on whose side everybody agrees, as it should be where the side is said.
    """
    key = ("doors", ref, state, facing, turn, surely)
    if key not in house.cache:
        house.cache[key] = _doors(house, ref, state, facing, turn, surely)
    found: list[int] = house.cache[key]
    return found


def _doors(
    house: HouseMap, ref: DoorRef, state: State, facing: Vector, turn: str, surely: bool
) -> list[int]:
    first = house.marks.doors.start
    rows = []
    for door in house.doors_of[state.room]:
        other = house.beyond(door.id, state.room)
        if (door.id == state.door and turn != "around") or (
            ref.wide is not None and door.wide != ref.wide
        ):
            continue
        if (ref.to and house.kinds[other] != ref.to) or not _by(house, ref, door.id, state):
            continue
        rows.append(first + door.id)
    if not ref.side:
        return rows
    sides = [_on_side(house, ref, rows, state, (a, surely)) for a in _axes(turned(facing, turn))]
    found = dict.fromkeys(row for side in sides for row in side)
    return [row for row in found if not surely or all(row in side for side in sides)]


def _by(house: HouseMap, ref: DoorRef, door: int, state: State) -> bool:
    if ref.by is None:
        return True
    rect, marks = house.marks.rects[house.marks.doors.start + door], house.marks
    return any(
        state.room in marks.room_pairs[row] and gap(marks.rects[row], rect) <= DOOR_BESIDE_LOOSE
        for row in house.matches(ref.by)
    )


def _axes(facing: Vector) -> list[Vector]:
    """Return the one or two walls' directions that a walker may be said to face."""
    axes = ((0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0))
    return [axis for axis in axes if dot(axis, facing) > 0.6]


def _on_side(
    house: HouseMap, ref: DoorRef, rows: list[int], state: State, way: tuple[Vector, bool]
) -> list[int]:
    """Return the doors on a side of one who looks along a wall's direction, nearest first.

    `way` is that direction and whether to be sure: then a door ahead lies in a wall across, one
    aside in a wall along the way, or farther aside than ahead. Numbers count the doors of a wall
    along the way.
    """
    (axis, surely), (x, y) = way, house.points[state.node]
    found = []
    for row in rows:
        cx, cy = centre_of(house, row)
        ahead, right = dot(axis, (cx - x, cy - y)), right_of(axis, (cx - x, cy - y))
        along = (axis[0] != 0) == (house.marks.door(row).axis == "x")
        if ref.side == "ahead":
            fits = ahead > 0.3 and abs(right) < max(0.6, 0.7 * ahead) and not (surely and along)
        else:
            aside = right if ref.side == "right" else -right
            clear = along or aside > ahead
            fits = aside > 0.25 and ahead > -0.5 and (clear or not surely)
        if fits and (along or not ref.nth):
            found.append((ahead, row))
    found.sort()
    if ref.nth:
        found = found[ref.nth - 1 : ref.nth]
    return [row for _, row in found]
