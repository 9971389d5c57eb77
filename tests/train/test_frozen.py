"""Frozen language layers: read once, never trained, the same bits in any order."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.models.agent import TextReader, token_batch
from sterna.train.imitation import ImitationConfig, ImitationTask
from sterna.train.optimizer import make_optimizer
from sterna.train.schedule import OptimizerConfig, uniform_draws
from toy import TINY, tiny_model

SIZES = replace(TINY, language_layers=3)


@pytest.fixture
def task(panoramas: Panoramas) -> ImitationTask:
    config = ImitationConfig(frozen_language_layers=2)
    return ImitationTask(tiny_model(0, SIZES), panoramas, config).train()


def learn(task: ImitationTask, episodes: list[Episode], iterations: int = 4) -> None:
    optimizer = make_optimizer(task, OptimizerConfig(learning_rate=1e-2, weight_decay=0.1))
    for i in range(iterations):
        draws = uniform_draws(0, 2, i, (15, 4))
        batch = task.collect(episodes[i : i + 40 : 10], episodes[100 : 140 + i : 10][:4], draws)
        optimizer.zero_grad()
        task(batch).loss.backward()
        optimizer.step()


def test_frozen_weights_stay(task: ImitationTask, episodes: list[Episode]) -> None:
    before = {k: v.clone() for k, v in task.policy.state_dict().items()}
    learn(task, episodes)
    frozen = ("embeddings.", "lang_encoder.layer.0.", "lang_encoder.layer.1.")
    for name, value in task.policy.state_dict().items():
        if name.startswith(frozen):
            assert torch.equal(value, before[name]), name
    moved = "lang_encoder.layer.2.output.dense.weight"
    assert not torch.equal(task.policy.state_dict()[moved], before[moved])


def test_training_and_evaluation_read_the_same(
    task: ImitationTask, episodes: list[Episode]
) -> None:
    """What was kept before training still is what the policy reads after it."""
    some = episodes[:40:10]
    learn(task, episodes)
    task.eval()
    ids, mask = token_batch(some)
    with torch.no_grad():
        wanted, found = task.policy.encode_text(ids, mask), task._reader(some)
    where = mask[..., None]
    torch.testing.assert_close(found.embeds * where, wanted.embeds * where, atol=1e-5, rtol=0)
    for (key, value), (k, v) in zip(found.local, wanted.local, strict=True):
        keep = mask[:, None, :, None]
        torch.testing.assert_close(key * keep, k * keep, atol=1e-5, rtol=0)
        torch.testing.assert_close(value * keep, v * keep, atol=1e-5, rtol=0)


def test_kept_bits_do_not_depend_on_the_company(episodes: list[Episode]) -> None:
    """Else a resumed run, which reads again in another order, would differ in the last bit."""
    sizes = replace(TINY, hidden_size=192, heads=12, ffn_size=768, language_layers=4)
    model = tiny_model(0, sizes, 1.0)
    together, alone = TextReader(model, 4), TextReader(model, 4)
    some = sorted(episodes[:60], key=lambda e: len(e.token_ids or ()))[::4]
    together(some)
    for episode in reversed(some):
        alone([episode])
    assert all(torch.equal(together._kept[e.instr_id], alone._kept[e.instr_id]) for e in some)


def test_reader_restores_the_mode_and_checks_the_count(episodes: list[Episode]) -> None:
    model = tiny_model(0, SIZES).train()
    TextReader(model, 2)(episodes[:3])
    assert model.training
    with pytest.raises(InputError, match="frozen language layers: 0 to 3, found 4"):
        TextReader(model, 4)
