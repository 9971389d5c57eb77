"""A house without its things, as it is drawn: heights, colours, and boxes gathered one by one."""

from __future__ import annotations

from dataclasses import dataclass, field

from sterna.world.houses.dice import Dice
from sterna.world.houses.model import Box
from sterna.world.houses.openings import Opening, Wall
from sterna.world.houses.paint import Paint
from sterna.world.houses.plan import Space

CEILING = 100  # mm, its thickness
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
