"""Bad input through the command line: one clear line, exit code 2, and nothing half-written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cli_tools import sterna, train_tiny
from sterna.data.r2r import read_r2r
from sterna.files import read_json, write_json
from sterna.world.graph import load_graph

Capture = pytest.CaptureFixture[str]
TRAIN = Path("r2r") / "R2R_train.json"
VIEWS = Path("features") / "toy.hdf5"


@pytest.fixture
def world(toy_house: Path, tmp_path: Path) -> Path:
    """A copy of the toy world to damage."""
    return Path(shutil.copytree(toy_house, tmp_path / "world"))


@pytest.fixture
def run(toy_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run to damage."""
    return Path(shutil.copytree(toy_run, tmp_path / "run"))


def _cut(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def _edit(file: Path, change: Callable[[Any], None]) -> None:
    value = read_json(file)
    change(value)
    write_json(file, value)


def _missing_scan(world: Path) -> tuple[str, ...]:
    scan = read_json(world / TRAIN)[0]["scan"]
    (world / "connectivity" / f"{scan}_connectivity.json").unlink()
    return scan, "connectivity.json"


def _non_edge(world: Path) -> tuple[str, ...]:
    def change(entries: Any) -> None:
        del entries[0]["path"][1]

    _edit(world / TRAIN, change)
    return "episode 0_0", "no such edge"


def _unknown_viewpoint(world: Path) -> tuple[str, ...]:
    _edit(world / TRAIN, lambda entries: entries[0]["path"].append("nowhere"))
    return "episode 0_0", "nowhere"


def _half_annotations(world: Path) -> tuple[str, ...]:
    _cut(world / TRAIN)
    return TRAIN.name, "cut short"


def _no_annotations(world: Path) -> tuple[str, ...]:
    (world / TRAIN).unlink()
    return "R2R_train.json", "sterna data get"


def _a_key(file: h5py.File, world: Path) -> str:
    """Name a viewpoint of a training scan that the sample taken at opening leaves out."""
    scan = read_json(world / TRAIN)[0]["scan"]
    keys = list(file)
    return next(k for i, k in enumerate(keys) if k.startswith(scan) and i % (len(keys) // 8) == 4)


def _missing_views(world: Path) -> tuple[str, ...]:
    with h5py.File(world / VIEWS, "a") as file:
        key = _a_key(file, world)
        del file[key]
    return VIEWS.name, key, "missing"


def _nan(world: Path) -> tuple[str, ...]:
    with h5py.File(world / VIEWS, "a") as file:
        key = _a_key(file, world)
        file[key][17, 3] = np.nan
    return VIEWS.name, key, "NaN", "view 17"


def _too_large(world: Path) -> tuple[str, ...]:
    with h5py.File(world / VIEWS, "a") as file:
        key = _a_key(file, world)
        file[key][17, 3] = 1e6
    return VIEWS.name, key, "exceeds"


def _wrong_size(world: Path) -> tuple[str, ...]:
    with h5py.File(world / VIEWS, "a") as file:
        key = _a_key(file, world)
        del file[key]
        file.create_dataset(key, data=np.zeros((36, 31), np.float32))
    return VIEWS.name, key, "(36, 32)", "(36, 31)"


def _no_hdf5(world: Path) -> tuple[str, ...]:
    (world / VIEWS).write_text("this is no HDF5 file", encoding="utf-8")
    return VIEWS.name, "HDF5"


def _half_hdf5(world: Path) -> tuple[str, ...]:
    _cut(world / VIEWS)
    return (VIEWS.name,)


def _half_graph(world: Path) -> tuple[str, ...]:
    scan = read_json(world / TRAIN)[0]["scan"]
    _cut(world / "connectivity" / f"{scan}_connectivity.json")
    return (f"{scan}_connectivity.json",)


def _half_words(world: Path) -> tuple[str, ...]:
    _cut(world / "words.npy")
    return ("words.npy",)


DAMAGES = [
    _missing_scan,
    _non_edge,
    _unknown_viewpoint,
    _half_annotations,
    _no_annotations,
    _missing_views,
    _nan,
    _too_large,
    _wrong_size,
    _no_hdf5,
    _half_hdf5,
    _half_graph,
    _half_words,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__[1:])
def test_damaged_data(
    capsys: Capture, world: Path, tmp_path: Path, damage: Callable[[Path], tuple[str, ...]]
) -> None:
    words = damage(world)
    train_tiny(capsys, world, tmp_path / "out").refused(*words)
    assert not (tmp_path / "out").exists()


def test_a_store_of_another_width(capsys: Capture, world: Path, toy_run: Path) -> None:
    with h5py.File(world / VIEWS, "a") as file:
        for key in list(file):
            values = file[key][:, :30]
            del file[key]
            file.create_dataset(key, data=values)
        file.attrs["feature_size"] = 30
    sterna(capsys, "eval", toy_run, "--data", world).refused("width 32", "has 30", "--views")
    words = ("--start.weights", toy_run / "best")
    train_tiny(capsys, world, world / "out", *words).refused("width 32", "has 30", "--data.views")
    assert not (world / "out").exists()


def test_wrong_data_and_views(
    capsys: Capture, toy_house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STERNA_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    for place in (("--data", tmp_path / "none"), ()):
        sterna(capsys, "train", "toy-teacher", *place).refused("no data folder", "STERNA_DATA")
    train_tiny(capsys, tmp_path, tmp_path / "out").refused("R2R_train.json")
    more = ("--data.views", "none.hdf5")
    train_tiny(capsys, toy_house, tmp_path / "out", *more).refused("none.hdf5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--iterations", "-1"), ("iterations must be at least 1", "-1")),
        (("--loop.iterations", "0"), ("iterations must be at least 1", "0")),
        (("--model.heads", "7"), ("hidden_size 16", "heads 7")),
        (("--optimizer.learning-rate", "-1"), ("learning_rate",)),
        (("--select.episodes", "0"), ("select: ", "episodes")),
        (("--data.max-words", "1"), ("max_words",)),
        (("--model.vocab-size", "50"), ("42 words", "50")),
        (("--model.max-positions", "20"), ("word pieces", "20")),
        (("--threads", "0"), ("--threads", "0")),
        (("--select.split", "val_none"), ("R2R_val_none.json",)),
    ],
)
def test_impossible_settings(
    capsys: Capture, toy_house: Path, tmp_path: Path, options: tuple[str, ...], words: list[str]
) -> None:
    train_tiny(capsys, toy_house, tmp_path / "out", *options).refused(*words)
    assert not (tmp_path / "out").exists()


def test_a_batch_of_more_episodes_than_there_are(
    capsys: Capture, toy_house: Path, tmp_path: Path
) -> None:
    said = train_tiny(capsys, toy_house, tmp_path / "out", "--loop.batch-size", "100000")
    said.refused("a batch of 100000", "720")
    assert not (tmp_path / "out" / "state.pt").exists()


def test_where_nothing_can_be_written(capsys: Capture, toy_house: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    train_tiny(capsys, toy_house, tmp_path / "file" / "out").refused("file")


def test_missing_and_foreign_teachers(capsys: Capture, toy_house: Path, tmp_path: Path) -> None:
    out, foreign = tmp_path / "out", tmp_path / "foreign"
    write_json(foreign / "config.json", {"model_type": "bert"})
    (foreign / "model.safetensors").write_bytes(b"")

    def distil(*more: object) -> Any:
        return train_tiny(capsys, toy_house, out, *more, name="distil")

    distil().refused("no teacher", "--teacher")
    distil("--teacher", tmp_path / "none").refused("none: no such folder")
    distil("--teacher", toy_house).refused("holds no model.safetensors")
    distil("--teacher", foreign).refused("config.json", "DUET")
    assert not out.exists()


def test_eval_of_what_is_no_policy(capsys: Capture, toy_house: Path, run: Path) -> None:
    place = ("--data", toy_house)
    sterna(capsys, "eval", run / "none", *place).refused("no such folder")
    sterna(capsys, "eval", toy_house, *place).refused("holds no model.safetensors")
    sterna(capsys, "eval", run, *place, "--protocol", "X").refused("protocol 'X'", "R2R_DUET")
    sterna(capsys, "eval", run, *place, "--batch-size", "0").refused("batch_size")
    sterna(capsys, "eval", run, *place, "--split", "nowhere").refused("R2R_nowhere.json")
    _cut(run / "best" / "config.json")
    sterna(capsys, "eval", run / "best", *place).refused("config.json")
    (run / "recipe.json").write_text("[]", encoding="utf-8")
    sterna(capsys, "eval", run, *place).refused("recipe.json")
    assert not (run / "eval").exists()


def _first_line(said: Any, *words: str) -> list[str]:
    lines = said.err.splitlines()
    assert said.code == 2 and said.out == "" and lines[0].startswith("sterna: "), said
    assert all(word in lines[0] for word in words), lines[0]
    assert not any("Traceback" in line for line in lines)
    return list(lines[1:])


def test_weights_cut_short(capsys: Capture, toy_house: Path, run: Path) -> None:
    _cut(run / "best" / "model.safetensors")
    said = sterna(capsys, "eval", run, "--data", toy_house)
    _first_line(said, "model.safetensors", "cut short")


def test_weights_of_another_model(capsys: Capture, toy_house: Path, run: Path) -> None:
    _edit(run / "best" / "config.json", lambda value: value["sizes"].update(ffn_size=24))
    table = _first_line(sterna(capsys, "eval", run, "--data", toy_house), "do not fit")
    assert any("intermediate.dense.weight" in line for line in table)


def test_training_state_cut_short_or_foreign(capsys: Capture, toy_house: Path, run: Path) -> None:
    weights = (run / "last" / "model.safetensors").read_bytes()
    _cut(run / "state.pt")
    table = _first_line(train_tiny(capsys, toy_house, run), "state.pt", "not a whole")
    assert any("expected" in line for line in table)
    (run / "state.pt").write_bytes(b"PK\x03\x04 something else")
    _first_line(train_tiny(capsys, toy_house, run), "state.pt")
    assert (run / "last" / "model.safetensors").read_bytes() == weights


def _walks(world: Path) -> list[dict[str, Any]]:
    return [
        {"instr_id": e.instr_id, "trajectory": [[viewpoint, 0.0, 0.0] for viewpoint in e.path]}
        for e in read_r2r(world, "val_unseen")
    ]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("hop", ("hop 1", "no edge")),
        ("viewpoint", ("hop 0", "nowhere")),
        ("late viewpoint", ("nowhere", "no viewpoint")),
        ("twice", ("answered 2 times",)),
        ("missing", ("1 of 180 episodes", "--partial")),
        ("foreign", ("'x_0'", "not an episode")),
        ("form", ("item 5", "trajectory entry 1")),
        ("nothing", ("instr_id",)),
    ],
)
def test_submissions(
    capsys: Capture, toy_house: Path, tmp_path: Path, fault: str, words: tuple[str, ...]
) -> None:
    items = _walks(toy_house)
    episode = read_r2r(toy_house, "val_unseen")[0]
    graph = load_graph(toy_house / "connectivity", episode.scan)
    start = graph.index(episode.start)
    apart = next(i for i in range(len(graph)) if i != start and not graph.has_edge(start, i))
    changes: dict[str, Callable[[], Any]] = {
        "hop": lambda: items[0]["trajectory"].insert(1, [graph.viewpoints[apart], 0.0, 0.0]),
        "viewpoint": lambda: items[0]["trajectory"].insert(0, ["nowhere", 0.0, 0.0]),
        "late viewpoint": lambda: items[0]["trajectory"].append(["nowhere", 0.0, 0.0]),
        "twice": lambda: items.append(items[3]),
        "missing": lambda: items.pop(),
        "foreign": lambda: items.append({**items[3], "instr_id": "x_0"}),
        "form": lambda: items[5]["trajectory"].insert(1, [1, 2]),
        "nothing": lambda: items.insert(0, {"instr_id": None}),
    }
    changes[fault]()
    file, out = tmp_path / "submit.json", tmp_path / "result.json"
    write_json(file, items)
    said = sterna(capsys, "score", file, "--data", toy_house, "--out", out)
    said.refused("submit.json", *words)
    assert not out.exists()


