"""Candidate geometry against what Matterport3DSimulator computed (real data)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sterna.files import read_json
from sterna.world.geometry import FIELD_HALF, directions, wrap
from sterna.world.graph import NavGraph, connectivity_dir, load_graph


def scans(data_dir: Path) -> list[str]:
    return (connectivity_dir(data_dir) / "scans.txt").read_text().split()


def edge_of(graph: NavGraph, start: int, end: int) -> int:
    return int(graph.indptr[start] + np.flatnonzero(graph.neighbours(start) == end)[0])


def test_every_edge_of_navigable(data_dir: Path) -> None:
    """All 42,936 edges: same neighbours, angles to 1e-6 rad (1e-3 is asked), lengths to 1e-5 m."""
    worst, edges = np.zeros(4), 0
    for scan in scans(data_dir):
        graph = load_graph(connectivity_dir(data_dir), scan)
        file = data_dir / "mattersim" / "navigable" / f"{scan}_navigable.json"
        stated = read_json(file)
        assert set(stated) == set(graph.viewpoints)
        for name, neighbours in stated.items():
            node = graph.index(name)
            mine = {graph.viewpoints[n] for n in graph.neighbours(node)}
            assert mine == set(neighbours)
            for other, value in neighbours.items():
                e = edge_of(graph, node, graph.index(other))
                found = [
                    abs(wrap(graph.heading[e] - value["heading"])),
                    abs(graph.elevation[e] - value["elevation"]),
                    abs(graph.angular_distance[e] - value["ang_dis"]),
                    abs(graph.distance[e] - value["distance"]),
                ]
                worst, edges = np.maximum(worst, found), edges + 1
    assert edges == 42_936
    assert (worst[:3] < 1e-6).all() and worst[3] < 1e-5, worst


def test_rebuilt_candidate_table(data_dir: Path) -> None:
    """Golden F: every candidate's view, angular distance and relative angles, in order."""
    table = read_json(data_dir / "golden" / "F_candidates_rebuilt.json.gz")
    seen = 0
    for scan in scans(data_dir):
        graph = load_graph(connectivity_dir(data_dir), scan)
        for node, name in enumerate(graph.viewpoints):
            stated = table[f"{scan}_{name}"]
            part = graph.edges(node)
            assert [graph.viewpoints[n] for n in graph.neighbours(node)] == list(stated)
            if not stated:
                continue
            values = np.array(list(stated.values()))
            view = graph.view[part]
            assert np.array_equal(view, values[:, 0])
            heading = wrap(graph.heading[part] - np.radians(30.0) * (view % 12))
            elevation = graph.elevation[part] - np.radians(30.0) * (view // 12 - 1)
            mine = np.stack([graph.angular_distance[part], heading, elevation], 1)
            np.testing.assert_allclose(mine, values[:, 1:], rtol=0, atol=1e-6)
            seen += len(stated)
    assert seen == 42_936


@pytest.mark.parametrize(
    "name", ["mattersim_state.example", "mattersim_state0", "mattersim_state1"]
)
def test_simulator_state_dumps(data_dir: Path, name: str) -> None:
    """Every location of the dumps: position, index, relative angles, and who is in view.

    The dumps are of a simulator with free headings, whose viewIndex is always 0.
    """
    state = read_json(data_dir / "mattersim" / f"{name}.json")
    graph = load_graph(connectivity_dir(data_dir), state["scanId"])
    here = graph.index(state["location"]["viewpointId"])
    listed = [place["viewpointId"] for place in state["navigableLocations"]]
    for place in [state["location"], *state["navigableLocations"]]:
        node = graph.index(place["viewpointId"])
        xyz = [place[axis] for axis in "xyz"]
        np.testing.assert_allclose(graph.positions[node], xyz, atol=1e-6)
        heading, elevation, length = directions(graph.positions[node] - graph.positions[here])
        assert length == pytest.approx(place["rel_distance"], abs=1e-5)
        if node != here:
            assert wrap(heading - state["heading"]) == pytest.approx(place["rel_heading"], abs=1e-5)
            assert elevation - state["elevation"] == pytest.approx(place["rel_elevation"], abs=1e-5)
    in_view = [
        graph.viewpoints[n]
        for n, heading in zip(graph.neighbours(here), graph.heading[graph.edges(here)], strict=True)
        if abs(wrap(heading - state["heading"])) <= FIELD_HALF
    ]
    assert set(listed[1:]) == set(in_view) and listed[0] == graph.viewpoints[here]
    assert state["viewIndex"] == 0
