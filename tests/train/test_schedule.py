"""Batches and learning rates are functions of the iteration."""

from __future__ import annotations

from collections import Counter
from itertools import chain, pairwise

import numpy as np
import pytest

from sterna.errors import InputError
from sterna.train.schedule import Batches, OptimizerConfig, uniform_draws
from toy import episode_on, line_graph

GRAPH = line_graph(3)
EPISODES = [episode_on(GRAPH, [0, 1, 2], i) for i in range(23)]


def names(batches: Batches, index: int) -> list[str]:
    return [episode.instr_id for episode in batches[index]]


@pytest.mark.parametrize("window", [1, 3])
def test_every_epoch_covers_all(window: int) -> None:
    batches = Batches(EPISODES, 5, seed=1, window=window)
    assert batches.per_epoch == 4
    for epoch in range(6):
        seen = Counter(n for i in range(4) for n in names(batches, 4 * epoch + i))
        assert len(seen) == 20 and set(seen.values()) == {1}
    often = Counter(n for i in range(4 * 30) for n in names(batches, i))
    assert len(often) == 23, "the remainder differs from epoch to epoch"


def test_a_batch_depends_on_seed_stream_and_index_only() -> None:
    forward = Batches(EPISODES, 5, seed=1)
    wanted = [names(forward, i) for i in range(12)]
    backward = Batches(EPISODES, 5, seed=1)
    assert [names(backward, i) for i in reversed(range(12))] == wanted[::-1]
    for other in (Batches(EPISODES, 5, seed=2), Batches(EPISODES, 5, seed=1, stream=1)):
        assert [names(other, i) for i in range(12)] != wanted


def test_processes_share_a_batch() -> None:
    whole = Batches(EPISODES, 6, seed=3)
    parts = [Batches(EPISODES, 6, seed=3, part=p, parts=3) for p in range(3)]
    for i in range(5):
        shares = [names(part, i) for part in parts]
        assert [len(share) for share in shares] == [2, 2, 2]
        assert sorted(chain(*shares)) == sorted(names(whole, i))


def test_window_puts_similar_lengths_together() -> None:
    def spread(window: int) -> float:
        batches = Batches(EPISODES, 5, seed=1, window=window)
        lengths = [[len(e.token_ids or ()) for e in batches[i]] for i in range(40)]
        return float(np.mean([max(row) - min(row) for row in lengths]))

    assert spread(4) < 0.5 * spread(1)


def test_bad_sizes() -> None:
    with pytest.raises(InputError, match="needs at least 24 episodes, found 23"):
        Batches(EPISODES, 24, seed=0)
    with pytest.raises(InputError, match="does not divide among 4"):
        Batches(EPISODES, 6, seed=0, parts=4)


def test_draws() -> None:
    a, b = uniform_draws(0, 2, 7, (3, 4)), uniform_draws(0, 2, 7, (3, 4))
    assert np.array_equal(a, b) and a.shape == (3, 4) and (a >= 0).all() and (a < 1).all()
    for other in ((1, 2, 7), (0, 3, 7), (0, 2, 8)):
        assert not np.array_equal(a, uniform_draws(*other, (3, 4)))


def test_rates() -> None:
    constant = OptimizerConfig(learning_rate=2.0, warmup=4)
    assert [constant.rate(i, 100) for i in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    cosine = OptimizerConfig(learning_rate=2.0, warmup=10, schedule="cosine", final_rate=0.1)
    rates = [cosine.rate(i, 110) for i in range(111)]
    assert rates[:10] == pytest.approx(np.linspace(0.2, 2.0, 10))
    assert rates[10] == pytest.approx(2.0) and rates[60] == pytest.approx(1.1)
    assert rates[110] == pytest.approx(0.2)
    assert all(a >= b for a, b in pairwise(rates[10:]))


@pytest.mark.parametrize("change", [{"learning_rate": 0}, {"clip_norm": -1}, {"schedule": "step"}])
def test_bad_options(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match="optimizer:"):
        OptimizerConfig(**change)  # type: ignore[arg-type]


def test_linear_decay() -> None:
    """DUET's pre-training: linear warm-up, then a straight line to `final_rate`."""
    options = OptimizerConfig(learning_rate=2.0, warmup=4, schedule="linear", final_rate=0.0)
    rates = [options.rate(i, 14) for i in range(14)]
    assert rates[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert rates[4:] == pytest.approx([2.0 * (1 - i / 10) for i in range(10)])
    half = OptimizerConfig(learning_rate=2.0, schedule="linear", final_rate=0.5)
    assert half.rate(10, 10) == pytest.approx(1.0)
