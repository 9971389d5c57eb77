"""Pieces of a batch add up to the batch."""

from __future__ import annotations

import pytest
import torch

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.train.imitation import ImitationConfig, ImitationTask, Recorded
from sterna.train.pieces import split, summed
from sterna.train.schedule import uniform_draws
from toy import tiny_model


@pytest.fixture
def task(panoramas: Panoramas) -> ImitationTask:
    return ImitationTask(tiny_model().eval(), panoramas, ImitationConfig(ml_weight=0.2))


@pytest.fixture
def batch(task: ImitationTask, episodes: list[Episode]) -> Recorded:
    return task.collect(episodes[:30:5], episodes[100:130:5], uniform_draws(0, 2, 0, (15, 6)))


@pytest.mark.parametrize("count", [1, 2, 5, 99])
def test_gradients_add_up(task: ImitationTask, batch: Recorded, count: int) -> None:
    whole = task(batch)
    whole.loss.backward()
    expected = {n: p.grad.clone() for n, p in task.named_parameters() if p.grad is not None}
    task.zero_grad()
    pieces = split(batch, count)
    assert len(pieces) == min(count, 12)
    assert sum(len(piece.rows) for piece in pieces) == len(batch.rows)
    outputs = [task(piece) for piece in pieces]
    for output in outputs:
        output.loss.backward()
    total = summed(outputs)
    assert total.loss.item() == pytest.approx(whole.loss.item(), rel=1e-6)
    assert total.metrics["agree"] == pytest.approx(whole.metrics["agree"])
    for name, parameter in task.named_parameters():
        if name in expected:
            assert parameter.grad is not None
            size = float(expected[name].norm()) + 1e-6
            assert float((parameter.grad - expected[name]).norm()) < 1e-4 * size + 1e-6, name


def test_each_piece_keeps_whole_episodes(batch: Recorded) -> None:
    names = [e.instr_id for piece in split(batch, 4) for e in piece.episodes]
    assert sorted(names) == sorted(e.instr_id for e in batch.episodes)
    for piece in split(batch, 4):
        assert set(piece.rows.agent.tolist()) == set(range(len(piece.episodes)))
        lengths = [len(e.token_ids or ()) for e in piece.episodes]
        assert lengths == sorted(lengths)
        assert torch.isfinite(torch.from_numpy(piece.weight)).all()
