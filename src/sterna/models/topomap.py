"""DUET's topological map for a batch of agents: what was seen, how far apart, where from.

Legend: B agents, M map slots, C candidates, R rows (a row is one decision of one agent).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sterna.world.atlas import Atlas
from sterna.world.geometry import (
    VIEW_ELEVATIONS,
    VIEW_HEADINGS,
    Floats,
    Ints,
    relative_positions,
)

STOP_POSITION = np.array([0, 1, 0, 1, 0, 0, 0], np.float32)


@dataclass(frozen=True, kw_only=True)
class MapRows:
    """The map as R decisions see it; slot 0 of every map axis is STOP.

    `agent` [R] which agent decides, `step` [R] its decision number, `node` and `pose` [R] where it
    stands, `nodes` [R, 1+M] atlas nodes (-1 for STOP and padding), `mask` [R, 1+M] slots in use,
    `visited` [R, 1+M], `steps` [R, 1+M] (STOP and unvisited 0, visited = last visit + 1),
    `positions` [R, 1+M, 7], `distances` [R, 1+M, 1+M] metres in the observed graph,
    `candidates` [R, C] slots of the candidates (0 pads), `local_positions` [R, 1+C, 14]
    (start beside candidate; row 0 is STOP).
    """

    agent: Ints
    step: Ints
    node: Ints
    pose: Ints
    nodes: Ints
    mask: NDArray[np.bool_]
    visited: NDArray[np.bool_]
    steps: Ints
    positions: NDArray[np.float32]
    distances: NDArray[np.float32]
    candidates: Ints
    local_positions: NDArray[np.float32]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.agent)

    def select(self, rows: Ints) -> MapRows:
        """Return some rows, trimmed to the slots that they use."""
        width = int(self.mask[rows].sum(1).max(initial=1))
        trimmed = {"nodes", "mask", "visited", "steps", "positions", "distances"}
        out = {}
        for item in fields(self):
            value = getattr(self, item.name)[rows]
            value = value[:, :width] if item.name in trimmed else value
            out[item.name] = value[:, :, :width] if item.name == "distances" else value
        return MapRows(**out)

    @staticmethod
    def concatenate(parts: list[MapRows]) -> MapRows:
        """Put rows of several moments together, padding their maps to one width."""
        width = max(part.nodes.shape[1] for part in parts)
        empty = {"nodes": -1}

        def widen(name: str, value: NDArray[Any], extra: int) -> NDArray[Any]:
            pads = [(0, 0), (0, extra)] + [(0, 0)] * (value.ndim - 2)
            if name == "distances":
                pads[2] = (0, extra)
            return np.pad(value, pads, constant_values=empty.get(name, 0))

        padded = ("nodes", "mask", "visited", "steps", "positions", "distances")
        out = {}
        for item in fields(MapRows):
            values = [getattr(part, item.name) for part in parts]
            if item.name in padded:
                values = [widen(item.name, v, width - v.shape[1]) for v in values]
            out[item.name] = np.concatenate(values)
        return MapRows(**out)


class TopoMap:
    """The growing maps of B agents, as padded arrays.

    Slots are given in order of first sight. Distances and hop counts are those of the observed
    graph with visited nodes as way points: one Floyd update through each newly visited node, as in
    DUET's `FloydGraph`; `_before` [B, M, M] holds the slot before the end of each path, so that
    paths can be walked back.
    """

    def __init__(self, atlas: Atlas, start: Ints) -> None:
        """Begin with empty maps for agents that start at atlas nodes `start` [B]."""
        self.atlas, self.start = atlas, start
        agents, room = len(start), 64
        self._slot_of = np.full((agents, int(atlas.scan_size(start).max(initial=1))), -1, np.int64)
        self.count: Ints = np.zeros(agents, np.int64)
        self.nodes: Ints = np.full((agents, room), -1, np.int64)
        self.last_visit: Ints = np.full((agents, room), -1, np.int64)
        self._distance: Floats = np.full((agents, room, room), np.inf)
        self._hops: Ints = np.zeros((agents, room, room), np.int64)
        self._before: Ints = np.full((agents, room, room), -1, np.int64)

    def _grow(self, room: int) -> None:
        extra = room - self.nodes.shape[1]
        side = [(0, 0), (0, extra)]
        self.nodes = np.pad(self.nodes, side, constant_values=-1)
        self.last_visit = np.pad(self.last_visit, side, constant_values=-1)
        square = [*side, (0, extra)]
        self._distance = np.pad(self._distance, square, constant_values=np.inf)
        self._hops = np.pad(self._hops, square)
        self._before = np.pad(self._before, square, constant_values=-1)

    def slots(self, agents: Ints, nodes: Ints) -> Ints:
        """Return the slots of atlas nodes on the agents' maps (-1: not on the map)."""
        found: Ints = self._slot_of[agents, self.atlas.local(nodes)]
        return found

    def _insert(self, agents: Ints, nodes: Ints, wanted: NDArray[np.bool_]) -> Ints:
        """Give slots to nodes [R, K] where wanted; returns all slots [R, K] (-1 unwanted)."""
        local = self.atlas.local(nodes)
        slots = np.where(wanted, self._slot_of[agents[:, None], local], -1)
        fresh = wanted & (slots < 0)
        slots = np.where(fresh, self.count[agents, None] + np.cumsum(fresh, 1) - 1, slots)
        self.count[agents] += fresh.sum(1)
        if (top := int(self.count[agents].max(initial=0))) > self.nodes.shape[1]:
            self._grow(2 * top)
        row, column = np.nonzero(fresh)
        self._slot_of[agents[row], local[row, column]] = slots[row, column]
        self.nodes[agents[row], slots[row, column]] = nodes[row, column]
        self._distance[agents[row], slots[row, column], slots[row, column]] = 0.0
        return slots

    def observe(self, agents: Ints, node: Ints, pose: Ints, step: int) -> MapRows:
        """Record that `agents` [R] stand at `node` [R] at decision `step`; return what they see."""
        atlas = self.atlas
        current = self._insert(agents, node[:, None], np.ones((len(agents), 1), bool))[:, 0]
        self.last_visit[agents, current] = step
        candidates = atlas.candidates[node]
        valid = candidates >= 0
        slots = self._insert(agents, np.where(valid, candidates, node[:, None]), valid)
        self._link(agents, current, slots, atlas.candidate_distance[node])
        self._relax(agents, current)
        return self._rows(agents, node, pose, step, current, slots)

    def _link(self, agents: Ints, current: Ints, slots: Ints, length: Floats) -> None:
        row, column = np.nonzero(slots >= 0)
        a, here, there, far = agents[row], current[row], slots[row, column], length[row, column]
        closer = far < self._distance[a, here, there]
        a, here, there, far = a[closer], here[closer], there[closer], far[closer]
        for start, end in ((here, there), (there, here)):
            self._distance[a, start, end] = far
            self._hops[a, start, end] = 1
            self._before[a, start, end] = start

    def _relax(self, agents: Ints, current: Ints) -> None:
        """One Floyd step through the node just visited, for all pairs at once."""
        width = int(self.count[agents].max(initial=0))
        rows = np.arange(len(agents))
        old = self._distance[agents, :width, :width]
        out, back = old[rows, current], old[rows, :, current]
        new = back[:, :, None] + out[:, None, :]
        agent, i, j = np.nonzero(new < old)
        if len(agent):
            a, k = agents[agent], current[agent]
            self._distance[a, i, j] = new[agent, i, j]
            self._hops[a, i, j] = self._hops[a, i, k] + self._hops[a, k, j]
            self._before[a, i, j] = self._before[a, k, j]

    def _rows(
        self, agents: Ints, node: Ints, pose: Ints, step: int, current: Ints, slots: Ints
    ) -> MapRows:
        width = int(self.count[agents].max(initial=0))
        nodes = self.nodes[agents, :width]
        used = nodes >= 0
        last = self.last_visit[agents, :width]
        between = self._distance[agents, :width, :width]
        away = np.where(used, self._distance[agents, current, :width], 0.0)
        hops = np.where(used, self._hops[agents, current, :width], 0)
        place = self.atlas.positions
        offsets = np.where(used[..., None], place[nodes] - place[node][:, None], 0.0)
        heading, elevation = VIEW_HEADINGS[pose][:, None], VIEW_ELEVATIONS[pose][:, None]
        positions = relative_positions(offsets, heading, elevation, away, hops)
        positions[~used] = 0
        start = positions[np.arange(len(agents)), self.slots(agents, self.start[agents])]
        there = np.take_along_axis(positions, np.maximum(slots, 0)[..., None], 1)
        there = np.where((slots >= 0)[..., None], there, 0)
        return MapRows(
            agent=agents,
            step=np.full(len(agents), step, np.int64),
            node=node,
            pose=pose,
            nodes=_with_stop(nodes, -1),
            mask=_with_stop(used, True),
            visited=_with_stop(last >= 0, False),
            steps=_with_stop(last + 1, 0),
            positions=_with_stop(positions, STOP_POSITION),
            distances=np.pad(
                np.where(np.isfinite(between), between, 0.0).astype(np.float32),
                ((0, 0), (1, 0), (1, 0)),
            ),
            candidates=slots + 1,
            local_positions=_local_positions(start, there),
        )

    def hop_before(self, agents: Ints, start: Ints, end: Ints) -> Ints:
        """Return the atlas node before slot `end` on the known path from slot `start` [R]."""
        return self.nodes[agents, self._before[agents, start, end]]

    def path(self, agent: int, start: int, end: int) -> list[int]:
        """Return the atlas nodes of the known path between two slots, without its first node."""
        path: list[int] = []
        while end != start:
            path.append(int(self.nodes[agent, end]))
            end = int(self._before[agent, start, end])
        return path[::-1]


def _with_stop(values: NDArray[Any], stop: object) -> NDArray[Any]:
    out = np.empty((values.shape[0], values.shape[1] + 1, *values.shape[2:]), values.dtype)
    out[:, 0], out[:, 1:] = stop, values
    return out


def _local_positions(start: NDArray[np.float32], there: NDArray[np.float32]) -> NDArray[np.float32]:
    out = np.zeros((len(start), there.shape[1] + 1, 14), np.float32)
    out[:, :, :7] = start[:, None]
    out[:, 1:, 7:] = there
    return out
