"""Whole studies in small: every row, its arithmetic, nothing done twice, work shared."""

from __future__ import annotations

import fcntl
from pathlib import Path

import numpy as np
import pytest

from sterna.errors import InputError
from sterna.files import read_json
from sterna.metrics import read_result
from sterna.recipes.results import render
from sterna.recipes.studies import make_study
from sterna.recipes.study import Options, run_study, steps
from sterna.recipes.toyreverie import write_toy_reverie

Ran = tuple[Path, str, dict]


def study_of(name: str, out: Path, *, seeds: tuple[int, ...] = (0, 1)) -> object:
    return make_study(name, Options(out=out, seeds=seeds, iterations=3, scale="toy"))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, toy_house: Path) -> Ran:
    out = tmp_path_factory.mktemp("study")
    text, values = run_study(study_of("toy", out), toy_house, out)
    return out, text, values


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory, toy_house: Path) -> Ran:
    out = tmp_path_factory.mktemp("minivln")
    text, values = run_study(study_of("minivln-stages", out), toy_house, out)
    return out, text, values


def test_every_row_stands_in_the_table(study: Ran) -> None:
    out, text, values = study
    arms = study_of("toy", out).arms
    assert [row["name"] for row in values["rows"]] == [arm.name for arm in arms]
    for arm in arms:
        assert f"| {arm.label} |" in text
    assert (out / "toy.md").read_text() == text + "\n"
    assert read_json(out / "toy.json")["rows"] == values["rows"]
    assert values["selection_split"] == "val_seen" and values["protocol_hash"] in text


def test_means_and_differences_are_those_of_the_result_files(study: Ran) -> None:
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


def test_students_are_small_and_controls_differ(study: Ran) -> None:
    out, _, values = study
    rows = {row["name"]: row for row in values["rows"]}
    assert rows["distilled"]["parameters"] <= 0.125 * rows["teacher"]["parameters"]
    assert read_json(out / "teacher-blind" / "recipe.json")["data"]["blind"] is True
    permuted = read_result(out / "teacher" / "eval-permuted" / "result_val_unseen.json")
    assert "permuted" in permuted.config["control"]
    assert rows["random"]["val_unseen"]["TL"]["mean"] > 0


def test_a_second_call_trains_nothing(study: Ran, toy_house: Path) -> None:
    out, text, values = study
    before = {f: f.stat().st_mtime_ns for f in out.rglob("*.safetensors")}
    again, _ = run_study(study_of("toy", out), toy_house, out)
    assert again == text == render(values)
    assert before == {f: f.stat().st_mtime_ns for f in out.rglob("*.safetensors")}


def test_rows_of_stages_begin_and_hear_as_they_say(stages: Ran) -> None:
    out, text, _ = stages
    for name, taught, weight in (
        ("none", "alone", 0.0),
        ("stage1", "taught", 0.0),
        ("stage2", "alone", 0.1),
        ("both", "taught", 0.1),
    ):
        recipe = read_json(out / f"{name}-1" / "recipe.json")
        assert recipe["start"]["weights"] == str(out / f"pretrained-{taught}-1" / "best")
        assert recipe["distill"]["weight"] == weight and recipe["loop"]["seed"] == 1
    blind = read_json(out / "both-blind-0" / "recipe.json")
    assert blind["data"]["blind"] and blind["teacher"] == str(out / "teacher-blind" / "best")
    assert read_json(out / "pretrained-taught-0" / "recipe.json")["distill"]["weight"] > 0
    assert "| both - none-longer |" in text and "student, both stages: " in text


def test_the_longer_row_takes_the_seconds_of_both(stages: Ran) -> None:
    out, _, values = stages

    def run(folder: str) -> dict:
        return read_json(out / folder / "run.json")

    longer = run("none-longer-0")["iteration"]
    spare = run("pretrained-taught-0")["seconds"] - run("pretrained-alone-0")["seconds"]
    wanted = 3 * (run("both-0")["seconds"] + spare) / run("none-0")["seconds"]
    assert longer == max(1, round(wanted))
    row = next(row for row in values["rows"] if row["name"] == "both")
    every = [
        run(f"{kind}-{s}")["seconds"] for s in (0, 1) for kind in ("both", "pretrained-taught")
    ]
    assert row["train_seconds"] == pytest.approx(sum(every) / 2)


def test_tables_share_runs_and_change_what_they_name(stages: Ran, toy_house: Path) -> None:
    out = stages[0]
    before = (out / "both-0" / "run.json").stat().st_mtime_ns
    losses, _ = run_study(study_of("minivln-losses", out, seeds=(0,)), toy_house, out)
    weights, _ = run_study(study_of("minivln-kdweight", out, seeds=(0,)), toy_house, out)
    assert (out / "both-0" / "run.json").stat().st_mtime_ns == before
    only = read_json(out / "both-fuse-only-0" / "recipe.json")["distill"]
    assert (only["text"], only["panorama"], only["fuse"]) == (False, False, True)
    for name, weight in (("low", 0.01), ("high", 1.0)):
        recipe = read_json(out / f"both-weight-{name}-0" / "recipe.json")
        assert recipe["distill"]["weight"] == pytest.approx(weight)
    assert "both-no-fuse - both" in losses and "KDWeight x 10" in weights


