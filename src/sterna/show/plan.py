"""From metres to pixels: the part of a scan that is shown, and where its labels go."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from sterna.show.scene import Box, Point, text_width
from sterna.world.geometry import Floats

MARGIN = 1.5  # metres around what must be visible
LEAST = 9.0  # metres: the smallest width or height shown


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A map seen from above, north (+y) up: world metres [x, y] to pixels within `box`.

    `scale` is pixels per metre and `middle` the world point in the middle of the box.
    """

    box: Box
    scale: float
    middle: Point

    def pixel(self, position: Sequence[float] | Floats) -> Point:
        """Return the pixel of a world position (x, y, ...) in metres."""
        left, top, right, bottom = self.box
        x = (left + right) / 2 + self.scale * (float(position[0]) - self.middle[0])
        y = (top + bottom) / 2 - self.scale * (float(position[1]) - self.middle[1])
        return (x, y)

    def clip(self, start: Point, end: Point) -> tuple[Point, Point] | None:
        """Cut a segment of pixels to the box (Liang-Barsky); None if it lies outside."""
        (x, y), (dx, dy) = start, (end[0] - start[0], end[1] - start[1])
        left, top, right, bottom = self.box
        begin, stop = 0.0, 1.0
        for step, room in ((-dx, x - left), (dx, right - x), (-dy, y - top), (dy, bottom - y)):
            if step == 0:
                if room < 0:
                    return None
                continue
            share = room / step
            begin, stop = (begin, min(stop, share)) if step > 0 else (max(begin, share), stop)
        if begin > stop:
            return None
        return (x + begin * dx, y + begin * dy), (x + stop * dx, y + stop * dy)

    def shows(self, point: Point, margin: float = 0.0) -> bool:
        """Say whether a pixel lies in the box, at least `margin` pixels from its border."""
        left, top, right, bottom = self.box
        return (
            left + margin <= point[0] <= right - margin
            and top + margin <= point[1] <= bottom - margin
        )


def make_plan(shown: Floats, left: float, top: float, width: float, heights: Point) -> Plan:
    """Fit world points [K, 3] into a map `width` pixels wide and `heights` (least, most) high."""
    low = shown[:, :2].min(0) - MARGIN
    high = shown[:, :2].max(0) + MARGIN
    extent = np.maximum(high - low, LEAST)
    height = float(np.clip(width * extent[1] / extent[0], *heights))
    scale = min(width / float(extent[0]), height / float(extent[1]))
    middle = (low + high) / 2
    return Plan(
        box=(left, top, left + width, top + height),
        scale=scale,
        middle=(float(middle[0]), float(middle[1])),
    )


@dataclass
class Labels:
    """Finds places for labels near their points: away from each other, from lines and from nodes.

    `obstacles` are pixels that a label should not cover, `box` is where labels must stay.
    """

    box: Box
    obstacles: list[Point] = field(default_factory=list)
    placed: list[Box] = field(default_factory=list)

    def avoid(self, points: Iterable[Point], spacing: float = 5.0) -> None:
        """Add a polyline, sampled every few pixels, to the obstacles."""
        corners = list(points)
        self.obstacles.extend(corners[:1])
        for (ax, ay), (bx, by) in pairwise(corners):
            count = max(1, round(math.hypot(bx - ax, by - ay) / spacing))
            shares = [(i + 1) / count for i in range(count)]
            self.obstacles.extend((ax + s * (bx - ax), ay + s * (by - ay)) for s in shares)

    def place(self, point: Point, text: str, size: int, reach: float) -> Point:
        """Return the baseline middle for a text near a point, from `reach` pixels away."""
        width, height = text_width(text, size), 0.75 * size
        obstacles = np.array(self.obstacles, np.float64).reshape(-1, 2)
        best, lowest = point, math.inf
        for distance in (reach, reach + 7, reach + 16, reach + 28):
            for angle in range(0, 360, 30):
                dx, dy = math.cos(math.radians(angle)), -math.sin(math.radians(angle))
                x = point[0] + dx * (distance + width / 2)
                y = point[1] + dy * (distance + height / 2)
                box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
                cost = self._cost(box, obstacles) + 0.12 * (distance - reach)
                if cost < lowest:
                    best, lowest = (x, y + height / 2), cost
        left, bottom = best[0] - width / 2, best[1]
        self.placed.append((left, bottom - height, left + width, bottom))
        return best

    def _cost(self, box: Box, obstacles: Floats) -> float:
        left, top, right, bottom = box
        x, y = obstacles[:, 0], obstacles[:, 1]
        covered = (x > left - 3) & (x < right + 3) & (y > top - 3) & (y < bottom + 3)
        cost = float(covered.sum())
        for a, b, c, d in self.placed:
            wide = min(right, c) - max(left, a) + 4
            high = min(bottom, d) - max(top, b) + 4
            cost += 40 if wide > 0 and high > 0 else 0
        outside = (
            left < self.box[0] or right > self.box[2] or top < self.box[1] or bottom > self.box[3]
        )
        return cost + 100 * outside
