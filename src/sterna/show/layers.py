"""The layers of the map: the scan's graph, success, reference path, walk, markers and labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sterna.data.episodes import Episode
from sterna.show.plan import Labels, Plan
from sterna.show.scene import (
    WHITE,
    Disc,
    Layer,
    Line,
    Point,
    Polygon,
    Shape,
    Text,
    along,
    arrow,
    blend,
    dashes,
    star,
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
    """Return the viewpoints where stopping is a success.

    Those less than 3 m of geodesic distance from the goal (R2R's evaluator), or the listed goals
    alone where the episode lists goals (REVERIE: viewpoints that see the object).
    """
    if drawing.episode.goals or not drawing.goals:
        return list(drawing.goals)
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
    circle = success_circle(drawing.at(drawing.goals[0]), SUCCESS * drawing.plan.scale)
    return Layer(name="success", shapes=tuple(circle))


def circle(centre: Point, radius: float) -> tuple[Point, ...]:
    """Return a closed polyline of 72 sides around a point (pixels)."""
    angles = (k * math.tau / 72 for k in range(73))
    return tuple(
        (centre[0] + radius * math.cos(t), centre[1] + radius * math.sin(t)) for t in angles
    )


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


def start_mark(at: Point, heading: float) -> list[Shape]:
    """Return the start: a disc with a pointer in the direction the agent faces (radians)."""
    facing = (math.sin(heading), -math.cos(heading))
    nose = (at[0] + 16 * facing[0], at[1] + 16 * facing[1])
    disc = Disc(centre=at, radius=8, fill=START, outline=WHITE, width=1.5)
    return [arrow(nose, facing, 13, START), disc]


def goal_mark(at: Point) -> list[Shape]:
    """Return the goal: a star."""
    return [star(at, 13, REFERENCE, WHITE)]


def stop_mark(at: Point, radius: float = 16.0) -> list[Shape]:
    """Return the place where the agent stopped: a ring that leaves a star below it visible."""
    return [
        Disc(centre=at, radius=radius, outline=WHITE, width=6),
        Disc(centre=at, radius=radius, outline=WALKED, width=3),
    ]


def marks_layer(drawing: Drawing) -> list[Layer]:
    """Draw the viewpoints of the walk, then goals, stop and start over them."""
    walk = drawing.walk
    ends = walk.ends if walk else ()
    stops = [
        Disc(centre=drawing.at(i), radius=4.6, fill=WALKED, outline=WHITE, width=1.2) for i in ends
    ]
    goals = [
        shape for i in drawing.goals if drawing.visible(i) for shape in goal_mark(drawing.at(i))
    ]
    start = start_mark(drawing.at(drawing.reference[0]), drawing.episode.heading)
    stop = stop_mark(drawing.at(walk.nodes[-1])) if walk else []
    named = (("steps", stops), ("goal", goals), ("stop", stop), ("start", start))
    return [Layer(name=name, shapes=tuple(shapes)) for name, shapes in named]


def labels_layer(drawing: Drawing) -> Layer:
    """Name start, goal and stop, and number the viewpoints on which the walk's steps ended."""
    labels = Labels(box=drawing.plan.box)
    labels.avoid(map(drawing.at, drawing.reference), spacing=8)
    for move in drawing.walk.moves if drawing.walk else ():
        labels.avoid(move_points(drawing, move))
    for node in filter(drawing.visible, range(len(drawing.graph))):
        labels.avoid([drawing.at(node)])
    wanted = _wanted(drawing)
    for node, _, _, _, reach in wanted:
        labels.avoid(circle(drawing.at(node), reach - 5))
    shapes = []
    for node, text, size, colour, reach in wanted:
        at = labels.place(drawing.at(node), text, size, reach)
        shapes.append(Text(at=at, text=text, size=size, colour=colour, anchor="middle", halo=3))
    return Layer(name="labels", shapes=tuple(shapes))


def _wanted(drawing: Drawing) -> list[tuple[int, str, int, str, float]]:
    wanted = [(drawing.reference[0], "start", 16, START, 24.0)]
    if len(drawing.goals) == 1:
        wanted.append((drawing.goals[0], "goal", 16, REFERENCE, 18.0))
    if drawing.walk is None:
        return wanted
    stop, steps = drawing.walk.nodes[-1], dict[int, list[int]]()
    for step, node in enumerate(drawing.walk.ends, start=1):
        steps.setdefault(node, []).append(step)
    numbers = f" ({_numbers(steps.pop(stop))})" if stop in steps else ""
    wanted.append((stop, "stop" + numbers, 16, WALKED, 20.0))
    marked = (drawing.reference[0], *drawing.goals)
    for node, listed in steps.items():
        wanted.append((node, _numbers(listed), 14, WALKED, 18.0 if node in marked else 9.0))
    return wanted


def _numbers(steps: Sequence[int]) -> str:
    return ", ".join(map(str, steps[:4])) + (", ..." if len(steps) > 4 else "")
