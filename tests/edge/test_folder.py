"""Exported folders: written whole or not at all, changed ones refused, cards, commands."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli_tools import sterna
from edge.conftest import Exported
from sterna.edge.export import new_folder
from sterna.edge.runtime import Engine, read_manifest
from sterna.errors import InputError
from sterna.files import sha256


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out"
    with new_folder(target) as partial:
        (partial / "manifest.json").write_text("{}")
        assert not target.exists()
    assert names(target) == ["manifest.json"] and names(target.parent) == ["out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, InputError])
def test_an_interrupted_export_leaves_nothing(tmp_path: Path, error: type) -> None:
    target = tmp_path / "out"
    with pytest.raises(error), new_folder(target) as partial:
        (partial / "step.onnx").write_bytes(b"half")
        raise error
    assert names(tmp_path) == []


def test_an_interrupted_export_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for number in (1, 2):
        with new_folder(target) as partial:
            (partial / "manifest.json").write_text(str(number))
    with pytest.raises(KeyboardInterrupt), new_folder(target) as partial:
        raise KeyboardInterrupt
    assert (target / "manifest.json").read_text() == "2" and names(tmp_path) == ["out"]


def test_remains_of_a_killed_export_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".out.partial-dead").mkdir()
    (tmp_path / ".out.partial-dead" / "step.onnx").write_bytes(b"half")
    with new_folder(tmp_path / "out") as partial:
        (partial / "manifest.json").write_text("{}")
    assert names(tmp_path) == ["out"]


def test_a_killed_export_leaves_the_old_one(exported: Exported, tmp_path: Path) -> None:
    """SIGKILL once a graph is written: the folder is the old one, the next export tidies up."""
    target = tmp_path / "out"
    with new_folder(target) as partial:
        (partial / "manifest.json").write_text("old")
    words = "export", str(exported.policy), "--to", str(target), "--int8", "--no-walk"
    command = [sys.executable, "-m", "sterna.cli"]
    export = subprocess.Popen([*command, *words], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob(".out.partial-*/*.onnx")):
        assert time.monotonic() < deadline and export.poll() is None
        time.sleep(0.01)
    export.send_signal(signal.SIGKILL)
    assert export.wait() == -signal.SIGKILL
    assert names(target) == ["manifest.json"] and len(names(tmp_path)) == 2
    with new_folder(target) as partial:
        (partial / "manifest.json").write_text("new")
    assert names(tmp_path) == ["out"] and (target / "manifest.json").read_text() == "new"


def test_other_peoples_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="no export"), new_folder(tmp_path):
        pass
    assert names(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize("name", ["step.onnx", "text.int8.onnx", "tokenizer.json", "card.json"])
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_changed_folder_is_refused(
    exported: Exported, tmp_path: Path, name: str, damage: str
) -> None:
    folder = shutil.copytree(exported.folder, tmp_path / "copy")
    file, content = folder / name, (folder / name).read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        flipped = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
        file.write_bytes(flipped if damage == "changed" else content[:-1])
    with pytest.raises(InputError, match=f"{name}: not the file that was exported"):
        Engine.open(folder)


def test_a_changed_manifest_is_refused(exported: Exported, tmp_path: Path) -> None:
    folder = shutil.copytree(exported.folder, tmp_path / "copy")
    content = json.loads((folder / "manifest.json").read_text())
    content["max_steps"] = 14
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="changed or cut short"):
        read_manifest(folder)
    content["format"] = 99
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="expected format 1, found 99"):
        read_manifest(folder)
    with pytest.raises(InputError, match="expected an exported folder"):
        read_manifest(tmp_path)


def test_an_engine_that_was_not_exported_is_refused(grounded: Exported) -> None:
    with pytest.raises(InputError, match="no engine 'onnx-int8'"):
        Engine.open(grounded.folder, "onnx-int8")
    with pytest.raises(InputError, match="threads"):
        Engine.open(grounded.folder, threads=0)


def test_the_card_tells_what_was_found(exported: Exported) -> None:
    card = json.loads((exported.folder / "card.json").read_text())
    assert card == exported.card
    assert card["bytes"]["onnx-int8"] < card["bytes"]["onnx"]
    for name, entry in card["files"].items():
        assert sha256(exported.folder / name) == entry["sha256"]
    walks = card["walks"]
    assert walks["protocol"] == "R2R_DUET" and walks["split"] == "val_seen"
    fine = walks["engines"]["onnx"]
    assert fine["agreement"] == 1.0 and fine["same_walks"] == walks["episodes"]
    assert fine["scores"] == walks["engines"]["torch"]["scores"]
    assert 0.5 < walks["engines"]["onnx-int8"]["agreement"] <= 1.0
    text = (exported.folder / "README.md").read_text()
    assert "| onnx-int8 |" in text and card["files"]["step.onnx"]["sha256"][:16] in text


def test_eval_walks_an_export(
    exported: Exported, toy_house: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = "--data", toy_house, "--split", "val_unseen", "--json", "--threads", "1"
    torch = sterna(capsys, "eval", exported.policy, *common, "--out", tmp_path / "torch").json
    onnx = sterna(
        *(capsys, "eval", exported.folder, "--engine", "onnx", "--workers", "1"),
        *(*common, "--out", tmp_path / "onnx"),
    ).json
    assert onnx["scores"] == torch["scores"] and onnx["config"]["engine"] == "onnx"
    assert onnx["seed"] == 3 and onnx["cost"]["workers"] == 1
    assert onnx["cost"]["parameters"] == torch["cost"]["parameters"]
    walks = [(tmp_path / k / "submit_val_unseen.json").read_bytes() for k in ("torch", "onnx")]
    assert walks[0] == walks[1]


@pytest.mark.parametrize("control", ["--permute", "--blind", "--submit"])
def test_an_export_walks_controls_and_submissions(
    exported: Exported,
    toy_house: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    control: str,
) -> None:
    common = "--data", toy_house, "--split", "val_unseen", "--threads", "1", control
    for engine, model in (("torch", exported.policy), ("onnx", exported.folder)):
        out = tmp_path / engine
        said = sterna(capsys, "eval", model, "--engine", engine, *common, "--out", out)
        assert said.code == 0, said.err
    files = [sorted((tmp_path / engine).iterdir()) for engine in ("torch", "onnx")]
    assert [file.name for file in files[0]] == [file.name for file in files[1]]
    walks = [file.read_bytes() for pair in files for file in pair if "submit" in file.name]
    assert len(walks) == 2 and walks[0] == walks[1]


def test_eval_says_what_does_not_fit(
    exported: Exported, toy_house: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(*words: object) -> None:
        said = sterna(capsys, "eval", *words[:1], "--data", toy_house, *words[1:-1])
        said.refused(str(words[-1]))

    ask(exported.folder, "give --engine onnx")
    ask(exported.policy, "--engine", "onnx", "expected an exported folder")
    ask(exported.policy, "--workers", "2", "give --engine onnx")
    ask(exported.folder, "--engine", "onnx", "--workers", "0", "workers")


def test_export_says_what_does_not_fit(
    exported: Exported, toy_house: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(*words: object) -> None:
        sterna(capsys, "export", *words[:-1]).refused(str(words[-1]))

    (tmp_path / "mine").write_text("")
    ask(tmp_path, "--to", tmp_path / "out", "--data", toy_house, "model.safetensors")
    ask(exported.policy, "--to", tmp_path, "--data", toy_house, "is no export")
    ask(
        exported.policy,
        "--to",
        tmp_path / "a",
        "--data",
        toy_house,
        "--split",
        "nowhere",
        "nowhere",
    )
    assert names(tmp_path) == ["mine"]
