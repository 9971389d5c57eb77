"""NDH: dialogs become instructions, three paths may supervise, files go through unchanged."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sterna.data.ndh import instruction_of, read_ndh, supervision, write_ndh
from sterna.data.r2r import check_episodes, load_graphs, read_r2r
from sterna.errors import InputError
from toy_tasks import write, write_toy_tasks

INSTANCE: dict[str, Any] = {
    "inst_idx": 5,
    "game_idx": 2,
    "scan": "house",
    "target": "fireplace",
    "start_pano": {"heading": 3.157719458166736, "elevation": 17.288158660514817, "pano": "a"},
    "dialog_history": [
        {"nav_idx": 0, "role": "navigator", "message": "Which room?"},
        {"nav_idx": 0, "role": "oracle", "message": "the one with fireplace"},
        {"nav_idx": 9, "role": "navigator", "message": "Go back?"},
        {"nav_idx": 9, "role": "oracle", "message": "i would go back"},
    ],
    "nav_history": ["z", "a"],
    "planner_path": ["a", "b", "c"],
    "player_path": ["a", "d", "c", "e"],
    "end_panos": ["e", "f"],
    "nav_camera": [{"heading": 3.14, "elevation": 17.5, "pano": "a"}],
    "R2R_spl": 0.0,
}
ANSWERS = ("game_idx", "planner_path", "player_path", "end_panos", "R2R_spl")


@pytest.fixture(scope="module")
def world(toy_house: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_tasks(toy_house, tmp_path_factory.mktemp("tasks") / "data", paths=12)


def read(tmp_path: Path, *instances: Any, **how: Any) -> list[Any]:
    write(tmp_path / "ndh.json", list(instances))
    return read_ndh(tmp_path / "ndh.json", "val_unseen", **how)


def test_fields(tmp_path: Path) -> None:
    (episode,) = read(tmp_path, INSTANCE)
    assert (episode.instr_id, episode.path_id, episode.scan) == ("5", 2, "house")
    assert episode.heading == INSTANCE["start_pano"]["heading"] and episode.target == "fireplace"
    assert episode.goals == ("e", "f") and episode.walked == ("z", "a")
    assert episode.dialog[3] == ("oracle", "i would go back", 9)
    assert episode.instruction == (
        "<NAV> Which room? <ORA> the one with fireplace <NAV> Go back? <ORA> i would go back "
        "<TAR> fireplace"
    )


@pytest.mark.parametrize(
    ("player", "path_type", "expected"),
    [
        ("adce", "planner_path", "abc"),
        ("adce", "player_path", "adce"),
        ("adce", "trusted_path", "adce"),  # it passes c, where the planner ends
        ("ade", "trusted_path", "abc"),
        ("c", "trusted_path", "abc"),  # to begin there is not to pass
        ("cdc", "trusted_path", "cdc"),
    ],
)
def test_whose_path_supervises(player: str, path_type: Any, expected: str) -> None:
    assert supervision(tuple("abc"), tuple(player), path_type) == tuple(expected)


def test_paths_are_read_as_asked(tmp_path: Path) -> None:
    for path_type, path in (("planner_path", "abc"), ("player_path", "adce")):
        assert read(tmp_path, INSTANCE, path_type=path_type)[0].path == tuple(path)
    stays = INSTANCE | {"player_path": ["a", "a", "c"]}
    assert read(tmp_path, stays)[0].path == ("a", "c"), "looking around is no step"
    with pytest.raises(InputError, match="path_type must be one of planner_path"):
        read(tmp_path, INSTANCE, path_type="oracle")


def test_what_of_the_dialog_is_told(tmp_path: Path) -> None:
    (episode,) = read(tmp_path, INSTANCE)
    told = {
        "none": "",
        "target": "<TAR> fireplace",
        "oracle_ans": "<ORA> i would go back <TAR> fireplace",
        "nav_q_oracle_ans": "<NAV> Go back? <ORA> i would go back <TAR> fireplace",
    }
    for history, text in told.items():
        assert instruction_of(episode.dialog, "fireplace", history) == text  # type: ignore[arg-type]
        assert read(tmp_path, INSTANCE, history=history)[0].instruction == text
    assert instruction_of((), "chair", "nav_q_oracle_ans") == "<TAR> chair"
    with pytest.raises(InputError, match="history must be one of none"):
        instruction_of((), "chair", "some")  # type: ignore[arg-type]


def test_a_test_split_has_no_answers(tmp_path: Path, world: Path) -> None:
    (episode,) = read(tmp_path, {k: v for k, v in INSTANCE.items() if k not in ANSWERS})
    assert episode.path == ("a",) and not episode.answered and episode.path_id == "5"
    assert len(read_ndh(world, "test")) == 12, "the publisher calls it test_cleaned"


@pytest.mark.parametrize("split", ["train", "val_seen", "val_unseen", "test"])
def test_files_survive_the_round_trip(world: Path, tmp_path: Path, split: str) -> None:
    episodes = read_ndh(world, split)
    if split != "test":
        assert not check_episodes(episodes, load_graphs(world / "connectivity", episodes))
    write_ndh(tmp_path / "out.json", episodes)
    name = "test_cleaned" if split == "test" else split
    published = json.loads((world / "ndh" / f"{name}.json").read_text("utf-8"))
    assert json.loads((tmp_path / "out.json").read_text("utf-8")) == published
    assert read_ndh(tmp_path / "out.json", split) == episodes


NAMES = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TURN = st.fixed_dictionaries(
    {
        "nav_idx": st.integers(0, 40),
        "role": st.sampled_from(["navigator", "oracle"]),
        "message": TEXT,
    }
)
ASKED = {
    "scan": st.sampled_from(["house", "flat"]),
    "target": TEXT,
    "start_pano": st.fixed_dictionaries(
        {"pano": st.sampled_from("abc"), "heading": st.floats(-9, 9), "elevation": st.floats(0, 20)}
    ),
    "dialog_history": st.lists(TURN, max_size=4),
    "nav_history": NAMES,
}
KNOWN = {name: NAMES for name in ("planner_path", "player_path", "end_panos")}
EXTRA = {
    "R2R_spl": st.floats(0, 1),
    "nav_camera": st.lists(st.dictionaries(TEXT, st.floats(-9, 9)), max_size=2),
}
ENTRY = st.one_of(
    st.fixed_dictionaries(ASKED, optional=EXTRA),
    st.fixed_dictionaries(ASKED | KNOWN | {"game_idx": st.integers(0, 9)}, optional=EXTRA),
)


@given(
    entries=st.lists(ENTRY, min_size=1, max_size=4),
    how=st.sampled_from(["planner_path", "player_path"]),
)
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_instances_survive_the_round_trip(tmp_path: Path, entries: Any, how: Any) -> None:
    numbered = [entry | {"inst_idx": n} for n, entry in enumerate(entries)]
    first = read(tmp_path, *numbered, path_type=how)
    write_ndh(tmp_path / "b.json", first)
    assert json.loads((tmp_path / "b.json").read_text("utf-8")) == numbered
    assert read_ndh(tmp_path / "b.json", "val_unseen", path_type=how) == first


def test_a_changed_heading_is_written(tmp_path: Path) -> None:
    (episode,) = read(tmp_path, INSTANCE)
    write_ndh(tmp_path / "b.json", [replace(episode, heading=1.0)])
    assert read_ndh(tmp_path / "b.json")[0].heading == 1.0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"inst_idx": "5"}, "instance number 0: inst_idx"),
        ({"scan": "../x"}, "instance 5: scan"),
        ({"target": None}, "instance 5: target"),
        ({"start_pano": {"pano": "a"}}, "instance 5: start_pano"),
        ({"dialog_history": [{"role": "cook", "message": "x", "nav_idx": 0}]}, "dialog_history"),
        ({"nav_history": "a"}, "instance 5: nav_history"),
        ({"game_idx": "2"}, "instance 5: game_idx"),
        ({"end_panos": []}, "instance 5: end_panos"),
        ({"player_path": None}, "instance 5: player_path"),
    ],
)
def test_faults_name_instance_and_field(tmp_path: Path, change: Any, named: str) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, copy.deepcopy(INSTANCE) | change)
    assert named in str(error.value) and "ndh.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_other_faults(tmp_path: Path, toy_house: Path) -> None:
    with pytest.raises(InputError, match="inst_idx occurs twice"):
        read(tmp_path, INSTANCE, INSTANCE)
    write(tmp_path / "ndh.json", {"a": 1})
    with pytest.raises(InputError, match="expected a JSON list of instances"):
        read_ndh(tmp_path / "ndh.json")
    with pytest.raises(InputError, match="NDH needs a target and a number"):
        write_ndh(tmp_path / "out.json", read_r2r(toy_house, "val_seen")[:1])