def test_switches_beyond_the_paper_are_switched(stages: Ran, toy_house: Path) -> None:
    out = stages[0]
    text, _ = run_study(study_of("minivln-beyond", out, seeds=(0,)), toy_house, out)

    def recipe(row: str) -> dict:
        return read_json(out / f"{row}-0" / "recipe.json")

    base = recipe("both")["distill"]
    for row, name, value in (
        ("lessons", "lessons", 300),
        ("temperature", "final_temperature", 1.0),
        ("corrections", "corrections", 0.5),
        ("other-norm", "normalise", not base["normalise"]),
    ):
        assert recipe(f"both-{row}")["distill"][name] == value != base[name]
    assert recipe("both-no-replay")["loop"]["replay"] == 0
    assert recipe("pretrained-inherited")["start"]["from_teacher"] is True
    assert recipe("both-inherited")["start"]["weights"].endswith("pretrained-inherited-0/best")
    assert "| both-inherited - both |" in text


def test_quick_rows_hasten_language_in_both_stages(tmp_path: Path) -> None:
    options = Options(out=tmp_path, seeds=(0,), scale="text-reverie", precision="fp32")
    jobs = {job.folder: job for job in make_study("minivln-beyond", options).jobs}
    for row, size in (("quick", None), ("wider-quick", 64)):
        before = jobs[f"pretrained-{'taught-' * (size is None)}{row}-0"].config()
        after = jobs[f"both-{row}-0"].config()
        for run in (before, after):
            assert run.optimizer.language_rate == 3.0 and run.model.word_size == size
            assert run.distill.teacher_precision == run.loop.precision == "fp32"
        assert after.read == ("r2r", "reverie") and after.distill.reading == 64
        assert f"pretrained-{'taught-' * (size is None)}{row}-0" in jobs[f"both-{row}-0"].needs
    lessons = jobs["both-wider-tutored-0"].config()
    assert (lessons.distill.language_lessons, lessons.optimizer.language_rate) == (1000, 1.0)
    assert jobs["both-wider-tutored-0"].needs == jobs["both-wider-quick-0"].needs
    assert jobs["both-0"].config().optimizer.language_rate == 1.0


def test_studies_of_reverie_report_objects(tmp_path: Path) -> None:
    root = write_toy_reverie(tmp_path / "data", train_scans=2, unseen_scans=1, paths=6)
    options = Options(out=tmp_path / "out", seeds=(0,), iterations=3, scale="toy-reverie")
    study = make_study("minivln-kdweight", options)
    text, values = run_study(study, root, tmp_path / "out")
    assert "| RGS | RGSPL |" in text and values["protocol"]["name"] == "REVERIE_DUET"
    assert "RGSPL" in values["rows"][0]["val_unseen"]
    assert values["paired_differences_val_unseen"]["none - both"]["RGS"]["path_error"] is not None


def test_only_some_steps_and_steps_that_others_hold(tmp_path: Path, toy_house: Path) -> None:
    study = study_of("toy", tmp_path, seeds=(0,))
    text, values = run_study(study, toy_house, tmp_path, only=("teacher",))
    done = [step["name"] for step in values["steps"] if step["done"]]
    assert done == ["teacher"] and "1 of 12 steps are done" in text
    (tmp_path / ".claims").mkdir(exist_ok=True)
    held = tmp_path / ".claims" / "student-alone-0.lock"
    with held.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        run_study(study, toy_house, tmp_path, only=("student-distilled-0", "random/*"))
    left = {s.name for s in steps(study, toy_house, tmp_path) if not s.done}
    assert "student-alone-0" in left and "student-distilled-0" not in left


def test_what_cannot_be_done_is_said(tmp_path: Path, toy_house: Path) -> None:
    study = study_of("toy", tmp_path)
    with pytest.raises(InputError, match="--plan lists them"):
        run_study(study, toy_house, tmp_path, only=("nothing",))
    with pytest.raises(InputError, match="needs teacher, which is not done"):
        run_study(study, toy_house, tmp_path, only=("student-distilled-0",))
    with pytest.raises(InputError, match="at least one seed"):
        study_of("toy", tmp_path, seeds=())


def test_a_given_teacher_is_not_trained(stages: Ran, tmp_path: Path, toy_house: Path) -> None:
    given = {name: stages[0] / name / "best" for name in ("teacher", "teacher-pretrained")}
    options = Options(out=tmp_path, seeds=(0,), iterations=3, scale="toy", given=given)
    study = make_study("minivln-kdweight", options)
    _, values = run_study(study, toy_house, tmp_path)
    assert not (tmp_path / "teacher" / "run.json").exists()
    assert next(r for r in values["rows"] if r["name"] == "teacher")["val_unseen"]["SR"]
