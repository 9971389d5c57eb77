"""Leaderboard files on graphs: each as its board takes it, and one clear line for a broken one."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from sterna.data.episodes import Episode
from sterna.errors import InputError
from sterna.metrics import GraphBoard, Prediction, validate_file, write_graph_board
from sterna.metrics.graphboards import board_file
from sterna.metrics.submission import read_submission, renamed

BOARDS = get_args(GraphBoard)
PATHS = {"1_0": "abc", "1_1": "ab", "2_0": "abcd", "3_0": "fcd"}
NUMBERS = {"1_0": "11", "1_1": "12", "2_0": "20", "3_0": "30"}


def asked(board: str, episodes: list[Episode]) -> list[Episode]:
    """A test split as each board's files name it: starts alone."""
    episodes = [replace(e, path=e.path[:1]) for e in episodes]
    if board == "ndh":
        return [replace(e, instr_id=NUMBERS[e.instr_id]) for e in episodes]
    if board == "rxr":
        return [replace(e, instruction_id=NUMBERS[e.instr_id], role="guide") for e in episodes]
    if board == "soon":  # two instructions, the second from two starts
        numbers = {"1_0": "0", "2_0": "1", "3_0": "1"}
        kept = [e for e in episodes if e.instr_id != "1_1"]
        return [replace(e, instruction_id=numbers[e.instr_id]) for e in kept]
    return episodes


def answers(episodes: list[Episode]) -> list[Prediction]:
    paths = PATHS | {NUMBERS[name]: path for name, path in PATHS.items()}
    return [
        Prediction(
            instr_id=e.instr_id,
            hops=tuple((v,) for v in paths[e.instr_id]),
            object_id=3,
            direction=(1.0, -0.25),
        )
        for e in episodes
    ]


@pytest.fixture
def submit(
    tmp_path: Path, corridor: Path, hall_episodes: list[Episode]
) -> Callable[[GraphBoard], tuple[Path, list[Episode]]]:
    def write(board: GraphBoard) -> tuple[Path, list[Episode]]:
        episodes = asked(board, hall_episodes)
        file = tmp_path / board_file(board, "test")
        write_graph_board(file, board, answers(episodes), episodes)
        return file, episodes

    return write


def load(file: Path) -> Any:
    text = file.read_text("utf-8")
    return (
        [json.loads(x) for x in text.splitlines()] if file.suffix == ".jsonl" else json.loads(text)
    )


def save(file: Path, items: list[Any]) -> None:
    lines = "".join(json.dumps(item) + "\n" for item in items)
    file.write_text(lines if file.suffix == ".jsonl" else json.dumps(items), "utf-8")


@pytest.mark.parametrize("board", BOARDS)
def test_what_is_written_is_taken(submit: Any, corridor: Path, board: GraphBoard) -> None:
    file, episodes = submit(board)
    assert validate_file(file, episodes, corridor, board=board) == len(episodes)
    read = renamed(read_submission(file), episodes)
    assert [p.instr_id for p in read] == [e.instr_id for e in episodes]
    assert [p.path for p in read] == [p.path for p in answers(episodes)]


def test_the_form_of_each(submit: Any) -> None:
    walk = [["a", 0.0, 0.0], ["b", 0.0, 0.0], ["c", 0.0, 0.0]]
    assert load(submit("r2r")[0])[0] == {"instr_id": "1_0", "trajectory": walk}
    item = load(submit("reverie")[0])[0]
    assert item == {"instr_id": "1_0", "trajectory": walk, "predObjId": 3}
    assert load(submit("ndh")[0])[0] == {"inst_idx": 11, "trajectory": walk}
    assert load(submit("rxr")[0]) == [
        {"instruction_id": 11, "path": ["a", "b", "c"]},
        {"instruction_id": 12, "path": ["a", "b"]},
        {"instruction_id": 20, "path": ["a", "b", "c", "d"]},
        {"instruction_id": 30, "path": ["f", "c", "d"]},
    ]
    first, second = load(submit("soon")[0])
    (pointed,) = first["trajectory"]
    assert first["instr_id"] == 0 and pointed["path"] == walk
    assert pointed["obj_heading"] == pytest.approx([0.15915494309189535])
    assert pointed["obj_elevation"] == pytest.approx([0.4602112642270262])
    assert [w["path"][0][0] for w in second["trajectory"]] == ["a", "f"]


def test_soon_points_on_the_way_back(submit: Any) -> None:
    file, episodes = submit("soon")
    assert renamed(read_submission(file), episodes)[0].direction == pytest.approx((1.0, -0.25))


def walk_of(items: list[Any], number: int = 0) -> dict[str, Any]:
    walk: dict[str, Any] = items[number]["trajectory"][0]
    return walk


