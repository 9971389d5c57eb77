"""Objects from three forms of file; a strange archive is refused before anything in it is read."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path

import pytest

from sterna.data.boxes import Boxes, SeenObject, read_boxes, write_boxes
from sterna.data.layout import Layout
from sterna.errors import InputError
from sterna.files import read_json
from toy_reverie import archive, toy_boxes

LAMP = {"name": "lamp", "visible_pos": [3, 15], "bbox2d": [[0, 0, 10, 20], [630, 470, 10, 10]]}
HIDDEN = {"name": "coffee#table", "visible_pos": [], "bbox2d": []}
FILES = {
    "BBox/house_a.json": {"a": {"7": LAMP, "2": HIDDEN}},
    "BBox/house_b.json": {"b": {}},
    "BBox/house_c.json": {"c": {"7": LAMP | {"visible_pos": [1, 2]}}},
    "BBox/other_a.json": {"a": {"7": HIDDEN}},
}


def as_archive(folder: Path) -> Path:
    (folder / "BBox.tar.gz").write_bytes(archive(FILES))
    return folder / "BBox.tar.gz"


def as_folder(folder: Path) -> Path:
    for name, value in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value))
    return folder / "BBox"


def as_single(folder: Path) -> Path:
    content = {Path(name).stem: next(iter(value.values())) for name, value in FILES.items()}
    (folder / "BBoxes.json").write_text(json.dumps(content))
    return folder / "BBoxes.json"


@pytest.mark.parametrize("make", [as_archive, as_folder, as_single])
def test_three_forms_give_the_same_objects(tmp_path: Path, make) -> None:
    source = make(tmp_path)
    boxes = read_boxes(source)
    assert Layout(tmp_path).boxes == source and len(boxes) == 4
    lamp, table = boxes.objects("house", "a")
    assert lamp == SeenObject(
        object_id=7, name="lamp", views=(3, 15), boxes=((0, 0, 10, 20), (630, 470, 10, 10))
    )
    assert table.name == "coffee#table" and not table.views
    assert boxes.visible("house", "a") == (lamp,) and boxes.visible("house", "b") == ()
    assert boxes.seen_from("house", 7) == ("a", "c")
    assert boxes.seen_from("house", 2) == boxes.seen_from("other", 7) == ()
    assert boxes.objects("nowhere", "a") == ()


def test_writing_and_reading_gives_the_same(toy_house: Path, tmp_path: Path) -> None:
    boxes = toy_boxes(toy_house)
    write_boxes(tmp_path / "BBoxes.json.gz", boxes)
    again = read_boxes(tmp_path / "BBoxes.json.gz")
    assert again.viewpoints == boxes.viewpoints
    for place in boxes.viewpoints:
        assert again.objects(*place) == boxes.objects(*place)


def test_goals_are_sorted_whatever_the_order_of_files() -> None:
    lamp = SeenObject(object_id=1, name="lamp", views=(0,), boxes=((0, 0, 1, 1),))
    assert Boxes({("s", "z"): [lamp], ("s", "a"): [lamp]}).seen_from("s", 1) == ("a", "z")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"../house_a.json": {"a": {}}}, "regular file"),
        ({"/etc/house_a.json": {"a": {}}}, "regular file"),
        ({"BBox/house_a.pkl": b"x"}, "regular file"),
        ({"BBox/house_a.json": b"{"}, "not valid JSON"),
        ({"BBox/house_a.json": {"b": {}}}, r"expected the viewpoint of its name.*found 'b'"),
        ({"BBox/house_a.json": {}}, "one viewpoint, found 0 items"),
        ({"BBox/house_a.json": {"a": {}}, "B/house_a.json": {"a": {}}}, "house_a occurs twice"),
        ({}, "found none"),
        ({"BBox/house_a.json": {"a": {"x": LAMP}}}, "id must be a whole number"),
        ({"BBox/house_a.json": {"a": {"7": LAMP, "07": LAMP}}}, "id occurs twice"),
        ({"BBox/house_a.json": {"a": {"7": LAMP | {"name": 3}}}}, "object '7': name: expected"),
        ({"BBox/house_a.json": {"a": {"7": LAMP | {"visible_pos": [3, 36]}}}}, "views 0-35"),
        ({"BBox/house_a.json": {"a": {"7": LAMP | {"visible_pos": [3, 3]}}}}, "views 0-35"),
        ({"BBox/house_a.json": {"a": {"7": LAMP | {"bbox2d": [[0, 0, 1, 1]]}}}}, "each view"),
        ({"BBox/house_a.json": {"a": {"7": LAMP | {"bbox2d": [[0, 0, 700, 1]] * 2}}}}, "bbox2d"),
        ({"BBox/house_a.json": {"a": {"7": LAMP | {"bbox2d": [[0, 0, 0, 1]] * 2}}}}, "bbox2d"),
        ({"BBox/house_a.json": b" " * (1 << 24) + b"{}"}, "bytes, expected at most"),
    ],
)
def test_faults_are_named(tmp_path: Path, members, message: str) -> None:
    (tmp_path / "BBox.tar.gz").write_bytes(archive(members))
    with pytest.raises(InputError, match=message) as caught:
        read_boxes(tmp_path / "BBox.tar.gz")
    assert "BBox.tar.gz" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    (tmp_path / "BBox.tar.gz").write_bytes(archive({"BBox/house_a.json": b""}, kind))
    with pytest.raises(InputError, match="regular file"):
        read_boxes(tmp_path / "BBox.tar.gz")


def test_a_cut_or_damaged_archive_is_refused(tmp_path: Path) -> None:
    file = as_archive(tmp_path)
    whole, plain = file.read_bytes(), gzip.decompress(file.read_bytes())
    header = 1024  # of the second member; tarfile alone would take a damaged one for the end
    broken = plain[: header + 8] + b"\xff" * 100 + plain[header + 108 :]
    cut = plain[: header * 2]
    for content in (whole[: len(whole) // 2], *map(gzip.compress, (broken, cut)), b"no"):
        file.write_bytes(content)
        with pytest.raises(InputError, match="not a whole archive"):
            read_boxes(file)


def test_an_archive_beyond_the_bound_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = as_archive(tmp_path)
    monkeypatch.setattr("sterna.data.boxes._MOST_BYTES", 1 << 12)
    with pytest.raises(InputError, match="more than"):
        read_boxes(file)


def test_published_boxes(data_dir: Path) -> None:
    boxes = read_boxes(Layout(data_dir).boxes)
    seen = [thing for place in boxes.viewpoints for thing in boxes.objects(*place)]
    assert (len(boxes), len(seen)) == (10567, 38293)
    assert sum(len(thing.boxes) for thing in seen) == 210198
    assert len({thing.name for thing in seen}) == 1325
    assert sum(not thing.views for thing in seen) == 10233
    scan, viewpoint = boxes.viewpoints[0]
    path = Layout(data_dir).boxes
    with tarfile.open(path) as tar:
        first = tar.next()
        assert first is not None and first.name == f"BBox/{scan}_{viewpoint}.json"
        member = tar.extractfile(first)
        assert member is not None
        raw = json.load(member)[viewpoint]
    for thing in boxes.objects(scan, viewpoint):
        item = raw[str(thing.object_id)]
        assert item == {
            "name": thing.name,
            "visible_pos": list(thing.views),
            "bbox2d": [list(box) for box in thing.boxes],
        }


def test_missing_boxes_say_where_they_were_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"BBox\.tar\.gz or BBoxes\.json.*reverie/v1"):
        _ = Layout(tmp_path).boxes
    with pytest.raises(InputError, match="no such file"):
        read_boxes(tmp_path / "BBox.tar.gz")
    (tmp_path / "BBoxes.json").write_text("[]")
    with pytest.raises(InputError, match="found list"):
        read_boxes(tmp_path / "BBoxes.json")
    assert read_json(tmp_path / "BBoxes.json") == []
