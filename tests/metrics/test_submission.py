"""Trajectory files: every format read, every fault named, nothing but InputError."""

from __future__ import annotations

import copy
import gzip
import json
import math
import random
from dataclasses import replace

import pytest

from sterna.errors import InputError
from sterna.metrics import (
    R2R_DUET,
    Prediction,
    read_leaderboard,
    read_submission,
    score_predictions,
    validate_file,
    validate_submission,
    write_submission,
)
from sterna.world.graph import load_graph

LEADERBOARD = [
    {"instr_id": "1_0", "trajectory": [["a", 0.0, 0.0], ["a", 0.5, 0.0], ["b", 0.5, -0.1]]},
    {"instr_id": "2_0", "trajectory": [["a", 1, 0]]},
]
HOPS = [{"instr_id": "1_0", "trajectory": [["a"], ["b", "c"], ["b"]], "pred_objid": "12"}]
NAVILLM = [
    {"length": 12.4, "success_rate": 0.7, "total_num_instr": 1},
    {"instr_id": "1_0", "pred_path": ["a", "b"], "gt_path": ["a"], "metrics": {"spl": 0.7}},
]


def write(path, content):
    data = json.dumps(content).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["file.json", "file.json.gz"])
def test_reads_the_leaderboard_format(tmp_path, name):
    turning, still = read_submission(write(tmp_path / name, LEADERBOARD))
    assert turning.path == ("a", "a", "b") and turning.action_steps == 2
    assert turning.poses == ((0.0, 0.0), (0.5, 0.0), (0.5, -0.1))
    assert still.path == ("a",) and still.object_id is None


def test_reads_hops_and_objects(tmp_path):
    (item,) = read_submission(write(tmp_path / "f.json", HOPS))
    assert item.hops == (("a",), ("b", "c"), ("b",)) and item.path == ("a", "b", "c", "b")
    assert item.action_steps == 2 and item.poses == () and item.object_id == 12


def test_skips_navillms_aggregates(tmp_path):
    (item,) = read_submission(write(tmp_path / "f.json", NAVILLM))
    assert item == Prediction(instr_id="1_0", hops=(("a",), ("b",)))
    with pytest.raises(InputError, match="item 1: instr_id"):
        read_submission(write(tmp_path / "f.json", NAVILLM[::-1]))


@pytest.mark.parametrize(("given", "read"), [(7, 7), ("7", 7), (-1, None), (None, None)])
def test_object_ids(tmp_path, given, read):
    item = {**HOPS[0], "predObjId": given}
    assert read_submission(write(tmp_path / "f.json", [item]))[0].object_id == read


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "expected a list"),
        ([3], "item 0: expected an object"),
        ([{"instr_id": 5, "trajectory": [["a"]]}], "instr_id must be a text"),
        ([{"instr_id": "x"}], "'x'.*non-empty list"),
        ([{"instr_id": "x", "trajectory": []}], "non-empty list"),
        ([{"instr_id": "x", "trajectory": [[]]}], "entry 0"),
        ([{"instr_id": "x", "trajectory": [["a"], ["a", 0]]}], "entry 1"),
        ([{"instr_id": "x", "trajectory": [["a", 0, True]]}], "entry 0"),
        ([{"instr_id": "x", "trajectory": [["a", 0, math.nan]]}], "entry 0"),
        ([{"instr_id": "x", "trajectory": [["a", 0, 0], ["b"]]}], "heading"),
        ([{"instr_id": "x", "trajectory": [["a"]], "predObjId": 1.5}], "object id"),
        ([{"instr_id": "x", "trajectory": [["a"]], "predObjId": "9" * 40}], "object id"),
    ],
)
def test_faults_are_named(tmp_path, content, message):
    with pytest.raises(InputError, match=message) as caught:
        read_submission(write(tmp_path / "f.json", content))
    assert "f.json" in str(caught.value) and "\n" not in str(caught.value)


