"""Several scans side by side as flat arrays, so that a batch of agents is one index operation."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sterna.errors import InputError
from sterna.world.geometry import Floats, Ints
from sterna.world.graph import NavGraph, load_graph


class Atlas:
    """The union of navigation graphs; node `g` of the atlas is one viewpoint of one scan.

    Shapes: G nodes in all, C the largest number of candidates of any node. `candidates` [G, C]
    holds atlas nodes (-1 pads) in DUET's candidate order, with `candidate_view` (0-35),
    `candidate_heading`, `candidate_elevation` (absolute radians) and `candidate_distance` (metres)
    beside it; `positions` [G, 3] is in metres.
    """

    def __init__(self, graphs: Iterable[NavGraph]) -> None:
        """Lay graphs side by side; `InputError` when there is none."""
        self.graphs = tuple(graphs)
        if not self.graphs:
            raise InputError("an atlas needs at least one scan; found none in the episodes given")
        sizes = np.array([len(graph) for graph in self.graphs])
        self.scan_number = {graph.scan: i for i, graph in enumerate(self.graphs)}
        self.offset: Ints = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.scan_of: Ints = np.repeat(np.arange(len(sizes)), sizes)
        self._size = sizes[self.scan_of]
        self._base = self.offset[self.scan_of]
        squares = np.concatenate([[0], np.cumsum(sizes**2)])
        self._square = squares[self.scan_of]
        self._distances: Floats = np.concatenate([g.distances.ravel() for g in self.graphs])
        self._next_hop = np.concatenate([g.next_hop.ravel() for g in self.graphs])
        self.positions: Floats = np.concatenate([g.positions for g in self.graphs])
        self._pad_candidates()

    @classmethod
    def load(cls, folder: str | Path, scans: Iterable[str]) -> Atlas:
        """Read the named scans from a connectivity folder (each once a process), sorted by name."""
        return cls(load_graph(folder, scan) for scan in sorted(set(scans)))

    def _pad_candidates(self) -> None:
        degree = np.concatenate([np.diff(g.indptr) for g in self.graphs])
        width = max(1, int(degree.max()))
        slot = np.arange(width) < degree[:, None]

        def padded(name: str, fill: float, dtype: type) -> NDArray[Any]:
            out: NDArray[Any] = np.full(slot.shape, fill, dtype)
            out[slot] = np.concatenate([getattr(g, name) for g in self.graphs])
            return out

        self.degree: Ints = degree.astype(np.int64)
        local = padded("indices", -1, np.int64)
        self.candidates = np.where(slot, local + self._base[:, None], -1)
        self.candidate_view = padded("view", 0, np.int64)
        self.candidate_heading = padded("heading", 0.0, np.float64)
        self.candidate_elevation = padded("elevation", 0.0, np.float64)
        self.candidate_distance = padded("distance", np.inf, np.float64)

    def __len__(self) -> int:
        """Return the number of nodes of all scans together."""
        return int(self.offset[-1])

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """``<scan>_<viewpoint>`` of every node, the key of the field's feature files."""
        return tuple(f"{g.scan}_{viewpoint}" for g in self.graphs for viewpoint in g.viewpoints)

    @cached_property
    def viewpoints(self) -> tuple[str, ...]:
        """Viewpoint id of every node."""
        return tuple(viewpoint for g in self.graphs for viewpoint in g.viewpoints)

    def node(self, scan: str, viewpoint: str) -> int:
        """Return the atlas node of a viewpoint; `InputError` for an unknown scan or viewpoint."""
        number = self.scan_number.get(scan)
        if number is None:
            raise InputError(
                f"scan {scan!r} is not among the {len(self.graphs)} scans loaded here; "
                "check the episode's scan name"
            )
        return int(self.offset[number]) + self.graphs[number].index(viewpoint)

    def local(self, nodes: Ints) -> Ints:
        """Return the numbers of nodes inside their own scans."""
        return nodes - self._base[nodes]

    def scan_size(self, nodes: Ints) -> Ints:
        """Return the number of viewpoints of the scans that nodes belong to."""
        return self._size[nodes]

    def _pair(self, start: Ints, end: Ints) -> Ints:
        base = self._base[start]
        place: Ints = self._square[start] + (start - base) * self._size[start] + (end - base)
        return place

    def distance(self, start: Ints, end: Ints) -> Floats:
        """Return geodesic distances in metres; both arrays broadcast, pairs share a scan."""
        start, end = np.broadcast_arrays(start, end)
        return self._distances[self._pair(start, end)]

    def next_hop(self, start: Ints, end: Ints) -> Ints:
        """Return the first node on a shortest path from start to end (start itself if equal)."""
        start, end = np.broadcast_arrays(start, end)
        return self._next_hop[self._pair(start, end)] + self._base[start]

    def hop_view(self, start: Ints, end: Ints) -> Ints:
        """Return the view (0-35) through which an agent at `start` sees its neighbour `end`.

        Pairs that are not neighbours give -1.
        """
        match = self.candidates[start] == np.asarray(end)[..., None]
        view = np.take_along_axis(self.candidate_view[start], match.argmax(-1)[..., None], -1)
        return np.where(match.any(-1), view[..., 0], -1)