def test_score_of_what_is_no_submission(capsys: Capture, toy_house: Path, tmp_path: Path) -> None:
    file = tmp_path / "submit.json"
    place = ("--data", toy_house)
    sterna(capsys, "score", file, *place).refused("submit.json", "no such file")
    write_json(file, _walks(toy_house))
    sterna(capsys, "score", file, *place, "--protocol", "X").refused("protocol 'X'")
    _cut(file)
    sterna(capsys, "score", file, *place).refused("submit.json", "cut short")


def test_show(capsys: Capture, toy_house: Path, toy_run: Path, tmp_path: Path) -> None:
    name = read_r2r(toy_house, "val_unseen")[0].instr_id
    file = tmp_path / "submit.json"
    write_json(file, _walks(toy_house)[1:])
    place = ("--data", toy_house, "--out", tmp_path / "a.png")
    sterna(capsys, "show", "x_9", *place).refused("'x_9'", "val_unseen")
    sterna(capsys, "show", name, *place, "--walk", file).refused("none of episode")
    both = ("--walk", file, "--policy", toy_run)
    sterna(capsys, "show", name, *place, *both).refused("--walk or --policy")
    sterna(capsys, "show", name, *place[:2], "--out", tmp_path / "a.gif").refused(".gif")
    assert not (tmp_path / "a.png").exists()
