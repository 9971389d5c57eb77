"""Train, stop, continue, evaluate, score, distil: the commands end to end in the toy world."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from cli_tools import killed_at, sterna, train_tiny
from sterna.data.r2r import read_entries, read_r2r
from sterna.files import read_json, write_json
from sterna.models.pretrained import from_pretrained
from sterna.recipes.config import DistillRun
from sterna.recipes.evaluation import permuted
from sterna.recipes.r2r import toy_student, toy_teacher
from sterna.recipes.runs import as_json, needs_teacher
from sterna.recipes.tables import DISTILLING, TRAINING

Capture = pytest.CaptureFixture[str]
LAST = Path("last") / "model.safetensors"


def test_recipes_are_whole_configurations() -> None:
    for recipe in (*TRAINING.values(), *DISTILLING.values()):
        config = recipe()
        assert recipe.__doc__ and as_json(config)["loop"]["iterations"] == config.loop.iterations
        assert needs_teacher(config) == isinstance(config, DistillRun)


def test_a_run_leaves_what_it_says(toy_run: Path) -> None:
    run = read_json(toy_run / "run.json")
    assert run["iteration"] == 4 and [s["iteration"] for s in run["scores"]] == [2, 4]
    assert run["best_iteration"] in (2, 4) and run["config"]["model"]["hidden_size"] == 16
    for name in ("best", "last"):
        assert from_pretrained(toy_run / name).config.feature_size == 32
        assert "selected on val_seen by SR+SPL" in (toy_run / name / "README.md").read_text("utf-8")
    assert {"recipe.json", "log.jsonl", "state.pt"} <= {file.name for file in toy_run.iterdir()}


def test_stopped_and_continued_equals_unbroken(
    capsys: Capture,
    toy_house: Path,
    toy_run: Path,
    tmp_path: Path,
) -> None:
    with killed_at(3):
        stopped = train_tiny(capsys, toy_house, tmp_path)
    assert stopped.code == 130 and "the same command continues" in stopped.err
    assert not (tmp_path / "run.json").exists() and not (tmp_path / LAST).exists()
    said = train_tiny(capsys, toy_house, tmp_path, "--json")
    assert said.json["out"] == str(tmp_path) and said.json["iteration"] == 4
    assert (tmp_path / LAST).read_bytes() == (toy_run / LAST).read_bytes()


def test_a_finished_run_stays(capsys: Capture, toy_house: Path, toy_run: Path) -> None:
    before = (toy_run / LAST).read_bytes()
    assert "next: sterna eval" in train_tiny(capsys, toy_house, toy_run).out
    assert (toy_run / LAST).read_bytes() == before


def test_another_configuration_is_refused(capsys: Capture, toy_house: Path, toy_run: Path) -> None:
    said = train_tiny(capsys, toy_house, toy_run, "--optimizer.learning-rate", "0.5")
    said.refused("another configuration", "optimizer.learning_rate", "asked for 0.5", "--out")


def test_a_run_of_before_a_setting_was_there_goes_on(
    capsys: Capture, toy_house: Path, toy_run: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(toy_run, copy)
    values = read_json(copy / "recipe.json")
    assert values["optimizer"].pop("kind") == "adamw" and values["imitation"].pop("branches") == 0
    write_json(copy / "recipe.json", values)
    assert "next: sterna eval" in train_tiny(capsys, toy_house, copy).out
    said = train_tiny(capsys, toy_house, copy, "--optimizer.kind", "muon")
    said.refused("optimizer.kind 'adamw', asked for 'muon'")


def test_eval_then_score_agree(
    capsys: Capture, toy_house: Path, toy_run: Path, tmp_path: Path
) -> None:
    words = ("eval", toy_run, "--data", toy_house, "--out", tmp_path, "--json")
    said = sterna(capsys, *words).json
    assert said["split"] == "val_unseen" and said["selection_split"] == "val_seen"
    assert said["seed"] == 0 and said["cost"]["parameters"] > 0 and said["config"]["control"] == ""
    submission = tmp_path / "submit_val_unseen.json"
    scored = sterna(capsys, "score", submission, "--data", toy_house, "--json").json
    for found in (scored, said):
        found["scores"].pop("action_steps")  # far jumps are flattened in the leaderboards' format
    assert scored["scores"] == said["scores"]
    other = sterna(capsys, *words, "--batch-size", "7").json["scores"]
    assert read_json(tmp_path / "result_val_unseen.json")["scores"] == other
    assert {**said["scores"], "action_steps": other["action_steps"]} == other


def test_controls(capsys: Capture, toy_house: Path, toy_run: Path) -> None:
    words = ("eval", toy_run, "--data", toy_house, "--episodes", "30", "--json")
    plain = sterna(capsys, *words).json
    assert plain["episodes"] == 30 and plain["out"] == str(toy_run / "eval-part")
    for control, name in (("--permute", "permuted instructions"), ("--blind", "blind")):
        said = sterna(capsys, *words, control).json
        assert said["config"]["control"] == name and said["out"] != plain["out"]
    both = sterna(capsys, *words, "--permute", "--blind", "--protocol", "R2R_MATTERSIM").json
    assert both["out"] == str(toy_run / "eval-permuted-blind-part-R2R_MATTERSIM")
    assert both["config"]["control"] == "blind+permuted instructions"


def test_permuted_instructions_come_from_other_paths(toy_house: Path) -> None:
    episodes = read_r2r(toy_house, "val_unseen")
    for own, other in zip(episodes, permuted(episodes), strict=True):
        assert (own.instr_id, own.path) == (other.instr_id, other.path)
        assert own.token_ids != other.token_ids
    assert sorted(e.instruction for e in permuted(episodes)) == sorted(
        e.instruction for e in episodes
    )


def test_a_split_without_answers_is_submitted(
    capsys: Capture, toy_house: Path, toy_run: Path, tmp_path: Path
) -> None:
    """As R2R's test split: only the start is told, so there is a file to hand in and no score."""
    world = tmp_path / "world"
    world.mkdir()
    for entry in toy_house.iterdir():
        (world / entry.name).symlink_to(entry)
    (world / "r2r").unlink()
    entries = read_entries(toy_house / "r2r" / "R2R_val_unseen.json")[:4]
    starts = [{k: v for k, v in e.items() if k != "distance"} for e in entries]
    write_json(world / "r2r" / "R2R_test.json", [e | {"path": e["path"][:1]} for e in starts])
    words = ("eval", toy_run, "--data", world, "--split", "test", "--out", tmp_path / "out")
    sterna(capsys, *words).refused("test", "no answers", "--submit")
    said = sterna(capsys, *words, "--submit", "--json").json
    items = read_json(Path(said["submission"]))
    begun = [item["trajectory"][0][0] for item in items]
    assert begun == [entry["path"][0] for entry in starts for _ in entry["instructions"]]
    assert not (tmp_path / "out" / "result_test.json").exists()


