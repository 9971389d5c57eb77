"""The log of a run: one JSON line an entry; a resumed run writes no entry twice."""

from __future__ import annotations

import json
from pathlib import Path

from sterna.train.log import RunLog


def entries(folder: Path) -> list[tuple[str, int]]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [(e["kind"], e["iteration"]) for e in map(json.loads, lines)]


def test_resume_drops_what_comes_again(tmp_path: Path) -> None:
    log = RunLog(tmp_path, tensorboard=False)
    for iteration in range(1, 8):
        log.write("train", iteration, {"loss": 1.0 / iteration})
    log.write("select", 7, {"SR": 0.5})
    log.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"kind": "train", "iter')  # killed in the middle of a line
    log = RunLog(tmp_path, iteration=5, tensorboard=False)
    assert entries(tmp_path) == [("train", i) for i in range(1, 6)]
    log.write("train", 6, {"loss": 0.0})
    log.close()
    assert entries(tmp_path)[-1] == ("train", 6)


def test_lessons_are_no_iterations(tmp_path: Path) -> None:
    log = RunLog(tmp_path, tensorboard=False)
    log.write("language-lesson", 2000, {"text": 0.2})
    log.write("lesson", 300, {"text": 0.3})
    log.write("train", 50, {"loss": 1.0})
    RunLog(tmp_path, iteration=20, tensorboard=False)
    assert entries(tmp_path) == [("language-lesson", 2000), ("lesson", 300)]


def test_a_fresh_run_drops_all(tmp_path: Path) -> None:
    RunLog(tmp_path, tensorboard=False).write("train", 3, {"loss": 0.0})
    RunLog(tmp_path, tensorboard=False)
    assert entries(tmp_path) == []


def test_values_are_kept_exactly(tmp_path: Path) -> None:
    RunLog(tmp_path, tensorboard=False).write("train", 1, {"loss": 0.1 + 0.2})
    assert json.loads((tmp_path / "log.jsonl").read_text())["loss"] == 0.1 + 0.2


def test_tensorboard_beside_it(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.write("train", 1, {"loss": 0.5})
    log.close()
    assert entries(tmp_path) == [("train", 1)]
