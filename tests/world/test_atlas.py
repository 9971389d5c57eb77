"""The atlas says of every pair of nodes what the scans' own graphs say."""

from __future__ import annotations

import numpy as np
import pytest

from sterna.errors import InputError
from sterna.world.atlas import Atlas
from toy import line_graph, random_graph


@pytest.fixture(scope="module")
def atlas() -> Atlas:
    rng = np.random.default_rng(3)
    graphs = [random_graph(rng, n, f"scan{n}") for n in (9, 4, 14)]
    return Atlas([*graphs, line_graph(1)])


def test_pairs_equal_the_graphs(atlas: Atlas) -> None:
    assert len(atlas) == 28
    for number, graph in enumerate(atlas.graphs):
        nodes = np.arange(len(graph)) + atlas.offset[number]
        start, end = nodes[:, None], nodes[None]
        assert np.array_equal(atlas.distance(start, end), graph.distances)
        assert np.array_equal(atlas.next_hop(start, end) - atlas.offset[number], graph.next_hop)
        assert np.array_equal(atlas.local(nodes), np.arange(len(graph)))
        assert (atlas.scan_size(nodes) == len(graph)).all()
        assert np.array_equal(atlas.positions[nodes], graph.positions)
        for i, node in enumerate(nodes):
            assert atlas.keys[node] == f"{graph.scan}_{graph.viewpoints[i]}"
            assert atlas.node(graph.scan, atlas.viewpoints[node]) == node


def test_candidates_equal_the_graphs(atlas: Atlas) -> None:
    for number, graph in enumerate(atlas.graphs):
        for i in range(len(graph)):
            node, part, count = atlas.offset[number] + i, graph.edges(i), len(graph.neighbours(i))
            assert atlas.degree[node] == count
            assert np.array_equal(
                atlas.candidates[node, :count] - atlas.offset[number], graph.neighbours(i)
            )
            assert (atlas.candidates[node, count:] == -1).all()
            assert np.array_equal(atlas.candidate_view[node, :count], graph.view[part])
            assert np.array_equal(atlas.candidate_heading[node, :count], graph.heading[part])
            assert np.array_equal(atlas.candidate_elevation[node, :count], graph.elevation[part])
            assert np.array_equal(atlas.candidate_distance[node, :count], graph.distance[part])


def test_hop_view(atlas: Atlas) -> None:
    graph = atlas.graphs[0]
    for i in range(len(graph)):
        for j in range(len(graph)):
            found = int(atlas.hop_view(np.array([i]), np.array([j]))[0])
            edge = np.flatnonzero(graph.neighbours(i) == j)
            assert found == (graph.view[graph.indptr[i] + edge[0]] if len(edge) else -1)


def test_errors(atlas: Atlas) -> None:
    with pytest.raises(InputError, match="at least one scan"):
        Atlas([])
    with pytest.raises(InputError, match="scan 'other' is not among the 4 scans"):
        atlas.node("other", "A")
    with pytest.raises(InputError, match="unknown viewpoint"):
        atlas.node("line", "Q")
