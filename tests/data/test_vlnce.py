"""VLN-CE files: fields, frames, errors by name, and equal values after a round trip."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sterna.data.check import check_data
from sterna.data.layout import Layout
from sterna.data.r2r import read_r2r
from sterna.data.vlnce import (
    read_trajectories,
    read_vlnce,
    read_vocabulary,
    write_trajectories,
    write_vlnce,
)
from sterna.errors import InputError
from sterna.files import read_json

EPISODE: dict[str, Any] = {
    "episode_id": 12,
    "trajectory_id": 4,
    "scene_id": "mp3d/house/house.glb",
    "start_position": [1.5, 0.25, -2.0],
    "start_rotation": [-0.0, -0.7071067811865476, 0.0, 0.7071067811865476],
    "info": {"geodesic_distance": 5.5},
    "goals": [{"position": [1.5, 0.25, 3.0], "radius": 3.0}],
    "instruction": {"instruction_text": "Go on.", "instruction_tokens": [5, 6, *[0] * 198]},
    "reference_path": [[1.5, 0.25, -2.0], [1.5, 0.25, 3.0]],
}
VOCABULARY = {"word_list": ["<pad>", "go"], "PAD_INDEX": 0}
WALK = {
    "locations": [[1.0, 0.5, 2.0], [1.0, 0.5, 1.75]],
    "actions": [2, 1, 3, 0],
    "forward_steps": 1,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "val_seen.json.gz"
    write_json_of(path, {"episodes": [EPISODE], "instruction_vocab": VOCABULARY})
    return path


def write_json_of(path: Path, value: Any) -> None:
    from sterna.files import write_text

    write_text(path, json.dumps(value))


def test_fields_and_frames(file: Path) -> None:
    (episode,) = read_vlnce(file, "val_seen")
    assert (episode.instr_id, episode.path_id, episode.scan) == ("12", 4, "house")
    assert episode.position == (1.5, 2.0, 0.25) and episode.goal_positions == ((1.5, -3.0, 0.25),)
    assert episode.heading == pytest.approx(math.pi / 2), "a right turn from north looks east"
    assert episode.waypoints[-1] == (1.5, -3.0, 0.25) and episode.goal_radius == 3.0
    assert (episode.distance, episode.token_ids, episode.split) == (5.5, (5, 6), "val_seen")
    assert episode.path == () and episode.instruction == "Go on."
    assert read_vocabulary(file) == VOCABULARY


def test_round_trip(file: Path, tmp_path: Path) -> None:
    write_vlnce(tmp_path / "out.json.gz", read_vlnce(file), read_vocabulary(file))
    assert json.dumps(read_json(tmp_path / "out.json.gz")) == json.dumps(read_json(file))


def test_a_test_split_and_a_file_without_vocabulary(tmp_path: Path) -> None:
    entry = {k: v for k, v in EPISODE.items() if k not in ("info", "goals", "reference_path")}
    entry["instruction"] = {"instruction_text": "Go", "language": "en-US"}
    write_json_of(tmp_path / "test.json", {"episodes": [entry]})
    (episode,) = read_vlnce(tmp_path / "test.json")
    assert episode.goal_positions == () and episode.distance is None
    assert episode.token_ids is None and episode.language == "en-US"
    assert read_vocabulary(tmp_path / "test.json") is None
    write_vlnce(tmp_path / "out.json", [episode])
    assert read_json(tmp_path / "out.json") == read_json(tmp_path / "test.json")


def test_a_turned_episode_gets_a_new_rotation(file: Path, tmp_path: Path) -> None:
    (episode,) = read_vlnce(file)
    turned = replace(episode, heading=1.0)
    write_vlnce(tmp_path / "out.json", [turned])
    assert read_vlnce(tmp_path / "out.json")[0].heading == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("episode_id", None, "episode number 0: episode_id"),
        ("trajectory_id", [1], "episode 12: trajectory_id"),
        ("scene_id", "../..", "episode 12: scene_id"),
        ("start_position", [1, 2], "episode 12: start_position"),
        ("start_position", [1, 2, float("nan")], "episode 12: start_position"),
        ("start_rotation", [1, 1, 1, 1], "episode 12: start_rotation"),
        ("goals", [{"position": [1, 2, 3]}], "episode 12: goals"),
        ("reference_path", [[1, 2]], "episode 12: reference_path"),
        ("info", {"geodesic_distance": -1}, "episode 12: info"),
        ("instruction", "go", "episode 12: instruction"),
        ("instruction", {"instruction_text": 3}, "episode 12: instruction: instruction_text"),
    ],
)
def test_faults_name_file_episode_and_key(tmp_path: Path, key: str, value: Any, named: str) -> None:
    entry = copy.deepcopy(EPISODE) | {key: value}
    (tmp_path / "bad.json").write_text(json.dumps({"episodes": [entry]}))
    with pytest.raises(InputError) as error:
        read_vlnce(tmp_path / "bad.json")
    assert named in str(error.value) and "bad.json" in str(error.value)


def test_double_ids_and_other_files_are_refused(tmp_path: Path) -> None:
    write_json_of(tmp_path / "twice.json", {"episodes": [EPISODE, EPISODE]})
    with pytest.raises(InputError, match="episode_id 12 occurs twice"):
        read_vlnce(tmp_path / "twice.json")
    write_json_of(tmp_path / "list.json", [EPISODE])
    with pytest.raises(InputError, match="expected a JSON object"):
        read_vlnce(tmp_path / "list.json")
    with pytest.raises(InputError, match="name the split"):
        read_vlnce(tmp_path)


def test_trajectories(tmp_path: Path) -> None:
    write_json_of(tmp_path / "gt.json.gz", {"12": WALK})
    walks = read_trajectories(tmp_path / "gt.json.gz")
    assert walks["12"].actions.tolist() == [2, 1, 3, 0]
    assert walks["12"].positions.tolist() == [[1.0, -2.0, 0.5], [1.0, -1.75, 0.5]]
    write_trajectories(tmp_path / "out.json.gz", walks)
    assert (tmp_path / "out.json.gz").read_bytes() == (tmp_path / "gt.json.gz").read_bytes()
    for key, value in (("actions", [6]), ("locations", []), ("forward_steps", 2)):
        write_json_of(tmp_path / "bad.json", {"12": WALK | {key: value}})
        with pytest.raises(InputError, match=f"episode 12: {key}"):
            read_trajectories(tmp_path / "bad.json")


RXR: dict[str, Any] = EPISODE | {
    "instruction": {
        "instruction_id": "26",
        "instruction_text": "कुर्सी के पास",
        "language": "hi-IN",
        "annotator_id": "19",
        "edit_distance": 0.125,
        "timed_instruction": [{"word": "कुर्सी", "start_time": 0.5, "end_time": 1.0}],
    },
    "start_room": None,
}


@pytest.fixture
def rxr_folder(tmp_path: Path) -> Path:
    """RxR-CE as published: two roles, no vocabulary, trajectories that may look up and down."""
    folder = tmp_path / "data" / "datasets" / "RxR_VLNCE_v0" / "val_seen"
    folder.mkdir(parents=True)
    for number, role in enumerate(("guide", "follower"), 12):
        entry = RXR | {"episode_id": number}
        write_json_of(folder / f"val_seen_{role}.json.gz", {"episodes": [entry]})
        walk = WALK | {"actions": [4, 1, 5, 0]}
        write_json_of(folder / f"val_seen_{role}_gt.json.gz", {str(number): walk})
    return tmp_path


@pytest.mark.parametrize("role", ["guide", "follower"])
def test_rxr_ce_in_full(rxr_folder: Path, tmp_path: Path, role: str) -> None:
    layout = Layout(rxr_folder)
    file, beside = layout.rxrce("val_seen", role), layout.rxrce_trajectories("val_seen", role)
    (bare,), (whole,) = read_vlnce(file), read_vlnce(file, whole=True)
    assert (bare.language, bare.instruction_id, bare.rest) == ("hi-IN", "26", None)
    assert replace(whole, rest=None) == bare and read_vocabulary(file) is None
    write_vlnce(tmp_path / "out.json.gz", [whole])
    assert read_json(tmp_path / "out.json.gz") == read_json(file)
    walks = read_trajectories(beside)
    assert walks[bare.instr_id].actions.tolist() == [4, 1, 5, 0]
    write_trajectories(tmp_path / "gt.json.gz", walks)
    assert read_json(tmp_path / "gt.json.gz") == read_json(beside)


def test_numbers_that_are_none_are_not_stated(tmp_path: Path) -> None:
    """Published files hold NaN times; a goal that cannot be reached is infinitely far."""
    entry = copy.deepcopy(RXR) | {"info": {"geodesic_distance": math.inf}}
    entry["instruction"]["timed_instruction"][0]["end_time"] = math.nan
    (tmp_path / "odd.json").write_text(json.dumps({"episodes": [entry]}))
    (episode,) = read_vlnce(tmp_path / "odd.json", whole=True)
    assert episode.distance is None and '"end_time": null' in str(episode.rest)
    write_vlnce(tmp_path / "out.json", [episode])
    assert read_vlnce(tmp_path / "out.json", whole=True) == [episode]


def test_the_data_check_reads_rxr_ce(rxr_folder: Path) -> None:
    rows = {row.what: row for row in check_data(rxr_folder).rows}
    for role in ("guide", "follower"):
        row = rows[f"rxr-ce val_seen {role}"]
        assert row.status == "ok" and row.found == "1 episodes; 1 hi-IN"
    gt = Layout(rxr_folder).rxrce_trajectories("val_seen")
    write_json_of(gt, {})
    row = next(r for r in check_data(rxr_folder).rows if r.what == "rxr-ce val_seen guide")
    assert row.status == "wrong" and "1 episodes have no trajectory in the _gt file, first 12" in (
        row.found
    )


def test_releases_of_vlnce(tmp_path: Path) -> None:
    """v1-2 as published (no tokens, no trajectories) beside v1-3, which is taken by default."""
    bare = copy.deepcopy(EPISODE)
    del bare["instruction"]["instruction_tokens"]
    for release, entry in (("v1-2", bare), ("v1-3_preprocessed", EPISODE)):
        folder = tmp_path / f"R2R_VLNCE_{release}" / "val_seen"
        folder.mkdir(parents=True)
        write_json_of(folder / "val_seen.json.gz", {"episodes": [entry]})
    layout = Layout(tmp_path)
    assert "v1-3" in str(layout.vlnce("val_seen"))
    (episode,) = read_vlnce(layout.vlnce("val_seen", "v1-2"))
    assert episode.token_ids is None and episode.instruction == "Go on."
    write_vlnce(tmp_path / "out.json", [episode])
    assert read_json(tmp_path / "out.json") == read_json(layout.vlnce("val_seen", "v1-2"))
    with pytest.raises(InputError, match="found no R2R_VLNCE_v1-1/val_seen"):
        layout.vlnce("val_seen", "v1-1")
    with pytest.raises(InputError, match=r"found no val_seen_gt.json\[.gz\]"):
        layout.vlnce_trajectories("val_seen", "v1-2")


@pytest.mark.parametrize("split", ["val_seen", "val_unseen", "test"])
def test_published_files_survive_the_round_trip(data_dir: Path, tmp_path: Path, split: str) -> None:
    """Every value of every episode, and the order of the keys."""
    episodes = read_vlnce(data_dir, split)
    assert len(episodes) == {"val_seen": 778, "val_unseen": 1839, "test": 3408}[split]
    write_vlnce(tmp_path / "out.json", episodes, read_vocabulary(data_dir, split))
    published = read_json(Layout(data_dir).vlnce(split))
    assert json.dumps(read_json(tmp_path / "out.json")) == json.dumps(published)
    if split != "test":
        write_trajectories(tmp_path / "gt.json", read_trajectories(data_dir, split))
        published = read_json(Layout(data_dir).vlnce_trajectories(split))
        assert json.dumps(read_json(tmp_path / "gt.json")) == json.dumps(published)


@pytest.mark.parametrize("split", ["val_seen", "val_unseen"])
def test_published_headings_are_those_of_r2r_to_30_degrees(data_dir: Path, split: str) -> None:
    headings = {e.path_id: e.heading for e in read_r2r(data_dir, split)}
    for episode in read_vlnce(data_dir, split):
        turn = episode.heading - headings[episode.path_id]
        assert math.cos(turn) >= math.cos(math.radians(15)) - 1e-6
        assert np.isclose(episode.heading / math.radians(30) % 1, [0, 1]).any()
