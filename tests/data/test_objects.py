"""Object features: DUET's file read and written, and features made from names and boxes."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from sterna.data.boxes import Boxes, SeenObject
from sterna.data.objects import (
    ObjectStore,
    PlacedObjects,
    direction_of_pixel,
    named_objects,
    read_objects,
    write_objects,
)
from sterna.errors import InputError
from sterna.world.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS
from toy_reverie import toy_boxes


class Letters:
    """An encoder without weights: how often each letter occurs."""

    name, digest = "letters", "0"

    def encode(self, sentences: list[str], /) -> np.ndarray:
        letters = "abcdefghijklmnopqrstuvwxyz "
        return np.array([[text.count(c) for c in letters] for text in sentences], np.float32)


def placed(count: int = 3, size: int = 8, seed: int = 0) -> PlacedObjects:
    rng = np.random.default_rng(seed)
    return PlacedObjects(
        ids=np.arange(count) + 5,
        features=rng.normal(size=(count, size)).astype(np.float32),
        directions=rng.normal(size=(count, 2)),
        sizes=rng.uniform(1, 400, (count, 2)),
    )


def same(a: PlacedObjects, b: PlacedObjects) -> bool:
    fields = ("ids", "features", "directions", "sizes")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in fields)


def test_writing_and_reading_gives_the_same(tmp_path: Path) -> None:
    store = ObjectStore({"s_a": placed(), "s_b": placed(1, seed=1), "s_c": placed(0)}, 8, "toy")
    write_objects(tmp_path / "obj.hdf5", store)
    again = read_objects(tmp_path / "obj.hdf5")
    assert again.size == 8 and again.keys == ("s_a", "s_b")
    for key in store.keys:
        assert same(again.at(key), store.at(key))
    assert len(again.at("nowhere")) == 0 and again.at("nowhere").features.shape == (0, 8)
    assert read_objects(tmp_path / "obj.hdf5", ["s_b", "s_z"]).keys == ("s_b",)
    assert read_objects(tmp_path / "obj.hdf5", ["s_z"]).keys == ()


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "bare.hdf5", "w"):
        pass
    with pytest.raises(InputError, match="no object features"):
        read_objects(tmp_path / "bare.hdf5")


def duet_file(path: Path, **changes: object) -> Path:
    """A file as DUET's: 768 features and 1000 logits in one array, ids as texts."""
    item = placed(2, 768)
    attrs = {
        "obj_ids": np.array([b"12", b"3"]),
        "directions": item.directions,
        "sizes": item.sizes,
        "bboxes": np.zeros((2, 4)),
    }
    data = changes.pop("data", np.concatenate([item.features, np.ones((2, 1000))], 1))
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("s_a", data=np.asarray(data))
        for name, value in (attrs | changes).items():
            if value is not None:
                dataset.attrs[name] = value
    return path


def test_duets_own_form(tmp_path: Path) -> None:
    store = read_objects(duet_file(tmp_path / "obj.hdf5"))
    found = store.at("s_a")
    assert store.size == 768 and found.ids.tolist() == [12, 3]
    assert np.array_equal(found.features, placed(2, 768).features)
    assert np.array_equal(found.sizes, placed(2, 768).sizes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"obj_ids": None}, "s_a: no attribute obj_ids"),
        ({"obj_ids": np.array([b"12", b"x"])}, "obj_ids: expected whole numbers"),
        ({"obj_ids": np.array([3, 3])}, "obj_ids: expected 2 different ids"),
        ({"obj_ids": np.array([3])}, "2 objects, but 1 obj_ids"),
        ({"directions": np.full((2, 2), np.nan)}, "directions: .*found NaN"),
        ({"sizes": np.ones((2, 3))}, r"sizes: .*found shape \(2, 3\)"),
        ({"sizes": "large"}, "sizes: expected numbers"),
        ({"data": np.full((2, 768), np.inf)}, "features: .*found NaN or infinity"),
        ({"data": np.zeros((2, 99))}, "expected 512 .* columns, found 99"),
        ({"data": np.zeros((2, 3), int)}, "expected floats"),
        ({"data": np.zeros(768)}, "expected floats"),
    ],
)
def test_faults_are_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_objects(duet_file(tmp_path / "obj.hdf5", **changes))
    assert "obj.hdf5" in str(caught.value) and "\n" not in str(caught.value)


