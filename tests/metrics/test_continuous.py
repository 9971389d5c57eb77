"""Scores in continuous space against cases worked by hand, and a plain DTW."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from sterna.errors import InputError
from sterna.metrics import (
    R2R_CE,
    R2R_DUET,
    RXR_CE,
    Trace,
    Walk,
    continuous_scores,
    navigation_scores,
)
from toy import line_graph


def line(*x: float) -> np.ndarray:
    return np.array([[value, 0.0, 0.0] for value in x])


def trace(**changes: object) -> Trace:
    """Along x from 0 to 3 m with two turns on the spot; the goal lies at 5 m."""
    positions = line(0, 0, 1, 2, 2, 3, 3)
    base = Trace(
        name="7",
        positions=positions,
        to_goal=5 - positions[:, 0],
        stopped=True,
        reference=line(0, 1, 2, 3, 4, 5),
        geodesic=5.0,
    )
    return replace(base, **changes)


def score(**changes: object) -> dict[str, float]:
    return {k: float(v[0]) for k, v in continuous_scores([trace(**changes)], R2R_CE).items()}


def test_by_hand() -> None:
    """DTW: the walk 0 1 2 3 against 0..5 costs |3 - 4| + |3 - 5| = 3."""
    found = score()
    assert found["TL"] == 3.0 and found["steps"] == 6.0
    assert (found["NE"], found["oracle_error"], found["SR"], found["OSR"]) == (2.0, 2.0, 1.0, 1.0)
    assert found["SPL"] == 1.0, "shorter than the stored length"
    assert found["DTW"] == 3.0 and found["nDTW"] == pytest.approx(math.exp(-3 / 18))
    assert found["SDTW"] == found["nDTW"]


def test_without_stop_nothing_succeeds_but_the_oracle() -> None:
    found = score(stopped=False)
    assert (found["SR"], found["SPL"], found["SDTW"], found["OSR"]) == (0, 0, 0, 1)
    assert found["nDTW"] == score()["nDTW"]


def test_success_is_strictly_within_three_metres() -> None:
    distances = np.array([5.0, 5, 4, 3, 3, 3, 3])
    assert score(to_goal=distances)["SR"] == 0 and score(to_goal=distances)["OSR"] == 0
    assert score(to_goal=distances - 1e-9)["SR"] == 1
    passed = np.array([5.0, 5, 2, 4, 4, 4, 4])
    assert score(to_goal=passed)["SR"] == 0 and score(to_goal=passed)["OSR"] == 1


def test_spl_divides_by_the_stored_length_and_the_start_counts_for_the_oracle() -> None:
    assert score(geodesic=2.0)["SPL"] == pytest.approx(2 / 3)
    still = {"positions": line(0, 0), "to_goal": np.array([0.0, 0.0]), "geodesic": 0.0}
    assert score(**still)["SPL"] == 1.0
    assert score(to_goal=np.array([2.0, 9, 9, 9, 9, 9, 9]))["OSR"] == 1


def plain_dtw(a: np.ndarray, b: np.ndarray) -> float:
    table = np.full((len(a) + 1, len(b) + 1), np.inf)
    table[0, 0] = 0
    for i in range(len(a)):
        for j in range(len(b)):
            before = min(table[i, j], table[i, j + 1], table[i + 1, j])
            table[i + 1, j + 1] = np.linalg.norm(a[i] - b[j]) + before
    return float(table[-1, -1])


def test_dtw_drops_repeats_of_the_walk_and_only_those() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        steps = rng.normal(size=(rng.integers(1, 30), 3)) * (rng.random((1,)) < 2)
        walked = np.cumsum(steps, axis=0)
        repeated = np.repeat(walked, rng.integers(1, 4, len(walked)), axis=0)
        reference = np.cumsum(rng.normal(size=(12, 3)), axis=0)
        reference[5] = reference[4]
        found = score(positions=repeated, to_goal=np.zeros(len(repeated)), reference=reference)
        assert found["DTW"] == pytest.approx(plain_dtw(reference, walked))
        assert found["nDTW"] == pytest.approx(math.exp(-found["DTW"] / (12 * 3)))


def test_a_batch_keeps_its_order() -> None:
    scores = continuous_scores([trace(), trace(stopped=False), trace(collisions=4)], RXR_CE)
    assert scores["SR"].tolist() == [1, 0, 1] and scores["collisions"].tolist() == [0, 0, 4]


def test_what_cannot_be_scored_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="episode 7: NE is inf"):
        score(to_goal=np.full(7, np.inf))
    with pytest.raises(InputError, match=r"episode 7: 600 actions, protocol R2R_CE allows 500"):
        score(positions=np.zeros((601, 3)), to_goal=np.zeros(601))
    with pytest.raises(InputError, match="distance to the goal for each of 7"):
        score(to_goal=np.zeros(3))
    with pytest.raises(InputError, match="reference must be"):
        score(reference=np.empty((0, 3)))
    with pytest.raises(InputError, match="R2R_DUET is not for continuous space"):
        continuous_scores([trace()], R2R_DUET)
    graph = line_graph(2)
    nodes = np.array([0, 1])
    walk = Walk(name="7", graph=graph, path=nodes, reference=nodes, action_steps=1)
    with pytest.raises(InputError, match="R2R_CE is for continuous space"):
        navigation_scores([walk], R2R_CE)
    with pytest.raises(InputError, match="at least one walk"):
        continuous_scores([], R2R_CE)
