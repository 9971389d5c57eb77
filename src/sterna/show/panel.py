"""What stands beside the map: scores, scale bar and the heights along a walk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from sterna.show.plan import Plan
from sterna.show.scene import INK, Box, Layer, Line, Point, Shape, Text, blend, text_width
from sterna.world.geometry import Floats
from sterna.world.graph import NavGraph

QUIET = "#57606a"
METRES = {"TL", "NE", "NAV_ERROR", "LENGTHS"}


def heading(text: str, at: Point) -> Text:
    """Return the small title of a part of the panel."""
    return Text(at=at, text=text, size=13, colour=QUIET)


def score_text(name: str, value: object) -> str:
    """Return a score as it is printed: two decimals, metres where the score is a length."""
    if isinstance(value, bool | str | int) or not isinstance(value, float | np.floating):
        return str(value)
    return f"{float(value):.2f}" + (" m" if name.upper() in METRES else "")


def score_table(scores: Mapping[str, object], left: float, top: float) -> tuple[Layer, float]:
    """Return the layer of an episode's scores, in the order given, and the y where it ends."""
    shapes: list[Shape] = [heading("Scores of this episode", (left, top + 12))]
    names = max((text_width(name, 15) for name in scores), default=0.0)
    y = top + 36.0
    for name, value in scores.items():
        shapes.append(Text(at=(left, y), text=name, size=15, colour=QUIET))
        shapes.append(Text(at=(left + names + 18, y), text=score_text(name, value), size=15))
        y += 21
    return Layer(name="scores", shapes=tuple(shapes)), y


def scale_bar(plan: Plan) -> Layer:
    """Return a bar of 1, 2, 5, 10 or 20 metres in the lower left corner of the map."""
    metres = next((m for m in (1, 2, 5, 10) if m * plan.scale >= 70), 20)
    left, bottom = plan.box[0] + 16, plan.box[3] - 16
    right = left + metres * plan.scale
    ticks = tuple(
        Line(points=((x, bottom - 6), (x, bottom)), colour=INK, width=2) for x in (left, right)
    )
    bar = Line(points=((left, bottom), (right, bottom)), colour=INK, width=2)
    label = Text(
        at=((left + right) / 2, bottom - 8), text=f"{metres} m", size=14, anchor="middle", halo=2
    )
    return Layer(name="scale", shapes=(bar, *ticks, label))


def height_profile(
    graph: NavGraph, walks: Sequence[tuple[Sequence[int], str, float]], box: Box
) -> Layer:
    """Return a small chart: height above the start (m) against metres walked.

    Each walk is (nodes, colour, line width); all begin at the same node.
    """
    left, top, right, bottom = box[0] + 46, box[1] + 28, box[2] - 8, box[3] - 24
    curves = [_profile(graph, nodes) for nodes, _, _ in walks]
    longest = max(float(curve[-1, 0]) for curve in curves) or 1.0
    low = min(float(curve[:, 1].min()) for curve in curves)
    high = max(float(curve[:, 1].max()) for curve in curves)
    span = (high - low) or 1.0

    def pixel(gone: float, height: float) -> Point:
        across, up = gone / longest, (height - low) / span
        return left + across * (right - left), bottom - up * (bottom - top)

    quiet = partial(Text, size=12, colour=QUIET)
    shapes: list[Shape] = [heading("Height above the start", (box[0], box[1] + 12))]
    for height in _named(low, high):
        y = pixel(0, height)[1]
        shapes.append(Line(points=((left, y), (right, y)), colour=blend(QUIET, 0.25), width=1))
        shapes.append(quiet(at=(left - 6, y + 4), text=_signed(height), anchor="end"))
    for curve, (_, colour, width) in zip(curves, walks, strict=True):
        points = tuple(pixel(gone, height) for gone, height in curve.tolist())
        shapes.append(Line(points=points, colour=colour, width=width))
    shapes.append(quiet(at=(left, box[3] - 4), text="0"))
    shapes.append(
        quiet(at=(right, box[3] - 4), text=f"{longest:.1f} m along the path", anchor="end")
    )
    return Layer(name="heights", shapes=tuple(shapes))


def _named(low: float, high: float) -> list[float]:
    """Return the heights to name; the start's own too unless its label would touch another."""
    room = ((high - low) or 1.0) / 4
    return sorted({low, high, *([0.0] if low + room < 0 < high - room else [])})


def _signed(height: float) -> str:
    return f"{height:+.1f} m" if abs(height) >= 0.05 else "0 m"


def _profile(graph: NavGraph, nodes: Sequence[int]) -> Floats:
    places = graph.positions[list(nodes)]
    gone = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(places, axis=0), axis=1))])
    return np.stack([gone, places[:, 2] - places[0, 2]], axis=1)
