"""Where things are on the page of a walk: instruction, view, map, actions, distance.

A box is (left, top, right, bottom) in pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sterna.show.scene import Box, wrap

WIDTH, HEIGHT = 1280, 720  # pixels
SIDE = 24  # margin
VIEW = 560  # the widest view
STRIP, CAPTION = 78, 24  # heights of what stands below view and map
TITLES = ((20, 3), (17, 4), (14, 6))  # sizes of the instruction and the lines it may take
ICON, GAP = 36, 8


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
