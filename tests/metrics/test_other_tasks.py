"""Scores of RxR, NDH and SOON: by hand, against plain twins of the evaluators, on RxR's example."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sterna.data.episodes import Episode, Outline
from sterna.data.ndh import supervision
from sterna.data.rxr import read_rxr
from sterna.errors import InputError
from sterna.files import read_json
from sterna.metrics import (
    NDH_HAMT,
    NDH_PLANNER,
    NDH_PLAYER,
    NDH_TRUSTED,
    R2R_DUET,
    RXR_DUET,
    RXR_OFFICIAL,
    SOON_OFFICIAL,
    Prediction,
    score_predictions,
)
from sterna.metrics.pointing import from_shares, inside, to_shares
from sterna.world.graph import NavGraph, load_graph

MARGIN = 3.0


def dialog(
    name: str, planner: str, player: str, ends: str, path_type: Any = "trusted_path"
) -> Episode:
    path = supervision(tuple(planner), tuple(player), path_type)
    return Episode(
        instr_id=name,
        scan="hall",
        path=path,
        heading=0.0,
        instruction="<TAR> lamp",
        path_id=int(name),
        goals=tuple(ends),
        target="lamp",
        planner_path=tuple(planner),
        player_path=tuple(player),
    )


def walk(episode: Episode, path: str, **more: Any) -> Prediction:
    return Prediction(instr_id=episode.instr_id, hops=tuple((v,) for v in path), **more)


def scores(
    corridor: Path, episode: Episode, path: str, protocol: Any, **more: Any
) -> dict[str, float]:
    result = score_predictions([walk(episode, path, **more)], [episode], corridor, protocol)
    return {name: score.mean for name, score in result.scores.items()}


def test_goal_progress_is_measured_to_the_region_whatever_supervises(corridor: Path) -> None:
    """a-b-c-d-e, 2 m apart: from a it is 6 m to the nearest of d and e; at c it is 2 m."""
    episode = dialog("1", "abc", "abcd", "de")
    for protocol in (NDH_PLANNER, NDH_PLAYER, NDH_TRUSTED, NDH_HAMT):
        assert scores(corridor, episode, "abc", protocol)["GP"] == pytest.approx(4.0)
        assert scores(corridor, episode, "a", protocol)["GP"] == 0.0
    away = replace(episode, path=("b", "c"), planner_path=("b", "c"), player_path=("b",))
    assert scores(corridor, away, "ba", NDH_PLANNER)["GP"] == pytest.approx(-2.0)


def test_the_protocol_says_whose_end_is_the_goal(corridor: Path) -> None:
    """The planner ends at c, the player at e, past c: that one is trusted."""
    episode = dialog("1", "abc", "abcde", "e")
    assert scores(corridor, episode, "abc", NDH_PLANNER)["NE"] == 0.0
    for protocol in (NDH_PLAYER, NDH_TRUSTED):
        found = scores(corridor, episode, "abc", protocol)
        assert found["NE"] == pytest.approx(4.0) and found["SR"] == 0.0
        assert found["OPSR"] == 1.0, "it passed the planner's end"
    assert scores(corridor, episode, "abcd", NDH_HAMT)["SR"] == 0.0, "beside the region is outside"
    found = scores(corridor, episode, "abcde", NDH_HAMT)
    assert found["SR"] == found["SPL"] == 1.0


def test_where_there_is_nowhere_to_go_staying_is_right(corridor: Path) -> None:
    """SPL is 1 for no step and 0 for any, as CVDN's evaluator says."""
    episode = dialog("1", "c", "c", "cd")
    stayed, moved = (scores(corridor, episode, path, NDH_PLANNER) for path in ("c", "cb"))
    assert stayed["SR"] == stayed["SPL"] == stayed["CLS"] == 1.0
    assert moved["SR"] == 1.0 and moved["SPL"] == 0.0


def ndh_twin(d: Any, episode: Episode, path: str, path_type: str) -> dict[str, float]:
    """One instance as CVDN's tasks/NDH/eval.py scores it, in plain loops."""
    planner, player = episode.planner_path, episode.player_path
    trusted = player if planner[-1] in player[1:] else planner
    gold = {"planner_path": planner, "player_path": player, "trusted_path": trusted}[path_type]
    start, goal = gold[0], gold[-1]
    ends = [d(start, end) for end in episode.goals], [d(path[-1], end) for end in episode.goals]
    length = sum(d(a, b) for a, b in pairwise(path))
    error, shortest = d(path[-1], goal), d(start, goal)
    spl = 0.0
    if error < MARGIN:
        spl = shortest / max(length, shortest) if shortest > 0 else float(length == 0)
    return {
        "NE": error,
        "SR": float(error < MARGIN),
        "OSR": float(min(d(v, goal) for v in path) < MARGIN),
        "OPSR": float(min(d(v, planner[-1]) for v in path) < MARGIN),
        "SPL": spl,
        "TL": length,
        "GP": min(ends[0]) - min(ends[1]),
    }


