"""Results: standard errors by their formulas, files that round-trip, nothing non-finite."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sterna.errors import InputError
from sterna.metrics import (
    R2R_DUET,
    R2R_MATTERSIM,
    Estimate,
    Result,
    paired_difference,
    read_result,
    write_result,
)
from sterna.metrics.result import clustered_error, estimate, estimates


def result(success=(1.0, 0.0, 1.0, 1.0), **more):
    table = {
        "instr_id": ["1_0", "1_1", "2_0", "3_0"],
        "path_id": [1, 1, 2, 3],
        "scan": ["x", "x", "x", "y"],
        "SR": list(success),
        "NE": [1.0, 4.0, 2.0, 0.5],
    }
    return Result(
        **{
            "protocol": R2R_DUET,
            "scores": estimates(table),
            "episodes": 4,
            "expected": 4,
            "per_episode": table,
            "config": {"lr": 1e-5, "layers": [3, 1, 2]},
            "seed": 0,
            "split": "val_unseen",
            "selection_split": "val_seen",
            "cost": {"seconds": 1.5, "parameters": 21_064_925},
        }
        | more
    )


def test_errors_by_hand():
    scores = result().scores
    assert scores["SR"].mean == 0.75
    assert scores["SR"].standard_error == pytest.approx(math.sqrt(0.75 * 0.25 / 4))
    # paths: deviations .25-.75, .25, .25; scans: -.25, .25
    assert scores["SR"].path_error == pytest.approx(math.sqrt(3 / 2 * (0.25 + 2 / 16)) / 4)
    assert scores["SR"].scan_error == pytest.approx(math.sqrt(2 / 1 * (2 / 16)) / 4)
    values = np.array([1.0, 4.0, 2.0, 0.5])
    assert scores["NE"].standard_error == pytest.approx(values.std(ddof=1) / 2)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20), st.data())
def test_clustered_error_properties(numbers, data):
    values = np.array(numbers)
    clusters = data.draw(st.lists(st.integers(0, 3), min_size=len(numbers), max_size=len(numbers)))
    singles = clustered_error(values, range(len(values)))
    assert singles == pytest.approx(values.std(ddof=1) / math.sqrt(len(values)), abs=1e-9)
    found = clustered_error(values, clusters)
    groups = sorted(set(clusters))
    if len(groups) < 2:
        assert found is None
        return
    total = 0.0
    for group in groups:
        inside = 0.0
        for value, cluster in zip(numbers, clusters, strict=True):
            inside += (value - values.mean()) if cluster == group else 0.0
        total += inside**2
    by_loop = math.sqrt(len(groups) / (len(groups) - 1) * total) / len(numbers)
    assert found == pytest.approx(by_loop, abs=1e-9)
    order = data.draw(st.permutations(range(len(numbers))))
    assert clustered_error(values[order], [clusters[i] for i in order]) == pytest.approx(
        found, abs=1e-9
    )


def test_one_episode_has_no_error():
    assert estimate(np.array([2.0]), [1], ["x"]) == Estimate(mean=2.0)


def test_round_trip(tmp_path):
    for given_result in (result(), result(per_episode=None, seed=None, split=None)):
        write_result(tmp_path / "r.json.gz", given_result)
        assert read_result(tmp_path / "r.json.gz") == given_result
    stored = result().to_dict()
    assert stored["protocol_hash"] == R2R_DUET.hash and stored["version"]


@pytest.mark.parametrize(
    "change",
    [
        {"scores": {"SR": Estimate(mean=math.nan)}},
        {"cost": {"seconds": math.inf}},
        {"config": {"lr": [1.0, -math.inf]}},
        {"config": {"path": object()}},
        {"per_episode": {"SR": [math.nan]}},
    ],
)
def test_non_finite_and_foreign_values_are_refused(change):
    with pytest.raises(InputError, match="result"):
        result(**change)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("protocol_hash",), "000000000000"),
        (("protocol", "success_radius"), 2.0),
        (("protocol",), []),
        (("scores", "SR", "mean"), None),
        (("scores", "SR", "mean"), "0.5"),
        (("scores", "SR"), {}),
        (("episodes",), "4"),
        (("per_episode", "SR"), [1.0]),
        (("per_episode", "SR"), ["1", 0, 1, 1]),
        (("per_episode", "scan"), [[], [], [], []]),
        (("extra",), 1),
        (("cost",), None),
        (("cost", "seconds"), math.nan),
    ],
)
def test_edited_files_are_refused(tmp_path, path, value):
    stored = result().to_dict()
    stored["per_episode"] = dict(stored["per_episode"])
    box = stored
    for key in path[:-1]:
        box = box[key]
    box[path[-1]] = value
    (tmp_path / "r.json").write_text(json.dumps(stored))
    with pytest.raises(InputError, match=r"r\.json"):
        read_result(tmp_path / "r.json")


def test_paired_difference_pairs_by_name():
    a, b = result(), result((0.0, 0.0, 1.0, 1.0))
    back = {name: list(reversed(column)) for name, column in b.per_episode.items()}
    for other in (b, replace(b, per_episode=back)):
        difference = paired_difference(a, other)
        assert difference["SR"].mean == 0.25
        assert difference["SR"].standard_error == pytest.approx(0.25)
        assert difference["SR"].scan_error == pytest.approx(math.sqrt(2 * 2 * 0.25**2) / 4)
        assert difference["NE"] == Estimate(
            mean=0.0, standard_error=0.0, path_error=0.0, scan_error=0.0
        )


def test_paired_difference_refuses_unlike_results():
    with pytest.raises(InputError, match=r"R2R_DUET.*R2R_MATTERSIM"):
        paired_difference(result(), result(protocol=R2R_MATTERSIM))
    with pytest.raises(InputError, match="per-episode"):
        paired_difference(result(), result(per_episode=None))
    other = dict(result().per_episode) | {"instr_id": ["1_0", "1_1", "2_0", "9_0"]}
    with pytest.raises(InputError, match="first 3_0"):
        paired_difference(result(), result(per_episode=other))
