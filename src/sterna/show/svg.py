"""The SVG back-end: a scene as a small, self-contained SVG document."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

from sterna.show.scene import (
    FONT_FAMILY,
    WHITE,
    Disc,
    Layer,
    Line,
    Point,
    Polygon,
    Scene,
    Shape,
    Text,
    text_width,
)


def svg(scene: Scene) -> str:
    """Return a scene as the text of an SVG file, one group per layer with the layer's name as id.

    Text keeps the width that Pillow measured (`textLength`), so another font cannot break the
    layout.
    """
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{scene.width}" height="{scene.height}" '
        f'viewBox="0 0 {scene.width} {scene.height}" role="img" '
        f"font-family={quoteattr(FONT_FAMILY)}>"
    )
    page = f'<rect width="{scene.width}" height="{scene.height}" fill="{WHITE}"/>'
    meta = [f"<title>{escape(scene.title)}</title>", f"<desc>{escape(scene.description)}</desc>"]
    return "\n".join([head, *meta, page, *map(_group, scene.layers), "</svg>", ""])


def _group(layer: Layer) -> str:
    return "\n".join([f"<g id={quoteattr(layer.name)}>", *map(_element, layer.shapes), "</g>"])


def _element(shape: Shape) -> str:
    if isinstance(shape, Line):
        return (
            f'<polyline points="{_points(shape.points)}" fill="none" stroke="{shape.colour}" '
            f'stroke-width="{_number(shape.width)}" stroke-linecap="round" '
            'stroke-linejoin="round"/>'
        )
    if isinstance(shape, Disc):
        x, y = shape.centre
        return (
            f'<circle cx="{_number(x)}" cy="{_number(y)}" r="{_number(shape.radius)}" '
            f"{_paint(shape)}/>"
        )
    if isinstance(shape, Polygon):
        return f'<polygon points="{_points(shape.points)}" {_paint(shape)}/>'
    return _text(shape)


def _text(shape: Text) -> str:
    rim = ""
    if shape.halo:
        rim = (
            f' paint-order="stroke" stroke="{WHITE}" stroke-width="{2 * shape.halo}"'
            ' stroke-linejoin="round"'
        )
    x, y = shape.at
    return (
        f'<text x="{_number(x)}" y="{_number(y)}" font-size="{shape.size}" fill="{shape.colour}" '
        f'text-anchor="{shape.anchor}" lengthAdjust="spacingAndGlyphs" '
        f'textLength="{_number(text_width(shape.text, shape.size))}"{rim}>'
        f"{escape(shape.text)}</text>"
    )


def _paint(shape: Disc | Polygon) -> str:
    paint = f'fill="{shape.fill or "none"}"'
    if shape.outline:
        paint += (
            f' stroke="{shape.outline}" stroke-width="{_number(shape.width)}"'
            ' stroke-linejoin="round"'
        )
    return paint


def _points(points: Iterable[Point]) -> str:
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in points)


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
