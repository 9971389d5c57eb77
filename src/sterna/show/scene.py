"""A picture as data: a few opaque shapes on a white page, in pixels, y downwards.

Both back-ends (`sterna.show.svg`, `sterna.show.png`) draw exactly these shapes. Shapes are opaque
(`blend` mixes a tint beforehand) and dashes are cut here, so the two pictures agree.
"""

from __future__ import annotations

import math
import unicodedata
from bisect import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

from PIL import ImageFont

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom

WHITE = "#ffffff"
INK = "#1f2328"
FONT_FAMILY = "Aileron, 'Helvetica Neue', Helvetica, Arial, sans-serif"


@dataclass(frozen=True, kw_only=True)
class Line:
    """An open polyline with round joints and ends; `width` in pixels."""

    points: tuple[Point, ...]
    colour: str
    width: float


@dataclass(frozen=True, kw_only=True)
class Disc:
    """A circle, filled, outlined or both; `radius` reaches to the middle of the outline."""

    centre: Point
    radius: float
    fill: str | None = None
    outline: str | None = None
    width: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Polygon:
    """A filled polygon, optionally outlined."""

    points: tuple[Point, ...]
    fill: str
    outline: str | None = None
    width: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Text:
    """One line of text on its baseline; `halo` paints a white rim of that width behind it."""

    at: Point
    text: str
    size: int
    colour: str = INK
    anchor: str = "start"  # start, middle or end
    halo: int = 0


Shape = Line | Disc | Polygon | Text


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Shapes that belong together, drawn in order; `name` is the group's id in the SVG."""

    name: str
    shapes: tuple[Shape, ...]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A whole picture, `width` x `height` pixels; later layers lie over earlier ones."""

    width: int
    height: int
    title: str
    description: str
    layers: tuple[Layer, ...] = field(repr=False)


def blend(colour: str, share: float) -> str:
    """Return ``share * colour + (1 - share) * white`` as ``#rrggbb``."""
    channels = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(share * c + (1 - share) * 255):02x}" for c in channels)


def rectangle(box: Box, fill: str, outline: str | None = None, width: float = 0.0) -> Polygon:
    """Return an axis-parallel rectangle."""
    left, top, right, bottom = box
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    return Polygon(points=corners, fill=fill, outline=outline, width=width)


def star(centre: Point, radius: float, fill: str, outline: str) -> Polygon:
    """Return a five-pointed star that points upwards."""
    x, y = centre
    reach = (radius, 0.45 * radius)
    points = tuple(
        (x + reach[i % 2] * math.sin(i * math.pi / 5), y - reach[i % 2] * math.cos(i * math.pi / 5))
        for i in range(10)
    )
    return Polygon(points=points, fill=fill, outline=outline, width=1.5)


def circle(centre: Point, radius: float) -> tuple[Point, ...]:
    """Return a closed polyline of 72 sides around a point (pixels)."""
    angles = (k * math.tau / 72 for k in range(73))
    return tuple(
        (centre[0] + radius * math.cos(t), centre[1] + radius * math.sin(t)) for t in angles
    )


def along(points: Sequence[Point], share: float) -> tuple[Point, Point]:
    """Return the point at a share (0-1) of a polyline's length, and the unit direction there."""
    lengths = [math.dist(a, b) for a, b in pairwise(points)]
    left = share * sum(lengths)
    for ((ax, ay), (bx, by)), length in zip(pairwise(points), lengths, strict=True):
        if length > 0 and left <= length:
            unit = ((bx - ax) / length, (by - ay) / length)
            return (ax + left * unit[0], ay + left * unit[1]), unit
        left -= length
    return points[-1], (0.0, 0.0)


def arrow(at: Point, direction: Point, size: float, fill: str) -> Polygon:
    """Return an arrowhead with its middle at a point, `size` pixels long, along a unit vector."""
    (x, y), (dx, dy) = at, direction
    corners = ((0.6, 0.0), (-0.4, 0.5), (-0.2, 0.0), (-0.4, -0.5))
    points = tuple((x + size * (a * dx - b * dy), y + size * (a * dy + b * dx)) for a, b in corners)
    return Polygon(points=points, fill=fill)


def dashes(line: Line, on: float, off: float) -> list[Line]:
    """Cut a line into dashes of `on` pixels with gaps of `off` (round ends not counted)."""
    points = line.points
    total = sum(math.dist(a, b) for a, b in pairwise(points))
    count = max(1, round((total + off) / (on + off)))
    stretch = total / (count * on + (count - 1) * off) if total else 0.0
    pieces = []
    for i in range(count):
        begin = i * (on + off) * stretch
        pieces.append(_between(points, begin, begin + on * stretch))
    return [Line(points=p, colour=line.colour, width=line.width) for p in pieces]


def _between(points: Sequence[Point], begin: float, end: float) -> tuple[Point, ...]:
    total = sum(math.dist(a, b) for a, b in pairwise(points)) or 1.0
    inner, travelled = [], 0.0
    for a, b in pairwise(points):
        travelled += math.dist(a, b)
        if begin < travelled < end:
            inner.append(b)
    return (along(points, begin / total)[0], *inner, along(points, min(1.0, end / total))[0])


@lru_cache(maxsize=64)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font at a pixel size; no font file is needed."""
    return ImageFont.load_default(size=size)


def text_width(text: str, size: int) -> float:
    """Return the width of a line of text in pixels, free of the rounding of small sizes."""
    return float(font(8 * size).getlength(text)) / 8


def one_line(text: str) -> str:
    """Collapse white space and drop control characters, which neither back-end can draw."""
    spaced = " ".join(text.split())
    return "".join(c for c in spaced if unicodedata.category(c) not in ("Cc", "Cs", "Cn", "Co"))


def wrap(text: str, size: int, width: float, lines: int) -> list[str]:
    """Break text into at most `lines` lines of `width` pixels; an ellipsis marks what is cut."""
    rows: list[str] = []
    for word in _pieces(one_line(text).split(), size, width):
        if rows and text_width(f"{rows[-1]} {word}", size) <= width:
            rows[-1] += f" {word}"
        else:
            rows.append(word)
    if len(rows) > lines:
        rows = rows[:lines]
        while rows[-1] and text_width(rows[-1] + " ...", size) > width:
            rows[-1] = rows[-1][:-1]
        rows[-1] += " ..."
    return rows


def _pieces(words: Iterable[str], size: int, width: float) -> Iterable[str]:
    # A word wider than the line is cut, so that nothing runs off the page.
    for word in words:
        rest = word
        while text_width(rest, size) > width and len(rest) > 1:
            fits = _fitting(rest, size, width)
            yield rest[:fits]
            rest = rest[fits:]
        yield rest


def _fitting(word: str, size: int, width: float) -> int:
    lengths = range(1, len(word))
    return max(1, bisect(lengths, width, key=lambda count: text_width(word[:count], size)))
