"""Doors and windows of a floor plan, in millimetres along the centre lines of walls."""

from __future__ import annotations

from dataclasses import dataclass

from sterna.world.houses.dice import Dice
from sterna.world.houses.plan import Rect, Space

HALF_WALL = 60
DOOR_HEIGHT, OPENING_HEIGHT = 2060, 2250
LIVING = ("living room", "dining room", "kitchen")
PASSAGES = ("corridor", "hall")


@dataclass(frozen=True)
class Wall:
    """A straight stretch of wall: along axis 0 (x) or 1 (y) at a coordinate, from low to high.

    `a` is the space on one side, `b` on the other (None outdoors); `inward` says whether `a` lies
    on the side of growing coordinates (+1) or not (-1).
    """

    axis: int
    at: int
    low: int
    high: int
    storey: int
    a: int
    b: int | None
    inward: int


@dataclass(frozen=True)
class Opening:
    """A hole in a wall from low to high, bottom to top; kind is door, wide, front or window."""

    wall: Wall
    kind: str
    low: int
    high: int
    bottom: int
    top: int


def edges(rect: Rect) -> tuple[tuple[int, int, int, int, int], ...]:
    """Return (axis, at, low, high, inward) of the four sides: south, east, north, west."""
    x0, y0, x1, y1 = rect
    return ((0, y0, x0, x1, 1), (1, x1, y0, y1, -1), (0, y1, x0, x1, -1), (1, x0, y0, y1, 1))


def walls(spaces: list[Space]) -> list[Wall]:
    """Return every stretch of wall as seen from each space; inner ones come twice."""
    out = []
    for number, space in enumerate(spaces):
        for rect in space.rects:
            for axis, at, low, high, inward in edges(rect):
                out += _stretches(spaces, number, axis, at, low, high, inward)
    return out


def _stretches(
    spaces: list[Space], number: int, axis: int, at: int, low: int, high: int, inward: int
) -> list[Wall]:
    storey = spaces[number].storey
    beyond = []
    for other, space in enumerate(spaces):
        if space.storey != storey:
            continue
        for rect in space.rects:
            # The other rectangle's side that faces this one.
            near = rect[3 - axis] if inward > 0 else rect[1 - axis]
            a, b = max(low, rect[axis]), min(high, rect[axis + 2])
            if near == at and a < b:
                beyond.append((a, b, other))
    out, place = [], low
    for a, b, other in sorted(beyond):
        if a > place:
            out.append(Wall(axis, at, place, a, storey, number, None, inward))
        if other != number:  # the rectangles of one room are open to each other
            out.append(Wall(axis, at, a, b, storey, number, other, inward))
        place = b
    if place < high:
        out.append(Wall(axis, at, place, high, storey, number, None, inward))
    return out


def doors(dice: Dice, spaces: list[Space], stretches: list[Wall]) -> list[Opening]:
    """Return one way into every room, wide openings between living areas, and the front door."""
    out: list[Opening] = []
    shared = [w for w in stretches if w.b is not None and w.a < w.b]
    for wall in shared:
        assert wall.b is not None
        kinds = {spaces[wall.a].kind, spaces[wall.b].kind}
        length = wall.high - wall.low
        if kinds <= set(LIVING):
            out += _between_living(dice, wall, kinds, length)
        elif "corridor" in kinds and kinds & {*LIVING, "hall"}:
            if length >= 1200 and _leads(spaces, wall):
                out.append(_hole(dice, wall, "wide", min(length - 400, 1500), True))
        elif kinds == {"hall", "living room"} and length >= 2000 and dice.chance(60):
            out.append(_hole(dice, wall, "wide", 1300, False))
    for number, space in enumerate(spaces):
        if space.kind in LIVING or space.kind in PASSAGES:
            continue
        ways = [w for w in shared if number in (w.a, w.b) and _leads(spaces, w)]
        best = max(ways, key=lambda w: w.high - w.low)
        width = 800 if space.kind in ("bathroom", "storage room", "laundry room") else 900
        out.append(_hole(dice, best, "door", width, False))
    hall = next(i for i, s in enumerate(spaces) if s.kind == "hall")
    outside = [w for w in stretches if w.a == hall and w.b is None]
    front = max(outside, key=lambda w: w.high - w.low)
    out.append(_hole(dice, front, "front", 1000, True))
    return out


