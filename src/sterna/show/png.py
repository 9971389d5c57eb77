"""The PNG back-end: a scene drawn with Pillow at three times the size, then reduced."""

from __future__ import annotations

import io
from collections.abc import Iterable

from PIL import Image, ImageDraw

from sterna.show.scene import WHITE, Disc, Line, Point, Polygon, Scene, Shape, Text, font

SUPERSAMPLE = 3


def png(scene: Scene) -> bytes:
    """Return a scene as the bytes of a PNG file of `scene.width` x `scene.height` pixels."""
    buffer = io.BytesIO()
    image(scene).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def image(scene: Scene) -> Image.Image:
    """Return a scene as an RGB image of `scene.width` x `scene.height` pixels."""
    canvas = blank(scene.width, scene.height)
    for layer in scene.layers:
        paint(canvas, layer.shapes)
    return canvas.reduce(SUPERSAMPLE)


def blank(width: int, height: int) -> Image.Image:
    """Return a white canvas for a picture of that size: `SUPERSAMPLE` times as large."""
    return Image.new("RGB", (width * SUPERSAMPLE, height * SUPERSAMPLE), WHITE)


def paint(canvas: Image.Image, shapes: Iterable[Shape]) -> None:
    """Draw shapes, given in pixels of the picture, on its canvas."""
    draw = ImageDraw.Draw(canvas)
    for shape in shapes:
        _draw(draw, shape)


def _draw(draw: ImageDraw.ImageDraw, shape: Shape) -> None:
    if isinstance(shape, Line):
        _line(draw, shape.points, shape.colour, shape.width)
    elif isinstance(shape, Disc):
        _disc(draw, shape)
    elif isinstance(shape, Polygon):
        draw.polygon(_scaled(shape.points), fill=shape.fill)
        if shape.outline:
            _line(draw, (*shape.points, shape.points[0]), shape.outline, shape.width)
    else:
        _text(draw, shape)


def _line(draw: ImageDraw.ImageDraw, points: Iterable[Point], colour: str, pixels: float) -> None:
    scaled = _scaled(points)
    width = max(1, round(pixels * SUPERSAMPLE))
    draw.line(scaled, fill=colour, width=width, joint="curve")
    for point in (scaled[0], scaled[-1]):
        draw.ellipse(_around(point, width / 2), fill=colour)


def _disc(draw: ImageDraw.ImageDraw, shape: Disc) -> None:
    centre = _scaled([shape.centre])[0]
    rim = shape.width if shape.outline else 0.0
    draw.ellipse(
        _around(centre, (shape.radius + rim / 2) * SUPERSAMPLE),
        fill=shape.fill,
        outline=shape.outline,
        width=max(1, round(rim * SUPERSAMPLE)) if shape.outline else 0,
    )


def _text(draw: ImageDraw.ImageDraw, shape: Text) -> None:
    draw.text(
        _scaled([shape.at])[0],
        shape.text,
        fill=shape.colour,
        font=font(shape.size * SUPERSAMPLE),
        anchor={"start": "ls", "middle": "ms", "end": "rs"}[shape.anchor],
        stroke_width=shape.halo * SUPERSAMPLE,
        stroke_fill=WHITE,
    )


def _scaled(points: Iterable[Point]) -> list[Point]:
    return [(x * SUPERSAMPLE, y * SUPERSAMPLE) for x, y in points]


def _around(centre: Point, radius: float) -> tuple[float, float, float, float]:
    x, y = centre
    return (x - radius, y - radius, x + radius, y + radius)
