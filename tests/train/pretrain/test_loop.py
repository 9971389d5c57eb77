"""The optimiser of pre-training: what decays, what does not; settings that do not belong here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.train.loop import LoopConfig
from sterna.train.optimizer import make_optimizer
from sterna.train.pretrain.loop import PretrainRunner
from sterna.train.schedule import OptimizerConfig
from toy_pretrain import pretrain_model, pretrain_task


def test_biases_and_norms_do_not_decay(panoramas: Panoramas) -> None:
    """With gradients of zero AdamW does nothing but decay; language goes at its own rate."""
    task = pretrain_task(panoramas, pretrain_model())
    before = {name: value.detach().clone() for name, value in task.named_parameters()}
    options = OptimizerConfig(
        learning_rate=0.1, language_rate=0.5, weight_decay=0.5, decay_vectors=False, epsilon=1e-6
    )
    optimizer = make_optimizer(task, options)
    for group in optimizer.param_groups:
        assert group["eps"] == 1e-6
        group["lr"] = 0.1 * group["factor"]
    for parameter in task.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, value in task.named_parameters():
        language = ".policy.embeddings." in name or ".policy.lang_encoder." in name
        kept = 1.0 if value.ndim < 2 else 1.0 - 0.5 * (0.05 if language else 0.1)
        torch.testing.assert_close(value.detach(), kept * before[name])
    assert len(make_optimizer(task, OptimizerConfig()).param_groups) == 2


@pytest.mark.parametrize("name", ["demonstrations", "warm_start", "replay", "memory", "pieces"])
def test_settings_of_imitation_are_refused(
    panoramas: Panoramas, episodes: list[Episode], tmp_path: Path, name: str
) -> None:
    """They would have no effect here."""
    task: nn.Module = pretrain_task(panoramas, pretrain_model())
    loop = replace(LoopConfig(iterations=1), **{name: 2})
    with pytest.raises(InputError, match=rf"loop\.{name} belongs to imitation"):
        PretrainRunner(task, episodes, tmp_path, loop, OptimizerConfig())  # type: ignore[arg-type]
