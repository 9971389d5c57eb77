"""The building itself: floors, walls with their openings, ceilings and windows as boxes."""

from __future__ import annotations

from sterna.world.houses.building import CEILING, Boxes, Building, Finish, Heights
from sterna.world.houses.openings import HALF_WALL, Opening, Wall
from sterna.world.houses.paint import Paint
from sterna.world.houses.plan import Space
from sterna.world.houses.stairwell import landing_in_front

OUTER_WALL = 180  # what an outer wall adds outside its centre line


def build_shell(boxes: Boxes, building: Building) -> None:
    """Add everything that is neither stairs nor furniture."""
    spaces, levels, looks = building.spaces, building.levels, building.looks
    for space, look in zip(spaces, looks, strict=True):
        _slabs(boxes, space, look, levels)
    for wall in building.stretches:
        holes = [opening for opening in building.openings if _pierces(opening, wall)]
        reach = [0 if _covered(spaces, wall, end) else OUTER_WALL for end in (0, 1)]
        _wall(boxes, wall, holes, levels[wall.storey], looks[wall.a].wall, reach)
    for opening in building.openings:
        _frame(boxes, opening, levels[opening.wall.storey].floor)


def _pierces(opening: Opening, wall: Wall) -> bool:
    own = opening.wall
    in_line = (own.axis, own.at, own.storey) == (wall.axis, wall.at, wall.storey)
    return in_line and opening.low < wall.high and wall.low < opening.high


def _covered(spaces: list[Space], wall: Wall, end: int) -> bool:
    """Say whether a room lies just beyond an outer wall's end, outside: there it meets a wall."""
    along = wall.high + 90 if end else wall.low - 90
    across = wall.at - wall.inward * 90
    x, y = (along, across) if wall.axis == 0 else (across, along)
    rects = [rect for s in spaces if s.storey == wall.storey for rect in s.rects]
    return any(x0 < x < x1 and y0 < y < y1 for x0, y0, x1, y1 in rects)


def _slabs(boxes: Boxes, space: Space, look: Finish, levels: list[Heights]) -> None:
    level = levels[space.storey]
    under = 200 if space.storey == 0 else level.floor - levels[space.storey - 1].ceiling - CEILING
    over = min(CEILING, level.top - level.ceiling)
    white = Paint("white", "plaster", base=-1000)
    for number, (x0, y0, x1, y1) in enumerate(space.rects):
        well = number == space.well
        pieces = [(x0, y0, x1, y1)]
        front = [landing_in_front((x0, y0, x1, y1), space)] if well else pieces
        for a, b, c, d in front if space.storey else pieces:
            boxes.add("floor", (a, b, level.floor - under, c, d, level.floor), look.floor)
        for a, b, c, d in pieces if space.storey or not well else front:
            boxes.add("ceiling", (a, b, level.ceiling, c, d, level.ceiling + over), white)


def _wall(
    boxes: Boxes, wall: Wall, holes: list[Opening], level: Heights, paint: Paint, reach: list[int]
) -> None:
    """Add the half of a wall on its own room's side, and the outer half if nothing lies beyond.

    `reach` is how far the outer half goes on past each end, to close a corner.
    """
    inner = sorted((wall.at, wall.at + wall.inward * HALF_WALL))
    layers = [(inner[0], inner[1], wall.low, wall.high, paint)]
    if wall.b is None:
        outer = sorted((wall.at, wall.at - wall.inward * OUTER_WALL))
        facade = Paint("beige", "plaster", base=-1000)
        layers.append((outer[0], outer[1], wall.low - reach[0], wall.high + reach[1], facade))
    for near, far, low, high, look in layers:
        place = low
        for hole in sorted(holes, key=lambda o: o.low):
            a, b = max(hole.low, low), min(hole.high, high)
            if a > place:
                _panel(boxes, wall, near, far, place, a, level.floor, level.top, look)
            if hole.bottom:
                _panel(boxes, wall, near, far, a, b, level.floor, level.floor + hole.bottom, look)
            _panel(boxes, wall, near, far, a, b, level.floor + hole.top, level.top, look)
            place = b
        if place < high:
            _panel(boxes, wall, near, far, place, high, level.floor, level.top, look)


def _panel(
    boxes: Boxes,
    wall: Wall,
    near: int,
    far: int,
    low: int,
    high: int,
    z0: int,
    z1: int,
    look: Paint,
) -> None:
    if wall.axis == 0:
        boxes.add("wall", (low, near, z0, high, far, z1), look)
    else:
        boxes.add("wall", (near, low, z0, far, high, z1), look)


def _frame(boxes: Boxes, opening: Opening, floor: int) -> None:
    """Line a doorway, close the front door, glaze a window."""
    wall, trim = opening.wall, Paint("white", "wood")
    if opening.kind == "wide":
        return
    outside = wall.at - wall.inward * (OUTER_WALL if wall.b is None else HALF_WALL)
    near, far = sorted((wall.at + wall.inward * HALF_WALL, outside))
    low, high = opening.low, opening.high
    bottom, top = floor + opening.bottom, floor + opening.top

    def add(kind: str, a: int, b: int, n: int, f: int, z0: int, z1: int, paint: Paint) -> None:
        box = (a, n, z0, b, f, z1) if wall.axis == 0 else (n, a, z0, f, b, z1)
        boxes.add(kind, box, paint)

    if opening.kind == "window":
        n, f = wall.at - 25, wall.at + 25
        add("window", low, high, wall.at - 10, wall.at + 10, bottom, top, Paint("blue", "sky"))
        for a, b in _bars(low, high):
            add("window", a, b, n, f, bottom, top, trim)
        add("window", low, high, n, f, bottom, bottom + 40, trim)
        add("window", low, high, n, f, top - 40, top, trim)
        return
    for a, b in ((low - 60, low), (high, high + 60)):
        add("door frame", a, b, near - 12, far + 12, bottom, top, trim)
    add("door frame", low - 60, high + 60, near - 12, far + 12, top, top + 60, trim)
    if opening.kind == "front":
        leaf = Paint("green", "wood")
        add("front door", low, high, wall.at - 25, wall.at + 25, bottom, top, leaf)


def _bars(low: int, high: int) -> list[tuple[int, int]]:
    """Return the upright bars of a window; wide ones have one in the middle."""
    middle = (low + high) // 2
    inner = [(middle - 20, middle + 20)] if high - low > 900 else []
    return [(low, low + 40), (high - 40, high), *inner]
