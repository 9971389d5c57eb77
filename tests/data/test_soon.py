"""SOON: several paths and instructions a target, outlines around it, DUET's files as well."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sterna.data.r2r import check_episodes, load_graphs
from sterna.data.soon import HEADING, read_soon, write_soon
from sterna.errors import InputError
from toy_tasks import SOON_SPLITS, box, write, write_toy_tasks

PARTS = ["round", "under a lamp", "in the hall", "beside the kitchen"]
TARGET: dict[str, Any] = {
    "path": [["a", "b", "c"], ["d", "c"]],
    "instructions": [[*PARTS, "Find the round table."], [*PARTS, "Go to the table."]],
    "bboxes": [box("house", "c", 1.0), box("house", "e", 6.2)],
}
QUESTION = {
    "instr_id": 7,
    "scan": "house",
    "path": [["a"], ["d"]],
    "instructions": [[*PARTS, "Go"]],
}


@pytest.fixture(scope="module")
def world(toy_house: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_tasks(toy_house, tmp_path_factory.mktemp("tasks") / "data", paths=12)


def read(tmp_path: Path, *entries: Any, split: str | None = "val_unseen_house") -> list[Any]:
    write(tmp_path / "soon.json", list(entries))
    return read_soon(tmp_path / "soon.json", split)


def test_every_instruction_goes_with_every_path(tmp_path: Path) -> None:
    episodes = read(tmp_path, TARGET, TARGET)
    names = [f"3-{path}_{j}" for path in range(4) for j in range(2)]
    assert [e.instr_id for e in episodes] == names
    first, third = episodes[0], episodes[2]
    assert first.path == ("a", "b", "c") and third.path == ("d", "c")
    assert first.instruction == "Find the round table." and first.parts[0] == "round"
    assert first.goals == ("c", "e") and first.target == "chair" and first.scan == "house"
    assert first.heading == HEADING and first.outlines[0].centre == (1.0, -0.1)
    assert first.outlines[1].corners[2] == (6.45, -0.25)


def test_a_test_split_has_numbers_and_starts(tmp_path: Path) -> None:
    flat = QUESTION | {"instr_id": 8, "instructions": [*PARTS, "Go"]}
    episodes = read(tmp_path, QUESTION, flat, split="test")
    assert [e.instr_id for e in episodes] == ["4-0_0", "4-1_0", "4-2_0", "4-3_0"]
    assert [e.instruction_id for e in episodes] == ["7", "7", "8", "8"]
    assert [e.start for e in episodes] == ["a", "d"] * 2 and not episodes[0].answered
    assert {e.instruction for e in episodes} == {"Go"}


def test_files_of_duet_are_read(tmp_path: Path) -> None:
    """One path a line, with its number, word ids, and instructions as objects."""
    entry = {
        "path_id": "3-5",
        "scan": "house",
        "path": ["a", "c"],
        "bboxes": [TARGET["bboxes"][0] | {"pseudo_label": {"obj_id": 4, "idx": 0}}],
        "instructions": [{"full": "Find it."}, {"full": "Go."}],
        "instr_encodings": [{"full": [101, 5, 102]}, {"full": [101, 102]}],
    }
    folder = tmp_path / "SOON" / "annotations" / "bert_enc"
    folder.mkdir(parents=True)
    (folder / "val_unseen_house_enc.jsonl").write_text(json.dumps(entry) + "\n", "utf-8")
    first, second = read_soon(tmp_path, "val_unseen_house")
    assert (first.instr_id, second.instr_id) == ("3-5_0", "3-5_1")
    assert first.token_ids == (101, 5, 102) and second.instruction == "Go."
    write_soon(tmp_path / "out.json", [first, second])
    again = read_soon(tmp_path / "out.json", "val_unseen_house")
    assert [(e.instr_id, e.token_ids, e.rest) for e in again] == [
        (e.instr_id, e.token_ids, e.rest) for e in (first, second)
    ]


@pytest.mark.parametrize("split", [*SOON_SPLITS.values(), "test"])
def test_files_survive_the_round_trip(world: Path, tmp_path: Path, split: str) -> None:
    episodes = read_soon(world, split)
    if split != "test":
        assert not check_episodes(episodes, load_graphs(world / "connectivity", episodes))
        assert all(e.goal in e.goals for e in episodes)
    write_soon(tmp_path / "out.json", episodes)
    assert read_soon(tmp_path / "out.json", split) == episodes
    published = json.loads((world / "soon" / f"{split}.json").read_text("utf-8"))
    if split == "test":  # a lone instruction need not stand in a list; ours does
        for item in published:
            item["instructions"] = [item["instructions"]]
    assert json.loads((tmp_path / "out.json").read_text("utf-8")) == published


def test_a_part_keeps_its_numbers(tmp_path: Path) -> None:
    episodes = read(tmp_path, TARGET, TARGET)[4:]
    write_soon(tmp_path / "out.json", episodes)
    assert read_soon(tmp_path / "out.json", "val_unseen_house") == episodes


NAMES = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ANGLE = st.floats(-9, 9)
CORNER = st.fixed_dictionaries({"heading": ANGLE, "elevation": ANGLE})
CORNERS = ("center", "left_top", "right_top", "right_bottom", "left_bottom")
BOX = st.fixed_dictionaries(
    {
        "scan": st.just("house"),
        "image_id": st.sampled_from("abc"),
        "target": st.fixed_dictionaries({name: CORNER for name in CORNERS}),
    },
    optional={"obj_name": TEXT, "mouse_left_top": st.dictionaries(TEXT, ANGLE, max_size=2)},
)
FULL = st.lists(TEXT, min_size=5, max_size=5)
ENTRY = st.fixed_dictionaries(
    {
        "path": st.lists(NAMES, min_size=1, max_size=3),
        "instructions": st.lists(FULL, min_size=1, max_size=2),
        "bboxes": st.lists(BOX, min_size=1, max_size=2),
    },
    optional={"difficulty": st.integers(0, 3), "instr_id": st.integers(0, 999)},
)


@given(entries=st.lists(ENTRY, min_size=1, max_size=3))
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_targets_survive_the_round_trip(tmp_path: Path, entries: list[Any]) -> None:
    first = read(tmp_path, *entries)
    write_soon(tmp_path / "b.json", first)
    assert read_soon(tmp_path / "b.json", "val_unseen_house") == first


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"path": []}, "entry 0: path"),
        ({"path": [["a"], []]}, "entry 0: path"),
        ({"instructions": [["go"]]}, "entry 0: instructions"),
        ({"instructions": "go"}, "entry 0: instructions"),
        ({"instr_encodings": [{"full": [1]}]}, "entry 0: instr_encodings"),
        ({"bboxes": {}}, "entry 0: bboxes"),
        ({"bboxes": [{"image_id": "a"}]}, "entry 0: bboxes 0: target"),
        ({"bboxes": [box("../x", "a", 0.0)]}, "entry 0: scan"),
        ({"path_id": [1]}, "entry 0: path_id"),
    ],
)
def test_faults_name_entry_and_field(tmp_path: Path, change: Any, named: str) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, copy.deepcopy(TARGET) | change)
    assert named in str(error.value) and "soon.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_other_faults(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="instr_id 1_0 occurs twice"):
        read(
            tmp_path, TARGET | {"path_id": 1, "path": ["a"]}, TARGET | {"path_id": 1, "path": ["b"]}
        )
    write(tmp_path / "soon.json", {"a": 1})
    with pytest.raises(InputError, match="expected a JSON list of targets"):
        read_soon(tmp_path / "soon.json")
