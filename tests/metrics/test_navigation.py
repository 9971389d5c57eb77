"""The batched scores against a double-loop twin, by hand, and by their properties."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sterna.errors import InputError
from sterna.metrics import R2R_DUET, R2R_MATTERSIM, REVERIE_DUET, Walk, navigation_scores
from sterna.world.graph import NavGraph, build_graph, load_graph


def random_graph(count: int, seed: int) -> NavGraph:
    rng = np.random.default_rng(seed)
    linked = rng.random((count, count)) < 0.15
    linked |= np.eye(count, k=1, dtype=bool)
    linked |= linked.T
    np.fill_diagonal(linked, False)
    names = [f"v{i}" for i in range(count)]
    return build_graph("maze", names, rng.normal(0, 4, (count, 3)), linked)


MAZE = random_graph(20, 0)


def walk(graph, path, reference, **more):
    return Walk(
        name=more.pop("name", "1_0"),
        graph=graph,
        path=np.array(path),
        reference=np.array(reference),
        action_steps=len(path) - 1,
        **more,
    )


def stroll(rng, graph, steps):
    nodes = [int(rng.integers(len(graph)))]
    for _ in range(steps):
        nodes.append(int(rng.choice(graph.neighbours(nodes[-1]))))
    return nodes


def twin(d, path, reference, protocol):
    """Every formula as plain double loops."""
    table = [[math.inf] * (len(reference) + 1) for _ in range(len(path) + 1)]
    table[0][0] = 0.0
    for i, p in enumerate(path, 1):
        for j, r in enumerate(reference, 1):
            step = min(table[i - 1][j], table[i][j - 1], table[i - 1][j - 1])
            table[i][j] = d[p][r] + step
    warped = table[-1][-1]
    length = sum(d[a][b] for a, b in itertools.pairwise(path))
    along = sum(d[a][b] for a, b in itertools.pairwise(reference))
    error, oracle = d[path[-1]][reference[-1]], min(d[p][reference[-1]] for p in path)
    success = float(error < protocol.success_radius)
    wanted = along if protocol.reference_length == "path" else d[reference[0]][reference[-1]]
    bottom = max(length, wanted, protocol.spl_floor)
    near = math.exp(-warped / (3.0 * len(reference)))
    pc = sum(math.exp(-min(d[r][p] for p in path) / 3.0) for r in reference) / len(reference)
    expected = pc * along
    return {
        "TL": length,
        "steps": len(path) - 1,
        "action_steps": len(path) - 1,
        "NE": error,
        "oracle_error": oracle,
        "SR": success,
        "OSR": float(oracle < protocol.success_radius),
        "SPL": success * (wanted / bottom if bottom else 1.0),
        "DTW": warped,
        "nDTW": near,
        "SDTW": success * near,
        "CLS": pc * expected / (expected + abs(expected - length)),
    }


@pytest.mark.parametrize("protocol", [R2R_MATTERSIM, R2R_DUET], ids=lambda p: p.name)
def test_equals_the_double_loop_twin(protocol):
    rng = np.random.default_rng(1)
    walks = [
        walk(MAZE, stroll(rng, MAZE, rng.integers(0, 25)), stroll(rng, MAZE, rng.integers(1, 9)))
        for _ in range(1100)
    ]
    scores = navigation_scores(walks, protocol)
    distances = MAZE.distances.tolist()
    for i, w in enumerate(walks):
        expected = twin(distances, w.path.tolist(), w.reference.tolist(), protocol)
        assert set(scores) == set(expected)
        for name, value in expected.items():
            assert scores[name][i] == pytest.approx(value, abs=1e-12, rel=1e-12), name


def hall(corridor: Path) -> NavGraph:
    return load_graph(corridor, "hall")


def by_hand(corridor, path, reference, protocol=R2R_DUET, **more):
    graph = hall(corridor)
    nodes = [graph.index(v) for v in path]
    scores = navigation_scores(
        [walk(graph, nodes, [graph.index(v) for v in reference], **more)], protocol
    )
    return {name: float(values[0]) for name, values in scores.items()}


def test_a_case_by_hand(corridor):
    scores = by_hand(corridor, "abcd", "abc")
    assert scores["TL"] == 6 and scores["NE"] == 2 and scores["oracle_error"] == 0
    assert scores["SR"] == 1 and scores["SPL"] == pytest.approx(4 / 6)
    assert scores["DTW"] == 2 and scores["nDTW"] == pytest.approx(math.exp(-2 / 9))
    assert scores["CLS"] == pytest.approx(4 / 6) and scores["steps"] == 3


def test_exactly_three_metres_is_a_failure(tmp_path, write_graph):
    write_graph(
        tmp_path, "line", {"a": (0, 0, 0), "b": (4, 0, 0), "c": (7, 0, 0)}, [("a", "b"), ("b", "c")]
    )
    graph = load_graph(tmp_path, "line")
    case = walk(graph, [0, 1], [0, 1, 2])
    assert navigation_scores([case], R2R_DUET)["NE"][0] == 3.0
    assert navigation_scores([case], R2R_DUET)["SR"][0] == 0
    loose = replace(R2R_DUET, name="loose", strict=False)
    assert navigation_scores([case], loose)["SR"][0] == 1


def test_reference_lengths_and_floor_differ(corridor):
    assert by_hand(corridor, "abc", "abfc".replace("f", "c") + "fc", R2R_DUET)["SPL"] == 1
    round_trip = by_hand(corridor, "abc", "abcfc", R2R_MATTERSIM)
    assert round_trip["SPL"] == 1 and by_hand(corridor, "abcfc", "abcfc")["SPL"] == 1
    assert by_hand(corridor, "abcfc", "abcfc", R2R_MATTERSIM)["SPL"] == pytest.approx(4 / 7)


def test_a_reference_that_returns_to_its_start(corridor):
    assert by_hand(corridor, "c", "cfc", R2R_MATTERSIM)["SPL"] == 1
    assert by_hand(corridor, "cfc", "cfc", R2R_MATTERSIM)["SPL"] == 0
    assert by_hand(corridor, "cfc", "cfc", R2R_DUET)["SPL"] == 1


def test_goal_sets_are_membership_not_distance(corridor):
    graph = hall(corridor)
    goals = np.array([graph.index("c")])
    near = by_hand(corridor, "abcf", "abc", REVERIE_DUET, goals=goals, object_found=True)
    assert near["NE"] == 1.5 and near["SR"] == 0 and near["OSR"] == 1
    assert near["RGS"] == 1 and near["RGS_at_goal"] == 0
    assert near["RGSPL"] == pytest.approx(4 / 5.5) and near["RGSPL_at_goal"] == 0
    there = by_hand(corridor, "abc", "abc", REVERIE_DUET, goals=goals, object_found=False)
    assert there["SR"] == 1 and there["SPL"] == 1 and there["RGS"] == 0


def test_wrong_protocol_for_the_task_is_refused(corridor):
    with pytest.raises(InputError, match=r"1_0.*no goal set.*REVERIE_DUET"):
        by_hand(corridor, "abc", "abc", REVERIE_DUET)
    with pytest.raises(InputError, match="has a goal set"):
        by_hand(corridor, "abc", "abc", R2R_DUET, goals=np.array([0]))


def test_limits_of_the_protocol_are_enforced(corridor):
    with pytest.raises(InputError, match=r"3 decisions.*allows 2"):
        by_hand(corridor, "abcd", "abc", replace(R2R_DUET, name="short", max_steps=2))
    forward = replace(R2R_DUET, name="forward", backtracking=False)
    assert by_hand(corridor, "abc", "abc", forward)["SR"] == 1
    with pytest.raises(InputError, match="visits a viewpoint twice"):
        by_hand(corridor, "abab", "abc", forward)


def test_no_score_is_ever_non_finite(corridor):
    with pytest.raises(InputError, match="episode 9_9: TL is inf"):
        by_hand(corridor, "ag", "abc", name="9_9")
    with pytest.raises(InputError, match="episode 9_9: CLS is nan"):
        by_hand(corridor, "a", "aa", name="9_9")
    with pytest.raises(InputError, match="fewer than two viewpoints"):
        by_hand(corridor, "a", "a")
    with pytest.raises(InputError, match="nothing to score"):
        navigation_scores([], R2R_DUET)


@st.composite
def walks_on_the_maze(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    path = stroll(rng, MAZE, draw(st.integers(0, 30)))
    return walk(MAZE, path, stroll(rng, MAZE, draw(st.integers(1, 12))))


PROTOCOLS = st.sampled_from([R2R_DUET, R2R_MATTERSIM])


@given(walks_on_the_maze(), PROTOCOLS)
def test_ranges_and_order(case, protocol):
    s = {k: float(v[0]) for k, v in navigation_scores([case], protocol).items()}
    assert 0 <= s["SPL"] <= s["SR"] <= s["OSR"] <= 1
    assert 0 <= s["SDTW"] <= s["nDTW"] <= 1 and 0 <= s["CLS"] <= 1
    assert 0 <= s["oracle_error"] <= s["NE"] <= s["DTW"] + 1e-12


@given(walks_on_the_maze())
def test_the_reference_itself_is_perfect(case):
    best = navigation_scores([replace(case, path=case.reference)], R2R_DUET)
    for name in ("SR", "OSR", "SPL", "nDTW", "SDTW", "CLS"):
        assert best[name][0] == pytest.approx(1, abs=1e-12), name
    assert best["DTW"][0] == best["NE"][0] == 0


@given(walks_on_the_maze(), PROTOCOLS)
def test_a_detour_at_the_end_is_never_rewarded(case, protocol):
    """There and back again: TL and OSR no lower, the same end, SPL no higher."""
    detour = [*case.path, MAZE.neighbours(case.path[-1])[0], case.path[-1]]
    scores = navigation_scores([case, replace(case, path=np.array(detour))], protocol)
    before, after = ({name: v[i] for name, v in scores.items()} for i in range(2))
    assert after["TL"] > before["TL"] and after["SR"] == before["SR"]
    assert after["SPL"] <= before["SPL"]
    assert after["OSR"] >= before["OSR"] and after["oracle_error"] <= before["oracle_error"]


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(walks_on_the_maze(), min_size=2, max_size=12), st.data())
def test_scores_do_not_depend_on_the_batch_or_its_order(cases, data):
    order = data.draw(st.permutations(range(len(cases))))
    together = navigation_scores(cases, R2R_DUET)
    shuffled = navigation_scores([cases[i] for i in order], R2R_DUET)
    alone = navigation_scores(cases[:1], R2R_DUET)
    for name, values in together.items():
        assert np.array_equal(values[order], shuffled[name]), name
        assert values[0] == alone[name][0], name
