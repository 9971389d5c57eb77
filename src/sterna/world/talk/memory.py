"""Which past frames a navigator is shown: long-short memory (VLN-R1) and its rivals.

All choices are whole numbers of the step alone, so training, evaluation and every machine agree.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from sterna.errors import InputError
from sterna.world.geometry import Ints

Memory = Literal["long-short", "average", "decay", "recent"]
KINDS: tuple[str, ...] = get_args(Memory)


def history(step: int, kind: str = "long-short", budget: int = 16) -> Ints:
    """Return the past steps [k] shown at `step`: ascending, each once, below `step`, k <= budget.

    With a budget of 2 or more every kind but "recent" holds step 0, and every kind step - 1. As
    long as `budget` steps are past or fewer, all are shown.

    "long-short": the last budget / 2 steps, and before them every d-th back to step 0, with the
    least d that keeps the budget. The paper's formula (VLN-R1, section 3) leaves its rates open.
    "average": evenly over the whole past, as VLN-Ego's converter does.
    "decay": ages grow exponentially from 1 to `step`. "recent": the last ones.
    `InputError` for a negative step, a budget below 1 or an unknown kind.
    """
    if kind not in KINDS:
        raise InputError(f"memory: expected {', '.join(KINDS)}, found {kind!r}")
    if step < 0 or budget < 1:
        raise InputError(f"memory: step is 0 or more and budget 1 or more, not {step} and {budget}")
    if step <= budget:
        return np.arange(step)
    if kind == "recent":
        return np.arange(step - budget, step)
    if budget == 1:
        return np.array([0 if kind == "long-short" else step - 1])
    if kind == "average":
        return np.arange(budget) * (step - 1) // (budget - 1)
    return _long_short(step, budget) if kind == "long-short" else _decay(step, budget)


def _long_short(step: int, budget: int) -> Ints:
    short = budget // 2
    first = step - short  # of the dense steps
    apart = -(-first // (budget - short))
    sparse = np.arange(first - apart, -1, -apart)[::-1]
    kept = sparse if sparse[:1] == 0 else np.append(0, sparse)
    return np.concatenate([kept, np.arange(first, step)])


def _decay(step: int, budget: int) -> Ints:
    # Roots of whole numbers are never half of an odd number: rounding is safe on any machine.
    wished = np.floor(step ** (np.arange(budget) / (budget - 1)) + 0.5).astype(np.int64)
    # Young ages crowd at 1: each must be older than the one before.
    order = np.arange(budget)
    ages = np.maximum.accumulate(wished - order) + order
    return step - ages[::-1]
