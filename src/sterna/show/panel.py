"""What stands beside the map: legend, scores, scale bar and the heights along a walk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sterna.show.plan import Plan
from sterna.show.scene import INK, Box, Layer, Line, Point, Shape, Text, blend, text_width, wrap
from sterna.world.graph import NavGraph

QUIET = "#57606a"
METRES = {"TL", "NE", "NAV_ERROR", "LENGTHS"}

Entry = tuple[Callable[[Point], Sequence[Shape]], str]


def heading(text: str, at: Point) -> Text:
    """Return the small title of a part of the panel."""
    return Text(at=at, text=text, size=13, colour=QUIET)


def legend(entries: Sequence[Entry], left: float, top: float, width: float) -> tuple[Layer, float]:
    """Return the legend's layer and the y where it ends; an entry is (draw symbol at, meaning)."""
    shapes: list[Shape] = [heading("Legend", (left, top + 12))]
    y = top + 36.0
    for symbol, meaning in entries:
        shapes.extend(symbol((left + 20, y - 5)))
        for row in wrap(meaning, 14, width - 50, 3):
            shapes.append(Text(at=(left + 50, y), text=row, size=14))
            y += 18
        y += 6
    return Layer(name="legend", shapes=tuple(shapes)), y


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
    left, top, right, bottom = box
    curves = [(_profile(graph, nodes), colour, width) for nodes, colour, width in walks]
    heights = np.concatenate([curve[:, 1] for curve, _, _ in curves])
    low, high = float(heights.min()), float(heights.max())
    longest = max(float(curve[-1, 0]) for curve, _, _ in curves) or 1.0
    inner, floor, roof = left + 46, bottom - 24, top + 28

    def pixel(point: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Point:
        x = inner + (right - 8 - inner) * float(point[0]) / longest
        return x, floor - (floor - roof) * (float(point[1]) - low) / ((high - low) or 1.0)

    shapes: list[Shape] = [heading("Height above the start", (left, top + 12))]
    for height in sorted({low, 0.0, high}):
        y = pixel(np.array([0.0, height]))[1]
        shapes.append(Line(points=((inner, y), (right - 8, y)), colour=blend(QUIET, 0.25), width=1))
        if height or min(-low, high) > 0.25 * (high - low) or height in (low, high):
            label = f"{height:+.1f} m" if abs(height) >= 0.05 else "0 m"
            shapes.append(
                Text(at=(inner - 6, y + 4), text=label, size=12, colour=QUIET, anchor="end")
            )
    for curve, colour, width in curves:
        shapes.append(Line(points=tuple(map(pixel, curve)), colour=colour, width=width))
    ends = ((inner, "0", "start"), (right - 8, f"{longest:.1f} m along the path", "end"))
    for x, text, anchor in ends:
        shapes.append(Text(at=(x, bottom - 4), text=text, size=12, colour=QUIET, anchor=anchor))
    return Layer(name="heights", shapes=tuple(shapes))


def _profile(
    graph: NavGraph, nodes: Sequence[int]
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    places = graph.positions[list(nodes)]
    gone = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(places, axis=0), axis=1))])
    return np.stack([gone, places[:, 2] - places[0, 2]], axis=1)
