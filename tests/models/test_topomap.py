"""The map: slots, step ids, positions, and distances of what was observed."""

from __future__ import annotations

import math
from dataclasses import fields
from itertools import pairwise

import networkx as nx
import numpy as np
import pytest

from sterna.models.topomap import MapRows, TopoMap
from sterna.world.atlas import Atlas
from sterna.world.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS
from toy import graph_of, line_graph, random_graph


def slot_of(rows: MapRows, row: int, node: int) -> int:
    """Map slot (STOP is 0) of an atlas node."""
    return int(np.flatnonzero(rows.nodes[row] == node)[0])


class Walkers:
    """Agents that wander at random over unvisited map nodes, and what they should remember."""

    def __init__(self, seed: int, agents: int = 4) -> None:
        self.rng = np.random.default_rng(seed)
        self.atlas = Atlas([random_graph(self.rng, n, f"s{n}") for n in (6, 11, 19)])
        self.node = self.rng.integers(0, len(self.atlas), agents)
        self.start = self.node.copy()
        self.map = TopoMap(self.atlas, self.start)
        self.visits: list[list[int]] = [[] for _ in range(agents)]
        self.step = 0

    def observe(self) -> MapRows:
        pose = self.rng.integers(0, 36, len(self.node))
        rows = self.map.observe(np.arange(len(self.node)), self.node, pose, self.step)
        for visited, node in zip(self.visits, self.node.tolist(), strict=True):
            visited.append(node)
        self.step += 1
        return rows

    def move(self, rows: MapRows) -> None:
        for i in range(len(self.node)):
            open_ = np.flatnonzero(rows.mask[i] & ~rows.visited[i])[1:]
            self.node = self.node.copy()
            if len(open_):
                self.node[i] = rows.nodes[i, self.rng.choice(open_)]

    def known(self, agent: int, source: int) -> nx.DiGraph:
        """Edges an agent has seen; only visited nodes (and the source) lead on."""
        graph: nx.DiGraph = nx.DiGraph()
        for node in set(self.visits[agent]):
            for k in range(int(self.atlas.degree[node])):
                other = int(self.atlas.candidates[node, k])
                length = float(self.atlas.candidate_distance[node, k])
                graph.add_edge(node, other, weight=length)
                if other == source:
                    graph.add_edge(other, node, weight=length)
        graph.add_node(source)
        return graph


@pytest.mark.parametrize("seed", range(4))
def test_distances_are_those_of_the_observed_graph(seed: int) -> None:
    walkers = Walkers(seed)
    for _ in range(5):
        rows = walkers.observe()
        for i in range(len(rows)):
            slots = np.flatnonzero(rows.nodes[i] >= 0)
            for a in slots:
                source = int(rows.nodes[i, a])
                lengths = nx.single_source_dijkstra_path_length(walkers.known(i, source), source)
                known = {int(rows.nodes[i, b]): float(rows.distances[i, a, b]) for b in slots}
                assert known.keys() >= lengths.keys()
                for node, metres in lengths.items():
                    assert known[node] == pytest.approx(metres, abs=1e-5)
        walkers.move(rows)


@pytest.mark.parametrize("seed", range(4))
def test_paths_can_be_walked_back(seed: int) -> None:
    """Every hop is an observed edge, way points are visited, lengths and hops add up."""
    walkers = Walkers(seed, agents=3)
    atlas = walkers.atlas
    for _ in range(5):
        rows = walkers.observe()
        for i in range(len(rows)):
            here = int(walkers.map.slots(np.array([i]), rows.node[[i]])[0])
            for s in np.flatnonzero(rows.nodes[i] >= 0):
                path = walkers.map.path(i, here, int(s) - 1)
                full = [int(rows.node[i]), *path]
                assert full[-1] == rows.nodes[i, s]
                assert all(node in walkers.visits[i] for node in full[:-1])
                metres = 0.0
                for a, b in pairwise(full):
                    slot = np.flatnonzero(atlas.candidates[a] == b)
                    assert len(slot) == 1
                    metres += float(atlas.candidate_distance[a, slot[0]])
                assert rows.positions[i, s, 5] * 30 == pytest.approx(metres, abs=1e-4)
                assert rows.positions[i, s, 6] * 10 == pytest.approx(len(path), abs=1e-5)
                if path:
                    before = walkers.map.hop_before(
                        np.array([i]), np.array([here]), np.array([s - 1])
                    )
                    assert int(before[0]) == full[-2]
        walkers.move(rows)


def test_only_observed_edges_count() -> None:
    """Trap 9: B-C is an edge of the house, but nobody has stood at B or C yet."""
    graph = graph_of(np.array([[0, 0, 0], [0, 3, 0], [3, 0, 0]]), [(0, 1), (0, 2), (1, 2)])
    topomap = TopoMap(Atlas([graph]), np.array([0]))
    pose, agents = np.array([12]), np.array([0])
    rows = topomap.observe(agents, np.array([0]), pose, 0)
    b, c = slot_of(rows, 0, 1), slot_of(rows, 0, 2)
    assert rows.distances[0, b, c] == pytest.approx(6.0)
    rows = topomap.observe(agents, np.array([1]), pose, 1)
    assert rows.distances[0, b, c] == pytest.approx(math.hypot(3, 3))


