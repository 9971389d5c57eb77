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


def doors(house: HouseMap, ref: DoorRef, state: State, facing: Vector, turn: str) -> list[int]:
    """Return the rows of the doors that a description may mean; not the one come through."""
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
    found: dict[int, None] = {}
    for axis in _axes(turned(facing, turn)):
        found.update(dict.fromkeys(_on_side(house, ref, rows, state, axis)))
    return list(found)


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
    house: HouseMap, ref: DoorRef, rows: list[int], state: State, axis: Vector
) -> list[int]:
    x, y = house.points[state.node]
    found = []
    for row in rows:
        cx, cy = centre_of(house, row)
        ahead, right = dot(axis, (cx - x, cy - y)), right_of(axis, (cx - x, cy - y))
        side = {
            "left": right < -0.25 and ahead > -0.5,
            "right": right > 0.25 and ahead > -0.5,
            "ahead": ahead > 0.3 and abs(right) < max(0.6, 0.7 * ahead),
        }
        if side[ref.side]:
            found.append((ahead, row))
    found.sort()
    if ref.nth:
        found = found[ref.nth - 1 : ref.nth]
    return [row for _, row in found]