def random_walk(rng: np.random.Generator, graph: NavGraph, start: int, steps: int) -> str:
    nodes = [start]
    for _ in range(steps):
        nodes.append(int(rng.choice(graph.neighbours(nodes[-1]))))
    return "".join(graph.viewpoints[node] for node in nodes)


def distance(graph: NavGraph) -> Any:
    return lambda a, b: float(graph.distances[graph.index(a), graph.index(b)])


@pytest.mark.parametrize("protocol", [NDH_PLANNER, NDH_PLAYER, NDH_TRUSTED])
def test_ndh_equals_its_evaluator(corridor: Path, protocol: Any) -> None:
    graph, rng = load_graph(corridor, "hall"), np.random.default_rng(7)
    episodes, walks = [], []
    for number in range(60):
        start = int(rng.integers(6))
        planner, player, path = (
            random_walk(rng, graph, start, int(rng.integers(5))) for _ in range(3)
        )
        ends = "".join(rng.choice(list("abcdef"), size=2, replace=False))
        episodes.append(dialog(str(number), planner, player, ends, protocol.path_type))
        walks.append(path)
    pairs = list(zip(episodes, walks, strict=True))
    result = score_predictions([walk(e, p) for e, p in pairs], episodes, corridor, protocol)
    twins = [ndh_twin(distance(graph), e, p, protocol.path_type) for e, p in pairs]
    assert result.per_episode is not None
    for name in twins[0]:
        assert result.per_episode[name] == pytest.approx([t[name] for t in twins], abs=1e-12), name
    assert len({t["GP"] for t in twins}) > 5


def test_protocols_of_other_tasks_are_refused(corridor: Path, hall_episodes: list[Episode]) -> None:
    episode = dialog("1", "abc", "abcd", "de")
    with pytest.raises(
        InputError, match=r"episode 1: it has a goal set.*choose the protocol of th"
    ):
        scores(corridor, episode, "abc", R2R_DUET)
    with pytest.raises(InputError, match=r"episode 1_0: it has no planner_path.*NDH_PLANNER"):
        scores(corridor, hall_episodes[0], "abc", NDH_PLANNER)
    with pytest.raises(InputError, match=r"it has no goal set, but protocol SOON_OFFICIAL"):
        scores(corridor, hall_episodes[0], "abc", SOON_OFFICIAL)


SQUARE = ((0.5, 0.5), (1.5, 0.5), (1.5, -0.5), (0.5, -0.5))


def pointing(name: str, path: str, seen: str) -> Episode:
    return Episode(
        instr_id=name,
        scan="hall",
        path=tuple(path),
        heading=1.52,
        instruction="the lamp",
        path_id=name,
        goals=tuple(dict.fromkeys(seen)),
        outlines=tuple(Outline(v, (1.0, 0.0), SQUARE) for v in seen),
    )


def soon_twin(d: Any, episode: Episode, path: str, direction: Any) -> dict[str, float]:
    """One walk as SOON's evaluator scores it, in plain loops."""
    start, first_goal, end = path[0], episode.path[-1], path[-1]
    nearest = path[0]
    for v in path:
        if d(v, first_goal) < d(nearest, first_goal):
            nearest = v
    goal = end if end in episode.goals else first_goal
    right = end in episode.goals and all(
        low < x < high for x, (low, high) in zip(direction, ((0.5, 1.5), (-0.5, 0.5)), strict=True)
    )
    error, shortest = d(end, goal), d(start, goal)
    length = sum(d(a, b) for a, b in pairwise(path))
    share = shortest / max(shortest, length, 0.01)
    return {
        "NE": error,
        "SR": float(error < MARGIN),
        "OSR": float(d(nearest, goal) < MARGIN),
        "SPL": float(error < MARGIN) * share,
        "GP": shortest - error,
        "FSR": float(right),
        "FSPL": right * share,
        "TL": length,
    }


def test_soon_equals_its_evaluator(corridor: Path) -> None:
    graph, rng = load_graph(corridor, "hall"), np.random.default_rng(3)
    episodes, walks = [], []
    for number in range(60):
        start = int(rng.integers(6))
        gold = random_walk(rng, graph, start, int(rng.integers(1, 5)))
        seen = "".join({gold[-1], str(rng.choice(list("abcdef")))})
        episodes.append(pointing(str(number), gold, seen))
        where = tuple(rng.uniform(-1, 2, 2).tolist())
        walks.append((random_walk(rng, graph, start, int(rng.integers(5))), where))
    predictions = [walk(e, p, direction=w) for e, (p, w) in zip(episodes, walks, strict=True)]
    result = score_predictions(predictions, episodes, corridor, SOON_OFFICIAL)
    pairs = zip(episodes, walks, strict=True)
    twins = [soon_twin(distance(graph), e, p, where) for e, (p, where) in pairs]
    assert result.per_episode is not None
    for name in twins[0]:
        assert result.per_episode[name] == pytest.approx([t[name] for t in twins], abs=1e-12), name
    assert 0 < sum(t["FSR"] for t in twins) < 30


