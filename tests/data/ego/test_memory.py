"""Memory: every kind at every step of a long walk; the formula of long-short memory."""

from __future__ import annotations

import numpy as np
import pytest

from sterna.data.ego import KINDS, history
from sterna.errors import InputError


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("budget", [1, 2, 7, 8, 16])
def test_of_every_step(kind: str, budget: int) -> None:
    """Trap 20: ascending, each once, 0 and t - 1 among them, within the budget, the same again."""
    for step in range(201):
        found = history(step, kind, budget)
        assert found.dtype == np.int64
        assert len(found) == min(step, budget) or (kind == "long-short" and len(found) < budget)
        assert (np.diff(found) > 0).all()
        assert not len(found) or (found[0] >= 0 and found[-1] < step)
        if step and budget > 1:
            assert found[-1] == step - 1
            assert kind == "recent" or found[0] == 0
        if step <= budget:
            assert found.tolist() == list(range(step))
        assert (found == history(step, kind, budget)).all()


@pytest.mark.parametrize("step", range(17, 201, 9))
def test_long_short_is_the_formula(step: int) -> None:
    # H = {t-1, ..., t-M} and {t-M-d2, t-M-2 d2, ..., 0}, M 8 d2 = ceil((t-M) / 8).
    apart = -(-(step - 8) // 8)
    dense = set(range(step - 8, step))
    sparse = {0, *range(step - 8 - apart, -1, -apart)}
    assert set(history(step).tolist()) == dense | sparse


@pytest.mark.parametrize("step", range(1, 201, 7))
def test_average_is_that_of_vln_ego(step: int) -> None:
    # Rounded down after adding a hair: NumPy's floats may fall a hair short of a whole number.
    even = np.floor(np.linspace(0, step - 1, min(step, 16)) + 1e-9)
    assert history(step, "average").tolist() == even.tolist()


def test_decay_gets_sparser_with_age() -> None:
    for step in (40, 90, 200):
        gaps = np.diff(step - history(step, "decay")[::-1])
        assert (np.diff(gaps) >= -1).all() and gaps[-1] > 4 * gaps[0]


def test_bad_input() -> None:
    with pytest.raises(InputError, match="long-short, average"):
        history(3, "latest")
    with pytest.raises(InputError, match="not -1 and 16"):
        history(-1)
    with pytest.raises(InputError, match="not 3 and 0"):
        history(3, budget=0)
