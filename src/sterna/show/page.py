"""One frame of a walk in continuous space: what was asked, the view, the map, actions, distance.

Legend: t number of actions taken before the frame; box (left, top, right, bottom) in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image

from sterna.show import layers
from sterna.show.floor import Floor, floor_at
from sterna.show.panel import QUIET
from sterna.show.plan import Labels
from sterna.show.png import SUPERSAMPLE, blank, paint
from sterna.show.recording import Recording
from sterna.show.scene import (
    INK,
    WHITE,
    Box,
    Disc,
    Line,
    Point,
    Polygon,
    Shape,
    Text,
    arrow,
    blend,
    dashes,
    one_line,
    rectangle,
    star,
    text_width,
    wrap,
)
from sterna.world.frames import Action, direction
from sterna.world.geometry import Floats

WIDTH, HEIGHT = 1280, 720  # pixels
SIDE = 24  # margin
VIEW = 560  # the widest view
STRIP, CAPTION = 78, 24  # heights of what stands below view and map
TITLES = ((20, 3), (17, 4), (14, 6))  # sizes of the instruction and the lines it may take
ICON, GAP = 36, 8
_WEDGE = 26.0  # pixels: how far the map shows where the agent looks
_SAYING = 168  # pixels kept for words beside icons and curve


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where things are on the page; `view` is None where nothing can be rendered."""

    title: tuple[int, tuple[str, ...]]
    view: Box | None
    map: Box
    tape: Box
    chart: Box


def make_layout(instruction: str, aspect: float | None) -> Layout:
    """Lay a page out for an instruction and a view of `aspect` width / height (None: no view)."""
    size, rows = _title(instruction)
    top = SIDE + math.ceil(1.32 * size) * len(rows) + 34.0
    bottom = HEIGHT - SIDE - STRIP - CAPTION - 6.0
    view, left = None, float(SIDE)
    if aspect is not None:
        high = min(bottom - top, VIEW / aspect)
        wide = float(round(high * aspect))
        middle = (top + bottom) / 2
        view = (left, round(middle - high / 2), left + wide, round(middle + high / 2))
        left += wide + SIDE
    strip = HEIGHT - SIDE - STRIP
    half = left if view is not None else WIDTH / 2
    return Layout(
        title=(size, rows),
        view=view,
        map=(left, top, float(WIDTH - SIDE), bottom),
        tape=(float(SIDE), strip, half - SIDE, strip + STRIP),
        chart=(half, strip, float(WIDTH - SIDE), strip + STRIP),
    )


def _title(instruction: str) -> tuple[int, tuple[str, ...]]:
    for size, lines in TITLES:
        rows = wrap(instruction, size, WIDTH - 2 * SIDE, lines)
        if not rows or not rows[-1].endswith(" ..."):
            break
    return size, tuple(rows)


