"""A piece of furniture or an object before it is placed: boxes around its own origin.

Whole millimetres. The origin lies in the middle of the footprint, on the ground; the front looks
along +y, so the back is at -y.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sterna.world.houses.dice import Dice
from sterna.world.houses.paint import Paint

Box = tuple[int, int, int, int, int, int]

WHITE, BLACK = Paint("white", "plastic"), Paint("black", "plastic")
STEEL, DARK_WOOD, CERAMIC = (
    Paint("grey", "metal"),
    Paint("brown", "wood"),
    Paint("white", "ceramic"),
)
LIGHT = Paint("white", "light")


@dataclass
class Model:
    """What a thing looks like. `tops` are surfaces (x0, y0, x1, y1, z) that things can stand on."""

    kind: str
    colour: str
    material: str
    size: str = ""
    parts: list[tuple[Box, Paint]] = field(default_factory=list)
    tops: list[tuple[int, int, int, int, int]] = field(default_factory=list)

    @property
    def paint(self) -> Paint:
        """Return the paint of the main part."""
        return Paint(self.colour, self.material)

    @property
    def box(self) -> Box:
        """Return the box around all parts."""
        low = [min(b[i] for b, _ in self.parts) for i in range(3)]
        high = [max(b[i] for b, _ in self.parts) for i in range(3, 6)]
        return low[0], low[1], low[2], high[0], high[1], high[2]

    def add(
        self, w: int, d: int, h: int, x: int = 0, y: int = 0, z: int = 0, paint: Paint | None = None
    ) -> Model:
        """Add a box of width, depth and height whose ground lies centred on (x, y) at height z."""
        box = (x - w // 2, y - d // 2, z, x - w // 2 + w, y - d // 2 + d, z + h)
        self.parts.append((box, paint or self.paint))
        return self

    def legs(
        self, w: int, d: int, h: int, thick: int, paint: Paint | None = None, z: int = 0
    ) -> Model:
        """Add four legs under the corners of a w x d rectangle."""
        for sx in (-1, 1):
            for sy in (-1, 1):
                x, y = sx * (w - thick) // 2, sy * (d - thick) // 2
                self.add(thick, thick, h, x, y, z, paint)
        return self

    def top(self, w: int, d: int, z: int, x: int = 0, y: int = 0) -> Model:
        """Declare a surface that things can stand on."""
        self.tops.append((x - w // 2, y - d // 2, x + w // 2, y + d // 2, z))
        return self


SOFT = ("red", "blue", "green", "grey", "beige", "purple", "orange", "yellow", "pink")
WOODS = ("brown", "brown", "white", "black", "beige")
BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black")


def wooden(dice: Dice, kind: str, size: str = "") -> Model:
    """Return an empty model of wood in one of its usual colours."""
    return Model(kind, dice.pick(WOODS), "wood", size)
