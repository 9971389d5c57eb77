"""The experts against brute force: one node after another, whole paths, plain scores."""

from __future__ import annotations

import numpy as np
import pytest

from sterna.data.episodes import Episode
from sterna.envs.graph_env import GraphEnv
from sterna.errors import InputError
from sterna.metrics import R2R_DUET, Walk, navigation_scores
from sterna.models.topomap import MapRows
from sterna.models.walk import walk
from sterna.train.experts import (
    follow_path,
    goal_nodes,
    ndtw_expert,
    reference_nodes,
    shortest_path_expert,
)
from sterna.world.atlas import Atlas
from sterna.world.geometry import Ints
from toy import episode_on, panoramas_of, random_graph


@pytest.fixture(scope="module", params=range(3))
def wandering(request: pytest.FixtureRequest) -> tuple[Atlas, list[Episode], MapRows, list[Ints]]:
    """Random walks over random graphs: rows, and the nodes walked until each."""
    rng = np.random.default_rng(request.param)
    graphs = [random_graph(rng, n, f"s{n}") for n in (5, 9, 16, 24)]
    episodes = []
    for i in range(12):
        graph = graphs[i % len(graphs)]
        start, end = rng.choice(len(graph), 2, replace=False)
        episodes.append(episode_on(graph, graph.shortest_path(int(start), int(end)), i))
    panoramas = panoramas_of(graphs)

    def choose(rows: MapRows, logits: np.ndarray) -> Ints:
        odds = rng.random(rows.mask.shape) * (rows.mask & ~rows.visited)
        odds[:, 0] = 1e-9
        return odds.argmax(1)

    done = walk(None, GraphEnv(panoramas), episodes, choose, max_steps=6, keep=True)
    rows = MapRows.concatenate(done.rows)
    walked = [
        np.concatenate([np.array(h, np.int64) for h in done.hops[a][: t + 1]])
        for a, t in zip(rows.agent, rows.step, strict=True)
    ]
    return panoramas.atlas, episodes, rows, walked


def open_slots(rows: MapRows, row: int) -> list[int]:
    return [int(s) for s in np.flatnonzero(rows.mask[row] & ~rows.visited[row]) if s]


def test_shortest_path_expert(wandering: tuple[Atlas, list[Episode], MapRows, list[Ints]]) -> None:
    atlas, episodes, rows, _ = wandering
    references = reference_nodes(atlas, episodes)
    found = shortest_path_expert(atlas, rows, goal_nodes(references))
    stops = 0
    for row in range(len(rows)):
        goal = int(references[rows.agent[row]][-1])
        here = int(rows.node[row])
        if here == goal:
            assert found[row] == 0
            stops += 1
            continue
        graph = atlas.graphs[int(atlas.scan_of[here])]
        base = int(atlas.offset[atlas.scan_of[here]])
        cost = {}
        for s in open_slots(rows, row):
            node = int(rows.nodes[row, s])
            ways = (
                graph.shortest_path(here - base, node - base),
                graph.shortest_path(node - base, goal - base),
            )
            cost[s] = graph.length(ways[0]) + graph.length(ways[1])
        # Nodes along one shortest path cost the same; rounding decides among them, as in DUET.
        if cost:
            assert cost[int(found[row])] == pytest.approx(min(cost.values()), abs=1e-9)
    assert stops


def test_ndtw_expert(wandering: tuple[Atlas, list[Episode], MapRows, list[Ints]]) -> None:
    """Whole paths scored by `sterna.metrics`, node by node."""
    atlas, episodes, rows, walked = wandering
    references = reference_nodes(atlas, episodes)
    found = ndtw_expert(atlas, rows, references, walked)
    for row in range(len(rows)):
        reference = references[rows.agent[row]]
        here = int(rows.node[row])
        if here == reference[-1]:
            assert found[row] == 0
            continue
        number = int(atlas.scan_of[here])
        graph, base = atlas.graphs[number], int(atlas.offset[number])
        slots = open_slots(rows, row)
        walks = []
        for s in slots:
            way = graph.shortest_path(here - base, int(rows.nodes[row, s]) - base)[1:]
            path = np.concatenate([walked[row] - base, way]).astype(np.int64)
            walks.append(
                Walk(name="x", graph=graph, path=path, reference=reference - base, action_steps=1)
            )
        if slots:
            scores = navigation_scores(walks, R2R_DUET)["nDTW"]
            assert found[row] in slots
            assert scores[slots.index(int(found[row]))] == pytest.approx(scores.max(), abs=1e-12)


def test_follow_path_and_a_path_over_a_non_edge() -> None:
    graph = random_graph(np.random.default_rng(0), 10)
    far = int(np.flatnonzero(~np.isin(np.arange(10), [0, *graph.neighbours(0)]))[0])
    good = episode_on(graph, graph.shortest_path(0, far))
    panoramas = panoramas_of([graph])
    references = reference_nodes(panoramas.atlas, [good])
    done = walk(
        None,
        GraphEnv(panoramas),
        [good],
        lambda rows, logits: follow_path(rows, references),
        keep=True,
    )
    rows = MapRows.concatenate(done.rows)
    path = references[0].tolist()
    assert rows.node.tolist() == path[: len(rows)]
    labels = follow_path(rows, references)
    named = [int(rows.nodes[i, s]) for i, s in enumerate(labels)]
    assert named == [*path[1:], -1][: len(rows)]
    bad = reference_nodes(panoramas.atlas, [episode_on(graph, [0, far])])
    with pytest.raises(InputError, match="its node 1 cannot be seen from node 0"):
        follow_path(rows.select(np.array([0])), bad)