def side_by_side(box: Box, count: int) -> tuple[Box, ...]:
    """Cut a box into `count` of equal size, beside each other."""
    left, top, right, bottom = box
    wide = float((right - left - (count - 1) * GAP) // count)
    starts = [left + i * (wide + GAP) for i in range(count)]
    return tuple((start, top, start + wide, bottom) for start in starts)


def size_of(box: Box) -> tuple[int, int]:
    """Return the width and height of a box in pixels."""
    return round(box[2] - box[0]), round(box[3] - box[1])


class Page:
    """Draws the frames of one recording; what does not move is drawn once.

    `tiles` are the boxes of maps: one a floor, or a single one that shows where the agent is.
    `floors` are maps of their size. `about` says what is shown (episode, agent), `note` stands
    below the map; where the world is not known a walk is not `judged`.
    """

    def __init__(
        self,
        recording: Recording,
        floors: list[Floor],
        tiles: tuple[Box, ...],
        layout: Layout,
        about: str,
        note: str = "",
        judged: bool = True,
    ) -> None:
        self.recording, self.layout, self.note = recording, layout, note
        self.judged = judged
        self.floors, self.tiles = floors, tiles
        for floor in floors:
            paint(floor.canvas, _marks(recording, floor))
        self._base = self._still(about)

    def _still(self, about: str) -> Image.Image:
        """Draw instruction, names, captions and frames."""
        layout, canvas = self.layout, blank(WIDTH, HEIGHT)
        (size, rows), shapes = layout.title, list[Shape]()
        line = math.ceil(1.32 * size)
        for i, row in enumerate(rows):
            shapes.append(Text(at=(SIDE, SIDE + size + i * line), text=row, size=size))
        under = SIDE + line * len(rows) + 19.0
        shapes.append(Text(at=(SIDE, under), text=one_line(about), size=13, colour=QUIET))
        low = layout.map[3] + _BASELINE
        camera = self.recording.protocol
        if layout.view is not None:
            words = (
                f"what the agent sees: {camera.camera_hfov or 0:g}° wide, "
                f"{camera.camera_elevation or 0:g} m above the floor"
            )
            shapes.append(Text(at=(layout.view[0], low), text=words, size=13, colour=QUIET))
        shapes += _legend(layout.map[2], under, self.recording, self.floors[0].plan.scale)
        paint(canvas, shapes)
        return canvas.reduce(SUPERSAMPLE)

    def frames(self, views: Iterator[Image.Image] | None) -> Iterator[Image.Image]:
        """Yield the pages of all t; `views` are what is seen, as large as the layout's view."""
        for t in range(len(self.recording.positions)):
            yield self.frame(t, None if views is None else next(views))

    def frame(self, t: int, view: Image.Image | None) -> Image.Image:
        """Return the page after t actions."""
        page, layout = self._base.copy(), self.layout
        if view is not None and layout.view is not None:
            page.paste(view, (round(layout.view[0]), round(layout.view[1])))
        current = self.floors[floor_at(self.floors, float(self.recording.positions[t, 2]))]
        shown = [current] if len(self.tiles) == 1 else self.floors
        parts: list[tuple[Image.Image, Box]] = []
        for floor, box in zip(shown, self.tiles, strict=True):
            canvas = floor.canvas.copy()
            paint(canvas, _walked(self.recording, floor, t))
            paint(canvas, floor.names)
            paint(canvas, _agent(self.recording, floor, t) if floor is current else ())
            paint(canvas, _border(box))
            parts.append((canvas, box))
            parts.append(_strip(self._under(box), self._caption(floor)))
        tape = _tape(self.recording, t, size_of(layout.tape)[0], self.judged)
        chart = _chart(self.recording, t, size_of(layout.chart)[0])
        parts += [_strip(layout.tape, tape), _strip(layout.chart, chart)]
        for tile, box in parts:
            page.paste(tile.reduce(SUPERSAMPLE), (round(box[0]), round(box[1])))
        return page

    def _under(self, box: Box) -> Box:
        """Return the room for words below a map."""
        left, _, right, low = box
        return (left, low + 2, right, low + 2 + CAPTION)

    def _caption(self, floor: Floor) -> list[Shape]:
        """Say which floor is shown, and where the goal is if it cannot be seen."""
        words, goals = [floor.name] if floor.name else [], self.recording.goals
        if len(self.tiles) == 1 and len(goals) and not floor.shows(goals).any():
            goal = self.floors[floor_at(self.floors, float(goals[0, 2]))]
            side = "upstairs" if goal.level > floor.level else "downstairs"
            words.append(f"the goal is {side}")
        words += [self.note] if self.note else []
        at = (0.0, _BASELINE - 2)
        return [Text(at=at, text=one_line("; ".join(words)), size=13, colour=QUIET)]


_BASELINE = 18.0  # of words below a map


def _strip(box: Box, shapes: list[Shape]) -> tuple[Image.Image, Box]:
    canvas = blank(*size_of(box))
    paint(canvas, shapes)
    return canvas, box


def _border(box: Box) -> list[Shape]:
    width, height = size_of(box)
    corners = ((0.5, 0.5), (width - 0.5, 0.5), (width - 0.5, height - 0.5), (0.5, height - 0.5))
    return [Line(points=(*corners, corners[0]), colour=blend(layers.NODE, 0.5), width=1)]


def _legend(right: float, y: float, recording: Recording, scale: float) -> list[Shape]:
    """Draw what lines mean and how long a metre is, from the right end."""
    metres = next((m for m in (1, 2, 5, 10) if m * scale >= 40), 20)
    wanted = [("walked", layers.WALKED, 3.0, 24.0)]
    if len(recording.reference):
        wanted.append(("reference path", layers.BAND, 7.0, 24.0))
    wanted.append((f"{metres} m", INK, 2.0, metres * scale))
    shapes: list[Shape] = []
    if recording.collided.any():
        right -= text_width("met something", 13)
        shapes.append(Text(at=(right, y), text="met something", size=13, colour=QUIET))
        shapes.append(Disc(centre=(right - 11, y - 5), radius=3, fill=layers.BACK))
        right -= 36
    for words, colour, width, long in wanted:
        right -= text_width(words, 13)
        line = ((right - 8 - long, y - 5), (right - 8, y - 5))
        shapes.append(Text(at=(right, y), text=words, size=13, colour=QUIET))
        shapes.append(Line(points=line, colour=colour, width=width))
        right -= long + 28
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


def _marks(recording: Recording, floor: Floor) -> list[Shape]:
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


def _around(text: Text) -> Box:
    half, (x, y) = text_width(text.text, text.size) / 2, text.at
    return (x - half, y - text.size, x + half, y)


def _mark(at: Point, word: str, colour: str) -> Shape:
    if word == "goal":
        return star(at, 12, colour, WHITE)
    return Disc(centre=at, radius=7, fill=colour, outline=WHITE, width=1.5)


def _walked(recording: Recording, floor: Floor, t: int) -> list[Shape]:
    """Draw the way so far."""
    shapes: list[Shape] = []
    for piece in _pieces(recording.positions[: t + 1], floor):
        shapes.append(Line(points=piece, colour=WHITE, width=5))
        shapes.append(Line(points=piece, colour=layers.WALKED, width=3))
    return shapes


def _agent(recording: Recording, floor: Floor, t: int) -> list[Shape]:
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


def _tape(recording: Recording, t: int, width: int, judged: bool) -> list[Shape]:
    """Draw the last actions, the present one at the right end, and say what it is."""
    count = max(1, int((width - _SAYING) // (ICON + GAP)))
    last = len(recording.actions)
    end = min(t + 1, last)
    shapes: list[Shape] = []
    for place, number in enumerate(range(max(0, end - count), end)):
        box_left = place * (ICON + GAP)
        now = number == t
        shapes += _icon(int(recording.actions[number]), float(box_left), now)
        if not now and recording.collided[number]:
            middle = (box_left + ICON / 2, 20.0 + ICON + 9)
            shapes.append(Disc(centre=middle, radius=3, fill=layers.BACK))
    x = width - _SAYING + 4.0
    step = f"step {min(t + 1, last)} of {last}" if last else "no actions"
    shapes.append(Text(at=(x, 32), text=step, size=13, colour=QUIET))
    said, colour = _words(recording, t, judged)
    shapes.append(Text(at=(x, 54), text=said, size=17, colour=colour))
    return shapes


def _words(recording: Recording, t: int, judged: bool) -> tuple[str, str]:
    """Say what the agent does now, or how the walk ended."""
    if t < len(recording.actions):
        turn, ahead = recording.protocol.turn_angle, recording.protocol.forward_step
        names = ("stop", f"forward {ahead:g} m", f"left {turn:g}°", f"right {turn:g}°")
        return names[int(recording.actions[t])], INK
    if not len(recording.actions):
        return "", INK
    if not recording.stopped:
        return "never stopped", layers.BACK
    if recording.success is None or not judged:
        return "stopped", INK
    return ("success", layers.START) if recording.success else ("stopped too far", layers.BACK)


def _icon(action: int, left: float, now: bool) -> list[Shape]:
    """Draw an action: an arrow ahead, arrows that bend aside, a square for STOP."""
    fill = layers.WALKED if now else blend(layers.NODE, 0.22)
    ink = WHITE if now else INK
    box = (left, 20.0, left + ICON, 20.0 + ICON)
    shapes: list[Shape] = [rectangle(box, fill)]
    x, y = left + ICON / 2, 20.0 + ICON / 2
    if action == Action.STOP:
        return [*shapes, rectangle((x - 7, y - 7, x + 7, y + 7), ink)]
    if action == Action.FORWARD:
        stem: tuple[Point, ...] = ((x, y + 11), (x, y - 2))
        head, way = (x, y - 5), (0.0, -1.0)
    else:
        s = -1.0 if action == Action.LEFT else 1.0
        bend = [(math.cos(a), math.sin(a)) for a in np.linspace(0, math.pi / 2, 7)]
        stem = (
            (x - 6 * s, y + 11),
            *((x + s * (2 - 8 * c), y + 2 - 8 * u) for c, u in bend),
            (x + 3 * s, y - 6),
        )
        head, way = (x + 6 * s, y - 6), (s, 0.0)
    shapes.append(Line(points=stem, colour=ink, width=3))
    shapes.append(_head(head, way, ink))
    return shapes


def _head(at: Point, way: Point, fill: str) -> Polygon:
    (x, y), (dx, dy) = at, way
    corners = ((8.0, 0.0), (-3.0, 7.0), (-3.0, -7.0))
    return Polygon(
        points=tuple((x + a * dx - b * dy, y + a * dy + b * dx) for a, b in corners), fill=fill
    )


def _chart(recording: Recording, t: int, width: int) -> list[Shape]:
    """Draw the distance left to the goal over the steps so far, and the success radius."""
    if recording.to_goal is None:
        return [Text(at=(0, 32), text="the goal is not known", size=13, colour=QUIET)]
    left = recording.to_goal
    shapes: list[Shape] = [
        Text(at=(0, 32), text="distance left", size=13, colour=QUIET),
        Text(at=(0, 60), text=_metres(float(left[t])), size=24),
    ]
    finite = left[np.isfinite(left)]
    radius = recording.protocol.success_radius
    most = max(float(finite.max(initial=0.0)), 1.2 * radius)
    x0, x1, y0, y1 = 150.0, width - 34.0, STRIP - 8.0, 10.0

    def pixel(step: float, metres: float) -> Point:
        share = step / max(1, len(left) - 1)
        return x0 + share * (x1 - x0), y0 - metres / most * (y0 - y1)

    edge = Line(points=(pixel(0, radius), pixel(len(left) - 1, radius)), colour=QUIET, width=1)
    shapes += dashes(edge, 4, 5)
    beside = Text(at=(x1 + 8, edge.points[0][1] + 4), text=f"{radius:g} m", size=12, colour=QUIET)
    base = Line(points=((x0, y0), (x1, y0)), colour=blend(QUIET, 0.4), width=1)
    curve = tuple(pixel(i, float(m)) for i, m in enumerate(left[: t + 1]) if math.isfinite(m))
    shapes += [beside, base]
    shapes += [Line(points=curve, colour=layers.WALKED, width=2.5)] if len(curve) > 1 else []
    shapes += [Disc(centre=curve[-1], radius=4.5, fill=layers.WALKED)] if curve else []
    return shapes


def _metres(value: float) -> str:
    return f"{value:.2f} m" if math.isfinite(value) else "no way"
