"""10,000 damaged files: every reader either reads them or raises one clear `InputError`."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sterna.data.boxes import read_boxes
from sterna.data.fgr2r import read_fgr2r
from sterna.data.ndh import read_ndh
from sterna.data.objects import ObjectStore, PlacedObjects, read_objects, write_objects
from sterna.data.r2r import check_episodes, load_graphs, read_r2r
from sterna.data.r4r import read_r4r
from sterna.data.reverie import read_reverie
from sterna.data.rxr import read_rxr
from sterna.data.soon import read_soon
from sterna.data.textobs import read_observations
from sterna.data.views import ViewStore, write_views
from sterna.data.vlnce import read_trajectories, read_vlnce
from sterna.errors import InputError
from sterna.files import read_json
from toy_reverie import archive

R2R = {
    "scan": "house",
    "path_id": 7,
    "path": ["a", "b"],
    "heading": 0.5,
    "distance": 4.0,
    "instructions": ["go on", "walk"],
    "instr_encodings": [[101, 102], [101, 5, 102]],
}
FGR2R = R2R | {
    "new_instructions": "[[['go', 'on']], [['walk']]]",
    "chunk_view": [[[1, 2]], [[1, 1]]],
}
R4R = R2R | {
    "first_path_id": 1,
    "second_path_id": 2,
    "shortest_path": ["a", "b"],
    "shortest_path_distance": 3.0,
}
REVERIE = R2R | {"objId": 3, "id": "7_3"}
REVERIE_TEST = {k: R2R[k] for k in ("scan", "heading", "instructions")} | {"id": "5", "path": ["a"]}
VLNCE = {
    "episode_id": 1,
    "trajectory_id": 4,
    "scene_id": "mp3d/house/house.glb",
    "start_position": [1.0, 0.0, 2.0],
    "start_rotation": [0.0, 1.0, 0.0, 0.0],
    "info": {"geodesic_distance": 5.0},
    "goals": [{"position": [1.0, 0.0, 7.0], "radius": 3.0}],
    "instruction": {"instruction_text": "go on", "instruction_tokens": [5, 6, 0]},
    "reference_path": [[1.0, 0.0, 2.0], [1.0, 0.0, 7.0]],
}
WALK = {"locations": [[1.0, 0.0, 2.0], [1.0, 0.0, 2.25]], "actions": [1, 0], "forward_steps": 1}
NDH = {
    "inst_idx": 5,
    "game_idx": 2,
    "scan": "house",
    "target": "lamp",
    "start_pano": {"heading": 3.0, "elevation": 17.0, "pano": "a"},
    "dialog_history": [{"nav_idx": 0, "role": "oracle", "message": "go"}],
    "nav_history": ["a"],
    "planner_path": ["a", "b"],
    "player_path": ["a", "c"],
    "end_panos": ["b"],
}
CORNER = {"heading": 1.0, "elevation": 0.5}
OUTLINE = ("center", "left_top", "right_top", "right_bottom", "left_bottom")
SOON = {
    "path": [["a", "b"], ["c", "b"]],
    "instructions": [["red", "below", "in", "near", "all of it"]],
    "bboxes": [{"scan": "house", "image_id": "b", "target": {n: CORNER for n in OUTLINE}}],
}
RXR = {
    "path_id": 11,
    "split": "train",
    "scan": "house",
    "heading": 3.0,
    "path": ["a", "b"],
    "instruction_id": 26,
    "language": "te-IN",
    "instruction": "go",
    "timed_instruction": [{"word": "go", "start_time": 0.5}],
}
FOLLOWER = {"demonstration_id": 1, "instruction_id": 26, "path": ["a", "b"], "metrics": {"ne": 0.0}}
LAMP = {"name": "lamp", "visible_pos": [3, 15], "bbox2d": [[0, 0, 10, 20], [5, 5, 10.5, 10]]}
BOXES = {"house_a": {"7": LAMP, "2": {"name": "tv", "visible_pos": [], "bbox2d": []}}}
TEXTS = {"v": ["caption"] * 8, "w": ["other"] * 8}

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=6),
    st.sampled_from([[], {}, [[]], "[", "\ud800", "../x", "a\nb", 10**400, [None], [{}]]),
)
# A way down the value (child numbers), what to do there, and with what.
CHANGES = st.lists(
    st.tuples(
        st.lists(st.integers(0, 20), max_size=4),
        st.sampled_from(["replace", "delete", "double"]),
        LEAVES,
    ),
    min_size=1,
    max_size=3,
)
DAMAGE = st.tuples(
    st.floats(0, 1), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8)
)


def quick(examples: int) -> Callable[[Any], Any]:
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=checks,
    )


def mutate(value: Any, changes: list[tuple[list[int], str, Any]]) -> Any:
    """Apply each change at the end of its way; a change at the root replaces everything."""
    box = [copy.deepcopy(value)]
    for way, action, leaf in changes:
        parent: Any = box
        key: Any = 0
        for step in way:
            child = parent[key]
            if not isinstance(child, list | dict) or not child:
                break
            parent = child
            key = list(child)[step % len(child)] if isinstance(child, dict) else step % len(child)
        if action == "delete" and parent is not box:
            del parent[key]
        elif action == "double" and isinstance(parent, list) and parent is not box:
            parent.append(parent[key])
        else:
            parent[key] = copy.deepcopy(leaf)
    return box[0]


def damage(content: bytes, how: tuple[float, list[tuple[float, int]]]) -> bytes:
    """Overwrite some bytes, and cut the file when the first number is below one half."""
    keep, hits = how
    raw = bytearray(content)
    for place, byte in hits:
        raw[min(int(place * len(raw)), len(raw) - 1)] = byte
    return bytes(raw[: int(2 * keep * len(raw))] if keep < 0.5 else raw)


def survives(read: Callable[[], object]) -> None:
    try:
        read()
    except InputError as error:
        text = str(error)
        assert text and "\n" not in text and len(text) < 1000
        text.encode()


READERS = {
    "r2r": (read_r2r, R2R),
    "r4r": (read_r4r, R4R),
    "fgr2r": (read_fgr2r, FGR2R),
    "reverie": (read_reverie, REVERIE),
    "reverie test": (read_reverie, REVERIE_TEST),
    "ndh": (read_ndh, NDH),
    "soon": (read_soon, SOON),
}


@pytest.mark.parametrize("name", READERS)
@given(changes=CHANGES)
@quick(1500)
def test_changed_values(tmp_path: Path, name: str, changes: Any) -> None:
    reader, entry = READERS[name]
    file = tmp_path / "file.json"
    file.write_text(json.dumps(mutate([entry], changes)))
    survives(lambda: reader(file, "train"))


@pytest.mark.parametrize("name", READERS)
@given(how=DAMAGE)
@quick(800)
def test_damaged_bytes(tmp_path: Path, name: str, how: Any) -> None:
    reader, entry = READERS[name]
    file = tmp_path / "file.json"
    file.write_bytes(damage(json.dumps([entry]).encode(), how))
    survives(lambda: reader(file, "train"))


@given(changes=CHANGES, role=st.sampled_from(["guide", "follower"]))
@quick(400)
def test_changed_annotations_of_rxr(tmp_path: Path, changes: Any, role: Any) -> None:
    entries = {"guide": RXR, "follower": FOLLOWER}
    for name, entry in entries.items():
        value = mutate(entry, changes) if name == role else entry
        (tmp_path / f"rxr_train_{name}.jsonl").write_text(json.dumps(value) + "\n")
    survives(lambda: read_rxr(tmp_path, "train", role="follower", whole=True))
    survives(lambda: read_rxr(tmp_path, "train", whole=True))


@given(how=DAMAGE, zipped=st.booleans())
@quick(300)
def test_damaged_lines_of_rxr(tmp_path: Path, how: Any, zipped: bool) -> None:
    content = (json.dumps(RXR) + "\n").encode() * 2
    file = tmp_path / f"rxr_train_guide.jsonl{'.gz' if zipped else ''}"
    file.write_bytes(damage(gzip.compress(content) if zipped else content, how))
    survives(lambda: read_rxr(file, "train"))


@given(changes=CHANGES)
@quick(1000)
def test_changed_continuous_episodes(tmp_path: Path, changes: Any) -> None:
    file = tmp_path / "file.json"
    file.write_text(json.dumps(mutate({"episodes": [VLNCE]}, changes)))
    survives(lambda: read_vlnce(file, "train"))
    file.write_text(json.dumps({"episodes": [mutate(VLNCE, changes)]}))
    survives(lambda: read_vlnce(file, "train", whole=True))


@given(changes=CHANGES)
@quick(500)
def test_changed_trajectories(tmp_path: Path, changes: Any) -> None:
    file = tmp_path / "file.json"
    file.write_text(json.dumps(mutate({"1": WALK}, changes)))
    survives(lambda: read_trajectories(file, "train"))


@given(changes=CHANGES)
@quick(1000)
def test_changed_paths_on_graphs(toy_house: Path, tmp_path: Path, changes: Any) -> None:
    file = tmp_path / "file.json"
    entries = read_json(toy_house / "r2r" / "R2R_val_unseen.json")[:1]
    file.write_text(json.dumps(mutate(entries, changes)))

    def read() -> None:
        episodes = read_r2r(file)
        check_episodes(episodes, load_graphs(toy_house / "connectivity", episodes))

    survives(read)


@given(changes=CHANGES)
@quick(1000)
def test_changed_boxes(tmp_path: Path, changes: Any) -> None:
    file = tmp_path / "BBoxes.json"
    file.write_text(json.dumps(mutate(BOXES, changes)))
    survives(lambda: read_boxes(file))


@given(changes=CHANGES)
@quick(400)
def test_changed_members_of_the_box_archive(tmp_path: Path, changes: Any) -> None:
    members = {"BBox/house_a.json": mutate({"a": BOXES["house_a"]}, changes)}
    (tmp_path / "BBox.tar.gz").write_bytes(archive(members))
    survives(lambda: read_boxes(tmp_path / "BBox.tar.gz"))


@pytest.mark.parametrize("zipped", [True, False])
@given(how=DAMAGE)
@quick(600)
def test_damaged_box_archives(tmp_path: Path, zipped: bool, how: Any) -> None:
    """Bytes of the gzip, or of the tar inside a sound gzip."""
    content = archive({f"BBox/house_{v}.json": {v: BOXES["house_a"]} for v in "abc"})
    if zipped:
        content = damage(content, how)
    else:
        content = gzip.compress(damage(gzip.decompress(content)[:4608], how) + bytes(1024))
    (tmp_path / "BBox.tar.gz").write_bytes(content)
    survives(lambda: read_boxes(tmp_path / "BBox.tar.gz"))


OBJECTS = {key: [{"lamp_1": {"heading": 3.0}}] * 8 for key in TEXTS}
FOLDERS = {"observations_list_summarized": TEXTS, "objects_list": OBJECTS}


@pytest.mark.parametrize("changed", FOLDERS)
@given(changes=CHANGES)
@quick(650)
def test_changed_text_observations(tmp_path: Path, changed: str, changes: Any) -> None:
    for folder, value in FOLDERS.items():
        file = tmp_path / folder / "scan.json"
        file.parent.mkdir(exist_ok=True)
        if folder == changed or not file.exists():
            file.write_text(json.dumps(mutate(value, changes) if folder == changed else value))
    survives(lambda: read_observations(tmp_path, "scan"))


@pytest.fixture(scope="module")
def store_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("views") / "views.hdf5"
    rng = np.random.default_rng(0)
    arrays = {f"scan_{i}": rng.normal(size=(8, 4)).astype(np.float32) for i in range(3)}
    write_views(file, arrays, np.arange(8.0), np.zeros(8), {"source": "a test"})
    return file.read_bytes()


@given(how=DAMAGE)
@quick(800)
def test_damaged_view_stores(tmp_path: Path, store_bytes: bytes, how: Any) -> None:
    file = tmp_path / "views.hdf5"
    file.write_bytes(damage(store_bytes, how))

    def read() -> None:
        with ViewStore.open(file) as store:
            store.check(progress=False)
            store.table(store.keys, progress=False)

    survives(read)


@pytest.fixture(scope="module")
def object_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("objects") / "objects.hdf5"
    rng = np.random.default_rng(0)
    placed = PlacedObjects(
        ids=np.arange(3),
        features=rng.normal(size=(3, 4)).astype(np.float32),
        directions=rng.normal(size=(3, 2)),
        sizes=rng.uniform(size=(3, 2)),
    )
    write_objects(file, ObjectStore({f"scan_{i}": placed for i in range(3)}, 4, "a test"))
    return file.read_bytes()


@given(how=DAMAGE)
@quick(800)
def test_damaged_object_stores(tmp_path: Path, object_bytes: bytes, how: Any) -> None:
    file = tmp_path / "objects.hdf5"
    file.write_bytes(damage(object_bytes, how))
    survives(lambda: read_objects(file))
