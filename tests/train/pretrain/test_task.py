"""The tasks: seeds, mix, what is hidden, learnability, weights in and out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.models.duet import DUET
from sterna.models.pretraining import (
    TASKS,
    PretrainModel,
    TaskName,
    load_heads,
    pretraining_state,
)
from sterna.models.weights import fit_weights
from sterna.train.pretrain.batch import PretrainBatch, lay_batch
from sterna.train.pretrain.ends import IGNORED, draw_end
from sterna.train.pretrain.task import PretrainConfig, PretrainTask, TaskMix
from toy import TINY, tiny_model
from toy_pretrain import (
    CALM,
    CLASSES,
    MASKING,
    OBJECT_CLASSES,
    OBJECT_WIDTH,
    pretrain_model,
    pretrain_task,
    with_goals,
)

SIGHTED = replace(CALM, object_size=OBJECT_WIDTH)


@pytest.fixture(scope="module")
def task(panoramas: Panoramas) -> PretrainTask:
    return pretrain_task(panoramas, pretrain_model(0, SIGHTED))


def arrays(batch: PretrainBatch) -> list[np.ndarray]:
    rows = vars(batch.walks.rows).values()
    values = [*vars(batch).values(), *vars(batch.walks).values(), *rows, *(batch.actions or ())]
    return [v for v in values if isinstance(v, np.ndarray)]


@pytest.mark.parametrize("name", TASKS)
def test_a_batch_is_a_function_of_seed_and_iteration(
    task: PretrainTask, panoramas: Panoramas, episodes: list[Episode], name: TaskName
) -> None:
    chosen = with_goals(panoramas, episodes)[:64:4]
    np.random.seed(1)
    torch.manual_seed(1)
    first = arrays(task.draw(chosen, 0, 7, task=name))
    np.random.seed(2)
    torch.manual_seed(2)
    again = arrays(task.draw(chosen, 0, 7, task=name))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    if name != "og":  # og has goals alone to choose from
        for other in (task.draw(chosen, 0, 8, task=name), task.draw(chosen, 1, 7, task=name)):
            pairs = zip(first, arrays(other), strict=True)
            assert not all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", TASKS)
def test_processes_draw_their_share_of_one_batch(
    task: PretrainTask, panoramas: Panoramas, episodes: list[Episode], name: TaskName
) -> None:
    """The losses of three shares are those of the whole batch."""
    chosen = with_goals(panoramas, episodes)[:70:7]
    task.eval()
    with torch.no_grad():
        batches = [task.draw(chosen, 0, 5, task=name)]
        batches += [task.draw(chosen, 0, 5, task=name, share=(part, 3)) for part in range(3)]
        whole, *parts = [task.losses(b, task.model(name, task.inputs(b)))[0] for b in batches]
    assert sum(map(len, parts)) == len(whole) > 0
    torch.testing.assert_close(sum(part.sum() for part in parts), whole.sum())


def test_mix() -> None:
    """Shares are relative; the task of an iteration depends on nothing else."""
    mix = TaskMix(mlm=1.0, sap=3.0)
    drawn = [mix.task(0, i) for i in range(4000)]
    share = Counter(drawn)
    assert set(share) == {"mlm", "sap"}
    assert share["sap"] / 4000 == pytest.approx(0.75, abs=0.03)
    doubled = TaskMix(mlm=2.0, sap=6.0)
    assert [doubled.task(0, i) for i in range(100)] == drawn[:100]
    assert [mix.task(1, i) for i in range(100)] != drawn[:100]
    assert TaskMix(mlm=0.0, sap=0.0, og=0.1).task(0, 0) == "og"
    with pytest.raises(InputError, match="one of them positive"):
        TaskMix(mlm=0.0, sap=0.0)
    with pytest.raises(InputError, match="0 or more"):
        TaskMix(og=-1.0)


def test_only_the_end_is_hidden(
    task: PretrainTask, panoramas: Panoramas, episodes: list[Episode]
) -> None:
    """mrc zeroes features of the last panorama's hidden tokens and nothing else."""
    batch = task.draw(with_goals(panoramas, episodes)[:6], 0, 3, task="mrc")
    assert batch.hidden_views is not None and batch.hidden_objects is not None
    shown, plain = task.inputs(batch), task.inputs(replace(batch, hidden_views=None))
    zero = (shown.features == 0).all(-1) & (plain.features != 0).any(-1)
    wanted = torch.zeros_like(zero)
    for row, hidden in zip(batch.walks.last, batch.hidden_views, strict=True):
        wanted[row, : len(hidden)] = torch.from_numpy(hidden)
    assert torch.equal(zero, wanted)
    assert torch.equal(shown.features[~zero], plain.features[~zero])
    assert shown.objects is not None
    objects = (shown.objects != 0).any(-1)[shown.last]
    there = torch.from_numpy(task.objects.counts(batch.walks.rows.node))  # type: ignore[union-attr]
    assert torch.equal(objects.sum(1), there - torch.from_numpy(batch.hidden_objects).sum(1))