def test_writer_flattens_and_round_trips(tmp_path):
    hops = Prediction(instr_id="1_0", hops=(("a",), ("b", "c")), object_id=4)
    posed = Prediction(instr_id="2_0", hops=(("a",), ("b",)), poses=((0.0, 0.1), (1.5, 0.0)))
    file = tmp_path / "out.json.gz"
    write_submission(file, [hops, posed])
    items = json.loads(gzip.decompress(file.read_bytes()))
    assert items[0] == {
        "instr_id": "1_0",
        "trajectory": [["a", 0.0, 0.0], ["b", 0.0, 0.0], ["c", 0.0, 0.0]],
    }
    assert read_submission(file)[1] == posed
    write_submission(file, [hops, posed], objects=True)
    assert [p.object_id for p in read_submission(file)] == [4, None]
    assert [i["predObjId"] for i in json.loads(gzip.decompress(file.read_bytes()))] == [4, -1]


def test_writer_refuses_bad_poses(tmp_path):
    for poses in [((0.0, 0.0),), ((0.0, math.nan), (0.0, 0.0))]:
        with pytest.raises(InputError, match=r"1_0.*finite"):
            write_submission(
                tmp_path / "f.json",
                [Prediction(instr_id="1_0", hops=(("a",), ("b",)), poses=poses)],
            )
    assert not (tmp_path / "f.json").exists()


def predict(**paths):
    return [
        Prediction(instr_id=name.removeprefix("i"), hops=tuple((v,) for v in path))
        for name, path in paths.items()
    ]


def test_validation_replays_and_returns_nodes(corridor, hall_episodes):
    graphs = {"hall": load_graph(corridor, "hall")}
    paths = predict(i1_0="aabbc", i1_1="ab", i2_0="a", i3_0="fcb")
    nodes = validate_submission(paths, hall_episodes, graphs)
    assert nodes["1_0"].tolist() == [0, 1, 2] and nodes["3_0"].tolist() == [5, 2, 1]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ({"i1_0": "ab"}, "3 of 4 episodes.*first 1_1"),
        ({"i1_0": "ab", "i9_9": "ab"}, "'9_9'.*not an episode"),
        ({"i1_0": "bc"}, "1_0: hop 0: must start at a, found 'b'"),
        ({"i1_0": "abd"}, "1_0: hop 2: b -> d is no edge of scan hall"),
        ({"i1_0": "aabz"}, "1_0: hop 2: 'z' is no viewpoint of scan hall"),
    ],
)
def test_validation_names_the_hop(corridor, hall_episodes, paths, message):
    graphs = {"hall": load_graph(corridor, "hall")}
    partial = "3 of 4" not in message
    with pytest.raises(InputError, match=message):
        validate_submission(predict(**paths), hall_episodes, graphs, partial=partial)


def test_validation_counts_every_episode_once(corridor, hall_episodes):
    graphs = {"hall": load_graph(corridor, "hall")}
    twice = predict(i1_0="a") * 2
    with pytest.raises(InputError, match="'1_0': answered 2 times"):
        validate_submission(twice, hall_episodes, graphs, partial=True)
    with pytest.raises(InputError, match="an instr_id twice"):
        validate_submission([], hall_episodes * 2, graphs, partial=True)
    with pytest.raises(InputError, match="no navigation graph of scan hall"):
        validate_submission(predict(i1_0="a"), hall_episodes, {}, partial=True)


def mutate_bytes(rng, data):
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data) or 1)
        action = rng.randrange(4)
        if action == 0:
            data[place : place + 1] = bytes([rng.randrange(256)])
        elif action == 1:
            data[place:place] = rng.choice(
                [b"[", b"]", b"{", b'"', b"NaN", b"1e999", b"\xff", b"-"]
            )
        elif action == 2:
            del data[place : place + rng.randint(1, 9)]
        else:
            del data[place:]
    return bytes(data)


STRANGE = [
    None,
    True,
    0,
    -1,
    1.5,
    math.nan,
    math.inf,
    10**400,
    "",
    "a",
    "\ud800",
    "\n",
    [],
    {},
    [[]],
    [None],
    {"instr_id": "1_0"},
    "z" * 5000,
    [["a", "b", 0]],
]


def mutate_value(rng, content):
    content = copy.deepcopy(content)
    places, stack = [], [content]
    while stack:
        box = stack.pop()
        for key in list(box) if isinstance(box, dict) else range(len(box)):
            places.append((box, key))
            if isinstance(box[key], dict | list):
                stack.append(box[key])
    box, key = rng.choice(places)
    box[key] = copy.deepcopy(rng.choice(STRANGE))
    return json.dumps(content).encode()


