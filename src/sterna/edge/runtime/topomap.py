"""The topological map of one agent: what was seen, how far apart, and the way back.

The map of `sterna.models.topomap` for a single agent in a graph that nobody knows beforehand: nodes
and edges are added as they are seen. Slots are given in order of first sight. Distances are those
of the observed graph with visited nodes as way points: one Floyd update through each node that is
visited, as in DUET's `FloydGraph`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sterna.errors import InputError
from sterna.world.geometry import Floats, Ints, relative_positions

_ROOM = 32


def place_of(name: str, position: ArrayLike) -> tuple[float, float, float]:
    """Return a position in metres; `InputError` unless it is three finite numbers."""
    given = position.tolist() if isinstance(position, np.ndarray) else position
    try:
        x, y, z = map(float, given)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        x = y = z = math.nan
    if not math.isfinite(x + y + z):
        raise InputError(f"node {name!r}: expected a position of 3 finite metres, found {given}")
    return x, y, z


class TopoMap:
    """A growing map. M is the number of nodes seen so far; slots are 0 .. M - 1.

    `names` are the nodes by slot, `last_visit` [M] the step of a node's last visit (-1: not yet).
    """

    def __init__(self) -> None:
        """Begin with an empty map."""
        self.names: list[str] = []
        self.slot: dict[str, int] = {}
        self._positions: Floats = np.zeros((_ROOM, 3))
        self._last: Ints = np.full(_ROOM, -1, np.int64)
        self._distance: Floats = np.full((_ROOM, _ROOM), np.inf)
        self._hops: Ints = np.zeros((_ROOM, _ROOM), np.int64)
        self._before: Ints = np.full((_ROOM, _ROOM), -1, np.int64)

    def __len__(self) -> int:
        """Return the number of nodes."""
        return len(self.names)

    @property
    def positions(self) -> Floats:
        """Places of the nodes, [M, 3] metres."""
        return self._positions[: len(self)]

    @property
    def last_visit(self) -> Ints:
        """Step of each node's last visit, -1 for none, [M]."""
        return self._last[: len(self)]

    @property
    def distances(self) -> Floats:
        """Metres between nodes along observed edges, [M, M]; inf where no way is known."""
        return self._distance[: len(self), : len(self)]

    def add_node(self, name: str, position: ArrayLike) -> int:
        """Put a node on the map, or move one that is there; returns its slot."""
        place = place_of(name, position)
        slot = self.slot.get(name)
        if slot is None:
            slot = self.slot[name] = len(self.names)
            self.names.append(name)
            if slot == len(self._last):
                self._grow(2 * slot)
            self._distance[slot, slot] = 0.0
        self._positions[slot] = place
        return slot

    def _grow(self, room: int) -> None:
        extra = room - len(self._last)
        side, square = [(0, extra)], [(0, extra), (0, extra)]
        self._positions = np.pad(self._positions, [(0, extra), (0, 0)])
        self._last = np.pad(self._last, side, constant_values=-1)
        self._distance = np.pad(self._distance, square, constant_values=np.inf)
        self._hops = np.pad(self._hops, square)
        self._before = np.pad(self._before, square, constant_values=-1)

    def add_edge(self, start: int, end: int, length: float | None = None) -> None:
        """Join two slots both ways; `length` in metres, by default the straight distance.

        A known way that is as short stays. Call `visit` for a slot of the edge to let longer ways
        run over it.
        """
        if length is None:
            length = math.dist(self._positions[end].tolist(), self._positions[start].tolist())
        if not 0 <= length < math.inf or start == end:
            raise InputError(
                f"edge {self.names[start]!r} - {self.names[end]!r}: expected two nodes and a "
                f"length of finite metres, found {length}"
            )
        if length < self._distance[start, end]:
            for a, b in ((start, end), (end, start)):
                self._distance[a, b], self._hops[a, b], self._before[a, b] = length, 1, a

    def visit(self, slot: int, step: int) -> None:
        """Record a visit at a step; known ways may now run through this node."""
        self._last[slot] = step
        count = len(self)
        old = self.distances
        new = old[:, slot, None] + old[slot]
        i, j = np.nonzero(new < old)
        if len(i):
            hops, before = self._hops[:count, :count], self._before[:count, :count]
            old[i, j] = new[i, j]
            hops[i, j] = hops[i, slot] + hops[slot, j]
            before[i, j] = before[slot, j]

    def seen_from(self, slot: int, heading: float, elevation: float) -> NDArray[np.float32]:
        """Return DUET's relative positions of all nodes as seen from a slot, [M, 7]."""
        offsets = self.positions - self._positions[slot]
        away, hops = self.distances[slot], self._hops[slot, : len(self)]
        known = np.where(np.isfinite(away), away, 0.0)
        return relative_positions(offsets, heading, elevation, known, hops)

    def path(self, start: int, end: int) -> list[int]:
        """Return the slots of the known way between two slots, without its first one.

        Raises `InputError` where no way is known.
        """
        if not np.isfinite(self._distance[start, end]):
            raise InputError(
                f"no way is known from {self.names[start]!r} to {self.names[end]!r}; name a "
                "neighbour of the current node that is on the map"
            )
        path: list[int] = []
        while end != start:
            path.append(end)
            end = int(self._before[start, end])
        return path[::-1]

    def named(self, slots: Sequence[int]) -> tuple[str, ...]:
        """Return the names of slots."""
        return tuple(self.names[slot] for slot in slots)