def _leads(spaces: list[Space], wall: Wall) -> bool:
    """Say whether a wall borders on a corridor, and not on its stairwell."""
    for number in (wall.a, wall.b):
        if number is not None and spaces[number].kind == "corridor":
            sides = edges(spaces[number].rects[0])
            return any(
                (wall.axis, wall.at) == (axis, at) and low <= wall.low and wall.high <= high
                for axis, at, low, high, _ in sides
            )
    return False


def _between_living(dice: Dice, wall: Wall, kinds: set[str], length: int) -> list[Opening]:
    if length < 1500:
        return []
    if kinds == {"living room", "kitchen"}:
        return [_hole(dice, wall, "wide", 1200, False)]
    return [_hole(dice, wall, "wide", min(length - 900, dice.between(1500, 2500, 100)), True)]


def _hole(dice: Dice, wall: Wall, kind: str, width: int, middle: bool) -> Opening:
    """Put an opening in the middle of a wall, or near one of its ends (better for furniture)."""
    slack = wall.high - wall.low - width
    near = min(250, slack // 2)
    if middle or slack < 500:
        low = wall.low + slack // 20 * 10
    else:
        low = wall.low + near if dice.chance(50) else wall.high - near - width
    top = OPENING_HEIGHT if kind == "wide" else DOOR_HEIGHT
    return Opening(wall, kind, low, low + width, 0, top)


# Width, sill and head of a room's windows.
WINDOWS = {
    "living room": (1700, 850, 2250),
    "dining room": (1600, 800, 2250),
    "kitchen": (1300, 1250, 2150),
    "bedroom": (1500, 850, 2150),
    "bathroom": (700, 1450, 2100),
    "office": (1400, 850, 2150),
    "laundry room": (700, 1450, 2100),
    "playroom": (1600, 700, 2150),
    "corridor": (900, 900, 2150),
    "hall": (500, 1000, 2150),
}


def windows(spaces: list[Space], stretches: list[Wall], holes: list[Opening]) -> list[Opening]:
    """Return windows in outer walls, one every 2.5 m or so, clear of the front door."""
    out = []
    blank = _blank_walls(spaces, stretches)
    for wall in stretches:
        space = spaces[wall.a]
        if wall.b is not None or space.kind not in WINDOWS or wall in blank:
            continue
        if space.well is not None and space.storey == 0 and _beside_well(space, wall):
            continue  # the landing lies there
        width, sill, head = WINDOWS[space.kind]
        clear = wall.high - wall.low - 2 * HALF_WALL
        count = max(1, min(2, clear // 2700))
        if space.kind in ("hall", "bathroom", "laundry room"):
            count = 1
        if clear < width + 300:
            continue
        for i in range(count):
            centre = wall.low + HALF_WALL + clear * (2 * i + 1) // (2 * count) // 10 * 10
            low, high = centre - width // 2, centre + width // 2
            taken = [o for o in holes if o.wall.at == wall.at and o.wall.axis == wall.axis]
            if all(high + 200 <= o.low or o.high + 200 <= low for o in taken if o.kind == "front"):
                out.append(Opening(wall, "window", low, high, sill, head))
    return out


def _blank_walls(spaces: list[Space], stretches: list[Wall]) -> list[Wall]:
    """Return an outer wall of each room with several that gets no window: tall things need it."""
    out = []
    for number, space in enumerate(spaces):
        outer = [w for w in stretches if w.a == number and w.b is None and w.high - w.low > 2500]
        if len(outer) > 1 and space.kind not in PASSAGES:
            out.append(max(outer, key=lambda w: w.high - w.low))
    return out


def _beside_well(space: Space, wall: Wall) -> bool:
    rect = space.rects[space.well or 0]
    return (wall.axis, wall.at) in [(axis, at) for axis, at, *_ in edges(rect)]
