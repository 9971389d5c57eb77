"""A house from above, cut open, with room names: for people to look at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sterna.world.houses.render import Renderer
from sterna.world.houses.scene import STRUCTURE, House

WALL_INK, NAME_INK, HALO = (52, 54, 60), (20, 20, 20), (255, 255, 255)


def draw_storey(
    house: House,
    storey: int = 0,
    *,
    metre: int = 50,
    cut: float = 1.4,
    names: bool = True,
    renderer: Renderer | None = None,
) -> Image.Image:
    """Return a picture of a storey cut open `cut` metres over its floor, north up.

    `metre` pixels show one metre; the picture's edges are those of the house's boxes.
    """
    frames = (renderer or Renderer(house)).from_above(storey, metre, cut)
    pixels = frames.rgb[0].copy()
    _mark_cut(house, pixels, house.floors[storey] + cut, metre)
    image = Image.fromarray(pixels)
    if names:
        _write_names(house, storey, image, metre)
    return image


def _mark_cut(house: House, pixels: NDArray[np.uint8], z: float, metre: int) -> None:
    """Fill what the cut runs through: walls dark, tall furniture in its own colour."""
    corner, top = house.boxes[:, :2].min(0), house.boxes[:, 4].max()
    through = np.nonzero((house.boxes[:, 2] < z) & (house.boxes[:, 5] > z))[0]
    for b in through:
        x0, y0, _, x1, y1, _ = house.boxes[b]
        i0, i1 = round((top - y1) * metre), max(1, round((y1 - y0) * metre))
        j0, j1 = round((x0 - corner[0]) * metre), max(1, round((x1 - x0) * metre))
        kind = house.classes[house.box_class[b]]
        ink = np.array(WALL_INK, float)
        if kind not in STRUCTURE or kind in ("front door", "window", "stairs", "railing"):
            ink = 230 * np.sqrt(house.materials[house.box_material[b], :3])
        pixels[i0 : i0 + i1, j0 : j0 + j1] = ink.astype(np.uint8)


def _write_names(house: House, storey: int, image: Image.Image, metre: int) -> None:
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(max(9, metre // 3))
    corner, top = house.boxes[:, :2].min(0), house.boxes[:, 4].max()
    for room in house.rooms:
        if room.storey == storey:
            x0, y0, x1, y1 = room.rectangles[0]
            spot = ((x0 + x1) / 2 - corner[0]) * metre, (top - (y0 + y1) / 2) * metre
            text = f"{room.name}\n{room.area:.0f} m2"
            if font.getlength(room.name) > (x1 - x0) * metre:
                text = text.replace(" ", "\n", room.name.count(" "))
            draw.multiline_text(
                spot, text, NAME_INK, font, "mm", align="center", stroke_width=2, stroke_fill=HALO
            )
