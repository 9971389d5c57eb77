"""Width maps by least squares: no other map fits better, and the same seed gives the same maps."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.minivln.maps import fit_maps, viewpoints
from sterna.minivln.stage2 import DistillConfig, DistillTask
from sterna.models.agent import look, token_batch
from sterna.train.imitation import ImitationConfig
from toy import TINY, tiny_model

CALM = replace(TINY, dropout=0.0, feature_dropout=0.0)
WIDE = replace(TINY, hidden_size=36, heads=6, language_layers=2)


def fitted(panoramas: Panoramas, episodes: list[Episode], teacher=WIDE) -> DistillTask:
    torch.manual_seed(7)
    student, model = tiny_model(0, CALM), tiny_model(1, teacher)
    task = DistillTask(student, model, panoramas, ImitationConfig(), DistillConfig(fit_maps=True))
    fit_maps(task, episodes, seed=3, size=len(episodes))
    return task


def words(task: DistillTask, episodes: list[Episode]) -> tuple[Tensor, Tensor]:
    ids, mask = token_batch(episodes)
    with torch.no_grad():
        return task.policy.encode_text(ids, mask).embeds[mask], task.read(episodes)[mask]


def test_no_step_from_the_fitted_map_lowers_the_error(
    panoramas: Panoramas, episodes: list[Episode]
) -> None:
    task = fitted(panoramas, episodes)
    task.eval()
    mine, theirs = words(task, episodes)
    error = (task.text_map(mine) - theirs).square().mean()
    (slope,) = torch.autograd.grad(error, task.text_map.weight)
    assert slope.abs().max() < 1e-4 * theirs.square().mean()  # the ridge leaves that much
    assert error < 0.9 * theirs.square().mean()


def test_the_panorama_map_fits_places_that_were_not_drawn(
    panoramas: Panoramas, episodes: list[Episode]
) -> None:
    task = fitted(panoramas, episodes)
    nodes = viewpoints(task, episodes)
    poses = nodes * 0 + 5
    task.eval()
    with torch.no_grad():
        mine = look(task.policy, task.panoramas, task.table, nodes, poses).mean
        theirs = task.remember(nodes, poses)
        left = (task.panorama_map(mine) - theirs).square().mean() / theirs.square().mean()
    assert left < 0.5


def test_same_seed_same_maps_and_nothing_else_moves(
    panoramas: Panoramas, episodes: list[Episode]
) -> None:
    one, two = (fitted(panoramas, episodes) for _ in range(2))
    assert torch.equal(one.text_map.weight, two.text_map.weight)
    assert torch.equal(one.panorama_map.weight, two.panorama_map.weight)
    fresh = tiny_model(0, CALM).state_dict()
    assert all(torch.equal(v, fresh[k]) for k, v in one.policy.state_dict().items())
    assert one.training
