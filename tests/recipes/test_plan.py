"""Plans: what is measured adds up, nothing is left behind, every kind of run can be planned."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sterna.cli import main
from sterna.recipes import pretraining, runs
from sterna.recipes.plan import plan_run
from sterna.recipes.pretraining import toy_pretraining, toy_stage1
from sterna.recipes.r2r import toy_student, toy_teacher


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory, toy_house: Path) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("teachers")

    def short(config):
        return replace(config, loop=replace(config.loop, iterations=1, warm_start=0, eval_every=1))

    runs.train(short(toy_teacher()), toy_house, out / "teacher")
    pretraining.pretrain(short(toy_pretraining()), toy_house, out / "pretrained")
    return {"stage2": out / "teacher", "stage1": out / "pretrained"}


def test_a_plan_of_distillation_adds_up(teachers: dict[str, Path], toy_house: Path) -> None:
    config = replace(toy_student(), teacher=teachers["stage2"])
    before = set(teachers["stage2"].rglob("*"))
    text, values = plan_run(runs.prepare, config, toy_house)
    assert set(teachers["stage2"].rglob("*")) == before
    whole = values["seconds_per_iteration"] * 300 + values["seconds_per_evaluation"] * 2
    assert values["total_seconds"] == pytest.approx(whole + values["seconds_of_teacher_reading"])
    assert values["teacher_parameters"] > 5 * values["parameters"] > 0
    assert values["evaluation_episodes"] > 10 and values["evaluations"] == 2
    assert 1e8 < values["peak_bytes"] < 1e11
    assert values["seconds_of_teacher_reading"] > 0
    assert "300 iterations" in text and f"{values['teacher_parameters']:,}" in text


def test_pretraining_and_stage_1_have_plans(teachers: dict[str, Path], toy_house: Path) -> None:
    _, alone = plan_run(pretraining.prepare, toy_pretraining(), toy_house)
    stage1 = replace(toy_stage1(), teacher=teachers["stage1"])
    _, taught = plan_run(pretraining.prepare, stage1, toy_house)
    assert alone["teacher_parameters"] is None and taught["teacher_parameters"] > 0
    assert alone["seconds_per_iteration"] > 0 and taught["seconds_of_teacher_reading"] == 0


def test_the_command_plans_a_named_recipe(
    teachers: dict[str, Path],
    toy_house: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    words = ["--recipe", "toy-student", "--teacher", str(teachers["stage2"]), "--plan", "--json"]
    words += ["--data", str(toy_house), "--out", str(out), "--iterations", "40"]
    assert main(["distill", *words]) == 0
    assert json.loads(capsys.readouterr().out)["iterations"] == 40
    assert not out.exists()
    with pytest.raises(SystemExit) as stop:
        main(["distill", "--recipe=no-such", "--plan"])
    assert stop.value.code == 2
