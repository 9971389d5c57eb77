"""Meta-World by the command line: demonstrations, training, scores; killed and continued."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cli_tools import sterna
from sterna.envs.metaworld import choose_gl
from sterna.errors import InputError
from sterna.files import read_json
from sterna.metrics.manipulation import ManipulationProtocol
from sterna.models.vla import Vla, VlaConfig
from sterna.models.vla_folder import save_pretrained
from sterna.recipes.manipulation import evaluate_policy, paired, summary
from sterna.recipes.metaworld import vocabulary

Capture = pytest.CaptureFixture[str]
SHORT = ManipulationProtocol(name="SHORT", tasks=("handle-press",), max_steps=8, episodes=3)


def need_metaworld() -> None:
    if find_spec("metaworld") is None:
        pytest.skip("the extra `metaworld` is not installed: commands are not checked")
    try:
        choose_gl()
    except InputError as error:
        pytest.skip(f"commands are not checked: {error}")


def row(task: str, goal: int, success: bool) -> dict[str, Any]:
    return {"task": task, "goal": goal, "success": success, "steps": 9, "decisions": 3, "path": 0.5}


def test_success_and_its_errors() -> None:
    first = [row("a", g, g < 8) for g in range(10)] + [row("b", g, g < 5) for g in range(10)]
    found = summary(first)
    assert found["success"] == pytest.approx(0.65) and found["episodes"] == 20
    errors = [np.sqrt(0.8 * 0.2 / 10), np.sqrt(0.5 * 0.5 / 10)]
    assert found["tasks"]["a"]["standard_error"] == pytest.approx(errors[0])
    assert found["standard_error"] == pytest.approx(np.hypot(*errors) / 2)
    assert found["metres_of_successes"] == 0.5
    second = [row("a", g, g < 6) for g in range(10)] + [row("b", g, g >= 5) for g in range(10)]
    difference = paired(first, second)
    assert difference["difference"] == pytest.approx(0.1)
    d_a, d_b = np.repeat([0, 1, 0], [6, 2, 2]), np.repeat([1, -1], 5)
    expected = np.sqrt(d_a.var(ddof=1) / 10 + d_b.var(ddof=1) / 10) / 2
    assert difference["standard_error"] == pytest.approx(expected)
    with pytest.raises(InputError, match="same episodes"):
        paired(first, second[1:])


def test_an_interrupted_evaluation_goes_on(tmp_path: Path) -> None:
    need_metaworld()
    config = VlaConfig(words=("the",))
    count = 0

    def still(batch: Any) -> torch.Tensor:
        nonlocal count
        count += 1
        if count == 4:  # in the second episode: 8 steps of 4 actions are two decisions
            raise KeyboardInterrupt
        return torch.zeros(len(batch), 8, 4)

    def run() -> list[dict[str, Any]]:
        return evaluate_policy(still, config, tmp_path, settings={"policy": "x"}, protocol=SHORT)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert len((tmp_path / "episodes.jsonl").read_text().splitlines()) == 1
    with (tmp_path / "episodes.jsonl").open("a") as file:
        file.write('{"task": "handle-pr')  # cut short by the kill
    rows = run()
    assert [r["goal"] for r in rows] == [0, 1, 2] and count == 4 + 4
    assert all(r["steps"] == 8 and r["decisions"] == 2 and not r["success"] for r in rows)
    assert run() == rows and count == 8
    with pytest.raises(InputError, match="other settings"):
        evaluate_policy(still, config, tmp_path, settings={"policy": "y"}, protocol=SHORT)
    with pytest.raises(InputError, match="execute"):
        evaluate_policy(still, config, tmp_path / "b", settings={}, protocol=SHORT, execute=9)


def test_from_experts_to_scores(tmp_path: Path, capsys: Capture) -> None:
    need_metaworld()
    task = ("--tasks", "handle-press")
    demos, out = tmp_path / "demos", tmp_path / "run"
    words = ("metaworld", "demos", "--out", demos, "--episodes", 4, "--stride", 6, *task, "--json")
    made = sterna(capsys, *words).json
    assert made["episodes"] == 4 and made["frames"] > 8
    stamp = (demos / "handle-press" / "images.npy").stat().st_mtime_ns
    assert sterna(capsys, *words).json == made
    assert (demos / "handle-press" / "images.npy").stat().st_mtime_ns == stamp
    sterna(capsys, *words[:-1], "--seed", 1).refused("other settings")

    train = (
        *("metaworld", "train", "vla-s", "--demos", demos, "--out", out, "--threads", 1),
        *("--iterations", 2, "--loop.batch-size", 4, "--model.depth", 2, "--json"),
    )
    assert sterna(capsys, *train).json == {"out": str(out)}
    config = read_json(out / "last" / "config.json")["sizes"]
    assert config["depth"] == 2 and tuple(config["words"]) == vocabulary()

    scores = tmp_path / "eval"
    words = ("metaworld", "eval", out / "last", "--out", scores, *task, "--episodes", 1)
    result = sterna(capsys, *words, "--json").json
    assert result == json.loads((scores / "result.json").read_text())
    assert result["protocol"]["name"] == "METAWORLD_CUSTOM" and result["episodes"] == 1
    tokens, width, ffn = 20, 96, 384
    layer = 2 * tokens * (4 * width**2 + 2 * width * ffn + 2 * tokens * width)
    assert result["flops"]["backbone"] == 2 * layer
    assert result["flops"]["total"] > result["flops"]["backbone"]
    assert 0 < result["timing"]["median_ms"] <= result["timing"]["p95_ms"]
    table = sterna(capsys, *words)
    assert "handle-press" in table.out and "MFLOPs" in table.out


def test_bad_input_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    words = ("metaworld", "train", "vla-s", "--demos", tmp_path, "--out", tmp_path / "run")
    sterna(capsys, *words).refused("manifest.json")
    sterna(capsys, "metaworld", "eval", tmp_path, "--out", tmp_path / "e").refused("config.json")
    folder = save_pretrained(Vla(VlaConfig(words=("the",), depth=1)), tmp_path / "policy")
    words = ("metaworld", "eval", folder, "--out", tmp_path / "e", "--execute", 9)
    sterna(capsys, *words).refused("execute")
    words = ("metaworld", "demos", "--out", tmp_path / "d", "--tasks", "fly")
    sterna(capsys, *words).refused("no task 'fly'")
