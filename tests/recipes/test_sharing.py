"""Several processes share a run: the same scores, the same weights, one voice, one end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cli_tools import TINY_RUN, sterna
from sharing import EVEN, Ending, Harm, all_well, same_training, share, state
from sterna.files import read_json
from sterna.recipes.launch import launch_file

Capture = pytest.CaptureFixture[str]


# ---- evaluation: each episode exactly once, scores of one process ----


@pytest.mark.parametrize(("count", "size", "episodes"), [(2, 7, 30), (3, 7, 30), (3, 1, 2)])
def test_a_split_is_scored_as_by_one(
    capsys: Capture,
    toy_house: Path,
    toy_run: Path,
    tmp_path: Path,
    count: int,
    size: int,
    episodes: int,
) -> None:
    """Odd sizes, and fewer episodes than processes: not a bit of the files is another."""
    words = ("eval", toy_run, "--data", toy_house, "--episodes", episodes, "--batch-size", size)
    alone = sterna(capsys, *words, "--out", tmp_path / "one", "--json").json
    endings = share(count, tmp_path / "said", *words, "--out", tmp_path / "many", "--json")
    said = json.loads(all_well(endings))
    assert said["scores"] == alone["scores"] and said["cost"]["processes"] == count
    one, many = (read_json(tmp_path / name / "result_val_unseen.json") for name in ("one", "many"))
    for result in (one, many):
        del result["cost"]
    assert one == many and len(set(one["per_episode"]["instr_id"])) == one["expected"] >= episodes
    files = [tmp_path / name / "submit_val_unseen.json" for name in ("one", "many")]
    assert files[0].read_bytes() == files[1].read_bytes()


# ---- training: two processes are one with accumulation ----

IMITATE = (
    *("--loop.demonstrations", "4", "--loop.warm-start", "1", "--loop.replay", "1"),
    *("--loop.ahead", "2", "--model.heads", "2"),
)
TAUGHT = (
    *("--distill.normalise", "--distill.lessons", "2", "--distill.lesson-size", "4"),
    *("--distill.fit-maps", "--distill.temperature", "2"),
    *("--read", "r2r", "--distill.reading", "4", "--distill.follow", "2"),
    *("--distill.swapped", "2", "--distill.words", "5", "30"),
)


@pytest.mark.parametrize("count", [2, 3])
def test_imitation(capsys: Capture, toy_house: Path, tmp_path: Path, count: int) -> None:
    """DAgger with remembered walks, walks ahead and a warm start; alone in as many pieces."""
    even = ("--loop.demonstrations", "3") if count == 3 else ()
    words = ("train", "toy-teacher", "--data", toy_house, *EVEN, *IMITATE, *even)
    alone = ("--loop.pieces", count, "--out", tmp_path / "one")
    assert sterna(capsys, *words, *alone).code == 0
    all_well(share(count, tmp_path / "said", *words, "--out", tmp_path / "many"))
    same_training(tmp_path / "one", tmp_path / "many")


@pytest.mark.parametrize("terms", [TAUGHT, ("--distill.no-text",)], ids=["all", "some"])
def test_distillation(
    capsys: Capture, toy_house: Path, toy_run: Path, tmp_path: Path, terms: tuple[str, ...]
) -> None:
    """Stage 2: with every term, relative to the teacher's, first lessons and fitted maps; or not.

    A term that is off leaves weights without a gradient.
    """
    words = ("distil", "toy-student", "--teacher", toy_run, "--data", toy_house, *EVEN, *IMITATE)
    assert sterna(capsys, *words, *terms, "--out", tmp_path / "one").code == 0
    all_well(share(2, tmp_path / "said", *words, *terms, "--out", tmp_path / "many"))
    same_training(tmp_path / "one", tmp_path / "many")


def test_pretraining_and_stage_1(capsys: Capture, toy_house: Path, tmp_path: Path) -> None:
    words = ("pretrain", "toy-teacher", "--data", toy_house, *EVEN)
    assert sterna(capsys, *words, "--out", tmp_path / "one").code == 0
    all_well(share(2, tmp_path / "said", *words, "--out", tmp_path / "many"))
    same_training(tmp_path / "one", tmp_path / "many")
    teacher = ("--teacher", tmp_path / "one")
    words = ("distil", "toy-student", "--stage", "1", "--data", toy_house, *EVEN, *teacher)
    assert sterna(capsys, *words, "--out", tmp_path / "low").code == 0
    all_well(share(2, tmp_path / "said", *words, "--out", tmp_path / "lower"))
    same_training(tmp_path / "low", tmp_path / "lower")


# ---- ends ----

RUN = ("--model.dropout", "0.1", "--loop.replay", "1", "--loop.save-every", "1")


def complaints(endings: list[Ending]) -> list[str]:
    """All lines that all processes wrote to standard error."""
    return [line for one in endings for line in one.err.splitlines()]


def test_a_killed_process_ends_the_run_which_then_goes_on_exactly(
    toy_house: Path, tmp_path: Path
) -> None:
    """Dropout and remembered walks of every process: the same bits as without the kill."""
    words = ("train", "toy-teacher", "--data", toy_house, *TINY_RUN, *RUN)
    words = (*words, "--loop.warm-start", 1, "--loop.log-every", 1, "--out")
    all_well(share(2, tmp_path / "said", *words, tmp_path / "whole"))
    harm = Harm(number=1, iteration=3, sign=signal.SIGKILL)
    began = time.monotonic()
    endings = share(2, tmp_path / "said", *words, tmp_path / "cut", harm=harm)
    assert time.monotonic() - began < 60
    assert [one.code for one in endings] == [1, -signal.SIGKILL]
    ended = "sterna: another process of this run has ended; the same command continues"
    assert complaints(endings) == [ended] and endings[0].out == ""
    assert state(tmp_path / "cut")["progress"]["iteration"] == 3
    assert not (tmp_path / "cut" / "run.json").exists()
    sterna_refuses_other_company(toy_house, tmp_path, words)
    all_well(share(2, tmp_path / "said", *words, tmp_path / "cut"))
    whole, cut = state(tmp_path / "whole"), state(tmp_path / "cut")
    assert len(whole["memory"]) == 4 and {one["part"] for one in whole["memory"]} == {0, 1}
    assert str(whole) == str(cut)
    for name, weight in whole["modules"]["task"].items():
        assert torch.equal(weight, cut["modules"]["task"][name]), name
    assert (tmp_path / "whole/log.jsonl").read_text() == (tmp_path / "cut/log.jsonl").read_text()


def sterna_refuses_other_company(
    toy_house: Path, tmp_path: Path, words: tuple[object, ...]
) -> None:
    """What two processes remember, one cannot learn from."""
    endings = share(1, tmp_path / "said", *words, tmp_path / "cut")
    assert endings[0].code == 2
    assert "walks of 2 processes; continue with as many, found 1" in complaints(endings)[0]


def test_an_error_of_one_process_is_told_once(toy_house: Path, tmp_path: Path) -> None:
    words = ("train", "toy-teacher", "--data", toy_house, *TINY_RUN, "--out", tmp_path / "run")
    harm = Harm(number=1, iteration=2, sign=0)
    endings = share(2, tmp_path / "said", *words, harm=harm)
    assert endings[1].code == 2 and endings[0].code in (1, 2)
    said = complaints(endings)
    assert len(said) == 1 and said[0].startswith("sterna: iteration 2: the loss is nan"), said


def test_bad_input_is_told_once(toy_house: Path, toy_run: Path, tmp_path: Path) -> None:
    base = ("train", "toy-teacher", "--data", toy_house, *TINY_RUN, "--out", tmp_path / "run")
    taught = ("distil", "toy-student", "--teacher", toy_run, *base[2:], "--distill.follow", 3)
    refused = {
        "batch size 5 does not divide among 2 processes; give": (*base, "--loop.batch-size", 5),
        "distil: 3 instructions an iteration do not divide among 2": (*taught, "--read", "r2r"),
        "score runs in one process; start it without": ("score", tmp_path / "file.json"),
        "engine onnx shares episodes among --workers": ("eval", toy_run, "--engine", "onnx"),
    }
    for told, words in refused.items():
        endings = share(2, tmp_path / "said", *words)
        assert {one.code for one in endings} <= {1, 2} and 2 in {one.code for one in endings}
        said = complaints(endings)
        assert len(said) == 1 and said[0].startswith(f"sterna: {told}"), said
    assert not (tmp_path / "run" / "state.pt").exists()


def test_under_accelerate_launch(toy_house: Path, tmp_path: Path) -> None:
    """Accelerate's own launcher: a killed worker ends all within seconds; what was saved stays."""
    words = ["train", "toy-teacher", "--data", str(toy_house), *TINY_RUN, "--iterations", "4000"]
    words += ["--loop.eval-every", "4000", "--out", str(tmp_path / "run")]
    file = str(launch_file("cpu-2-processes"))
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", file]
    launch += ["-m", "sterna.cli", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    with subprocess.Popen(
        launch, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as parent:
        until = time.monotonic() + 240
        while not (tmp_path / "run/state.pt").is_file() and time.monotonic() < until:
            assert parent.poll() is None, parent.communicate()[1][-3000:]
            time.sleep(0.05)
        threads = Path(f"/proc/{parent.pid}/task").glob("*/children")
        workers = [int(child) for thread in threads for child in thread.read_text().split()]
        killed = next(w for w in workers if b"\0RANK=1\0" in _environment(w))
        began = time.monotonic()
        os.kill(killed, signal.SIGKILL)
        _, errors = parent.communicate(timeout=60)
        assert time.monotonic() - began < 30 and parent.returncode != 0
    said = [line for line in errors.splitlines() if line.startswith("sterna:")]
    assert len(said) <= 1 and "SIGKILL" in errors, errors[-3000:]
    assert not any(_alive(worker) for worker in workers)
    assert state(tmp_path / "run")["progress"]["iteration"] >= 2


def _environment(process: int) -> bytes:
    """Variables, each between zero bytes."""
    return b"\0" + Path(f"/proc/{process}/environ").read_bytes()


def _alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists()
