"""The distillation task: teacher beside student on the student's own trajectory."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.minivln.stage2 import DistillConfig, DistillTask
from sterna.models.agent import token_batch
from sterna.models.duet import DUET
from sterna.train.imitation import ImitationConfig, ImitationTask, Recorded
from sterna.train.packed import buckets, packed_pass
from sterna.train.schedule import uniform_draws
from toy import TINY, tiny_model

CALM = replace(TINY, dropout=0.0, feature_dropout=0.0)
WIDE = replace(TINY, hidden_size=36, heads=6, language_layers=2, cross_layers=2)
IMITATION = ImitationConfig(ml_weight=0.2)


def make_task(
    panoramas: Panoramas, student: DUET, teacher: DUET, distill: DistillConfig | None = None
) -> DistillTask:
    torch.manual_seed(7)
    return DistillTask(student, teacher, panoramas, IMITATION, distill or DistillConfig())


def collect(task: ImitationTask, episodes: list[Episode], iteration: int = 0) -> Recorded:
    draws = uniform_draws(0, 2, iteration, (15, 5))
    return task.collect(episodes[:100:20], episodes[200:300:20], draws)


def entropy_of(task: ImitationTask, batch: Recorded) -> float:
    """Mean entropy of the decisions, weighted as the fuse term is."""
    output, _, _ = task.run(batch)
    total = 0.0
    for index, fused in output.fused():
        for row, logits in zip(index, fused.detach().double().numpy(), strict=True):
            odds = np.exp(logits - logits.max())
            p = odds[odds > 0] / odds.sum()
            total -= batch.row_share[row] * float((p * np.log(p)).sum())
    return total


def test_equal_models_have_nothing_to_learn(panoramas: Panoramas, episodes: list[Episode]) -> None:
    """Trap 13: identity maps, same weights: terms 0, and L_fuse is the teacher's entropy."""
    student = tiny_model(0, CALM)
    task = make_task(panoramas, student, copy.deepcopy(student))
    assert torch.equal(task.text_map.weight, torch.eye(24))
    batch = collect(task, episodes)
    metrics = task(batch).metrics
    assert metrics["text"] == pytest.approx(0, abs=1e-10)
    assert metrics["panorama"] == pytest.approx(0, abs=1e-10)
    assert metrics["fuse"] == pytest.approx(entropy_of(task, batch), rel=1e-6)


