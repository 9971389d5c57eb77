"""Where walks end and what comes next, on real-looking houses and by brute force."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.models.pretraining import TaskName
from sterna.train.pretrain.ends import (
    IGNORED,
    Ending,
    EndsConfig,
    draw_end,
    end_anywhere,
    end_on_path,
    goal_nodes,
    next_actions,
)
from sterna.train.pretrain.walks import hop_counts, lay_walks
from sterna.world.atlas import Atlas
from toy import episode_on, line_graph
from toy_pretrain import with_goals

PATH, GOALS = EndsConfig(), EndsConfig(rule="goals")


def drawn(
    panoramas: Panoramas, episode: Episode, task: TaskName, config: EndsConfig, count: int = 4000
) -> list[Ending]:
    rng = np.random.default_rng(0)
    return [draw_end(panoramas.atlas, episode, task, rng, config) for _ in range(count)]


@pytest.mark.parametrize(("task", "share"), [("mlm", 1.0), ("mrc", 0.2), ("sap", 0.2)])
def test_shares_on_a_path(
    panoramas: Panoramas, episodes: list[Episode], task: TaskName, share: float
) -> None:
    """R2R: the goal, or any other node of the path with equal odds."""
    episode = max(episodes, key=lambda e: len(e.path))
    path = tuple(panoramas.atlas.node(episode.scan, v) for v in episode.path)
    ends = drawn(panoramas, episode, task, PATH)
    found = Counter(len(e.path) for e in ends)
    assert all(e.path == path[: len(e.path)] for e in ends)
    assert found[len(path)] / len(ends) == pytest.approx(share, abs=0.02)
    for length in range(1, len(path)):
        odds = (1 - share) / (len(path) - 1)
        assert found[length] / len(ends) == pytest.approx(odds, abs=0.03)
    assert all((e.after < 0) == (len(e.path) == len(path)) for e in ends)


@pytest.mark.parametrize(
    ("task", "shares"), [("mlm", (1, 0, 0)), ("mrc", (1, 0, 0)), ("sap", (0.2, 0.4, 0.4))]
)
def test_shares_of_goals(
    panoramas: Panoramas, episodes: list[Episode], task: TaskName, shares: tuple[float, ...]
) -> None:
    """REVERIE: a goal, a node of the path that is none, any other node of the scan."""
    chosen = max(with_goals(panoramas, episodes), key=lambda e: len(e.path))
    goals = set(goal_nodes(panoramas.atlas, chosen))
    path = {panoramas.atlas.node(chosen.scan, v) for v in chosen.path}
    ends = drawn(panoramas, chosen, task, GOALS)
    kinds = Counter(
        "goal" if e.path[-1] in goals else "path" if e.path[-1] in path else "other" for e in ends
    )
    for kind, share in zip(("goal", "path", "other"), shares, strict=True):
        assert kinds[kind] / len(ends) == pytest.approx(share, abs=0.03)
    assert {e.path[-1] for e in ends} >= goals, "every goal has its turn"
    atlas = panoramas.atlas
    for ending in ends[:50]:
        hops = list(zip(ending.path, ending.path[1:], strict=False))
        assert all(b in atlas.candidates[a] for a, b in hops)
        length = sum(float(atlas.distance(np.array(a), np.array(b))) for a, b in hops)
        first, last = np.array(ending.path[0]), np.array(ending.path[-1])
        assert length == pytest.approx(float(atlas.distance(first, last)))


def test_next_actions_by_brute_force(panoramas: Panoramas, episodes: list[Episode]) -> None:
    """argmin of d(end, n) + min d(n, goal): over candidates, and over unvisited nodes."""
    atlas = panoramas.atlas
    chosen = with_goals(panoramas, episodes)[::7]
    rng = np.random.default_rng(1)
    ends = [draw_end(atlas, e, "sap", rng, GOALS) for e in chosen]
    walks = lay_walks(atlas, chosen, ends)
    local, nodes = next_actions(atlas, walks.rows, ends, "goals")
    stops = 0
    for i, ending in enumerate(ends):
        here = ending.path[-1]
        if here in ending.goals:
            assert local[i] == nodes[i] == 0
            stops += 1
            continue

        def cost(node: int, here: int = here, ending: Ending = ending) -> float:
            left = [float(atlas.distance(np.array(node), np.array(g))) for g in ending.goals]
            return float(atlas.distance(np.array(here), np.array(node))) + min(left)

        near = [int(n) for n in atlas.candidates[here] if n >= 0]
        assert cost(near[local[i] - 1]) == pytest.approx(min(map(cost, near)))
        seen = {int(n) for v in ending.path for n in atlas.candidates[v] if n >= 0}
        open_ = seen - set(ending.path)
        if open_:
            assert int(walks.rows.nodes[i, nodes[i]]) in open_
            best = cost(int(walks.rows.nodes[i, nodes[i]]))
            assert best == pytest.approx(min(map(cost, open_)))
        else:
            assert nodes[i] == IGNORED
    assert 0 < stops < len(ends)


def test_a_path_that_returns_has_no_map_label() -> None:
    """The next node has been visited: the local label stands, the map's is left out."""
    graph = line_graph(4)
    atlas = Atlas([graph])
    episode = episode_on(graph, [0, 1, 2, 1, 0])
    ends = [end_on_path([0, 1, 2, 1, 0], n, PATH) for n in (1, 2, 4)]
    rows = lay_walks(atlas, [episode] * 3, ends).rows
    local, nodes = next_actions(atlas, rows, ends, "path")
    assert [int(rows.nodes[0, nodes[0]]), nodes[1], nodes[2]] == [2, IGNORED, 0]
    assert atlas.candidates[2][local[1] - 1] == 1 and local[2] == 0
    assert rows.steps[2, 1:4].tolist() == [5, 4, 3], "the last visit counts"


def test_long_walks_are_cut() -> None:
    """The first ones and the end are kept; the pose is that of the true last hop."""
    graph = line_graph(30)
    atlas = Atlas([graph])
    config = EndsConfig(longest=20)
    ending = end_anywhere(atlas, 0, 27, (29,), replace(config, rule="goals"))
    assert ending.path == (*range(20), 27) and ending.before == 26
    assert end_on_path(range(30), 24, config).path == (*range(20), 24)
    rows = lay_walks(atlas, [episode_on(graph, range(30))], [ending]).rows
    assert rows.pose[0] == atlas.hop_view(np.array([26]), np.array([27]))[0]
    assert hop_counts(atlas, np.array([0, 5, 3]), np.array([27, 5, 1])).tolist() == [27, 0, 2]


def test_bad_paths_and_settings(panoramas: Panoramas) -> None:
    graph = line_graph(5)
    atlas = Atlas([graph])
    jump = end_on_path([0, 3, 4], 1, PATH)
    with pytest.raises(InputError, match="which are no neighbours"):
        lay_walks(atlas, [episode_on(graph, [0, 3, 4])], [jump])
    ahead = end_on_path([0, 1, 4], 1, PATH)
    rows = lay_walks(atlas, [episode_on(graph, [0, 1, 4])], [ahead]).rows
    with pytest.raises(InputError, match="annotated path leaves the graph"):
        next_actions(atlas, rows, [ahead], "path")
    with pytest.raises(InputError, match="add up to at most 1"):
        EndsConfig(sap_goal=0.7)
    with pytest.raises(InputError, match="rule must be path or goals"):
        EndsConfig(rule="both")  # type: ignore[arg-type]
