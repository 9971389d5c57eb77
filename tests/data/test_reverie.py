"""REVERIE annotations of both releases: counts, goals, round trips, faults."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from sterna.data.boxes import Boxes, SeenObject, read_boxes
from sterna.data.check import check_data
from sterna.data.layout import Layout
from sterna.data.objects import ObjectStore, PlacedObjects, write_objects
from sterna.data.r2r import check_episodes, load_graphs
from sterna.data.reverie import RELEASES, read_reverie, reverie_entries, with_goals, write_reverie
from sterna.data.sources import PUBLISHED
from sterna.errors import InputError
from sterna.files import read_json
from toy_reverie import write_toy_reverie

ENTRY = {
    "id": "7_3",
    "path_id": 7,
    "objId": 3,
    "scan": "house",
    "path": ["a", "b"],
    "heading": 0.5,
    "distance": 4.0,
    "instructions": ["find the lamp", "bring the lamp"],
}
OTHER = ENTRY | {"id": "7_4", "objId": 4}
TEST = {"id": "12", "scan": "house", "path": ["a"], "heading": 0, "instructions": ["go"]}


def write(folder: Path, entries: object) -> Path:
    file = folder / "REVERIE_train.json"
    file.write_text(json.dumps(entries))
    return file


@pytest.fixture(scope="module")
def boxes(data_dir: Path) -> Boxes:
    return read_boxes(Layout(data_dir).boxes)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("split", PUBLISHED["reverie"])
def test_published_splits(data_dir: Path, boxes: Boxes, release: int, split: str) -> None:
    """Counts, ids, goals and the file itself written again."""
    episodes = read_reverie(data_dir, split, release=release, boxes=boxes)
    published = PUBLISHED[RELEASES[release]][split]
    assert len(episodes) == published.instructions
    entries = read_json(Layout(data_dir).annotations(RELEASES[release], split))
    assert len(entries) == published.paths
    names = [f"{e['id']}_{j}" for e in entries for j in range(len(e["instructions"]))]
    assert [episode.instr_id for episode in episodes] == names
    assert all(bool(e.goals) == (split != "test") for e in episodes)
    left_out = {"instructions_l", "ix"}
    kept = [{k: v for k, v in e.items() if k not in left_out} for e in entries]
    assert reverie_entries(episodes) == kept


def test_hidden_ends(data_dir: Path, boxes: Boxes) -> None:
    """How often the annotated path ends where its object is hidden: the goals follow the boxes."""
    found = {}
    for release in RELEASES:
        for split in ("train", "val_seen", "val_unseen"):
            episodes = read_reverie(data_dir, split, release=release, boxes=boxes)
            hidden = {(e.path_id, e.object_id) for e in episodes if e.goal not in e.goals}
            found[release, split] = len(hidden)
    assert found == {
        **{(1, "train"): 85, (1, "val_seen"): 0, (1, "val_unseen"): 0},
        **{(2, "train"): 33, (2, "val_seen"): 3, (2, "val_unseen"): 0},
    }


def test_published_paths_stand_on_the_graphs(data_dir: Path) -> None:
    for release in RELEASES:
        episodes = read_reverie(data_dir, "val_unseen", release=release)
        graphs = load_graphs(Layout(data_dir).connectivity, episodes)
        assert check_episodes(episodes, graphs) == []


def test_one_path_may_have_many_targets(tmp_path: Path) -> None:
    episodes = read_reverie(write(tmp_path, [ENTRY, OTHER]), "train")
    assert [e.instr_id for e in episodes] == ["7_3_0", "7_3_1", "7_4_0", "7_4_1"]
    assert [e.object_id for e in episodes] == [3, 3, 4, 4]
    assert {e.path_id for e in episodes} == {7} and episodes[0].distance == 4.0
    write_reverie(tmp_path / "again.json", episodes)
    assert read_json(tmp_path / "again.json") == [ENTRY, OTHER]
    assert read_reverie(tmp_path / "again.json", "train") == episodes


def test_texts_of_digits_and_word_ids_are_read(tmp_path: Path) -> None:
    ids = [[101, 102], [101, 5, 102]]
    file = write(tmp_path, [ENTRY | {"objId": "3", "instr_encodings": ids}])
    first, second = read_reverie(file)
    assert (first.object_id, second.token_ids) == (3, (101, 5, 102))
    assert reverie_entries([first, second]) == [ENTRY | {"instr_encodings": ids}]


def test_a_test_split_has_no_target(tmp_path: Path) -> None:
    (episode,) = read_reverie(write(tmp_path, [TEST]), "test")
    assert (episode.instr_id, episode.path_id, episode.object_id) == ("12_0", "12", None)
    assert with_goals([episode], Boxes({})) == [episode]
    assert reverie_entries([episode]) == [TEST]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "expected a JSON list"),
        ([[]], "entry 0: expected an object"),
        ([ENTRY, ENTRY], "7_3_0 occurs twice"),
        ([{k: v for k, v in ENTRY.items() if k != "objId"}], "objId: expected.*found nothing"),
        ([ENTRY | {"objId": -1}], "objId: expected a whole number"),
        ([ENTRY | {"objId": True}], "objId: expected a whole number"),
        ([ENTRY | {"objId": "three"}], "objId: expected a whole number"),
        ([ENTRY | {"objId": None}], "objId: expected a whole number"),
        ([ENTRY | {"id": "7_4"}], "id: expected path_id_objId, here 7_3, found str '7_4'"),
        ([ENTRY | {"path_id": None}], "path_id: expected an id"),
        ([TEST | {"id": None}], "id: expected an id"),
        ([TEST | {"heading": "east"}], "heading: expected finite radians"),
    ],
)
def test_faults_are_named(tmp_path: Path, entries: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_reverie(write(tmp_path, entries))
    assert "REVERIE_train.json" in str(caught.value) and "\n" not in str(caught.value)


def test_other_faults(tmp_path: Path) -> None:
    episodes = read_reverie(write(tmp_path, [ENTRY]), "train")
    lamp = SeenObject(object_id=3, name="lamp", views=(), boxes=())
    with pytest.raises(InputError, match=r"7_3_0: no viewpoint of house sees object 3"):
        with_goals(episodes, Boxes({("house", "a"): [lamp]}))
    with pytest.raises(InputError, match="releases 1 and 2, found 3"):
        read_reverie(tmp_path, "train", release=3)
    with pytest.raises(InputError, match="scan, path or heading differ"):
        reverie_entries([episodes[0], replace(episodes[1], heading=1.0)])


def test_the_check_of_a_folder_knows_objects(toy_house: Path, tmp_path: Path) -> None:
    root = write_toy_reverie(toy_house, tmp_path / "data")
    file = root / "features" / "obj.hdf5"
    placed = PlacedObjects(
        ids=np.array([4, 2]),
        features=np.ones((2, 512), np.float32),
        directions=np.zeros((2, 2)),
        sizes=np.ones((2, 2)),
    )
    write_objects(file, ObjectStore({"house_a": placed, "house_b": placed}, 512, "toy"))
    report = check_data(root)
    assert report.ok, report.text()
    rows = {row.what: row for row in report.rows}
    assert rows["features obj.hdf5"].found == "objects of 2 viewpoints x 512, all read"
    assert rows["reverie boxes"].status == "differs" and "viewpoints" in rows["reverie boxes"].found
    assert rows["reverie train"].status == rows["reverie test"].status == "differs"
    with h5py.File(file, "a") as store:
        store["house_b"].attrs["obj_ids"] = ["x", "y"]
    rows = {row.what: row for row in check_data(root).rows}
    assert rows["features obj.hdf5"].status == "wrong"
    assert "house_b: obj_ids" in rows["features obj.hdf5"].found
    file.unlink()
    file = root / "reverie" / "BBoxes.json"
    content = read_json(file)
    for things in content.values():
        for thing in things.values():
            thing |= {"visible_pos": [], "bbox2d": []}
    file.write_text(json.dumps(content))
    report = check_data(root)
    rows = {row.what: row for row in report.rows}
    assert rows["reverie train"].status == "wrong" and "sees object" in rows["reverie train"].found
    assert not report.ok
    content.popitem()
    file.write_text(json.dumps(content))
    rows = {row.what: row for row in check_data(root).rows}
    assert "no entry for 1 of" in rows["reverie boxes"].found
