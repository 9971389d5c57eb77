"""One frame of a walk in continuous space: what was asked, the view, the map, actions, distance.

Legend: t number of actions taken before the frame; box (left, top, right, bottom) in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from PIL import Image

from sterna.show import layers
from sterna.show.floor import Floor, floor_at
from sterna.show.layout import CAPTION, HEIGHT, SIDE, WIDTH, Layout, size_of
from sterna.show.panel import QUIET
from sterna.show.png import SUPERSAMPLE, blank, paint
from sterna.show.recording import Recording
from sterna.show.route import agent_marks, fixed_marks, walked
from sterna.show.scene import INK, Box, Disc, Line, Shape, Text, blend, one_line, text_width
from sterna.show.tape import distance_chart, tape


class Page:
    """Draws the frames of one recording; what does not move is drawn once.

    `tiles` are the boxes of maps: one a floor, or a single one that shows where the agent is.
    `floors` are maps of their size, whose canvases are drawn on. `about` says what is shown
    (episode, agent), `note` stands below the map; where the world is not known a walk is not
    `judged`.
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
            paint(floor.canvas, fixed_marks(recording, floor))
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
            paint(canvas, walked(self.recording, floor, t))
            paint(canvas, floor.names)
            paint(canvas, agent_marks(self.recording, floor, t) if floor is current else ())
            paint(canvas, _border(box))
            parts.append((canvas, box))
            parts.append(_strip(self._under(box), self._caption(floor)))
        actions = tape(self.recording, t, size_of(layout.tape)[0], self.judged)
        chart = distance_chart(self.recording, t, size_of(layout.chart)[0])
        parts += [_strip(layout.tape, actions), _strip(layout.chart, chart)]
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
