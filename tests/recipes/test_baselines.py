"""Agents that learn nothing: a walk to a random far node."""

from dataclasses import replace

import numpy as np

from sterna.data.r2r import read_r2r
from sterna.recipes.baselines import far_walk
from sterna.world.graph import load_graph
from toy import line_graph


def test_a_far_walk_is_a_shortest_path_to_a_node_that_could_be_the_goal(toy_house):
    ends = []
    for episode in read_r2r(toy_house, "val_unseen"):
        graph = load_graph(toy_house / "connectivity", episode.scan)
        walk = far_walk(episode, graph)
        nodes = [graph.index(name) for hop in walk.hops for name in hop]
        assert nodes[0] == graph.index(episode.start) and walk == far_walk(episode, graph)
        assert 4 <= len(nodes) - 1 <= 6 and graph.length(nodes) >= 5
        assert np.isclose(graph.length(nodes), graph.distances[nodes[0], nodes[-1]])
        ends.append(nodes[-1])
    assert len(set(ends)) > 5


def test_where_nothing_is_far_it_goes_as_far_as_it_can(toy_house):
    graph = line_graph(3)
    episode = replace(read_r2r(toy_house, "val_unseen")[0], path=("A", "B"), scan="line")
    assert far_walk(episode, graph).hops == (("A",), ("B",), ("C",))
