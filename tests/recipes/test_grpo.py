"""`sterna grpo` for graph policies: runs, resumes, evaluates, refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli_tools import Said, killed_at, sterna

SHORT = (
    *("--iterations", "3", "--loop.batch-size", "4", "--loop.eval-every", "2"),
    *("--loop.save-every", "1", "--loop.log-every", "1", "--select.episodes", "6"),
    *("--grpo.objective.group", "3", "--grpo.max-steps", "4"),
)


def improve(
    capsys: pytest.CaptureFixture[str], world: Path, policy: Path, out: Path, *more: object
) -> Said:
    words = ("grpo", "toy-student", "--policy", policy, "--data", world, "--out", out)
    return sterna(capsys, *words, *SHORT, *more)


def test_a_run_is_improved_killed_and_continued(
    capsys: pytest.CaptureFixture[str], toy_house: Path, toy_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "better"
    with killed_at(2):
        assert improve(capsys, toy_house, toy_run, out).code == 130
    said = improve(capsys, toy_house, toy_run, out, "--json").json
    assert said["iteration"] == 3
    # The weights that it began with take part in the selection.
    assert [row["iteration"] for row in said["scores"]] == [0, 2, 3]
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    trained = [row for row in rows if row["kind"] == "train"]
    assert [row["iteration"] for row in trained] == [1, 2, 3]
    assert all(0 <= row["SR"] <= 1 and row["ratio_off"] == 0 for row in trained)
    scored = sterna(capsys, "eval", out, "--data", toy_house, "--split", "val_unseen", "--json")
    assert 0 <= scored.json["scores"]["SR"]["mean"] <= 1


def test_the_same_run_has_the_same_weights(
    capsys: pytest.CaptureFixture[str], toy_house: Path, toy_run: Path, tmp_path: Path
) -> None:
    weights = []
    for name in ("a", "b"):
        assert improve(capsys, toy_house, toy_run, tmp_path / name).code == 0
        weights.append((tmp_path / name / "last" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert weights[0] != (toy_run / "best" / "model.safetensors").read_bytes()


def test_what_it_refuses(
    capsys: pytest.CaptureFixture[str], toy_house: Path, toy_run: Path, tmp_path: Path
) -> None:
    words = ("grpo", "toy-student", "--data", toy_house, "--out", tmp_path / "x", *SHORT)
    sterna(capsys, *words).refused("no policy to improve", "--policy")
    sterna(capsys, *words, "--policy", tmp_path / "none").refused("no such folder")
    better = improve(capsys, toy_house, toy_run, tmp_path / "x", "--loop.replay", "1")
    better.refused("loop.replay belongs to imitation")
    alone = improve(capsys, toy_house, toy_run, tmp_path / "x", "--grpo.objective.group", "1")
    alone.refused("group must be at least 2")


def test_the_plan(
    capsys: pytest.CaptureFixture[str], toy_house: Path, toy_run: Path, tmp_path: Path
) -> None:
    plan = improve(capsys, toy_house, toy_run, tmp_path / "x", "--plan", "--json").json
    assert plan["seconds_per_iteration"] > 0 and plan["parameters"] > 1000
    assert not (tmp_path / "x").exists()
