"""Stage 2 beyond the paper, by the commands: cache, temperature, corrections, teacher's start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cli_tools import sterna, train_tiny
from sterna.models.pretrained import from_pretrained

Capture = pytest.CaptureFixture[str]
LAST = Path("last") / "model.safetensors"


def test_cache_warm_cold_and_off(
    capsys: Capture, toy_house: Path, toy_run: Path, tmp_path: Path
) -> None:
    kept = ("--teacher", toy_run, "--data.cache", tmp_path / "kept")
    weights = []
    for name, switch in (("cold", "cache"), ("warm", "cache"), ("off", "no-cache")):
        said = train_tiny(
            capsys, toy_house, tmp_path / name, *kept, f"--distill.{switch}", name="distil"
        )
        assert said.code == 0, said.err
        assert ("teacher's outputs, 0.00 GB in" in said.err) == (name == "cold")
        weights.append((tmp_path / name / LAST).read_bytes())
    assert weights[0] == weights[1] == weights[2]
    assert len(list((tmp_path / "kept").rglob("*.safetensors"))) == 2


def test_switches_reach_the_run(
    capsys: Capture, toy_house: Path, toy_run: Path, tmp_path: Path
) -> None:
    more = ("--distill.temperature", "4", "--distill.final-temperature", "1")
    more += ("--distill.corrections", "0.5", "--distill.reading", "4", "--read", "r2r")
    said = train_tiny(
        capsys, toy_house, tmp_path / "run", "--teacher", toy_run, *more, name="distil"
    )
    assert said.code == 0, said.err
    logged = [json.loads(x) for x in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert all(line["read"] > 0 for line in logged if line["kind"] == "train")


def test_from_teacher(capsys: Capture, toy_house: Path, toy_run: Path, tmp_path: Path) -> None:
    """At a learning rate of (almost) nothing the student stays what it began as: its teacher."""
    still = ("--start.from-teacher", "--optimizer.learning-rate", "1e-30")
    for weight in ("0.1", "0"):
        out = tmp_path / weight
        said = train_tiny(
            capsys,
            toy_house,
            out,
            *("--teacher", toy_run / "last", *still, "--distill.weight", weight),
            name="distil",
        )
        assert said.code == 0, said.err
        mine, theirs = (from_pretrained(f / "last").state_dict() for f in (out, toy_run))
        for name, value in mine.items():
            torch.testing.assert_close(value, theirs[name], atol=1e-6, rtol=0)


def test_texts_that_nobody_reads(
    capsys: Capture, toy_house: Path, toy_run: Path, tmp_path: Path
) -> None:
    words = ("--teacher", toy_run, "--read", "r2r")
    said = train_tiny(capsys, toy_house, tmp_path / "run", *words, name="distil")
    said.refused("give --distill.reading")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--distill.temperature", "0"), "temperature must be positive"),
        (("--distill.final-temperature", "-1"), "final_temperature must be positive"),
        (("--distill.corrections", "1.5"), "corrections is a share"),
        (("--distill.reading", "4", "--distill.no-text"), "needs the text term"),
        (("--start.from-teacher", "--start.weights", "x"), "leave one out"),
        (("--start.from-teacher", "--distill.weight", "0"), "no teacher; name its folder"),
    ],
)
def test_bad_values(
    capsys: Capture, toy_house: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    train_tiny(capsys, toy_house, tmp_path / "run", *words, name="distil").refused(said)


def test_training_alone_has_no_teacher_to_begin_from(
    capsys: Capture, toy_house: Path, tmp_path: Path
) -> None:
    train_tiny(capsys, toy_house, tmp_path / "run", "--start.from-teacher").refused("sterna distil")
    words = ("pretrain", "toy-teacher", "--data", toy_house, "--out", tmp_path / "pre")
    sterna(capsys, *words, "--start.from-teacher").refused("--stage 1")
