"""A whole study in small: every row, its arithmetic, and nothing done twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sterna.files import read_json
from sterna.metrics import read_result
from sterna.recipes.study import arms, render, run_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, toy_house: Path) -> tuple[Path, str, dict]:
    out = tmp_path_factory.mktemp("study")
    text, values = run_study("toy", toy_house, out, seeds=(0, 1), iterations=3)
    return out, text, values


def test_every_row_stands_in_the_table(study: tuple[Path, str, dict]) -> None:
    out, text, values = study
    assert [row["name"] for row in values["rows"]] == [arm.name for arm in arms((0, 1))]
    for arm in arms((0, 1)):
        assert f"| {arm.label} |" in text
    assert (out / "results.md").read_text() == text + "\n"
    assert read_json(out / "results.json")["rows"] == values["rows"]
    assert values["selection_split"] == "val_seen" and values["protocol_hash"] in text


def test_means_and_differences_are_those_of_the_result_files(
    study: tuple[Path, str, dict],
) -> None:
    out, _, values = study
    rows = {row["name"]: row for row in values["rows"]}

    def scores(folder: str) -> float:
        return read_result(out / folder / "eval" / "result_val_unseen.json").scores["SR"].mean

    alone = [scores(f"student-alone-{seed}") for seed in (0, 1)]
    taught = [scores(f"student-distilled-{seed}") for seed in (0, 1)]
    assert rows["alone"]["val_unseen"]["SR"]["mean"] == pytest.approx(np.mean(alone))
    error = np.std(alone, ddof=1) / 2**0.5
    assert rows["alone"]["val_unseen"]["SR"]["seed_error"] == pytest.approx(error)
    gain = values["paired_differences_val_unseen"]["distilled - alone"]["SR"]
    assert gain["mean"] == pytest.approx(np.mean(taught) - np.mean(alone))
    assert gain["per_seed"] == pytest.approx([t - a for t, a in zip(taught, alone, strict=True)])


def test_students_are_small_and_controls_differ(study: tuple[Path, str, dict]) -> None:
    out, _, values = study
    rows = {row["name"]: row for row in values["rows"]}
    assert rows["distilled"]["parameters"] <= 0.125 * rows["teacher"]["parameters"]
    assert read_json(out / "teacher-blind" / "recipe.json")["data"]["blind"] is True
    permuted = read_result(out / "teacher" / "eval-permuted" / "result_val_unseen.json")
    assert "permuted" in permuted.config["control"]
    assert rows["random"]["val_unseen"]["TL"]["mean"] > 0


def test_a_second_call_trains_nothing(study: tuple[Path, str, dict], toy_house: Path) -> None:
    out, text, values = study
    before = {f: f.stat().st_mtime_ns for f in out.rglob("*.safetensors")}
    again, _ = run_study("toy", toy_house, out, seeds=(0, 1), iterations=3)
    assert again == text == render(values)
    assert before == {f: f.stat().st_mtime_ns for f in out.rglob("*.safetensors")}
