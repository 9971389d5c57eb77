"""The main job in one command, with few iterations; and that the toy recipes learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli_tools import sterna
from sterna.files import read_json
from sterna.models.presets import parameter_counts
from sterna.recipes import quickstart
from sterna.recipes.config import EvalConfig, TrainConfig
from sterna.recipes.quickstart import quickstart_root
from sterna.recipes.r2r import toy_student, toy_teacher
from sterna.recipes.runs import train
from sterna.recipes.toyreverie import write_toy_reverie as write

Capture = pytest.CaptureFixture[str]
ROWS = ("teacher", "student-alone", "student-distilled")


def _short(recipe: Callable[[], Any]) -> Callable[[], Any]:
    config = recipe()
    loop = replace(config.loop, iterations=4, batch_size=4, warm_start=2, eval_every=4)
    return lambda: replace(config, loop=loop, select=EvalConfig(episodes=6))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Recipes of four iterations, two houses, no data anywhere; returns a run folder."""
    monkeypatch.delenv("STERNA_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("toy_teacher", "toy_student"):
        monkeypatch.setattr(quickstart, name, _short(getattr(quickstart, name)))
    few = {"train_scans": 1, "unseen_scans": 1, "paths": 40}
    monkeypatch.setattr(quickstart, "write_toy_reverie", lambda out, *_, **__: write(out, **few))
    return tmp_path / "out"


def test_the_whole_story(capsys: Capture, short: Path) -> None:
    said = sterna(capsys, "quickstart", "--out", short)
    assert said.code == 0, said.err
    assert all(f"\n{name} " in said.out for name in ROWS) and "next: sterna show" in said.out
    assert f"{short / 'episode.png'}" in said.out and "distilled minus alone" in said.out
    assert "1/3 teacher: 4 iterations on generated toy houses" in said.err
    assert (short / "episode.png").stat().st_size > 5000
    assert (short / "results.txt").read_text("utf-8") == said.out
    weights = (short / ROWS[2] / "last" / "model.safetensors").stat().st_mtime_ns
    again = sterna(capsys, "quickstart", "--out", short, "--json").json
    assert [row["name"] for row in again["rows"]] == list(ROWS)
    assert again == read_json(short / "results.json")
    assert (short / ROWS[2] / "last" / "model.safetensors").stat().st_mtime_ns == weights
    config = read_json(short / ROWS[2] / "recipe.json")
    assert config["teacher"] == str(short / "teacher" / "best")
    assert read_json(short / ROWS[1] / "recipe.json")["distill"]["weight"] == 0
    other = sterna(capsys, "quickstart", "--out", short, "--seed", "1")
    assert other.code == 2 and other.err.splitlines()[-1].startswith("sterna: ")


def test_r2r_is_used_where_it_is_whole(data_dir: Path, toy_house: Path) -> None:
    assert quickstart_root(data_dir) == data_dir
    assert quickstart_root(toy_house) is None  # no text observations


def test_the_toy_student_is_small() -> None:
    teacher, student = (parameter_counts(c.model)["total"] for c in (toy_teacher(), toy_student()))
    assert 8 * student <= teacher


def _learn(config: TrainConfig, world: Path, out: Path, *, blind: bool) -> dict[str, float]:
    loop = replace(config.loop, iterations=110, warm_start=110, eval_every=110, save_every=110)
    data = replace(config.data, blind=blind)
    train(replace(config, loop=loop, data=data), world, out)
    scores: dict[str, float] = read_json(out / "run.json")["scores"][-1]
    return scores


def test_the_toy_teacher_learns_and_needs_its_eyes(toy_house: Path, tmp_path: Path) -> None:
    sighted = _learn(toy_teacher(), toy_house, tmp_path / "sighted", blind=False)
    blind = _learn(toy_teacher(), toy_house, tmp_path / "blind", blind=True)
    assert sighted["SR"] > 0.75 and sighted["SR"] > blind["SR"] + 0.25
