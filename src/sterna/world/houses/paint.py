"""Colours, materials and the textures they are drawn with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Names that people give, with sRGB values in the middle of what they give them to.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (196, 34, 34),
    "orange": (236, 126, 28),
    "yellow": (240, 208, 50),
    "green": (52, 140, 62),
    "blue": (40, 84, 190),
    "purple": (122, 58, 160),
    "pink": (238, 140, 176),
    "brown": (124, 78, 44),
    "black": (38, 38, 40),
    "white": (240, 240, 238),
    "grey": (140, 142, 146),
    "beige": (220, 200, 164),
}

# Textures: what the renderer's formulas draw. The numbers are those of `texture`.
PLAIN, PLANKS, TILES, CARPET, PLASTER, FABRIC, WOOD, SKY = range(8)
GLOW, PICTURE, BOOKS, BRICK, WICKER, SCREEN, MIRROR, METAL = range(8, 16)

MATERIALS: dict[str, int] = {
    "wood": WOOD,
    "fabric": FABRIC,
    "leather": PLAIN,
    "metal": METAL,
    "plastic": PLAIN,
    "ceramic": PLAIN,
    "stone": CARPET,
    "paper": PLAIN,
    "wool": CARPET,
    "wicker": WICKER,
    "leaves": CARPET,
    "earth": CARPET,
    "glass": MIRROR,
    "plaster": PLASTER,
    "parquet": PLANKS,
    "tiles": TILES,
    "carpet": CARPET,
    "brick": BRICK,
    "sky": SKY,
    "light": GLOW,
    "canvas": PICTURE,
    "books": BOOKS,
    "screen": SCREEN,
}

COLUMNS = ("red", "green", "blue", "texture", "scale", "along", "base", "pattern")


class Paint(NamedTuple):
    """A colour name, a material name, and what its texture needs.

    `scale` is the size of a tile or plank in mm, `along` the axis (0 x, 1 y) that planks follow,
    `base` the height in mm of the floor that a wall stands on, `pattern` picks a picture.
    """

    colour: str
    material: str
    scale: int = 0
    along: int = 0
    base: int = 0
    pattern: int = 0


class Palette:
    """Paints numbered in the order in which they are first used."""

    def __init__(self) -> None:
        self._number: dict[Paint, int] = {}

    def number(self, paint: Paint) -> int:
        """Return the row of a paint in the table."""
        return self._number.setdefault(paint, len(self._number))

    def _linear(self, paint: Paint) -> list[float]:
        """Return linear red, green and blue; walls are painted in pale shades of their colour."""
        pale = 0.6 if paint.material == "plaster" else 0.0
        return [((1 - pale) * value / 255.0 + pale * 0.95) ** 2 for value in COLOURS[paint.colour]]

    def table(self) -> NDArray[np.float32]:
        """Return one row a paint: linear red, green, blue (0-1), then the rest of `COLUMNS`."""
        rows = [
            [
                *self._linear(paint),
                MATERIALS[paint.material],
                paint.scale / 1000,
                paint.along,
                paint.base / 1000,
                paint.pattern,
            ]
            for paint in self._number
        ]
        return np.array(rows, np.float32).reshape(-1, len(COLUMNS))

    def paints(self) -> tuple[Paint, ...]:
        """Return the paints by number."""
        return tuple(self._number)
