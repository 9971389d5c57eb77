"""From a trajectory file to a result, on the corridor."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sterna.errors import InputError
from sterna.metrics import (
    R2R_DUET,
    R2R_MATTERSIM,
    REVERIE_DUET,
    Prediction,
    format_result,
    read_result,
    score_file,
    score_predictions,
    write_result,
)


def predict(episodes, paths):
    return [
        Prediction(instr_id=e.instr_id, hops=tuple((v,) for v in path))
        for e, path in zip(episodes, paths, strict=True)
    ]


def test_scores_stand_in_the_order_of_the_episodes(corridor, hall_episodes):
    predictions = predict(hall_episodes, ["aabbc", "a", "abcde", "fc"])
    scored = score_predictions(predictions, hall_episodes, corridor, R2R_DUET)
    assert scored == score_predictions(predictions[::-1], hall_episodes, corridor, R2R_DUET)
    assert scored.per_episode["instr_id"] == ["1_0", "1_1", "2_0", "3_0"]
    assert scored.per_episode["TL"] == [4, 0, 8, 1.5]
    assert scored.per_episode["steps"] == [2, 0, 4, 1]
    assert scored.per_episode["action_steps"] == [4, 0, 4, 1]
    assert scored.per_episode["SR"] == [1, 0, 1, 0]
    assert scored.scores["SR"].mean == 0.5 and scored.split == "toy"


def test_partial_files_need_permission(tmp_path, corridor, hall_episodes):
    file = tmp_path / "some.json"
    file.write_text(json.dumps([{"instr_id": "2_0", "trajectory": [["a"], ["b"], ["c"]]}]))
    with pytest.raises(InputError, match=r"some\.json: 3 of 4 episodes.*--partial"):
        score_file(file, hall_episodes, corridor, R2R_DUET)
    scored = score_file(file, hall_episodes, corridor, R2R_DUET, partial=True)
    assert (scored.episodes, scored.expected) == (1, 4)
    assert scored.scores["NE"].mean == 4 and scored.scores["NE"].standard_error is None


def test_an_empty_file_is_no_score(tmp_path, corridor, hall_episodes):
    (tmp_path / "none.json").write_text("[]")
    for partial in (True, False):
        with pytest.raises(InputError, match=r"none\.json"):
            score_file(tmp_path / "none.json", hall_episodes, corridor, R2R_DUET, partial=partial)


def test_shortest_reference(corridor, hall_episodes):
    detour = [replace(hall_episodes[0], path=tuple("abcfcde"))]
    walked = predict(detour, ["abcde"])
    shortest = replace(R2R_DUET, name="direct", reference_path="shortest")
    assert score_predictions(walked, detour, corridor, shortest).scores["nDTW"].mean == 1
    assert score_predictions(walked, detour, corridor, R2R_DUET).scores["nDTW"].mean < 1


def test_bad_answers_are_named(corridor, hall_episodes):
    stray = [replace(hall_episodes[0], path=("a", "nowhere"))]
    with pytest.raises(InputError, match=r"episode 1_0: annotation: .*nowhere"):
        score_predictions(predict(stray, ["a"]), stray, corridor, R2R_DUET)
    test_split = [replace(hall_episodes[0], path=("a",))]
    with pytest.raises(InputError, match=r"episode 1_0: .*leaderboard"):
        score_predictions(predict(test_split, ["a"]), test_split, corridor, R2R_MATTERSIM)
    lost = [replace(hall_episodes[0], scan="attic")]
    with pytest.raises(InputError, match="attic"):
        score_predictions(predict(lost, ["a"]), lost, corridor, R2R_DUET)


def test_goal_sets_and_objects(corridor, hall_episodes):
    seen = [replace(e, goals=("c", "f"), object_id=5) for e in hall_episodes[:2]]
    predictions = [
        replace(p, object_id=o)
        for p, o in zip(predict(seen, ["abcf", "abcd"]), (5, None), strict=True)
    ]
    table = score_predictions(predictions, seen, corridor, REVERIE_DUET).per_episode
    assert table["SR"] == [1, 0] and table["OSR"] == [1, 1]
    assert table["RGS"] == [1, 0] and table["RGS_at_goal"] == [1, 0]


def test_text_names_the_protocol(tmp_path, corridor, hall_episodes):
    scored = score_predictions(
        predict(hall_episodes, ["abc", "a", "abcde", "fc"]), hall_episodes, corridor, R2R_DUET
    )
    text = format_result(scored)
    assert f"R2R_DUET ({R2R_DUET.hash}), 4 of 4" in text
    sr = next(line for line in text.splitlines() if line.startswith("SR"))
    assert sr.split() == ["SR", "50.00", "25.00", "21.65", "-"]
    write_result(tmp_path / "r.json", scored)
    assert read_result(tmp_path / "r.json") == scored
