"""Rewards of answers against double loops, and the traps of the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sterna.errors import InputError
from sterna.vlnr1.rewards import (
    UNREAD,
    RewardConfig,
    Shape,
    raw_rewards,
    rewards,
    stack_answers,
)
from sterna.world.frames import Action

SHAPES: tuple[Shape, ...] = ("decayed", "linear", "uniform", "hard")
EXPERT = np.array([1, 1, 2, 1, 3, 0])


def twin(answer: list[int], expert: list[int], shape: str, gamma: float) -> float:
    """One answer, position by position."""
    n, total = len(expert), 0.0
    if UNREAD in answer:
        return 0.0
    for k in range(n):
        if answer[k] == expert[k]:
            total += {"decayed": gamma**k, "linear": (n - k) / n, "uniform": 1.0, "hard": 1.0}[
                shape
            ]
    return float(total == n) if shape == "hard" else total


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [1, 4, 6, 8])
def test_equals_the_twin(shape: Shape, n: int) -> None:
    rng = np.random.default_rng(n)
    expert = rng.integers(0, 4, (5, n))
    answers = rng.integers(0, 4, (5, 8, n))
    answers[:, 0] = expert
    answers[:, 1] = UNREAD
    answers[2, 3, : n // 2 + 1] = expert[2, : n // 2 + 1]
    config = RewardConfig(shape=shape, gamma=0.8, format_weight=0.25)
    raw, found = raw_rewards(answers, expert, config), rewards(answers, expert, config)
    assert raw.shape == found.shape == (5, 8)
    for b in range(5):
        best = twin(expert[b].tolist(), expert[b].tolist(), shape, 0.8)
        for g in range(8):
            wanted = twin(answers[b, g].tolist(), expert[b].tolist(), shape, 0.8)
            assert raw[b, g] == pytest.approx(wanted, abs=1e-12)
            extra = 0.0 if UNREAD in answers[b, g] else 0.25
            assert found[b, g] == pytest.approx(wanted / best + extra, abs=1e-12)
    assert rewards(answers, expert, replace(config, normalise=False))[0, 0] == raw[0, 0] + 0.25


def test_trap_18_the_decayed_reward() -> None:
    """All right: the sum of gamma^k; one right: its power; wrong count or unknown text: 0."""
    config = RewardConfig(normalise=False)
    others = (EXPERT + 1) % 4
    first, last = others.copy(), others.copy()
    first[0], last[-1] = EXPERT[0], EXPERT[-1]
    unread = stack_answers([None], 6)[0]
    found = rewards(np.stack([EXPERT, first, last, others, unread]), EXPERT, config)
    assert found[0] == pytest.approx((1 - 0.9**6) / 0.1, abs=1e-12)
    assert found[1:].tolist() == [1.0, pytest.approx(0.9**5), 0.0, 0.0]
    full = rewards(np.stack([EXPERT, unread]), EXPERT, RewardConfig())
    assert full.tolist() == [1.0, 0.0]


def test_an_unread_answer_is_worth_nothing_even_where_stop_is_right() -> None:
    """No default action stands in for an answer that says nothing."""
    stop = np.full(6, int(Action.STOP))
    for shape in SHAPES:
        assert rewards(stack_answers([None], 6), stop, RewardConfig(shape=shape)).tolist() == [0.0]


def test_a_wrong_number_of_actions_is_refused() -> None:
    with pytest.raises(InputError, match="4 actions beside an expert's 6"):
        rewards(np.zeros((2, 4), np.int64), EXPERT, RewardConfig())
    with pytest.raises(ValueError, match="could not broadcast"):
        stack_answers([np.zeros(5, np.int64)], 6)


@pytest.mark.parametrize(
    ("change", "word"),
    [({"shape": "cubic"}, "shape"), ({"gamma": 0.0}, "gamma"), ({"format_weight": -1.0}, "format")],
)
def test_impossible_settings_are_refused(change: dict[str, object], word: str) -> None:
    with pytest.raises(InputError, match=word):
        RewardConfig(**change)  # type: ignore[arg-type]
