"""A walk on a map of the floor: what stays, the way so far, and the agent."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from sterna.show import layers
from sterna.show.floor import Floor
from sterna.show.plan import Labels
from sterna.show.recording import Recording
from sterna.show.scene import WHITE, Box, Disc, Line, Point, Shape, Text, arrow, star, text_width
from sterna.world.frames import direction
from sterna.world.geometry import Floats

_WEDGE = 26.0  # pixels: how far the map shows where the agent looks


def fixed_marks(recording: Recording, floor: Floor) -> list[Shape]:
    """Draw what does not move: the reference path, the start and the goals, with their names."""
    shapes: list[Shape] = []
    labels = Labels(floor.plan.box)
    labels.placed += [_around(name) for name in floor.names if isinstance(name, Text)]
    if len(recording.reference) > 1:
        for piece in _pieces(_fine(recording.reference), floor):
            labels.avoid(piece)
            shapes.append(Line(points=piece, colour=layers.BAND, width=7))
    places = [(recording.positions[:1], "start", layers.START)]
    places += [(goal[None], "goal", layers.REFERENCE) for goal in recording.goals]
    for place, word, colour in places:
        if floor.shows(place).all():
            at = floor.plan.pixel(place[0])
            labels.avoid([at])
            shapes.append(_mark(at, word, colour))
            spot = labels.place(at, word, 15, 13.0)
            shapes.append(Text(at=spot, text=word, size=15, colour=colour, anchor="middle", halo=3))
    return shapes


def walked(recording: Recording, floor: Floor, t: int) -> list[Shape]:
    """Draw the way so far."""
    shapes: list[Shape] = []
    for piece in _pieces(recording.positions[: t + 1], floor):
        shapes.append(Line(points=piece, colour=WHITE, width=5))
        shapes.append(Line(points=piece, colour=layers.WALKED, width=3))
    return shapes


def agent_marks(recording: Recording, floor: Floor, t: int) -> list[Shape]:
    """Draw the agent, and how wide it sees."""
    shapes: list[Shape] = []
    at, heading = floor.plan.pixel(recording.positions[t]), float(recording.headings[t])
    half = math.radians(recording.protocol.camera_hfov or 90) / 2
    for side in (heading - half, heading + half):
        east, north = direction(side).tolist()
        end = (at[0] + _WEDGE * east, at[1] - _WEDGE * north)
        shapes.append(Line(points=(at, end), colour=layers.WALKED, width=1.5))
    east, north = direction(heading).tolist()
    shapes.append(Disc(centre=at, radius=10, fill=WHITE, outline=layers.WALKED, width=2))
    shapes.append(arrow(at, (east, -north), 15, layers.WALKED))
    return shapes


def _pieces(points: Floats, floor: Floor) -> Iterator[tuple[Point, ...]]:
    """Yield the stretches of a polyline [n, 3] that lie on a floor, in pixels."""
    here = floor.shows(points)
    ends = np.flatnonzero(np.diff(np.concatenate([[False], here, [False]]).astype(int)))
    for begin, end in zip(ends[::2].tolist(), ends[1::2].tolist(), strict=True):
        yield tuple(floor.plan.pixel(point) for point in points[begin:end])


def _fine(points: Floats) -> Floats:
    """Return a polyline with points between, so that a piece on stairs is cut where it should."""
    parts = [np.linspace(a, b, 12, endpoint=False) for a, b in pairwise(points)]
    return np.concatenate([*parts, points[-1:]])


def _around(text: Text) -> Box:
    half, (x, y) = text_width(text.text, text.size) / 2, text.at
    return (x - half, y - text.size, x + half, y)


def _mark(at: Point, word: str, colour: str) -> Shape:
    if word == "goal":
        return star(at, 12, colour, WHITE)
    return Disc(centre=at, radius=7, fill=colour, outline=WHITE, width=1.5)
