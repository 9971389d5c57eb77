"""Pre-train, stop, continue, distil stage 1, fine-tune: the commands end to end in a toy world."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cli_tools import TINY_RUN, Said, killed_at, sterna
from sterna.files import read_json
from sterna.models.pretrained import from_pretrained
from sterna.recipes.config import Stage1Run
from sterna.recipes.pretraining import PRETRAINING, STAGE1
from sterna.recipes.runs import as_json

Capture = pytest.CaptureFixture[str]
RUN = (
    *("--model.hidden-size", "16", "--model.ffn-size", "16", "--model.dropout", "0.1"),
    *("--iterations", "6", "--loop.batch-size", "4", "--loop.log-every", "1"),
    *("--loop.eval-every", "3", "--loop.save-every", "2", "--select.episodes", "6"),
)
LAST = Path("last") / "model.safetensors"


def pretrain(capsys: Capture, world: Path, out: Path, *more: object) -> Said:
    return sterna(capsys, "pretrain", "toy-teacher", "--data", world, "--out", out, *RUN, *more)


def distil(capsys: Capture, world: Path, out: Path, *more: object) -> Said:
    words = ("distil", "toy-student", "--stage", "1", "--data", world, "--out", out)
    return sterna(capsys, *words, *RUN, *more)


def log(out: Path, kind: str = "train") -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]
    return [line for line in lines if line["kind"] == kind]


@pytest.fixture(scope="module")
def run(toy_house: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished pre-training of six iterations; treat it as read-only."""
    from sterna.cli import main

    out = tmp_path_factory.mktemp("pretrained") / "teacher"
    words = ["pretrain", "toy-teacher", "--data", str(toy_house), "--out", str(out), *RUN]
    assert main(words) == 0
    return out


def test_recipes_are_whole_configurations() -> None:
    for recipe in (*PRETRAINING.values(), *STAGE1.values()):
        config = recipe()
        assert recipe.__doc__ and config.model.lang2visn and config.model.feature_dropout == 0
        assert as_json(config)["pretrain"]["mix"]["sap"] > 0
    for name, recipe in STAGE1.items():
        student = recipe()
        assert isinstance(student, Stage1Run) and student.distill.weight > 0, name


def test_a_run_leaves_what_it_says(run: Path) -> None:
    done = read_json(run / "run.json")
    assert {"recipe.json", "log.jsonl", "state.pt"} <= {file.name for file in run.iterdir()}
    assert done["iteration"] == 6 and [s["iteration"] for s in done["scores"]] == [3, 6]
    policy = from_pretrained(run / "best")
    assert policy.config.lang2visn and policy.config.hidden_size == 16
    tasks = ["mlm" if "mlm" in line else "sap" for line in log(run)]
    assert len(tasks) == 6 and set(tasks) == {"mlm", "sap"}
    assert "by mlm, sap" in (run / "last" / "README.md").read_text("utf-8")


def test_stopped_and_continued_equals_unbroken(
    capsys: Capture,
    toy_house: Path,
    run: Path,
    tmp_path: Path,
) -> None:
    with killed_at(5):  # state was saved after four
        assert pretrain(capsys, toy_house, tmp_path).code == 130
    torch.rand(5)  # a resumed process has another history of the global generator
    assert pretrain(capsys, toy_house, tmp_path, "--json").json["iteration"] == 6
    assert "next: sterna train RECIPE --start.weights" in pretrain(capsys, toy_house, tmp_path).out
    assert (tmp_path / LAST).read_bytes() == (run / LAST).read_bytes()
    dropped = ("seconds", "time")
    mine, theirs = (
        [{k: v for k, v in line.items() if k not in dropped} for line in log(out)]
        for out in (tmp_path, run)
    )
    assert mine == theirs


def test_stage_1_and_alone(capsys: Capture, toy_house: Path, run: Path, tmp_path: Path) -> None:
    words = ("--teacher", run)
    taught = distil(capsys, toy_house, tmp_path / "taught", *words, "--model.hidden-size", "8")
    assert taught.code == 0, taught.err
    for line in log(tmp_path / "taught"):
        modules = ("language", "panorama", "local", "global")
        terms = [f"{m}_{t}" for m in modules for t in ("attention", "hidden")]
        task = line["mlm"] if "mlm" in line else line["sap"]
        total = task + sum(line[t] for t in (*terms, "embedding"))
        assert line["loss"] == pytest.approx(total, rel=1e-4)
    student = from_pretrained(tmp_path / "taught" / "best")
    assert student.config.lang2visn and student.config.hidden_size == 8
    alone = distil(capsys, toy_house, tmp_path / "alone", "--distill.weight", "0")
    assert alone.code == 0 and "embedding" not in log(tmp_path / "alone")[0]


def test_fine_tuning_begins_with_it(
    capsys: Capture, toy_house: Path, run: Path, tmp_path: Path
) -> None:
    """The text branches stay behind; all other weights come along, dropout is the recipe's."""
    words = ("train", "toy-teacher", "--data", toy_house, "--out", tmp_path, "--start.weights")
    tiny = (*TINY_RUN, "--model.dropout", "0.2", "--optimizer.learning-rate", "1e-12")
    said = sterna(capsys, *words, run / "last", *tiny)
    assert said.code == 0, said.err
    tuned, before = from_pretrained(tmp_path / "last"), from_pretrained(run / "last").state_dict()
    assert not tuned.config.lang2visn and tuned.config.dropout == 0.2
    for name, value in tuned.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=1e-6, rtol=1e-5)


def test_bad_input(
    capsys: Capture, toy_house: Path, run: Path, toy_run: Path, tmp_path: Path
) -> None:
    distil(capsys, toy_house, tmp_path).refused("no teacher", "--teacher")
    distil(capsys, toy_house, tmp_path, "--teacher", toy_run).refused("without text branches")
    heads = ("--teacher", run, "--model.heads", "2")
    distil(capsys, toy_house, tmp_path, *heads).refused("needs 4 heads", "found 2")
    pretrain(capsys, toy_house, tmp_path, "--loop.replay", "2").refused("replay", "imitation")
    pretrain(capsys, toy_house, tmp_path, "--model.no-lang2visn").refused("--model.lang2visn")
    pretrain(capsys, toy_house, tmp_path, "--pretrain.mix.mrc", "1").refused("logits")
    pretrain(capsys, toy_house, tmp_path, "--pretrain.masking.mask-id", "999").refused(
        "word pieces"
    )
    pretrain(capsys, toy_house, run, "--pretrain.mix.mlm", "2").refused("another configuration")
    pretrain(capsys, toy_house, tmp_path, "--start.weights", toy_run / "best").refused("branches")
    words = ("distil", "toy-student", "--stage", "3", "--out", tmp_path)
    sterna(capsys, *words).refused("--stage must be 1 or 2, found 3")


def test_help_teaches_both_stages(capsys: Capture) -> None:
    two, one = (sterna(capsys, "distil", *words, "--help").out for words in ((), ("--stage", "1")))
    assert "stage 2" in two and "--stage 1" in two
    assert "stage 1" in one and "minivln-r2r-scalevln" in one
    assert "pretrain" in sterna(capsys, "--help").out