def test_distil_and_alone(capsys: Capture, toy_house: Path, toy_run: Path, tmp_path: Path) -> None:
    terms = ("--loop.log-every", "1")
    taught = train_tiny(
        capsys, toy_house, tmp_path / "taught", "--teacher", toy_run, *terms, name="distil"
    )
    alone = train_tiny(
        capsys, toy_house, tmp_path / "alone", "--distill.weight", "0", name="distil"
    )
    assert taught.code == alone.code == 0, taught.err + alone.err
    log = (tmp_path / "taught" / "log.jsonl").read_text("utf-8")
    assert '"fuse"' in log and '"text"' in log and '"panorama"' in log
    models = [from_pretrained(tmp_path / name / "last") for name in ("taught", "alone")]
    same, names = (list(m.state_dict()) for m in models)
    assert same == names  # alignment matrices stay behind
    first, second = (next(m.parameters()).detach().numpy() for m in models)
    assert not np.array_equal(first, second)


def test_weight_0_equals_training_without_a_teacher(
    capsys: Capture, toy_house: Path, toy_run: Path, tmp_path: Path
) -> None:
    """The student alone gets the very bits of imitation with its own settings."""
    student, teacher = toy_student(), toy_teacher()
    rate = ("--optimizer.learning-rate", str(teacher.optimizer.learning_rate))
    assert (student.start, student.data, student.loop) == (
        teacher.start,
        teacher.data,
        teacher.loop,
    )
    said = train_tiny(capsys, toy_house, tmp_path, "--distill.weight", "0", *rate, name="distil")
    assert said.code == 0, said.err
    assert (tmp_path / LAST).read_bytes() == (toy_run / LAST).read_bytes()


def test_runs_of_two_precisions_in_one_process(
    capsys: Capture, toy_house: Path, tmp_path: Path
) -> None:
    """As a study does: a teacher in bf16, then students in fp32."""
    for precision in ("bf16", "fp32"):
        words = ("--loop.precision", precision, "--loop.iterations", "1", "--loop.eval-every", "1")
        said = train_tiny(capsys, toy_house, tmp_path / precision, *words)
        assert said.code == 0, said.err


def test_a_policy_is_drawn_walking(
    capsys: Capture, toy_house: Path, toy_run: Path, tmp_path: Path
) -> None:
    name = read_r2r(toy_house, "val_unseen")[0].instr_id
    files = tmp_path / "walk.png", tmp_path / "walk.svg"
    words = ("show", name, "--data", toy_house, "--policy", toy_run, "--out", *files)
    assert sterna(capsys, *words).code == 0
    assert files[0].stat().st_size > 5000 and "SR" in files[1].read_text("utf-8")


def test_blind_training(capsys: Capture, toy_house: Path, tmp_path: Path) -> None:
    words = ("--data.blind", "--loop.iterations", "2")
    assert train_tiny(capsys, toy_house, tmp_path, *words).code == 0
    said = sterna(capsys, "eval", tmp_path, "--data", toy_house, "--episodes", "9", "--json").json
    assert said["config"]["control"] == "blind"  # as it was trained


def test_start_from_saved_weights(
    capsys: Capture, toy_house: Path, toy_run: Path, tmp_path: Path
) -> None:
    words = ("--start.weights", toy_run / "last", "--optimizer.learning-rate", "1e-12")
    more = ("--optimizer.weight-decay", "0", "--loop.warm-start", "0")
    assert train_tiny(capsys, toy_house, tmp_path, *words, *more).code == 0
    first, second = (from_pretrained(run / "last").state_dict() for run in (toy_run, tmp_path))
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)