def test_unvisited_nodes_are_no_way_points() -> None:
    """DUET relaxes through visited nodes only: C between B and D stays a dead end until seen."""
    corners = np.array([[0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]])
    graph = graph_of(corners, [(0, 1), (1, 2), (2, 3), (3, 0)])
    topomap = TopoMap(Atlas([graph]), np.array([1]))
    agents, pose = np.array([0]), np.array([12])
    topomap.observe(agents, np.array([1]), pose, 0)
    rows = topomap.observe(agents, np.array([0]), pose, 1)
    c, d = slot_of(rows, 0, 2), slot_of(rows, 0, 3)
    assert rows.distances[0, c, d] == pytest.approx(6.0)
    rows = topomap.observe(agents, np.array([3]), pose, 2)
    assert rows.distances[0, c, d] == pytest.approx(2.0)


def test_step_ids() -> None:
    """Trap 7: the start is 1 at once, unvisited and STOP are 0, a revisit counts anew."""
    topomap = TopoMap(Atlas([line_graph(4)]), np.array([1]))
    agents, pose = np.array([0]), np.array([12])

    def steps(node: int, step: int) -> dict[int, int]:
        rows = topomap.observe(agents, np.array([node]), pose, step)
        assert rows.steps[0, 0] == 0
        return dict(zip(rows.nodes[0, 1:].tolist(), rows.steps[0, 1:].tolist(), strict=True))

    assert steps(1, 0) == {1: 1, 0: 0, 2: 0}
    assert steps(2, 1) == {1: 1, 0: 0, 2: 2, 3: 0}
    assert steps(1, 2) == {1: 3, 0: 0, 2: 2, 3: 0}


@pytest.mark.parametrize("seed", range(3))
def test_rows_by_hand(seed: int) -> None:
    """STOP's position (trap 3), relative positions, start beside candidate, masks."""
    walkers = Walkers(seed)
    atlas = walkers.atlas
    for step in range(4):
        rows = walkers.observe()
        assert (rows.step == step).all()
        np.testing.assert_array_equal(rows.positions[:, 0], [[0, 1, 0, 1, 0, 0, 0]] * len(rows))
        assert rows.mask[:, 0].all() and not rows.visited[:, 0].any()
        assert (rows.distances[:, 0] == 0).all() and (rows.distances[:, :, 0] == 0).all()
        for i in range(len(rows)):
            turn, tilt = VIEW_HEADINGS[rows.pose[i]], VIEW_ELEVATIONS[rows.pose[i]]
            by_node = {}
            for s in np.flatnonzero(rows.nodes[i] >= 0):
                node = int(rows.nodes[i, s])
                dx, dy, dz = atlas.positions[node] - atlas.positions[rows.node[i]]
                h, e = math.atan2(dx, dy) - turn, math.atan2(dz, math.hypot(dx, dy)) - tilt
                wanted = [math.sin(h), math.cos(h), math.sin(e), math.cos(e)]
                wanted.append(math.dist((dx, dy, dz), (0, 0, 0)) / 30)
                np.testing.assert_allclose(rows.positions[i, s, :5], wanted, atol=1e-6)
                assert rows.mask[i, s]
                assert rows.visited[i, s] == (node in walkers.visits[i])
                by_node[node] = rows.positions[i, s]
            assert not rows.mask[i, 1:][rows.nodes[i, 1:] < 0].any()
            start = by_node[int(walkers.start[i])]
            candidates = atlas.candidates[rows.node[i]]
            assert (rows.local_positions[i, :, :7] == start).all()
            assert (rows.local_positions[i, 0, 7:] == 0).all()
            for k, node in enumerate(candidates.tolist()):
                if node < 0:
                    assert rows.candidates[i, k] == 0
                    assert (rows.local_positions[i, k + 1, 7:] == 0).all()
                else:
                    assert rows.nodes[i, rows.candidates[i, k]] == node
                    assert np.array_equal(rows.local_positions[i, k + 1, 7:], by_node[node])
        walkers.move(rows)


def test_a_batch_is_many_single_maps() -> None:
    walkers = Walkers(9)
    singles = [TopoMap(walkers.atlas, walkers.start[[i]]) for i in range(4)]
    for step in range(5):
        rows = walkers.observe()
        for i, single in enumerate(singles):
            alone = single.observe(np.array([0]), rows.node[[i]], rows.pose[[i]], step)
            mine = rows.select(np.array([i]))
            for item in fields(MapRows):
                if item.name != "agent":
                    assert np.array_equal(getattr(mine, item.name), getattr(alone, item.name))
        walkers.move(rows)


def test_map_grows_beyond_its_first_room() -> None:
    count = 90
    graph = line_graph(count)
    topomap = TopoMap(Atlas([graph]), np.array([0]))
    for step in range(count):
        rows = topomap.observe(np.array([0]), np.array([step]), np.array([12]), step)
    assert rows.mask.sum() == count + 1
    s = slot_of(rows, 0, 0)
    assert rows.positions[0, s, 5] * 30 == pytest.approx(2.0 * (count - 1), rel=1e-5)
    assert topomap.path(0, 0, count - 1) == list(range(1, count))


def test_select_and_concatenate() -> None:
    walkers = Walkers(2)
    first = walkers.observe()
    walkers.move(first)
    second = walkers.observe()
    joined = MapRows.concatenate([first, second])
    assert len(joined) == len(first) + len(second)
    for rows, part in ((first, np.arange(4)), (second, np.arange(4, 8))):
        again = joined.select(part)
        width = int(rows.mask.sum(1).max())
        for item in fields(MapRows):
            wanted = getattr(rows, item.name)
            if item.name in ("nodes", "mask", "visited", "steps", "positions"):
                wanted = wanted[:, :width]
            if item.name == "distances":
                wanted = wanted[:, :width, :width]
            assert np.array_equal(getattr(again, item.name), wanted), item.name
