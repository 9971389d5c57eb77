"""Where things are passed, and which viewpoints are beside, in front of or at the end of what."""

from __future__ import annotations

import math
from itertools import pairwise

from sterna.world.houses.language.map import HouseMap, Path, Vector
from sterna.world.houses.language.pointing import centre_of
from sterna.world.houses.language.turns import dot, right_of

NEARLY = 0.6  # metres by which another viewpoint may be farther and still be "beside"
BESIDE = 2.5  # metres from a thing at most to be beside it
PASSING = 2.0  # metres from a thing at most to pass it
ENDS = 1.0  # metres before the last viewpoint of a corridor that still are its end


def passes(house: HouseMap, path: Path, row: int, centre: Vector, side: str) -> bool:
    """Whether a way passes a landmark and ends as soon as it has.

    One who stands in a doorway on the way does not pass that door.
    """
    key = ("passes", path, row, side)
    if key not in house.cache:
        house.cache[key] = _passes(house, path, row, centre, side)
    found: bool = house.cache[key]
    return found


def _passes(house: HouseMap, path: Path, row: int, centre: Vector, side: str) -> bool:
    if len(path) < 2 or not _behind(house, path[-2:], centre):
        return False
    if row in house.marks.doors and _stands_in(house, path, row):
        return False
    if _behind(house, path[:2], centre, of_first=True):
        return False
    if any(_behind(house, path[i : i + 2], centre) for i in range(len(path) - 2)):
        return False
    if min(house.gap[node, row] for node in path) > PASSING or not any(
        row in house.visible[node] for node in path[:-1]
    ):
        return False
    if not side:
        return True
    nearest = min(range(len(path) - 1), key=lambda i: house.gap[path[i], row])
    way, (x, y) = house.way(path[nearest], path[nearest + 1]), house.points[path[nearest]]
    aside = right_of(way, (centre[0] - x, centre[1] - y))
    return aside > 0.2 if side == "right" else aside < -0.2


def _stands_in(house: HouseMap, path: Path, row: int) -> bool:
    door = row - house.marks.doors.start
    return any(house.viewpoints.door[node] == door for node in path)


def _behind(house: HouseMap, hop: Path, centre: Vector, of_first: bool = False) -> bool:
    """Whether a point lies behind one after a hop (or before it)."""
    x, y = house.points[hop[0 if of_first else 1]]
    return dot(house.way(hop[0], hop[1]), (centre[0] - x, centre[1] - y)) < 0


def splits(points: list[Vector], path: Path, a: Vector, b: Vector) -> bool:
    """Whether the last hop of a way, and no earlier one, crosses the line between two points."""
    crossed = [_cross(points[u], points[v], a, b) for u, v in pairwise(path)]
    return crossed[-1] and not any(crossed[:-1])


def _cross(p: Vector, q: Vector, a: Vector, b: Vector) -> bool:
    def side(o: Vector, d: Vector, x: Vector) -> float:
        return (d[0] - o[0]) * (x[1] - o[1]) - (d[1] - o[1]) * (x[0] - o[0])

    return side(p, q, a) * side(p, q, b) < 0 and side(a, b, p) * side(a, b, q) < 0


def beside(house: HouseMap, room: int, row: int, where: str) -> list[tuple[int, float]]:
    """Return the viewpoints of a room that are beside a landmark, and by how much not the nearest.

    They must see it; "in" takes the one in a door's opening, "front" those on the side to which a
    thing looks, within its width and half a metre.
    """
    key = ("beside", room, row, where)
    if key not in house.cache:
        near = []
        for node, rooms in enumerate(house.rooms):
            own = room in rooms and house.storey[node] >= 0 and house.seen[node, row]
            if own and house.gap[node, row] <= BESIDE and _in_front(house, node, row, where):
                near.append((float(house.gap[node, row]), node))
        near.sort()
        house.cache[key] = [(n, g - near[0][0]) for g, n in near if g - near[0][0] <= NEARLY]
    found: list[tuple[int, float]] = house.cache[key]
    return found


def _in_front(house: HouseMap, node: int, row: int, where: str) -> bool:
    if where == "in":
        return bool(house.viewpoints.door[node] == row - house.marks.doors.start)
    if where != "front":
        return True
    (fx, fy), (cx, cy) = house.marks.front[row].tolist(), centre_of(house, row)
    x, y = house.points[node][0] - cx, house.points[node][1] - cy
    x0, y0, x1, y1 = house.marks.rects[row].tolist()
    half = ((x1 - x0) if fx == 0 else (y1 - y0)) / 2
    deep = ((y1 - y0) if fx == 0 else (x1 - x0)) / 2
    return bool(fx * x + fy * y > deep and abs(x * fy - y * fx) < half + 0.5)


def middle(house: HouseMap, room: int) -> list[tuple[int, float]]:
    """Return the viewpoints in the middle of a room, and by how much not the nearest to it."""
    x0, y0, x1, y1 = house.house.rooms[room].rectangles[0]
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    away = []
    for node, rooms in enumerate(house.rooms):
        if rooms == (room,) and house.storey[node] >= 0:
            a, b = house.points[node]
            away.append((math.sqrt((a - x) * (a - x) + (b - y) * (b - y)), node))
    away.sort()
    return [(n, d - away[0][0]) for d, n in away if d - away[0][0] <= NEARLY]


def end(house: HouseMap, room: int, facing: Vector) -> list[tuple[int, float]]:
    """Return the viewpoints at the end of a long room ahead, and how far they are before it."""
    x0, y0, x1, y1 = house.house.rooms[room].rectangles[0]
    axis = (1.0, 0.0) if x1 - x0 > y1 - y0 else (0.0, 1.0)
    sign = dot(axis, facing)
    if abs(sign) < 0.3:
        return []
    axis = axis if sign > 0 else (-axis[0], -axis[1])
    along = [
        (-dot(axis, house.points[node]), node)
        for node, rooms in enumerate(house.rooms)
        if rooms == (room,)
        and house.storey[node] >= 0
        and house.house.rooms[room].holds(*house.points[node])
    ]
    along.sort()
    return [(node, far - along[0][0]) for far, node in along if far - along[0][0] <= ENDS]