@pytest.mark.parametrize("name", TASKS)
def test_company_does_not_matter(
    task: PretrainTask, panoramas: Panoramas, episodes: list[Episode], name: TaskName
) -> None:
    """Trap 5: losses of walks alone equal those in a padded batch."""
    chosen = with_goals(panoramas, episodes)[:40:9]
    rng = np.random.default_rng(5)
    ends = [draw_end(panoramas.atlas, e, name, rng, task.config.ends) for e in chosen]

    def losses(which: list[int]) -> torch.Tensor:
        batch = lay_batch(
            name,
            [chosen[i] for i in which],
            [ends[i] for i in which],
            panoramas,
            task.objects,
            "goals",
        )
        if name == "mlm":
            labels = np.where(np.arange(batch.ids.shape[1]) == 2, batch.ids, -1)
            batch = replace(batch, word_labels=labels)
        if name == "mrc":
            batch = replace(batch, hidden_views=np.eye(1, 4, 2, dtype=bool).repeat(len(which), 0))
        with torch.no_grad():
            return task.losses(batch, task.model(name, task.inputs(batch)))[0]

    together = losses(list(range(len(chosen))))
    alone = torch.cat([losses([i]) for i in range(len(chosen))])
    torch.testing.assert_close(together, alone, rtol=2e-5, atol=2e-6)
    assert together.std() > 0


def test_an_object_out_of_sight_is_not_asked_for(
    task: PretrainTask, panoramas: Panoramas, episodes: list[Episode]
) -> None:
    chosen = with_goals(panoramas, episodes)[:60:3]
    batch = task.draw(chosen, 0, 2, task="og")
    assert batch.object_labels is not None
    unseen = batch.object_labels == IGNORED
    assert 0 < unseen.sum() < len(chosen)
    losses, _ = task.losses(batch, task.model("og", task.inputs(batch)))
    assert (losses.detach().numpy()[unseen] == 0).all()
    task.zero_grad()
    losses.mean().backward()
    grads = [p.grad for p in task.parameters() if p.grad is not None]
    assert grads and all(torch.isfinite(g).all() for g in grads)
    task.zero_grad()


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_learnt(
    panoramas: Panoramas, episodes: list[Episode], name: TaskName
) -> None:
    task = pretrain_task(panoramas, pretrain_model(0, SIGHTED)).train()
    batch = task.draw(with_goals(panoramas, episodes)[:24:3], 0, 0, task=name)
    optimizer = torch.optim.AdamW(task.parameters(), lr=5e-3)
    first = float(task(batch).loss.detach())
    for _ in range(25):
        optimizer.zero_grad()
        loss = task(batch).loss
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.7 * first


def test_only_what_a_task_runs_is_moved(
    task: PretrainTask, panoramas: Panoramas, episodes: list[Episode]
) -> None:
    """mlm goes through the text branches and moves no visual one; sap the other way round."""
    moved: dict[str, set[str]] = {}
    for name in ("mlm", "sap"):
        task.zero_grad()
        task(task.draw(episodes[:4], 0, 0, task=name)).loss.backward()
        moved[name] = {k for k, p in task.named_parameters() if p.grad is not None}
    task.zero_grad()
    assert any("lang_self_att" in k for k in moved["mlm"])
    assert not any("visn_self_att" in k or "sap_head" in k for k in moved["mlm"])
    assert any("visn_self_att" in k for k in moved["sap"])
    assert not any("lang_self_att" in k or "mlm_head" in k for k in moved["sap"])


def test_published_names_come_and_go() -> None:
    """`bert.` before the trunk, heads beside it, the decoder tied; all of it loads again."""
    model = pretrain_model(3, SIGHTED)
    state = pretraining_state(model)
    word, decoder = "bert.embeddings.word_embeddings.weight", "mlm_head.predictions.decoder.weight"
    assert torch.equal(state[word], state[decoder])
    assert "global_sap_head.net.0.weight" in state and "og_head.net.3.bias" in state
    assert state["image_classifier.net.3.weight"].shape == (CLASSES, 24)
    assert state["obj_classifier.net.3.weight"].shape == (OBJECT_CLASSES, 24)
    config, weights, report = fit_weights(state, "made here", kind="pretraining", heads=4)
    other = PretrainModel(DUET(config), image_classes=CLASSES, object_classes=OBJECT_CLASSES)
    other.policy.load_state_dict(weights)
    load_heads(other, report.heads, "made here")
    again = pretraining_state(other)
    assert set(again) == set(state) and all(torch.equal(again[k], state[k]) for k in state)
    heads: dict[str, Any] = dict(report.heads)
    with pytest.raises(InputError, match="decoder differs from its word table"):
        load_heads(other, heads | {decoder: heads[decoder] + 1}, "made here")
    del heads["mlm_head.predictions.bias"]
    with pytest.raises(InputError, match="1 missing"):
        load_heads(other, heads, "made here")


def test_what_a_task_misses(panoramas: Panoramas) -> None:
    with pytest.raises(InputError, match="no text branches"):
        PretrainModel(tiny_model(0, TINY))
    plain = PretrainModel(tiny_model(0, CALM))
    with pytest.raises(InputError, match="mrc: needs stored class logits"):
        PretrainTask(plain, panoramas, PretrainConfig(mix=TaskMix(mrc=1.0), masking=MASKING))
    with pytest.raises(InputError, match="og: the model sees no objects"):
        PretrainTask(plain, panoramas, PretrainConfig(mix=TaskMix(og=1.0), masking=MASKING))
    with pytest.raises(InputError, match="knows 64 word pieces, masking uses 103 and 1996"):
        PretrainTask(plain, panoramas, PretrainConfig())
    with pytest.raises(InputError, match="objects of width 6, found None"):
        PretrainTask(pretrain_model(0, SIGHTED), panoramas, PretrainConfig())
