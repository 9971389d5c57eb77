"""DUET as a stack: the contract of adapters, and walks with gates."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import contract
from sterna.actdistill.adapters import duet
from sterna.actdistill.adapters.duet import DuetBatch, DuetStack
from sterna.actdistill.stack import everything, gated, stack_of, static
from sterna.actdistill.walking import RoutedAgent, WalkSamples
from sterna.data.r2r import read_r2r
from sterna.errors import InputError
from sterna.models.agent import Agent
from sterna.recipes.policies import fitted
from sterna.recipes.reverie import TRAINING
from sterna.recipes.toyreverie import add_reverie
from sterna.recipes.world import World
from sterna.train.evaluate import predict
from sterna.train.imitation import ImitationConfig
from sterna.train.packed import buckets, packed_pass
from toy import TINY, tiny_model, toy_panoramas

CONFIG = replace(TINY, language_layers=3, cross_layers=3, dropout=0.0, feature_dropout=0.0)


@pytest.fixture(scope="module")
def made(toy_house: Path) -> tuple[DuetStack, DuetBatch, WalkSamples]:
    stack = stack_of(tiny_model(0, CONFIG).eval())
    assert isinstance(stack, DuetStack)
    samples = WalkSamples(toy_panoramas(toy_house))
    episodes = read_r2r(toy_house, "train")[:6]
    samples.add_paths(episodes, ImitationConfig())
    agent = Agent(stack.model, samples.panoramas)
    samples.add_walks(agent, episodes[:3], ImitationConfig(max_steps=4), seed=1)
    return stack, samples.batch([0, 7, 3, 2]), samples


def test_the_contract(made: tuple[DuetStack, DuetBatch, WalkSamples]) -> None:
    stack, batch, _ = made
    contract.check(stack, batch, outputs=_logits)


def test_known_walks_are_walked_again_without_their_policy(
    made: tuple[DuetStack, DuetBatch, WalkSamples],
) -> None:
    """Samples, expert's labels and all, are those that were recorded; the policy is not asked."""
    stack, _, samples = made
    asked = Agent(stack.model, samples.panoramas)
    asked.act = None  # type: ignore[assignment, method-assign]
    again = WalkSamples(samples.panoramas, samples.drawn)
    again.add_paths(samples.episodes[:6], ImitationConfig())
    again.add_walks(asked, samples.episodes[:3], ImitationConfig(max_steps=4), seed=2)
    assert again.ids == samples.ids and again.drawn == samples.drawn
    mine, theirs = (one.batch(range(9)).recorded for one in (again, samples))
    np.testing.assert_array_equal(mine.labels, theirs.labels)
    for name, value in vars(theirs.rows).items():
        np.testing.assert_array_equal(getattr(mine.rows, name), value, name)
    others = WalkSamples(samples.panoramas)
    agent = Agent(stack.model, samples.panoramas)
    others.add_walks(agent, samples.episodes[:3], ImitationConfig(max_steps=4), seed=2)
    assert others.drawn.keys() == samples.drawn.keys() and others.drawn != samples.drawn
    name, chosen = next(iter(samples.drawn.items()))
    for wrong in ([*chosen[:-1], 99], chosen[:-1]):
        odd = WalkSamples(samples.panoramas, {**samples.drawn, name: wrong})
        with pytest.raises(InputError, match=r"cannot be made here.*probe again"):
            odd.add_walks(asked, samples.episodes[:3], ImitationConfig(max_steps=4))


def _logits(features: object) -> list[Tensor]:
    ((_, output),) = features.parts  # type: ignore[attr-defined]
    return [output.fused, output.global_, output.local]


def test_all_gates_one_are_the_teacher_bit_for_bit(
    made: tuple[DuetStack, DuetBatch, WalkSamples],
) -> None:
    stack, batch, _ = made
    model, rows = stack.model, batch.recorded.rows
    with torch.no_grad():
        passed = gated(stack, stack.prepare(batch), everything(stack), skip=True)
        mine = _logits(stack.finish(passed.state))
        from sterna.models.agent import TextReader, look, to_navigate

        text = TextReader(model)(batch.recorded.episodes)
        panorama = look(model, batch.panoramas, batch.table, rows.node, rows.pose)
        (bucket,) = buckets(rows, panorama.embeds.shape[1], 1)
        order = torch.from_numpy(bucket.index)
        pool = torch.cat([panorama.embeds.flatten(0, 1), panorama.mean])
        features = torch.nn.functional.embedding_bag(
            bucket.source, pool, bucket.offsets, mode="sum", per_sample_weights=bucket.weight
        ).view(len(order), -1, model.config.hidden_size)
        theirs = model.navigate(
            text.rows(torch.from_numpy(bucket.rows.agent)),
            panorama.embeds[order],
            panorama.mask[order],
            node_features=features,
            **to_navigate(bucket.rows, torch.device("cpu")),
        )
        fast = packed_pass(model, batch.panoramas, batch.table, text, rows, [bucket])
    for a, b in zip(mine, [theirs.fused, theirs.global_, theirs.local], strict=True):
        assert torch.equal(a, b)
    torch.testing.assert_close(mine[0], fast.parts[0][1].fused, rtol=1e-4, atol=1e-4)


