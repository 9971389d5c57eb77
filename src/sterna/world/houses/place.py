"""Putting models into a room: nothing intersects, doors stay free, and a way leads everywhere.

Whole millimetres.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from sterna.world.houses.dice import Dice
from sterna.world.houses.model import Box, Model
from sterna.world.houses.placed import Placed, meet, put, strip_in_front, turned
from sterna.world.houses.plan import Rect

Cells = NDArray[Any]

CELL = 100  # of the raster on which ways are sought
WALK = 300  # half the width of a walkway
FLAT = 30  # what is no higher is walked over
HUNG = 600  # what hangs higher, hangs on a wall or from the ceiling, out of the way


@dataclass
class Site:
    """A room being furnished: `rect` its clear floor, `doors` (side, low, high) of ways in.

    Sides are numbered as quarters: 0 north, 1 east, 2 south, 3 west. `floor` and `ceiling` are
    heights (z), `windows` (side, low, high, sill over the floor); `kept` are boxes of air that must
    stay free, for doors, windows and stairs; `holes` are openings, where nothing can hang; `reach`
    is floor from which things are used.
    """

    dice: Dice
    rect: Rect
    floor: int
    ceiling: int
    doors: list[tuple[int, int, int]]
    windows: list[tuple[int, int, int, int]]
    kept: list[Box] = field(default_factory=list)
    things: list[Placed] = field(default_factory=list)
    holes: list[Box] = field(default_factory=list)
    reach: list[Rect] = field(default_factory=list)

    @property
    def width(self) -> int:
        """Return the room's clear extent along x."""
        return self.rect[2] - self.rect[0]

    @property
    def middle(self) -> tuple[int, int]:
        """Return the middle of the room, on a grid of 10 mm."""
        x0, y0, x1, y1 = self.rect
        return (x0 + x1) // 20 * 10, (y0 + y1) // 20 * 10

    @property
    def depth(self) -> int:
        """Return the room's clear extent along y."""
        return self.rect[3] - self.rect[1]

    def fits(self, new: Placed, front: int = 0) -> bool:
        """Say whether a thing can be here: inside, meeting nothing, leaving ways free."""
        x0, y0, x1, y1 = self.rect
        b = new.box
        if b[0] < x0 or b[1] < y0 or b[3] > x1 or b[4] > y1 or b[5] > self.ceiling:
            return False
        flat = b[5] - self.floor < FLAT  # rugs may lie in front of doors, clear of their frames
        if flat and (b[0] < x0 + 20 or b[1] < y0 + 20 or b[3] > x1 - 20 or b[4] > y1 - 20):
            return False
        if not flat and any(meet(b, air) and _parts_meet(new, air) for air in self.kept):
            return False
        if b[2] - self.floor >= HUNG and any(meet(b, hole) for hole in self.holes):
            return False
        for other in self.things:
            if meet(b, other.box) and any(meet(p, other.box) for p, _ in new.parts):
                for part, _ in new.parts:
                    if any(meet(part, theirs) for theirs, _ in other.parts):
                        return False
        return not self._stands(new) or self._walkable(new, front)

    def _stands(self, thing: Placed) -> bool:
        """Say whether a thing stands on the floor, or on a rug, where people would walk."""
        low, high = thing.box[2] - self.floor, thing.box[5] - self.floor
        return high >= FLAT and low < (FLAT if thing.on is not None else HUNG)

    def _walkable(self, new: Placed, front: int) -> bool:
        zone = strip_in_front(new, front) if front else None
        if zone is not None and not _inside(zone, self.rect):
            return False
        free = self.free([*self.things, new])
        marks = label(free)[0]
        seeds = [int(marks[self._cell(*spot)]) for spot in self._door_spots()]
        if not seeds or 0 in seeds or len({*seeds}) > 1:
            return False
        zones = [*self.reach, zone] if zone is not None else self.reach
        return all(bool((self._window(marks, z) == seeds[0]).any()) for z in zones)

    def free(self, things: Sequence[Placed]) -> Cells:
        """Return where the middle of a walker can be, [y, x] on the room's raster."""
        x0, y0, x1, y1 = self.rect
        cells = np.zeros(((y1 - y0) // CELL + 1, (x1 - x0) // CELL + 1), bool)
        cells[WALK // CELL : -WALK // CELL, WALK // CELL : -WALK // CELL] = True
        for thing in things:
            b = thing.box
            if self._stands(thing):
                cells[self._slices((b[0] - WALK, b[1] - WALK, b[3] + WALK, b[4] + WALK))] = False
        return cells

    def _slices(self, rect: Rect) -> tuple[slice, slice]:
        x0, y0 = self.rect[:2]
        a, b = max(0, -(-(rect[0] - x0) // CELL)), max(0, -(-(rect[1] - y0) // CELL))
        c, d = max(0, (rect[2] - x0) // CELL + 1), max(0, (rect[3] - y0) // CELL + 1)
        return slice(b, d), slice(a, c)

    def _window(self, cells: NDArray[Any], rect: Rect) -> Cells:
        return cells[self._slices(rect)]

    def _cell(self, x: int, y: int) -> tuple[int, int]:
        return (y - self.rect[1]) // CELL, (x - self.rect[0]) // CELL

    def _door_spots(self) -> list[tuple[int, int]]:
        x0, y0, x1, y1 = self.rect
        inset = WALK + CELL
        spots = []
        for side, low, high in self.doors:
            middle = (low + high) // 2
            if side % 2 == 0:
                middle = min(max(middle, x0 + inset), x1 - inset)
            else:
                middle = min(max(middle, y0 + inset), y1 - inset)
            spots.append(
                [
                    (middle, y1 - inset),
                    (x1 - inset, middle),
                    (middle, y0 + inset),
                    (x0 + inset, middle),
                ][side]
            )
        return spots

    def add(self, new: Placed, front: int = 0) -> Placed:
        """Keep a thing; `front` mm before it stay reachable."""
        self.things.append(new)
        if front:
            self.reach.append(strip_in_front(new, front))
        return new

    def at(
        self,
        model: Model,
        x: int,
        y: int,
        quarter: int,
        z: int = 0,
        front: int = 0,
        on: Placed | None = None,
    ) -> Placed | None:
        """Put a model with its origin at (x, y), z over the floor, if it fits there."""
        new = put(model, x, y, self.floor + z if on is None else z, quarter, on)
        return self.add(new, front) if self.fits(new, front) else None

    def on_rug(
        self, model: Model, x: int, y: int, quarter: int, rug: Placed | None
    ) -> Placed | None:
        """Put a model on the floor, or on a rug if it lies under all of it."""
        if rug is not None:
            new = put(model, x, y, rug.box[5], quarter, rug)
            a, b = new.box, rug.box
            if b[0] <= a[0] and b[1] <= a[1] and a[3] <= b[3] and a[4] <= b[4]:
                return self.add(new) if self.fits(new) else None
        return self.at(model, x, y, quarter)

    def against(
        self,
        model: Model,
        front: int = 0,
        sides: Sequence[int] | None = None,
        where: str = "any",
        z: int = 0,
        gap: int = 0,
        tries: int = 14,
    ) -> Placed | None:
        """Put a model with its back to a wall, where it fits first.

        `sides` are walls in order of preference (default: random); `where` is "middle", "corner"
        or "any". Returns None when it fits nowhere.
        """
        for side in sides if sides is not None else self.dice.shuffled(range(4)):
            for along in self._spots(model, side, where, tries):
                x, y = self.spot(model, side, along, gap)
                placed = self.at(model, x, y, (side + 2) % 4, z, front)
                if placed is not None:
                    return placed
        return None

    def spot(self, model: Model, side: int, along: int, gap: int = 0) -> tuple[int, int]:
        """Return the origin of a model whose back touches a wall."""
        x0, y0, x1, y1 = self.rect
        back = -model.box[1] + gap
        return ((along, y1 - back), (x1 - back, along), (along, y0 + back), (x0 + back, along))[
            side
        ]

    def _spots(self, model: Model, side: int, where: str, tries: int) -> Iterator[int]:
        low, high = (self.rect[0], self.rect[2]) if side % 2 == 0 else (self.rect[1], self.rect[3])
        half = (model.box[3] - model.box[0] + 1) // 2
        low, high = low + half, high - half
        if low > high:
            return
        ends = [low + 10, high - 10] if high - low > 20 else [low]
        if self.dice.chance(50):
            ends.reverse()
        middle = (low + high) // 2
        if where == "corner":
            yield from ends
            return
        if where == "middle":
            yield middle
            for k in range(1, tries // 2):
                for s in (-1, 1):
                    if low <= middle + s * 150 * k <= high:
                        yield middle + s * 150 * k
            return
        for _ in range(tries - 2):
            yield self.dice.between(low, high, 10)
        yield from ends

    def on_top(
        self, model: Model, support: Placed, quarter: int | None = None, tries: int = 8
    ) -> Placed | None:
        """Stand a model on a surface of another thing, clear of what stands there already."""
        q = support.quarter if quarter is None else quarter
        b = turned(model.box, q)
        for x0, y0, x1, y1, z in self.dice.shuffled(support.tops):
            lows, highs = (x0 - b[0], y0 - b[1]), (x1 - b[3], y1 - b[4])
            if lows[0] > highs[0] or lows[1] > highs[1]:
                continue
            for _ in range(tries):
                x = self.dice.between(lows[0], highs[0], 10)
                y = self.dice.between(lows[1], highs[1], 10)
                placed = self.at(model, x, y, q, z, on=support)
                if placed is not None:
                    return placed
        return None


def _inside(zone: Rect, rect: Rect) -> bool:
    x0, y0, x1, y1 = zone
    return rect[0] <= x0 and rect[1] <= y0 and x1 <= rect[2] and y1 <= rect[3]


def _parts_meet(new: Placed, air: Box) -> bool:
    return any(meet(part, air) for part, _ in new.parts)
