"""Marks and names on the map: start, goals, stop, and the numbers of the agent's decisions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from sterna.show.layers import REFERENCE, START, WALKED, Drawing, move_points
from sterna.show.plan import Labels
from sterna.show.scene import WHITE, Disc, Layer, Point, Shape, Text, arrow, circle, star


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


def mark_layers(drawing: Drawing) -> list[Layer]:
    """Draw the viewpoints of the walk, then goals, stop and start over them."""
    walk = drawing.walk
    ends = walk.ends if walk else ()
    dot = partial(Disc, radius=4.6, fill=WALKED, outline=WHITE, width=1.2)
    stops = [dot(centre=drawing.at(i)) for i in ends]
    goals = [shape for i in drawing.goals for shape in goal_mark(drawing.at(i))]
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
        wanted.append((drawing.goals[0], "goal", 16, REFERENCE, 21.0))
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
