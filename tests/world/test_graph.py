"""Navigation graphs: distances, next hops, order, errors; on random and toy graphs."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sterna.errors import InputError
from sterna.world.graph import NavGraph, build_graph, connectivity_dir, load_graph, read_graph
from toy import line_graph, random_graph


def floyd(graph: NavGraph) -> np.ndarray:
    """All-pairs distances by three plain loops."""
    count = len(graph)
    d = np.full((count, count), np.inf)
    np.fill_diagonal(d, 0)
    for i in range(count):
        for j in graph.neighbours(i):
            d[i, j] = np.linalg.norm(graph.positions[i] - graph.positions[j])
    for k in range(count):
        for i in range(count):
            for j in range(count):
                d[i, j] = min(d[i, j], d[i, k] + d[k, j])
    return d


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 14))
def test_distances_and_next_hops(seed: int, count: int) -> None:
    graph = random_graph(np.random.default_rng(seed), count)
    d = floyd(graph)
    np.testing.assert_allclose(graph.distances, d, atol=1e-9)
    for i in range(count):
        for j in range(count):
            path = graph.shortest_path(i, j)
            assert (path[0], path[-1]) == (i, j)
            assert all(graph.has_edge(a, b) for a, b in pairwise(path))
            assert graph.length(path) == pytest.approx(d[i, j], abs=1e-9)
            hop = int(graph.next_hop[i, j])
            assert hop == i if i == j else graph.has_edge(i, hop)


def test_toy_house_against_networkx(toy_house: Path) -> None:
    for file in sorted((toy_house / "connectivity").glob("*_connectivity.json")):
        graph = read_graph(file)
        plain: nx.Graph = nx.Graph()
        for i in range(len(graph)):
            for j, length in zip(graph.neighbours(i), graph.distance[graph.edges(i)], strict=True):
                plain.add_edge(i, int(j), weight=float(length))
        for start, lengths in nx.all_pairs_dijkstra_path_length(plain):
            for end, length in lengths.items():
                assert graph.distances[start, end] == pytest.approx(length, abs=1e-9)


def test_two_islands_are_infinitely_apart() -> None:
    rng = np.random.default_rng(0)
    graph = random_graph(rng, 4)
    positions = np.concatenate([graph.positions, [[90.0, 90.0, 0.0]]])
    linked = np.isfinite(graph.distances) & (graph.distances > 0)

    joined = build_graph("islands", list("ABCDE"), positions, np.pad(linked, (0, 1)))
    assert np.isinf(joined.distances[0, 4]) and joined.next_hop[0, 4] == -1
    assert joined.next_hop[4, 4] == 4 and len(joined.neighbours(4)) == 0
    with pytest.raises(InputError, match="no path from A to E"):
        joined.shortest_path(0, 4)


def test_immutable_and_named_errors() -> None:
    graph = line_graph(3)
    with pytest.raises(ValueError, match="read-only"):
        graph.distances[0, 0] = 1.0
    with pytest.raises(InputError, match="unknown viewpoint 'Z'"):
        graph.index("Z")
    assert graph.index("B") == 1 and graph.shortest_path(0, 2) == [0, 1, 2]
    assert graph.length([0]) == 0.0 and graph.length([0, 1, 2]) == 4.0


def test_load_graph_is_cached_and_names_a_missing_scan(toy_house: Path) -> None:
    folder = connectivity_dir(toy_house)
    scan = (folder / "scans.txt").read_text().split()[0]
    assert load_graph(folder, scan) is load_graph(folder, scan)
    assert connectivity_dir(folder) == folder
    with pytest.raises(InputError, match="scan 'nowhere': no nowhere_connectivity"):
        load_graph(folder, "nowhere")
    with pytest.raises(InputError, match=r"no \*_connectivity.json found"):
        connectivity_dir(toy_house / "features")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.__setitem__(0, 3), "expected an object"),
        (lambda rows: rows[1].pop("pose"), "expected pose to hold 16 finite numbers"),
        (lambda rows: rows[1]["pose"].__setitem__(3, float("nan")), "16 finite numbers"),
        (lambda rows: rows[0]["unobstructed"].pop(), "unobstructed to hold"),
        (lambda rows: rows[0].__setitem__("included", 1), "included to be true or false"),
        (lambda rows: rows[0].__setitem__("image_id", rows[1]["image_id"]), "stands twice"),
        (lambda rows: rows[0]["unobstructed"].__setitem__(1, None), "booleans"),
    ],
)
def test_broken_files(toy_house: Path, tmp_path: Path, change: object, message: str) -> None:
    source = next((toy_house / "connectivity").glob("*_connectivity.json"))
    rows = json.loads(source.read_text())
    change(rows)  # type: ignore[operator]
    file = tmp_path / "broken_connectivity.json"
    file.write_text(json.dumps(rows))
    with pytest.raises(InputError, match=message) as caught:
        read_graph(file)
    assert "\n" not in str(caught.value) and "broken_connectivity.json" in str(caught.value)


def test_one_way_edge_is_refused(toy_house: Path, tmp_path: Path) -> None:
    source = next((toy_house / "connectivity").glob("*_connectivity.json"))
    rows = json.loads(source.read_text())
    links = rows[0]["unobstructed"]
    links[links.index(True)] = False
    file = tmp_path / "oneway_connectivity.json"
    file.write_text(json.dumps(rows))
    with pytest.raises(InputError, match="not symmetric"):
        read_graph(file)


def test_excluded_viewpoints_are_left_out(toy_house: Path, tmp_path: Path) -> None:
    source = next((toy_house / "connectivity").glob("*_connectivity.json"))
    rows = json.loads(source.read_text())
    rows[2]["included"] = False
    file = tmp_path / "some_connectivity.json"
    file.write_text(json.dumps(rows))
    graph = read_graph(file)
    assert len(graph) == len(rows) - 1 and rows[2]["image_id"] not in graph.viewpoints


def test_all_scans_load_fast(data_dir: Path) -> None:
    folder = connectivity_dir(data_dir)
    scans = (folder / "scans.txt").read_text().split()
    start = time.perf_counter()
    graphs = [load_graph(folder, scan) for scan in scans]
    assert time.perf_counter() - start < 30  # the benchmark holds 5 s; CI machines are shared
    assert len(graphs) == 90
    assert sum(map(len, graphs)) == 10_567
    assert sum(len(graph.indices) for graph in graphs) == 42_936
    assert sum(int((np.diff(graph.indptr) == 0).sum()) for graph in graphs) == 8
