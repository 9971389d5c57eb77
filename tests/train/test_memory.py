"""Remembered walks: which are recalled, what they carry, and that a state brings them back."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sterna.errors import InputError
from sterna.models.topomap import MapRows
from sterna.train.imitation import Recorded
from sterna.train.loop import LoopConfig, Trainer
from sterna.train.memory import Memory
from toy_run import toy_trainer


def equal(a: Recorded, b: Recorded) -> bool:
    rows = all(
        np.array_equal(getattr(a.rows, f.name), getattr(b.rows, f.name)) for f in fields(MapRows)
    )
    arrays = all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("labels", "weight", "row_share", "episode_share")
    )
    taught = a.taught is b.taught is None or torch.equal(a.taught, b.taught)  # type: ignore[arg-type]
    return rows and arrays and taught and a.episodes == b.episodes


def batches(trainer: Trainer, count: int) -> list[Recorded]:
    return [trainer._batch(iteration) for iteration in range(count)]


@pytest.mark.parametrize("distil", [False, True])
def test_every_third_walk_is_new(toy_house: Path, tmp_path: Path, *, distil: bool) -> None:
    """Three warm iterations; then one new walk and two remembered ones, in turn."""
    trainer = toy_trainer(toy_house, tmp_path, replay=2, distil=distil)
    trainer.task.eval()
    seen = batches(trainer, 24)
    fresh = seen[3::3]
    assert all(batch.taught is None for batch in seen[:3])
    assert len({id(batch) for batch in fresh}) == len(fresh) == 7
    assert all((batch.taught is not None) == distil for batch in fresh)
    for number, batch in enumerate(seen[4:6] + seen[7:9]):
        assert any(batch is earlier for earlier in fresh[: 1 + number // 2])
    window = {id(batch) for batch in fresh[-3:]}
    assert {id(batch) for batch in trainer.memory.batches} == window, "three are remembered"
    recalled = {id(trainer.memory.recall(draw)) for draw in (0.0, 0.4, 0.99)}
    assert recalled == window


@pytest.mark.parametrize("replay", [0, 1])
def test_batches_walked_ahead_are_those_walked_alone(
    toy_house: Path, tmp_path: Path, *, replay: int
) -> None:
    """With weights that stand still, walking three batches at once changes nothing."""
    alone = toy_trainer(toy_house, tmp_path / "a", replay=replay)
    ahead = toy_trainer(toy_house, tmp_path / "b", replay=replay, ahead=3)
    for trainer in (alone, ahead):
        trainer.task.eval()
    fresh = [i for i in range(16) if i < 3 or not (i - 3) % (replay + 1)]
    mine, theirs = batches(alone, 16), batches(ahead, 16)
    assert len(fresh) > 8 and all(equal(mine[i], theirs[i]) for i in fresh)
    assert [len(trainer.memory.batches) for trainer in (alone, ahead)] == [3 * replay, 3]


def test_what_the_teacher_said_is_what_it_would_say(toy_house: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(toy_house, tmp_path, replay=2, distil=True)
    trainer.task.eval()
    batch = batches(trainer, 4)[-1]
    assert batch.taught is not None
    bare = Recorded(**{**vars(batch), "taught": None})
    with torch.no_grad():
        said, asked = trainer.task(batch), trainer.task(bare)
    assert said.metrics == asked.metrics and torch.equal(said.loss, asked.loss)


def test_state_brings_them_back(toy_house: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(toy_house, tmp_path, replay=1, distil=True)
    batches(trainer, 12)
    known = {e.instr_id: e for batch in trainer.memory.batches for e in batch.episodes}
    state: list[dict[str, Any]] = trainer.memory.to_state()
    other = Memory(3)
    other.from_state(state, known)
    assert len(other.batches) == 3
    assert all(map(equal, trainer.memory.batches, other.batches))
    with pytest.raises(InputError, match="remembers episode"):
        other.from_state(state, {})


def test_bad_settings() -> None:
    for wrong in ({"replay": -1}, {"memory": 0}):
        with pytest.raises(InputError, match="replay must be"):
            LoopConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="ahead must be at most memory"):
        LoopConfig(ahead=4, memory=3)