def teacher_alone(
    task: DistillTask, batch: Recorded, panoramas: Panoramas
) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Fused logits, panorama means, text of the teacher without caches or student."""
    with torch.no_grad():
        ids, mask = token_batch(batch.episodes)
        text = task.teacher.encode_text(ids, mask)
        groups = list(buckets(batch.rows, int(panoramas.lengths[batch.rows.node].max()), 3))
        table = torch.from_numpy(panoramas.features)
        output = packed_pass(task.teacher, panoramas, table, text, batch.rows, groups)
    return (
        [fused for _, fused in output.fused()],
        output.panorama_mean,
        text.embeds * mask[..., None],
    )


def test_teacher_sees_the_same_nodes_and_the_caches_change_nothing(
    panoramas: Panoramas, episodes: list[Episode]
) -> None:
    """Trap 17, first half. Twice: the second time everything comes from the cache."""
    task = make_task(panoramas, tiny_model(0), tiny_model(1, WIDE)).train()
    for iteration in (0, 1, 0):
        batch = collect(task, episodes, iteration)
        output, _, groups = task.run(batch)
        taught, text = task.explain(batch, groups)
        logits, means, embeds = teacher_alone(task, batch, panoramas)
        torch.testing.assert_close(taught.panorama_mean, means, atol=1e-5, rtol=0)
        torch.testing.assert_close(text.embeds * text.mask[..., None], embeds, atol=1e-5, rtol=0)
        for (mine, student), (theirs, teacher), wanted in zip(
            output.parts, taught.parts, logits, strict=True
        ):
            assert mine is theirs, "the same rows: nodes, poses, maps"
            assert torch.equal(student.fused.isinf(), teacher.fused.isinf())
            torch.testing.assert_close(teacher.fused, wanted, atol=2e-5, rtol=0)
        assert not taught.panorama_mean.requires_grad and not text.embeds.requires_grad


def test_teacher_is_frozen_and_not_saved(panoramas: Panoramas, episodes: list[Episode]) -> None:
    """Trap 17, second half: eval mode after task.train(), no gradient, not in the state dict."""
    task = make_task(panoramas, tiny_model(0), tiny_model(1, WIDE)).train()
    assert task.policy.training and not any(m.training for m in task.teacher.modules())
    before = {k: v.clone() for k, v in task.teacher.state_dict().items()}
    task(collect(task, episodes)).loss.backward()
    assert all(p.grad is None and not p.requires_grad for p in task.teacher.parameters())
    assert all(torch.equal(v, before[k]) for k, v in task.teacher.state_dict().items())
    extra = {k for k in task.state_dict() if not k.startswith("policy.")}
    assert extra == {"text_map.weight", "panorama_map.weight"}
    assert not {id(p) for p in task.parameters()} & {id(p) for p in task.teacher.parameters()}
    for linear in (task.text_map, task.panorama_map):
        assert linear.weight.grad is not None and linear.weight.grad.abs().sum() > 0


def test_teacher_stays_as_it_is(panoramas: Panoramas, episodes: list[Episode]) -> None:
    """Trap 17 again: the same bytes after 100 steps, through cold and warm caches."""
    task = make_task(panoramas, tiny_model(0), tiny_model(1, WIDE)).train()

    def digest() -> str:
        parts = (*task.teacher.parameters(), *task.teacher.buffers())
        return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in parts)).hexdigest()

    before = digest()
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-3, fused=True)
    batches = [task.collect([e], [], np.zeros((15, 1))) for e in episodes[:60:6]]
    for number in range(100):
        optimizer.zero_grad()
        task(batches[number % len(batches)]).loss.backward()
        optimizer.step()
    assert digest() == before
    assert not any(m.training for m in task.teacher.modules())
    assert all(p.grad is None and not p.requires_grad for p in task.teacher.parameters())


def test_teacher_has_no_dropout(panoramas: Panoramas, episodes: list[Episode]) -> None:
    task = make_task(panoramas, tiny_model(0), tiny_model(1, WIDE)).train()
    batch = collect(task, episodes)
    groups = list(buckets(batch.rows, int(panoramas.lengths[batch.rows.node].max()), 3))
    (a, _), (b, _) = task.explain(batch, groups), task.explain(batch, groups)
    for (_, x), (_, y) in zip(a.parts, b.parts, strict=True):
        assert torch.equal(x.fused, y.fused)


def step(task: ImitationTask, episodes: list[Episode]) -> tuple[float, dict[str, torch.Tensor]]:
    task.train()
    batch = collect(task, episodes)
    torch.manual_seed(11)
    loss = task(batch).loss
    loss.backward()
    grads = {k: p.grad for k, p in task.policy.named_parameters() if p.grad is not None}
    return loss.item(), grads


def test_weight_zero_is_plain_imitation(panoramas: Panoramas, episodes: list[Episode]) -> None:
    """Dropout on, bit for bit."""
    distilled = make_task(panoramas, tiny_model(0), tiny_model(1, WIDE), DistillConfig(weight=0))
    plain = ImitationTask(tiny_model(0), panoramas, IMITATION)
    (loss, grads), (wanted, wanted_grads) = step(distilled, episodes), step(plain, episodes)
    assert loss == wanted and grads.keys() == wanted_grads.keys()
    assert all(torch.equal(grads[k], wanted_grads[k]) for k in grads)


@pytest.mark.parametrize("off", ["text", "panorama", "fuse"])
def test_terms_can_be_switched_off(panoramas: Panoramas, episodes: list[Episode], off: str) -> None:
    teacher = tiny_model(1, replace(WIDE, dropout=0.0))
    full = make_task(panoramas, tiny_model(0, CALM), teacher)
    part = make_task(panoramas, tiny_model(0, CALM), teacher, DistillConfig(**{off: False}))
    batch = collect(full, episodes)
    with torch.no_grad():
        a, b = full(batch), part(batch)
    assert off in a.metrics and off not in b.metrics
    rest = sum(a.metrics[k] for k in ("text", "panorama", "fuse") if k != off)
    assert b.loss.item() == pytest.approx(a.metrics["action"] + 0.1 * rest, rel=1e-5)
    assert a.loss.item() == pytest.approx(b.loss.item() + 0.1 * a.metrics[off], rel=1e-5)


def test_terms_by_hand(panoramas: Panoramas, episodes: list[Episode]) -> None:
    """Text once an episode over its words, panorama over decisions, weighted by roll-out."""
    task = make_task(panoramas, tiny_model(0, CALM), tiny_model(1, WIDE))
    batch = collect(task, episodes)
    with torch.no_grad():
        metrics = task(batch).metrics
        output, text, groups = task.run(batch)
        taught, read = task.explain(batch, groups)
        words = panorama = 0.0
        for b, share in enumerate(batch.episode_share):
            count = len(batch.episodes[b].token_ids or ())
            error = task.text_map(text.embeds[b, :count]) - read.embeds[b, :count]
            words += float(share * error.square().mean())
        error = (task.panorama_map(output.panorama_mean) - taught.panorama_mean).square().mean(1)
        for row, share in enumerate(batch.row_share):
            panorama += float(share * error[row])
    assert metrics["text"] == pytest.approx(words, rel=1e-6)
    assert metrics["panorama"] == pytest.approx(panorama, rel=1e-6)


def test_one_student_learns_from_another_world_of_features(
    panoramas: Panoramas, episodes: list[Episode]
) -> None:
    """The teacher may read other features of the same scans."""
    other = copy.copy(panoramas)
    other.features = np.concatenate([panoramas.features, panoramas.features[:, :8]], 1)
    teacher = tiny_model(1, replace(WIDE, feature_size=40))
    task = DistillTask(
        tiny_model(0), teacher, panoramas, IMITATION, DistillConfig(), teacher_panoramas=other
    )
    assert torch.isfinite(task(collect(task, episodes)).loss)
