"""The legend: symbols made by the very functions that draw the map, and what they mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from sterna.show import layers
from sterna.show.layers import Drawing
from sterna.show.marks import goal_mark, start_mark, stop_mark
from sterna.show.panel import heading
from sterna.show.scene import Disc, Layer, Line, Point, Shape, Text, arrow, blend, wrap

Symbol = Callable[[Point], Sequence[Shape]]
Entry = tuple[bool, Symbol, str]


def legend_layer(drawing: Drawing, left: float, top: float, width: float) -> tuple[Layer, float]:
    """Return the legend of what the picture shows, and the y where it ends."""
    shapes: list[Shape] = [heading("Legend", (left, top + 12))]
    y = top + 36.0
    entries = [*_task_entries(drawing), *_walk_entries(drawing), *_scan_entries(drawing)]
    for shown, symbol, meaning in entries:
        if not shown:
            continue
        shapes.extend(symbol((left + 20, y - 5)))
        for row in wrap(meaning, 14, width - 50, 3):
            shapes.append(Text(at=(left + 50, y), text=row, size=14))
            y += 18
        y += 6
    return Layer(name="legend", shapes=tuple(shapes)), y


def _task_entries(drawing: Drawing) -> list[Entry]:
    goals, listed = drawing.goals, bool(drawing.episode.goals)
    success = "less than 3 m from the goal along the graph: success"
    return [
        (True, _start, "start, pointing where the agent faces"),
        (
            bool(goals),
            goal_mark,
            "goal" if len(goals) == 1 else "goals: stopping at one is a success",
        ),
        (len(drawing.reference) > 1, _reference, "annotated path"),
        (bool(goals) and not listed, _ring, success),
        (bool(goals) and not listed, _circle, "3 m around the goal in a straight line"),
    ]


def _walk_entries(drawing: Drawing) -> list[Entry]:
    moves = drawing.walk.moves if drawing.walk else ()
    ahead, back = any(not move.back for move in moves), any(move.back for move in moves)
    stop = partial(stop_mark, radius=10.0)
    return [
        (ahead, partial(_walked, back=False), "walked; numbers count the agent's decisions"),
        (back, partial(_walked, back=True), "walked back to a viewpoint visited before"),
        (drawing.walk is not None, stop, "where the agent stopped"),
    ]


def _scan_entries(drawing: Drawing) -> list[Entry]:
    faded = any(map(drawing.visible, layers.faded_nodes(drawing).nonzero()[0].tolist()))
    near = partial(_graph, colour=layers.NODE, share=0.4)
    far = partial(_graph, colour=layers.FADED, share=0.45)
    return [
        (True, near, "viewpoints and edges of the scan"),
        (faded, far, "those more than 1.5 m higher or lower"),
    ]


def _start(at: Point) -> list[Shape]:
    return start_mark((at[0] - 7, at[1]), math.pi / 2)


def _reference(at: Point) -> list[Shape]:
    points = ((at[0] - 18, at[1]), (at[0] + 18, at[1]))
    band = Line(points=points, colour=layers.BAND, width=11)
    return [band, arrow(at, (1.0, 0.0), layers.ARROW, layers.REFERENCE)]


def _walked(at: Point, back: bool) -> list[Shape]:
    return layers.walked_line(((at[0] - 20, at[1]), (at[0] + 20, at[1])), back)


def _ring(at: Point) -> list[Shape]:
    return [layers.ring(at)]


def _circle(at: Point) -> list[Shape]:
    return layers.success_circle(at, 11)


def _graph(at: Point, colour: str, share: float) -> list[Shape]:
    left, right = (at[0] - 16, at[1]), (at[0] + 16, at[1])
    edge = Line(points=(left, right), colour=blend(colour, share), width=1.3)
    return [edge, *(Disc(centre=p, radius=3.6, fill=colour) for p in (left, right))]