def test_the_middle_of_a_view_is_its_direction() -> None:
    for view in range(36):
        heading, elevation = direction_of_pixel(view, 320, 240)
        turn = heading - VIEW_HEADINGS[view]
        assert np.cos(turn) == pytest.approx(1) and elevation == pytest.approx(
            VIEW_ELEVATIONS[view]
        )


def test_directions_agree_with_a_rotated_camera() -> None:
    """The twin: a ray of the camera, tilted, then turned about the vertical."""
    rng = np.random.default_rng(0)
    focal = 240 / np.tan(np.deg2rad(30))
    for _ in range(200):
        view, x, y = int(rng.integers(36)), rng.uniform(0, 640), rng.uniform(0, 480)
        h, e = VIEW_HEADINGS[view], VIEW_ELEVATIONS[view]
        ray = np.array([x - 320, focal, 240 - y])  # right, ahead, up
        tilt = [[1, 0, 0], [0, np.cos(e), -np.sin(e)], [0, np.sin(e), np.cos(e)]]
        turn = [[np.cos(h), np.sin(h), 0], [-np.sin(h), np.cos(h), 0], [0, 0, 1]]
        east, north, up = np.array(turn) @ np.array(tilt) @ ray
        heading, elevation = direction_of_pixel(view, x, y)
        assert np.cos(heading - np.arctan2(east, north)) == pytest.approx(1)
        assert elevation == pytest.approx(np.arctan2(up, np.hypot(east, north)))


def test_one_point_seen_from_two_views_has_one_direction() -> None:
    """The right edge of a view is 37.6 degrees off its middle: 7.6 degrees into the next one."""
    focal = 240 / np.tan(np.deg2rad(30))
    left = direction_of_pixel(12, 320 + focal * np.tan(np.deg2rad(20)), 240)
    right = direction_of_pixel(13, 320 - focal * np.tan(np.deg2rad(10)), 240)
    assert left == pytest.approx(right) and left[0] == pytest.approx(np.deg2rad(20))


def test_features_from_names() -> None:
    small = SeenObject(object_id=4, name="coffee#table", views=(12, 15), boxes=((0, 0, 9, 9),) * 2)
    large = SeenObject(
        object_id=9, name="lamp", views=(0, 15), boxes=((0, 0, 9, 9), (300, 220, 40, 40))
    )
    hidden = SeenObject(object_id=1, name="tv", views=(), boxes=())
    boxes = Boxes({("s", "a"): [small, hidden, large], ("s", "b"): [hidden], ("t", "a"): [large]})
    store = named_objects(boxes, Letters(), ["s"])
    assert store.keys == ("s_a",) and store.size == 27
    found = store.at("s_a")
    assert found.ids.tolist() == [4, 9]
    assert np.array_equal(found.features, Letters().encode(["coffee table", "lamp"]))
    assert found.sizes.tolist() == [[9, 9], [40, 40]]
    assert found.directions[1] == pytest.approx([np.pi / 2, 0])  # its largest box: view 15, middle
    assert found.directions[0] == pytest.approx(direction_of_pixel(12, 4.5, 4.5))


def test_toy_houses_have_objects_everywhere(toy_house: Path) -> None:
    boxes = toy_boxes(toy_house)
    scans = {scan for scan, _ in boxes.viewpoints}
    store = named_objects(boxes, Letters(), scans)
    assert set(store.keys) == {f"{s}_{v}" for s, v in boxes.viewpoints}
    assert all(len(store.at(f"{s}_{v}")) == len(boxes.visible(s, v)) for s, v in boxes.viewpoints)