def test_pointing_nowhere_and_from_elsewhere(corridor: Path) -> None:
    episode = pointing("1", "abc", "cd")
    assert scores(corridor, episode, "abc", SOON_OFFICIAL)["FSR"] == 0.0
    for path, right in (("abcd", 1.0), ("ab", 0.0)):
        found = scores(corridor, episode, path, SOON_OFFICIAL, direction=(1.0, 0.0))
        assert found["FSR"] == found["FSPL"] == right and found["SR"] == 1.0


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ((1.0, 0.0), True),
        ((0.5, 0.0), False),  # on the edge
        ((1.5, 0.5), False),  # a corner
        ((1.6, 0.0), False),
        ((1.0, 0.5), False),
        ((0.0, 0.5), False),  # level with an edge
        ((1.0 + 2 * math.pi, 0.0), False),  # headings do not wrap
    ],
)
def test_inside_an_outline(point: Any, expected: bool) -> None:
    assert inside(point, SQUARE) == expected
    assert inside(point, SQUARE[::-1]) == expected


def test_an_outline_may_be_dented() -> None:
    dented = ((0.0, 0.0), (4.0, 0.0), (1.0, 1.0), (0.0, 4.0))
    assert inside((0.5, 0.5), dented) and not inside((2.0, 2.0), dented)
    assert inside((2.0, 0.5), dented) and not inside((2.0, 0.7), dented)


def test_shares_of_a_turn() -> None:
    assert to_shares((math.pi, 0.0)) == (0.5, 0.5)
    assert to_shares((-math.pi / 2, -math.pi / 4)) == pytest.approx((0.75, 0.375))
    assert from_shares(*to_shares((2.0, -0.3))) == pytest.approx((2.0, -0.3))


def test_rxr_divides_by_the_shortest_or_by_the_annotated_path(
    corridor: Path, hall_episodes: list[Episode]
) -> None:
    """f-c-d-e is the shortest; an annotated path that comes back once is 4 m longer."""
    detour = replace(hall_episodes[3], path=tuple("fcbcde"))
    for protocol, reference in ((RXR_OFFICIAL, 5.5), (RXR_DUET, 9.5)):
        found = scores(corridor, detour, "fcbcde", protocol)
        assert found["SPL"] == pytest.approx(reference / 9.5) and found["nDTW"] == 1.0
    off = scores(corridor, detour, "fcde", RXR_OFFICIAL)
    assert off["DTW"] == pytest.approx(2.0) and off["nDTW"] == pytest.approx(math.exp(-2 / 18))
    short = scores(corridor, detour, "fc", RXR_OFFICIAL)
    assert short["SR"] == short["SDTW"] == 0.0 < short["nDTW"]


def test_the_example_of_rxrs_readme(data_dir: Path, tmp_path: Path) -> None:
    """The sample guide and follower on the real graph, read by our reader, scored as stated.

    The stated metrics come from other positions of the viewpoints (3.7 cm apart), so only near; the
    formula itself is exact: exp(-DTW / (3 m * 5)).
    """
    case = read_json(data_dir / "metrics" / "rxr_readme_case.json")
    guide = case["guide"] | {"scan": case["scan"], "instruction": "Okay, now you are in a room"}
    for role, entry in (("guide", guide), ("follower", case["follower"])):
        file = tmp_path / f"rxr_val_seen_{role}.jsonl"
        file.write_text(json.dumps(entry) + "\n", "utf-8")
    (episode,) = read_rxr(tmp_path, "val_seen")
    (other,) = read_rxr(tmp_path, "val_seen", role="follower")
    walked = Prediction(instr_id=episode.instr_id, hops=tuple((v,) for v in other.path))
    connectivity = data_dir / "mp3d" / "connectivity"
    result = score_predictions([walked], [episode], connectivity, RXR_OFFICIAL)
    found = {name: score.mean for name, score in result.scores.items()}
    stated = case["follower"]["metrics"]
    assert found["NE"] == stated["ne"] and found["SR"] == stated["sr"]
    for name, key in (("SPL", "spl"), ("nDTW", "ndtw"), ("SDTW", "sdtw")):
        assert found[name] == pytest.approx(stated[key], abs=2e-3)
    assert found["nDTW"] == pytest.approx(math.exp(-found["DTW"] / 15), abs=1e-15)
    assert math.exp(-stated["dtw"] / 15) == pytest.approx(stated["ndtw"], abs=1e-15)
