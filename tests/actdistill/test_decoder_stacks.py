"""Decoders of transformers as stacks: the contract, and answers with and without a cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import contract
import toy_navigator
from sterna.actdistill.adapters.llama_vla import LlamaVlaStack
from sterna.actdistill.adapters.navigator import (
    NavigatorBatch,
    NavigatorStack,
    answer,
    hooked,
    previous_actions,
)
from sterna.actdistill.adapters.pi0 import Pi0Stack
from sterna.actdistill.losses import IGNORED
from sterna.actdistill.stack import (
    Decide,
    RouterInput,
    Stack,
    act,
    everything,
    gated,
    stack_of,
    static,
)
from sterna.errors import InputError
from sterna.models.navigator.folder import open_published
from sterna.models.navigator.generation import sample
from sterna.models.navigator.vlm import Batch
from sterna.world.talk.prompts import Wording
from toy_llama_vla import pi0, pi0_batch, vla, vla_batch


def _tokens(features: object) -> list[Tensor]:
    found = features.x if hasattr(features, "x") else features.velocity  # type: ignore[attr-defined]
    return [found]


@pytest.mark.parametrize("head", ["token", "last", "diffusion"])
def test_vla(head: str) -> None:
    model, batch = vla(head), vla_batch()
    stack = stack_of(model)
    assert isinstance(stack, LlamaVlaStack)
    contract.check(stack, batch, _tokens)
    with torch.no_grad():
        passed = gated(stack, stack.prepare(batch), everything(stack), skip=True)
        whole = model.read(*model.embed(batch, answered=True))
        assert torch.equal(stack.finish(passed.state).x, whole)
        torch.manual_seed(0)
        mine = stack.loss(stack.finish(passed.state), batch)
        torch.manual_seed(0)
        assert torch.equal(mine, model.loss(batch))


def test_words_with_a_cache_are_words_without() -> None:
    """Token by token with keys and values kept, or all anew each time, some layers left out."""
    stack = stack_of(vla("token", layers=5))
    batch = replace(vla_batch(4), actions=None)
    decide = contract.by_turns(stack)
    with torch.no_grad():
        cached, (gates,) = act(stack, batch, decide)
        plain = _uncached(stack, batch, gates)
    assert torch.equal(cached, plain)
    assert 0 < float(gates.mean()) < 1
    whole, _ = act(stack, batch, everything(stack))
    assert not torch.equal(cached, whole)


@torch.no_grad()
def _uncached(stack: Stack, batch: object, gates: Tensor) -> Tensor:
    """Answers found by reading everything again for each word."""
    head, model = stack.model.head, stack.model  # type: ignore[union-attr]
    said: list[Tensor] = []
    for _ in range(head.words):
        ids = torch.stack([head.ids(s) for s in said], 1) if said else batch.ids[:, :0]  # type: ignore[attr-defined]
        x, mask = model.embed(batch, answered=False)  # type: ignore[operator]
        x = torch.cat([x, model.language.embed_tokens(ids)], 1)
        mask = torch.cat([mask, torch.ones_like(ids, dtype=torch.bool)], 1)
        state = stack.prepare(batch)
        state = stack.entered(  # type: ignore[operator]
            lambda x=x, mask=mask: model.read(x, mask), state.layout, batch, None
        )
        out = stack.finish(gated(stack, state, lambda p, s: gates, skip=True).state).x
        rows = torch.arange(len(out))
        last = out[rows, model.last(batch)] if not said else out[:, -1]  # type: ignore[operator]
        said.append(head.out(last).argmax(-1))
    return head.values(torch.stack(said, 1))


def test_pi0() -> None:
    model = pi0()
    batch, stack = pi0_batch(model.config), stack_of(model)
    assert isinstance(stack, Pi0Stack)
    contract.check(stack, batch, _tokens)
    asked = replace(batch, actions=None)
    given = {k: v for k, v in vars(batch).items() if k not in ("recent",)}
    with torch.no_grad():
        passed = gated(stack, stack.prepare(batch), everything(stack), skip=True)
        whole = model(**given)
        assert torch.equal(stack.finish(passed.state).velocity, whole.logits)
        assert torch.equal(stack.loss(stack.finish(passed.state), batch), whole.loss)
        chunks, _ = act(stack, asked, everything(stack))
        names = ("state", "input_ids", "pixel_values", "noise", "attention_mask",
                 "pixel_attention_mask")  # fmt: skip
        theirs = model.sample_actions(**{k: given[k] for k in names})
        torch.testing.assert_close(chunks, theirs, rtol=1e-5, atol=1e-5)
        short, _ = act(stack, asked, static(stack, [0, 2]))
        small = stack.pruned([0, 2])
        pruned, _ = act(small, asked, everything(small))
        assert torch.equal(short, pruned) and not torch.equal(short, chunks)
        mixed, _ = act(stack, asked, contract.by_turns(stack))
    assert bool(torch.isfinite(mixed).all())
    with pytest.raises(InputError, match="noise and time"):
        stack.prepare(replace(batch, noise=None))


def _navigator(family: str) -> tuple[NavigatorStack, NavigatorBatch, Batch]:
    navigator = toy_navigator.tiny(family, layers=4)
    asked, frames = toy_navigator.samples(3, seed=1)
    actions = torch.tensor([[1, 2, 0], [3, 1, 1], [0, -1, -1]])
    texts = [navigator.wording.answer([max(0, a) for a in row]) for row in actions.tolist()]
    size = (toy_navigator.SIDE, toy_navigator.SIDE)
    told = navigator.batch(asked, size, frames=frames, answers=texts)
    questions = navigator.batch(asked, size, frames=frames)
    previous = previous_actions([a.previous for a in asked])
    stack = stack_of(navigator)
    assert isinstance(stack, NavigatorStack)
    return stack, NavigatorBatch(batch=told, actions=actions, previous=previous), questions


@pytest.mark.parametrize("family", toy_navigator.FAMILIES)
def test_navigators(family: str) -> None:
    stack, batch, questions = _navigator(family)
    contract.check(stack, batch, _tokens)
    model = stack.model
    with torch.no_grad():
        passed = gated(stack, stack.prepare(batch), everything(stack), skip=True)
        hidden = stack.finish(passed.state).x
        logits = model.core.lm_head(hidden[:, -batch.batch.encoded.answer_length - 1 : -1])
        assert torch.equal(logits.float(), model(batch.batch))
    keep = [0, 2]
    whole = answer(stack, questions, everything(stack), constrained=False)
    assert whole == model.generate(questions, constrained=False)
    small = stack.pruned(keep).model
    short = answer(stack, questions, static(stack, keep), constrained=False)
    assert short == small.generate(questions, constrained=False)
    mixed = answer(stack, questions, contract.by_turns(stack), constrained=False)
    alone = []
    asked, frames = toy_navigator.samples(3, seed=1)
    for row in range(3):
        sample, shown = toy_navigator.part(asked, frames, row)
        one = model.batch(sample, (toy_navigator.SIDE, toy_navigator.SIDE), frames=shown)
        alone += answer(stack, one, _row(contract.by_turns(stack), row), constrained=False)
    assert mixed == alone
    _read_again(stack, batch, questions)


def _read_again(stack: NavigatorStack, batch: NavigatorBatch, questions: Batch) -> None:
    """Each token said with a cache is the likeliest when all is read anew, without one."""
    decide, model = contract.by_turns(stack), stack.model
    with hooked(stack, decide) as held, torch.no_grad():
        said = sample(model, questions, constrained=False)
    assert held.spent < held.full
    asked, frames = toy_navigator.samples(3, seed=1)
    size = (toy_navigator.SIDE, toy_navigator.SIDE)
    told = model.batch(asked, size, frames=frames, answers=[said.tokens(r) for r in range(3)])
    with torch.no_grad():
        state = stack.prepare(replace(batch, batch=told))
        hidden = stack.finish(gated(stack, state, decide, skip=True).state).x
        best = model.core.lm_head(hidden[:, -told.encoded.answer_length - 1 : -1]).argmax(-1)
    targets = model.targets(told)
    kept = targets != IGNORED
    assert bool(kept.any()) and torch.equal(best[kept], targets[kept])


def _row(decide: Decide, row: int) -> Decide:
    """The gates of one row of three, for that row alone."""

    def alone(phase: int, seen: RouterInput) -> Tensor:
        three = replace(seen, text=seen.text.expand(3, -1, -1))
        return decide(phase, three)[row : row + 1]

    return alone


def test_features_between_layers_are_added_whether_layers_run_or_not(tmp_path: Path) -> None:
    """Qwen3-VL adds deeper visual features behind its first layers."""
    navigator = open_published(
        toy_navigator.write_published("qwen3_vl", tmp_path / "m"), Wording(turn_angle=30, actions=2)
    )
    asked, frames = toy_navigator.samples(2, seed=1)
    size = (toy_navigator.SIDE, toy_navigator.SIDE)
    told = navigator.batch(asked, size, frames=frames, answers=["STOP"] * 2)
    batch = NavigatorBatch(
        batch=told, actions=torch.zeros(2, 2, dtype=torch.long), previous=previous_actions([[], []])
    )
    stack = stack_of(navigator)
    with torch.no_grad():
        state = stack.prepare(batch)
        assert state.between[0] is not None and bool(state.between[0].any())
        passed = gated(stack, state, everything(stack), skip=True)
        hidden = stack.finish(passed.state).x
        logits = navigator.core.lm_head(hidden[:, -told.encoded.answer_length - 1 : -1])
        assert torch.equal(logits.float(), navigator(told))
