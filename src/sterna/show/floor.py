"""The ground an agent walks on as a map from above: a storey of a house, or an empty plane."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sterna.show.plan import Plan, make_plan
from sterna.show.png import SUPERSAMPLE, blank, paint
from sterna.show.scene import INK, Line, Shape, Text, text_width
from sterna.world.geometry import Floats
from sterna.world.houses.render import Renderer
from sterna.world.houses.scene import House, Room
from sterna.world.houses.topdown import draw_storey
from sterna.world.space import Bools

_EDGE = 10  # pixels around a house
_SHARP = 1.5  # pixels rendered for one shown
_NAME, _LINE = 12, 14  # pixels: size of rooms' names, and from line to line
_LANDING = 0.3  # metres off a floor from which a point is on the stairs
_GRID = "#e4e8ec"
_NAMES = ("ground floor", "upper floor")


@dataclass(frozen=True, kw_only=True, eq=False)
class Floor:
    """A storey's map: `canvas` to copy and draw on, and where metres lie on it.

    Points on stairs belong to the floors below and above them: those from `low` to `high` (z).
    """

    name: str
    level: float
    low: float
    high: float
    canvas: Image.Image
    plan: Plan
    names: tuple[Shape, ...] = ()
    """Names of rooms, to be written over paths."""

    def shows(self, points: Floats) -> Bools:
        """Say which points [n, 3] belong to this floor."""
        return np.asarray((points[:, 2] > self.low) & (points[:, 2] < self.high))


def floor_at(floors: list[Floor], height: float) -> int:
    """Return the number of the floor whose level is nearest to a height (z)."""
    return int(np.abs(np.array([floor.level for floor in floors]) - height).argmin())


def house_floors(house: House, renderer: Renderer, width: int, height: int) -> list[Floor]:
    """Draw every storey of a house, whole, into maps of `width` x `height` pixels."""
    low, high = _outline(house)
    extent, scale = high - low, house_scale(house, width, height)
    x, y = ((low + high) / 2).tolist()
    plan = Plan(box=(0.0, 0.0, float(width), float(height)), scale=scale, middle=(x, y))
    size = [round(scale * SUPERSAMPLE * side) for side in extent.tolist()]
    out = []
    for storey, level in enumerate(house.floors):
        canvas = blank(width, height)
        picture = draw_storey(
            house, storey, metre=math.ceil(_SHARP * scale), names=False, renderer=renderer
        ).resize((size[0], size[1]), Image.Resampling.BICUBIC)
        canvas.paste(picture, ((canvas.width - size[0]) // 2, (canvas.height - size[1]) // 2))
        rooms = [room for room in house.rooms if room.storey == storey]
        names = tuple(text for room in rooms for text in _room_name(room, plan))
        below = house.floors[storey - 1] + _LANDING if storey else -math.inf
        above = house.floors[storey + 1] - _LANDING if storey + 1 < len(house.floors) else math.inf
        name = _NAMES[storey] if len(house.floors) > 1 else ""
        out.append(
            Floor(
                name=name, level=level, low=below, high=above, canvas=canvas, plan=plan, names=names
            )
        )
    return out


def house_scale(house: House, width: float, height: float) -> float:
    """Return the pixels of a metre at which a house fits a map."""
    low, high = _outline(house)
    room = np.array([width, height]) - 2 * _EDGE
    return float((room / (high - low)).min())


def _outline(house: House) -> tuple[Floats, Floats]:
    boxes = house.boxes.astype(np.float64)
    return boxes[:, :2].min(0), boxes[:, 3:5].max(0)


def _room_name(room: Room, plan: Plan) -> list[Shape]:
    """Write a room's name in its middle, a word a line where the room is narrow."""
    x0, y0, x1, y1 = room.rectangles[0]
    fits = (x1 - x0) * plan.scale - 4
    rows: list[str] = []
    for word in room.name.split():
        if rows and text_width(f"{rows[-1]} {word}", _NAME) <= fits:
            rows[-1] += f" {word}"
        else:
            rows.append(word)
    x, y = plan.pixel(((x0 + x1) / 2, (y0 + y1) / 2))
    top = y - _LINE * (len(rows) - 1) / 2 + 0.35 * _NAME
    return [
        Text(at=(x, top + _LINE * i), text=row, size=_NAME, colour=INK, anchor="middle", halo=2)
        for i, row in enumerate(rows)
    ]


def plane_floor(points: Floats, width: int, height: int) -> Floor:
    """Draw an empty plane with a grid of 1 m around the points [n, 3] that are to be seen."""
    plan = make_plan(points, 0.0, 0.0, float(width), (float(height), float(height)))
    canvas, lines = blank(width, height), list[Shape]()
    x, y = plan.middle
    wide, tall = width / plan.scale / 2, height / plan.scale / 2
    for east in range(math.ceil(x - wide), math.floor(x + wide) + 1):
        at = plan.pixel((east, y))[0]
        lines.append(Line(points=((at, 0.0), (at, height)), colour=_GRID, width=1))
    for north in range(math.ceil(y - tall), math.floor(y + tall) + 1):
        at = plan.pixel((x, north))[1]
        lines.append(Line(points=((0.0, at), (width, at)), colour=_GRID, width=1))
    paint(canvas, lines)
    level = float(points[:, 2].mean())
    return Floor(name="", level=level, low=-math.inf, high=math.inf, canvas=canvas, plan=plan)
