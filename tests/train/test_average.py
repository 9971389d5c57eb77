"""The mean of weights: by hand, in place of the weights while they are scored, kept over a kill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sterna.errors import InputError
from sterna.train.average import WeightMean, follow
from sterna.train.loop import LoopConfig
from toy_run import toy_trainer


def test_the_mean_is_that_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(40, 3)).astype(np.float32)
    own, mean = torch.zeros(3), torch.zeros(3)
    twin = np.zeros(3)
    for i, step in enumerate(steps):
        own += torch.from_numpy(step)
        follow([mean], [own], 0.7, i)
        decay = min(0.7, (1 + i) / (10 + i))
        twin = decay * twin + (1 - decay) * own.numpy()
    np.testing.assert_allclose(mean.numpy(), twin, atol=1e-5)


def test_it_takes_the_place_of_the_weights_for_a_while() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    net[0].requires_grad_(False)
    mean = WeightMean(net, 0.9)
    before = [p.detach().clone() for p in net.parameters()]
    with torch.no_grad():
        net[1].weight.add_(1.0)
    mean.follow(0)
    learnt = net[1].weight.detach().clone()
    with pytest.raises(KeyError), mean.shown():
        assert torch.allclose(net[1].weight, learnt - 0.1)
        assert torch.equal(net[0].weight, before[0])
        raise KeyError  # weights come back whatever happens
    assert torch.equal(net[1].weight, learnt)
    mean.restart()
    with mean.shown():
        assert torch.equal(net[1].weight, learnt)
    assert len(mean.state_dict()) == 2


def test_what_a_run_scores_and_keeps_is_the_mean(toy_house: Path, tmp_path: Path) -> None:
    """Learning does not know of it; both ends differ."""
    ends: dict[float, torch.Tensor] = {}
    for average in (0.0, 0.9):
        shown: list[torch.Tensor] = []
        trainer = toy_trainer(
            toy_house, tmp_path / str(average), average=average, evaluate=lambda: {"SPL": 0.5}
        )
        weight = next(trainer.task.policy.parameters())
        trainer.keep = lambda _, w=weight, s=shown: s.append(w.detach().clone())  # type: ignore[misc]
        trainer.run()
        ends[average] = weight.detach().clone()
        assert len(shown) == 2 and torch.equal(*shown)
        assert torch.equal(shown[0], weight) == (average == 0.0)
    assert torch.equal(ends[0.0], ends[0.9])
    with pytest.raises(InputError, match=r"average must be in \[0, 1\)"):
        LoopConfig(average=1.0)