def test_learning_without_padding_is_learning_with_it(
    made: tuple[DuetStack, DuetBatch, WalkSamples], monkeypatch: pytest.MonkeyPatch
) -> None:
    stack, batch, _ = made
    found = []
    for padded in (False, True):
        if padded:
            monkeypatch.setattr(duet, "_unpadded", lambda run, x, mask: run(x)[0])
        stack.zero_grad()
        state = stack.prepare(batch)
        assert not state.word_mask.all() and not state.seen["node_mask"].all()
        passed = gated(stack, state, everything(stack), skip=False)
        loss = stack.loss(stack.finish(passed.state), batch)
        loss.backward()
        grads = {n: p.grad.clone() for n, p in stack.named_parameters() if p.grad is not None}
        found.append((loss.detach(), grads))
    (loss, grads), (loss_padded, grads_padded) = found
    torch.testing.assert_close(loss, loss_padded, rtol=1e-6, atol=0)
    torch.testing.assert_close(grads, grads_padded, rtol=1e-4, atol=1e-5)


def test_a_batch_has_the_rows_of_its_samples(
    made: tuple[DuetStack, DuetBatch, WalkSamples],
) -> None:
    stack, _, samples = made
    whole, alone = samples.batch([4, 1]), samples.batch([1])
    owners = stack.owners(whole, 1)
    assert owners is not None
    with torch.no_grad():
        both = stack.finish(gated(stack, stack.prepare(whole), everything(stack), skip=True).state)
        one = stack.finish(gated(stack, stack.prepare(alone), everything(stack), skip=True).state)
    mine = _logits(both)[0][owners == 1]
    found = _logits(one)[0]
    torch.testing.assert_close(mine[:, : found.shape[1]], found, rtol=1e-4, atol=1e-4)
    labels = [stack.truth(5, b, stack.prepare(b)) for b in (whole, alone)]
    assert torch.equal(labels[0][owners == 1], labels[1])


def test_an_open_agent_walks_as_its_teacher(
    made: tuple[DuetStack, DuetBatch, WalkSamples], toy_house: Path
) -> None:
    stack, _, samples = made
    episodes = read_r2r(toy_house, "val_seen")[:8]
    with torch.inference_mode():
        theirs = predict(
            Agent(stack.model, samples.panoramas), samples.panoramas, episodes, max_steps=6
        )
        agent = RoutedAgent(stack, samples.panoramas, everything(stack))
        mine = predict(agent, samples.panoramas, episodes, max_steps=6)
        keep = [0, 1, 3, 4, 7]
        closed = RoutedAgent(stack, samples.panoramas, static(stack, keep))
        short = predict(closed, samples.panoramas, episodes, max_steps=6)
        small = predict(
            Agent(stack.pruned(keep).model, samples.panoramas),
            samples.panoramas,
            episodes,
            max_steps=6,
        )
    assert mine == theirs and short == small
    np.testing.assert_array_equal(agent.open_, agent.asked)
    assert set(np.flatnonzero(closed.open_)) == set(keep)


def test_objects_are_named_and_learnt(toy_house: Path, tmp_path: Path) -> None:
    """REVERIE: the agent names the objects that its teacher names, and their loss is part of it."""
    shutil.copytree(toy_house, tmp_path / "world")
    world = World(add_reverie(tmp_path / "world"), TRAINING["toy-reverie-teacher"]().data)
    episodes = world.episodes("train")[:5]
    panoramas = world.panoramas(episodes)
    model = tiny_model(0, fitted(replace(CONFIG, max_steps=20), panoramas)).eval()
    stack = stack_of(model)
    assert isinstance(stack, DuetStack)
    with torch.inference_mode():
        theirs = predict(Agent(model, panoramas), panoramas, episodes, max_steps=4)
        agent = RoutedAgent(stack, panoramas, everything(stack))
        mine = predict(agent, panoramas, episodes, max_steps=4)
    assert mine == theirs and any(p.object_id is not None for p in mine)
    samples = WalkSamples(panoramas)
    samples.add_paths(episodes, ImitationConfig())
    batch = samples.batch([0, 3])
    passed = gated(stack, stack.prepare(batch), everything(stack), skip=False)
    losses = []
    for grounding in (0.0, 1.0):
        stack.grounding = grounding
        losses.append(float(stack.loss(stack.finish(passed.state), batch).detach()))
    assert losses[1] > losses[0]
