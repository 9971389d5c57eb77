"""The layers of the map: the scan's graph, what counts as success, the two paths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sterna.data.episodes import Episode
from sterna.show.plan import Plan
from sterna.show.scene import (
    WHITE,
    Disc,
    Layer,
    Line,
    Point,
    Polygon,
    Shape,
    along,
    arrow,
    blend,
    circle,
    dashes,
)
from sterna.show.walk import Move, Walk
from sterna.world.graph import NavGraph

# Okabe and Ito's palette, which the common colour blindnesses keep apart; the purple is darker.
REFERENCE = "#0072b2"
WALKED = "#d55e00"
BACK = "#7b2d8b"
START = "#009e73"
NODE = "#868e98"
FADED = blend(NODE, 0.3)
BAND = blend(REFERENCE, 0.38)

SUCCESS = 3.0  # metres: R2R's success radius
STOREY = 1.5  # metres: viewpoints further up or down than this from the paths are faded
LANE = 9.0  # pixels between repeated walks over one edge
ARROW = 13.0  # pixels: length of an arrowhead


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What is drawn: node numbers of the reference path and the goals, the walk, and the map."""

    graph: NavGraph
    episode: Episode
    reference: tuple[int, ...]
    goals: tuple[int, ...]
    walk: Walk | None
    plan: Plan

    @property
    def nodes(self) -> tuple[int, ...]:
        """Every node of the reference path and of the walk."""
        return (*self.reference, *(self.walk.nodes if self.walk else ()))

    def at(self, node: int) -> Point:
        """Return a node's pixel."""
        return self.plan.pixel(self.graph.positions[node])

    def visible(self, node: int) -> bool:
        """Say whether a node lies on the map."""
        return self.plan.shows(self.at(node), margin=4)


def faded_nodes(drawing: Drawing) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Say of each viewpoint [N] whether it lies on another storey than all that is drawn."""
    height = drawing.graph.positions[:, 2]
    apart = np.abs(height[:, None] - height[list(drawing.nodes)]).min(1)
    return np.asarray(apart > STOREY)


def successes(drawing: Drawing) -> list[int]:
    """Return the viewpoints less than 3 m of geodesic distance from the goal (R2R's success).

    None where the episode lists its goals (REVERIE: the viewpoints that see the object), since
    there stopping at a goal alone is a success.
    """
    if drawing.episode.goals or not drawing.goals:
        return []
    return [int(i) for i in np.flatnonzero(drawing.graph.distances[drawing.goals[0]] < SUCCESS)]


def graph_layer(drawing: Drawing) -> Layer:
    """Draw viewpoints and edges, those of other storeys pale and below."""
    graph, plan, faded = drawing.graph, drawing.plan, faded_nodes(drawing)
    starts = np.repeat(np.arange(len(graph)), np.diff(graph.indptr))
    shapes: list[tuple[bool, Shape]] = []
    for a, b in zip(starts, graph.indices, strict=True):
        cut = plan.clip(drawing.at(int(a)), drawing.at(int(b))) if a < b else None
        if cut:
            pale = bool(faded[a] or faded[b])
            colour = blend(NODE, 0.14 if pale else 0.4)
            shapes.append((not pale, Line(points=cut, colour=colour, width=1.3)))
    for node in filter(drawing.visible, range(len(graph))):
        colour = FADED if faded[node] else NODE
        shapes.append((not faded[node], Disc(centre=drawing.at(node), radius=3.6, fill=colour)))
    return Layer(name="graph", shapes=tuple(shape for _, shape in sorted(shapes, key=_first)))


def _first(pair: tuple[bool, Shape]) -> bool:
    return pair[0]


def success_layer(drawing: Drawing) -> Layer:
    """Draw the circle of 3 m around the goal, to scale; nothing where success has no radius."""
    if drawing.episode.goals or not drawing.goals:
        return Layer(name="success", shapes=())
    shapes = success_circle(drawing.at(drawing.goals[0]), SUCCESS * drawing.plan.scale)
    return Layer(name="success", shapes=tuple(shapes))


def success_circle(centre: Point, radius: float) -> list[Shape]:
    """Return the pale, dashed circle that marks the success radius (pixels)."""
    rim = Line(points=circle(centre, radius), colour=blend(REFERENCE, 0.6), width=1.5)
    return [Disc(centre=centre, radius=radius, fill=blend(REFERENCE, 0.09)), *dashes(rim, 5, 6)]


def ring(centre: Point) -> Disc:
    """Return the mark of a viewpoint that counts as success."""
    return Disc(centre=centre, radius=5, fill=WHITE, outline=REFERENCE, width=2)


def rings_layer(drawing: Drawing) -> Layer:
    """Draw a ring on every viewpoint where stopping is a success."""
    nodes = filter(drawing.visible, successes(drawing))
    return Layer(name="successes", shapes=tuple(ring(drawing.at(node)) for node in nodes))


def reference_layer(drawing: Drawing) -> Layer:
    """Draw the annotated path as a broad pale band with arrowheads."""
    points = tuple(map(drawing.at, drawing.reference))
    if len(points) < 2:
        return Layer(name="reference", shapes=())
    heads = [head for pair in pairwise(points) if (head := _head(pair, 0.32, REFERENCE))]
    band = Line(points=points, colour=BAND, width=11)
    dots = [Disc(centre=point, radius=2.6, fill=REFERENCE) for point in points]
    return Layer(name="reference", shapes=(band, *dots, *heads))


def walk_layers(drawing: Drawing) -> tuple[Layer, Layer]:
    """Draw the walk: moves to new viewpoints solid, moves back over seen ones dashed."""
    moves = drawing.walk.moves if drawing.walk else ()
    ahead = [shape for move in moves if not move.back for shape in _move(drawing, move)]
    back = [shape for move in moves if move.back for shape in _move(drawing, move)]
    return Layer(name="looked-back", shapes=tuple(back)), Layer(name="walked", shapes=tuple(ahead))


def move_points(drawing: Drawing, move: Move) -> tuple[Point, ...]:
    """Return a move's line in pixels; a repeated walk over an edge bows out into its own lane."""
    a, b = drawing.at(move.start), drawing.at(move.end)
    length = math.dist(a, b)
    if not move.lane or not length:
        return (a, b)
    side = LANE * ((move.lane + 1) // 2) * (1 if move.lane % 2 else -1)
    side *= 1 if move.start < move.end else -1
    normal = ((b[1] - a[1]) / length, (a[0] - b[0]) / length)
    points = []
    for k in range(13):
        share = k / 12
        out = side * math.sin(math.pi * share) ** 0.6
        x = a[0] + share * (b[0] - a[0]) + out * normal[0]
        points.append((x, a[1] + share * (b[1] - a[1]) + out * normal[1]))
    return tuple(points)


def walked_line(points: tuple[Point, ...], back: bool) -> list[Shape]:
    """Return a stretch of walk with its arrowhead; dashed and purple where it goes back."""
    line = Line(points=points, colour=BACK if back else WALKED, width=3.2)
    head = _head(points, 0.62, line.colour)
    return [*(dashes(line, 5, 8) if back else [line]), *([head] if head else [])]


def _move(drawing: Drawing, move: Move) -> list[Shape]:
    points = move_points(drawing, move)
    return walked_line(points, move.back)


def _head(points: Sequence[Point], share: float, colour: str) -> Polygon | None:
    if sum(math.dist(a, b) for a, b in pairwise(points)) < 1.8 * ARROW:
        return None
    at, direction = along(points, share)
    return arrow(at, direction, ARROW, colour)
