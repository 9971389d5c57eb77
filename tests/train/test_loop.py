"""The loop learns, selects, and refuses a loss that is not a number."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sterna.data.episodes import Episode
from sterna.data.r2r import read_r2r
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.metrics import R2R_DUET
from sterna.train.evaluate import evaluate
from sterna.train.imitation import ImitationConfig, ImitationTask
from sterna.train.loop import LoopConfig, Trainer
from sterna.train.schedule import OptimizerConfig
from toy import TINY, tiny_model, toy_panoramas


def test_learns_its_training_episodes(
    toy_house: Path, panoramas: Panoramas, episodes: list[Episode], tmp_path: Path
) -> None:
    """A tiny DUET goes from lost to nearly always right on 24 episodes, in seconds."""
    some = episodes[::29][:24]
    sizes = replace(TINY, hidden_size=48, ffn_size=96, dropout=0.0, feature_dropout=0.0)
    policy = tiny_model(0, sizes)
    task = ImitationTask(policy, panoramas, ImitationConfig(ml_weight=0.5))

    def scores() -> dict[str, float]:
        result, _ = evaluate(
            policy, panoramas, some, toy_house / "connectivity", R2R_DUET, progress=False
        )
        assert policy.training, "evaluation restores the mode"
        return {name: result.scores[name].mean for name in ("SR", "SPL", "NE")}

    before = scores()
    loop = LoopConfig(iterations=120, batch_size=12, eval_every=60, save_every=120, log_every=60)
    rate = OptimizerConfig(learning_rate=2e-3, schedule="cosine", warmup=10, clip_norm=5.0)
    kept: list[str] = []
    done = Trainer(task, some, tmp_path, loop, rate, evaluate=scores, keep=kept.append).run()
    after = done.scores[-1]
    assert before["SR"] < 0.5 and after["SR"] > 0.9 and after["SPL"] > 0.8, (before, after)
    assert kept == ["best", "best", "last"] and done.best_iteration == 120
    lines = [json.loads(x) for x in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [x["kind"] for x in lines] == ["train", "select", "train", "select"]
    assert lines[-2]["loss"] < 0.5 * lines[0]["loss"] and lines[-2]["agree"] > 0.9


def test_selection_keeps_the_best_not_the_last(toy_house: Path, tmp_path: Path) -> None:
    values = iter([0.2, 0.5, 0.4, 0.5, 0.1])
    kept: list[tuple[str, int]] = []
    task = ImitationTask(tiny_model(), toy_panoramas(toy_house), ImitationConfig())
    loop = LoopConfig(iterations=5, batch_size=4, eval_every=1, save_every=5)
    trainer = Trainer(
        task,
        read_r2r(toy_house, "train"),
        tmp_path,
        loop,
        OptimizerConfig(),
        evaluate=lambda: {"SPL": next(values)},
        keep=lambda name: kept.append((name, trainer.progress.iteration)),
    )
    done = trainer.run()
    assert kept == [("best", 1), ("best", 2), ("best", 4), ("last", 5)]
    assert (done.best, done.best_iteration) == (0.5, 4)


def test_criterion() -> None:
    scores = {"SPL": 0.4, "SR": 0.5}
    assert LoopConfig().criterion(scores) == 0.4
    assert LoopConfig(select_by="SR+SPL").criterion(scores) == pytest.approx(0.9)
    assert math.isnan(LoopConfig(select_by="last").criterion(scores))
    with pytest.raises(InputError, match="batch_size must be at least 1"):
        LoopConfig(batch_size=0)
    with pytest.raises(InputError, match="precision must be"):
        LoopConfig(precision="fp8")  # type: ignore[arg-type]


def test_a_loss_that_is_no_number_is_an_error(toy_house: Path, tmp_path: Path) -> None:
    policy = tiny_model()
    with torch.no_grad():
        policy.local_sap_head.net[3].bias.fill_(math.nan)  # type: ignore[union-attr,operator]
    task = ImitationTask(policy, toy_panoramas(toy_house), ImitationConfig())
    trainer = Trainer(
        task,
        read_r2r(toy_house, "train"),
        tmp_path,
        LoopConfig(iterations=2, batch_size=4, warm_start=2),
        OptimizerConfig(),
    )
    with pytest.raises(InputError, match="iteration 0: the loss is nan"):
        trainer.run()
    assert not (tmp_path / "state.pt").exists()