@pytest.mark.parametrize("kind", ["bytes", "gzip", "values"])
def test_mutated_files_give_only_input_errors(tmp_path, corridor, hall_episodes, kind):
    rng = random.Random(kind)
    refused = 0
    file = tmp_path / ("f.json.gz" if kind == "gzip" else "f.json")
    for i in range(1000):
        content = [LEADERBOARD, HOPS, NAVILLM][i % 3]
        data = json.dumps(content).encode()
        if kind == "gzip":
            data = gzip.compress(data)
        data = mutate_value(rng, content) if kind == "values" else mutate_bytes(rng, data)
        file.write_bytes(data)
        try:
            read = read_submission(file)
            score_predictions(read, hall_episodes, corridor, R2R_DUET, partial=True)
        except InputError as error:
            message = str(error)
            assert "\n" not in message and len(message) < 600
            message.encode("utf-8")
            refused += 1
    assert refused > 100


BOARD = {"instr_id": "1_0", "trajectory": [["a", 0.0, 0.0], ["b", 0.5, 0.0]], "predObjId": 3}


@pytest.mark.parametrize("given", [{"predObjId": 3}, {"pred_objid": "3"}, {"pred_objid": 3}])
def test_files_with_objects(tmp_path, given):
    item = {"instr_id": "1_0", "trajectory": [["a"]], **given}
    (found,) = read_submission(write(tmp_path / "f.json", [item]), objects=True)
    assert found.object_id == 3


def test_duet_says_null_where_nothing_was_chosen(tmp_path):
    item = {"instr_id": "1_0", "trajectory": [["a"]], "pred_objid": None}
    (found,) = read_submission(write(tmp_path / "f.json", [item]), objects=True)
    assert found.object_id is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "'1_0'.*no predObjId; expected the integer id"),
        ({"predObjId": None}, "'1_0'.*predObjId must be an integer .*found None"),
        ({"predObjId": "3"}, "predObjId must be an integer .*found '3'"),
        ({"predObjId": True}, "object id must be an integer"),
    ],
)
def test_objects_must_be_named(tmp_path, given, message):
    """A file of walks alone would else score RGS 0 without a word."""
    item = {"instr_id": "1_0", "trajectory": [["a", 0, 0]], **given}
    file = write(tmp_path / "f.json", [item])
    for read in (read_submission, read_leaderboard):
        with pytest.raises(InputError, match=message):
            read(file, objects=True)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (HOPS[0], "leaderboards take a 'trajectory' of"),
        (NAVILLM[1], "leaderboards take a 'trajectory' of"),
        (NAVILLM[0], "item 0: instr_id"),
        ({k: v for k, v in BOARD.items() if k != "predObjId"} | {"pred_objid": 3}, "no predObjId"),
    ],
)
def test_leaderboards_take_one_form_only(tmp_path, item, message):
    with pytest.raises(InputError, match=message):
        read_leaderboard(write(tmp_path / "f.json", [item]), objects=True)
    assert read_leaderboard(write(tmp_path / "f.json", [BOARD]), objects=True)[0].object_id == 3


def test_a_whole_file_is_validated_without_answers(tmp_path, corridor, hall_episodes):
    """As on a test split: the start alone is known."""
    episodes = [replace(e, path=e.path[:1]) for e in hall_episodes]
    items = [
        {"instr_id": e.instr_id, "trajectory": [[e.start, 0, 0]], "predObjId": -1} for e in episodes
    ]
    file = write(tmp_path / "f.json", items)
    assert validate_file(file, episodes, corridor, board="reverie") == 4
    write(file, items[:2])
    assert validate_file(file, episodes, corridor, partial=True) == 2
    with pytest.raises(InputError, match=r"f\.json: 2 of 4 episodes"):
        validate_file(file, episodes, corridor)
    items[0]["trajectory"].append(["d", 0, 0])
    with pytest.raises(InputError, match=r"f\.json: 1_0: hop 1: a -> d is no edge"):
        validate_file(write(file, items), episodes, corridor)
