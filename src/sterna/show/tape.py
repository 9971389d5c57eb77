"""Below view and map: the last actions, and the distance left to the goal."""

from __future__ import annotations

import math

import numpy as np

from sterna.show import layers
from sterna.show.layout import GAP, ICON, STRIP
from sterna.show.panel import QUIET
from sterna.show.recording import Recording
from sterna.show.scene import (
    INK,
    WHITE,
    Disc,
    Line,
    Point,
    Polygon,
    Shape,
    Text,
    blend,
    dashes,
    rectangle,
)
from sterna.world.frames import Action

_SAYING = 168  # pixels kept for words beside icons and curve


def tape(recording: Recording, t: int, width: int, judged: bool) -> list[Shape]:
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


def distance_chart(recording: Recording, t: int, width: int) -> list[Shape]:
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
