"""The building itself: floors, walls with their openings, ceilings, windows and stairs as boxes."""

from __future__ import annotations

from dataclasses import dataclass, field

from sterna.world.houses.dice import Dice
from sterna.world.houses.model import Box
from sterna.world.houses.openings import HALF_WALL, Opening, Wall
from sterna.world.houses.paint import Paint
from sterna.world.houses.plan import FLIGHT_TREADS, LANDING, TREAD, Rect, Space

OUTER_WALL = 180  # what an outer wall adds outside its centre line
CEILING = 100
RAIL = 900
FLIGHT, CORE = 1000, 80
RISERS = 16  # of two flights

WALL_COLOURS = {
    "living room": ("white", "beige", "grey", "green"),
    "dining room": ("white", "beige", "orange"),
    "kitchen": ("white", "yellow", "beige"),
    "bedroom": ("white", "blue", "pink", "beige", "purple", "green"),
    "bathroom": ("white", "blue", "green"),
    "office": ("white", "grey", "blue"),
    "playroom": ("yellow", "orange", "blue", "pink"),
}
FLOORS = {
    "kitchen": (("grey", "tiles"), ("white", "tiles"), ("beige", "tiles"), ("brown", "parquet")),
    "bathroom": (("white", "tiles"), ("grey", "tiles"), ("black", "tiles"), ("blue", "tiles")),
    "laundry room": (("grey", "tiles"), ("white", "tiles"), ("beige", "tiles")),
    "storage room": (("grey", "tiles"), ("beige", "parquet")),
    "bedroom": (
        ("brown", "parquet"),
        ("beige", "parquet"),
        ("grey", "carpet"),
        ("beige", "carpet"),
    ),
    "playroom": (("beige", "parquet"), ("green", "carpet"), ("blue", "carpet")),
    "hall": (("black", "tiles"), ("grey", "tiles"), ("beige", "tiles")),
}
PARQUET = (("brown", "parquet"), ("beige", "parquet"))


@dataclass(frozen=True)
class Heights:
    """Of one storey, in millimetres: its floor, its ceiling, and where the next floor lies."""

    floor: int
    ceiling: int
    top: int


@dataclass(frozen=True)
class Finish:
    """What a room's walls and floor are painted with; `wall` is the colour's name."""

    floor: Paint
    wall: Paint


@dataclass(frozen=True)
class Building:
    """A house without its things: rooms, walls as seen from each, openings; a storey's `levels`
    and a room's `looks` in the order of storeys and rooms.
    """

    spaces: list[Space]
    stretches: list[Wall]
    openings: list[Opening]
    levels: list[Heights]
    looks: list[Finish]


@dataclass
class Boxes:
    """Boxes gathered one by one: corners in mm, class, instance, paint."""

    corners: list[Box] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    instances: list[int] = field(default_factory=list)
    paints: list[Paint] = field(default_factory=list)

    def add(self, kind: str, box: Box, paint: Paint, instance: int = 0) -> None:
        """Add one box; a box without volume is a mistake of ours."""
        assert box[0] < box[3] and box[1] < box[4] and box[2] < box[5], (kind, box)
        self.corners.append(box)
        self.kinds.append(kind)
        self.instances.append(instance)
        self.paints.append(paint)


def heights(dice: Dice, storeys: int) -> list[Heights]:
    """Return each storey's heights; 16 equal risers lead from one floor to the next."""
    if storeys == 1:
        return [Heights(0, ceiling := dice.between(2700, 3000, 100), ceiling + CEILING)]
    rise, ceiling = dice.pick(((180, 2700), (185, 2760), (188, 2808)))
    step = RISERS * rise
    return [Heights(0, ceiling, step), Heights(step, step + 2700, step + 2700 + CEILING)]


def finishes(dice: Dice, spaces: list[Space], levels: list[Heights]) -> list[Finish]:
    """Choose floor and wall of every room; living areas that flow into each other share a floor."""
    common = dice.pick(PARQUET)
    tint = dice.pick(("white", "white", "beige"))
    out = []
    for space in spaces:
        colour, material = dice.pick(FLOORS.get(space.kind, (common,)))
        x0, y0, x1, y1 = space.rects[0]
        along = 0 if x1 - x0 >= y1 - y0 else 1
        scale = {"tiles": dice.pick((300, 400, 600)), "parquet": 140}.get(material, 20)
        wall = dice.pick(WALL_COLOURS.get(space.kind, (tint,)))
        base = levels[space.storey].floor
        out.append(Finish(Paint(colour, material, scale, along), Paint(wall, "plaster", base=base)))
    return out


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


def well_sides(rect: Rect, space: Space) -> tuple[int, int]:
    """Return the axis (0 x, 1 y) in which the flights run, and +1 or -1: up the first flight."""
    main = space.rects[0]
    if rect[1] == main[3]:
        return 1, 1
    if rect[3] == main[1]:
        return 1, -1
    return (0, 1) if rect[0] == main[2] else (0, -1)


def place_in_well(rect: Rect, space: Space, u0: int, v0: int, u1: int, v1: int) -> Rect:
    """Turn a rectangle of the stairwell into one of the plan.

    u runs along the corridor and v away from it, both from the well's clear corner.
    """
    axis, sign = well_sides(rect, space)
    low, high = rect[1 - axis] + HALF_WALL + u0, rect[1 - axis] + HALF_WALL + u1
    near = rect[axis] if sign > 0 else rect[axis + 2]
    a, b = sorted((near + sign * v0, near + sign * v1))
    return (low, a, high, b) if axis == 1 else (a, low, b, high)


def well_start(rect: Rect, space: Space) -> int:
    """Return how far from the corridor the first step lies."""
    axis, _ = well_sides(rect, space)
    return rect[axis + 2] - rect[axis] - HALF_WALL - LANDING - FLIGHT_TREADS * TREAD


def landing_in_front(rect: Rect, space: Space) -> Rect:
    """Return the part of a stairwell that has a floor upstairs (half walls included)."""
    width = 2 * FLIGHT + CORE
    return place_in_well(rect, space, -HALF_WALL, 0, width + HALF_WALL, well_start(rect, space))


def build_stairs(boxes: Boxes, space: Space, level: Heights, floor: Paint) -> None:
    """Add two flights of solid steps, the landing between them, and what keeps people from falling.

    `space` is the corridor below. The first flight goes up away from it, the second comes back.
    """
    rect = space.rects[space.well or 0]
    rise = (level.top - level.floor) // RISERS
    start, z = well_start(rect, space), level.floor
    wood, rail = floor._replace(material="wood"), Paint("brown", "wood")

    def add(kind: str, u0: int, v0: int, u1: int, v1: int, top: int, paint: Paint) -> None:
        a, b, c, d = place_in_well(rect, space, u0, v0, u1, v1)
        boxes.add(kind, (a, b, z, c, d, z + top), paint)

    far = 2 * FLIGHT + CORE
    for i in range(FLIGHT_TREADS):
        v = start + i * TREAD
        add("stairs", 0, v, FLIGHT, v + TREAD, (i + 1) * rise, wood)
        add("stairs", FLIGHT + CORE, v, far, v + TREAD, (15 - i) * rise, wood)
        add("railing", FLIGHT, v, FLIGHT + CORE, v + TREAD, (15 - i) * rise + RAIL, rail)
    end = start + FLIGHT_TREADS * TREAD
    add("stairs", 0, end, far, end + LANDING, 8 * rise, wood)
    a, b, c, d = place_in_well(rect, space, 0, start - 50, FLIGHT + CORE, start)
    boxes.add("railing", (a, b, level.top, c, d, level.top + RAIL), rail)


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