BREAKS: dict[str, list[tuple[Callable[[list[Any]], Any], str]]] = {
    "r2r": [
        (lambda items: items.pop(), "1 of 4 episodes have no trajectory"),
        (lambda items: items.append(items[0]), "'1_0': answered 2 times"),
        (lambda items: items[0].update(instr_id="9_9"), "'9_9': not an episode of this split"),
        (lambda items: items[0]["trajectory"].pop(0), "1_0: hop 0: must start at a"),
        (lambda items: items[2]["trajectory"].pop(1), "2_0: hop 1: a -> c is no edge"),
        (lambda items: items[0].update(trajectory=[["a"], ["b"]]), "one triple a viewpoint"),
    ],
    "reverie": [
        (lambda items: items[1].pop("predObjId"), r"item 1 \('1_1'\): no predObjId"),
        (lambda items: items[1].update(predObjId="3"), "predObjId must be an integer"),
        (lambda items: items[1].update(predObjId=True), "object id must be an integer"),
    ],
    "ndh": [
        (lambda items: items[0].update(inst_idx="11"), "item 0: inst_idx must be a whole number"),
        (lambda items: items[0].update(instr_id="11"), "item 0: expected inst_idx and trajectory"),
        (lambda items: items[0].update(trajectory=[["a"]]), r"\(instance 11\): trajectory must be"),
        (lambda items: items.pop(), "1 of 4 episodes have no trajectory, first 30"),
        (lambda items: items[0].update(inst_idx=5), "'5': not an episode of this split"),
    ],
    "rxr": [
        (lambda items: items[0].update(instruction_id="11"), "instruction_id must be a whole numb"),
        (lambda items: items[0].update(path=[]), r"\(instruction 11\): path must be a list of vie"),
        (lambda items: items[0].update(path=[["a", 0, 0]]), "path must be a list of viewpoint ids"),
        (lambda items: items[0].update(language="en-US"), "expected instruction_id and path alone"),
        (lambda items: items[0].update(path=["b"]), "1_0: hop 0: must start at a"),
        (lambda items: items[0].update(path=["a", "c"]), "1_0: hop 1: a -> c is no edge"),
        (lambda items: items[0].update(instruction_id=9), "'9': not an episode of this split"),
        (lambda items: items.append(items[0]), "'1_0': answered 2 times"),
    ],
    "soon": [
        (lambda items: items[0].update(trajectory=walk_of(items)), "must be a list of walks"),
        (lambda items: walk_of(items).pop("obj_heading"), "expected path and obj_heading and"),
        (lambda items: walk_of(items).update(obj_heading=0.5), "obj_heading must be a list"),
        (lambda items: walk_of(items).update(obj_elevation=[1.6]), "from 0 to 1"),
        (lambda items: walk_of(items).update(path=[["a"]]), "walk 0: path must be a list"),
        (lambda items: items[0].update(instr_id=[0]), "instr_id must be that of the file"),
        (lambda items: items[1]["trajectory"].pop(), "1 of 3 episodes have no trajectory"),
        (lambda items: walk_of(items, 1).update(path=[["c", 0, 0]]), "one of 2 viewpoints"),
    ],
}


@pytest.mark.parametrize(
    ("board", "number"), [(board, n) for board in BREAKS for n in range(len(BREAKS[board]))]
)
def test_a_broken_file_gives_one_clear_line(
    submit: Any, corridor: Path, board: GraphBoard, number: int
) -> None:
    file, episodes = submit(board)
    items = copy.deepcopy(load(file))
    spoil, message = BREAKS[board][number]
    spoil(items)
    save(file, items)
    with pytest.raises(InputError, match=message) as error:
        validate_file(file, episodes, corridor, board=board)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("board", BOARDS)
def test_files_that_are_no_submission(
    tmp_path: Path, corridor: Path, hall_episodes: list[Episode], board: GraphBoard
) -> None:
    right = tmp_path / board_file(board, "test")
    wrong = tmp_path / board_file("r2r" if board == "rxr" else "rxr", "other")
    episodes = asked(board, hall_episodes)
    for file, content in ((right, "[1"), (right, "{}"), (right, "[]"), (right, ""), (wrong, "[]")):
        file.write_text(content, "utf-8")
        with pytest.raises(InputError) as error:
            validate_file(file, episodes, corridor, board=board)
        assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_names_that_a_board_does_not_know_are_not_written(
    tmp_path: Path, hall_episodes: list[Episode]
) -> None:
    file, walks = tmp_path / "out.jsonl", answers(hall_episodes)
    with pytest.raises(InputError, match="RxR numbers its instructions"):
        write_graph_board(file, "rxr", walks, hall_episodes)
    with pytest.raises(InputError, match=r"'1_0': NDH numbers its instances"):
        write_graph_board(file, "ndh", walks, hall_episodes)
    with pytest.raises(InputError, match=r"'1_0' is no episode of this split"):
        write_graph_board(file, "soon", walks, hall_episodes[1:])
    assert not file.exists()
