"""GRPO of answers: items are what was drawn, ratios begin at 1, pieces add up, it learns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="navigators need transformers: sterna[vlm]")

from sterna.data.ego.samples import EgoSamples
from sterna.data.ego.store import EgoStore
from sterna.errors import InputError
from sterna.models.navigator.folder import train_parts
from sterna.models.navigator.generation import Answers
from sterna.models.navigator.sources import StoreFrames
from sterna.models.navigator.vlm import VlmNavigator
from sterna.train.loop import LoopConfig
from sterna.train.schedule import OptimizerConfig
from sterna.vlnr1.answers import (
    Answered,
    AnswersConfig,
    AnswersTask,
    cut,
    head_columns,
)
from sterna.vlnr1.objective import ObjectiveConfig
from sterna.vlnr1.offline import OfflineRunner, ask, judged
from sterna.vlnr1.rewards import RewardConfig
from sterna.world.talk.choices import choices
from toy_navigator import FAMILIES, tiny
from toy_sft import toy_store

GROUP = 4
CONFIG = AnswersConfig(objective=ObjectiveConfig(group=GROUP, kl_weight=0.1), temperature=1.3)


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory) -> EgoStore:
    return toy_store(tmp_path_factory.mktemp("walks") / "train", walks=6)


def frozen(navigator: VlmNavigator) -> VlmNavigator:
    for weight in navigator.tower.parameters():
        weight.requires_grad_(False)
    return navigator


def asked(
    walks: EgoStore, config: AnswersConfig, family: str = "qwen2_5_vl", count: int = 3
) -> tuple[AnswersTask, Answered, Answers]:
    """A task and a group of answers to each of a few samples, judged."""
    task = AnswersTask(frozen(tiny(family)), tiny(family), config).train()
    samples = EgoSamples(walks, 3, budget=4)[:count]
    given, answers = ask(task, samples, StoreFrames(walks), 7)
    expert = np.stack([s.actions for s in samples])
    given, _ = judged(given, expert, RewardConfig(format_weight=0.5), config, 9)
    given = replace(given, advantage=np.random.default_rng(0).normal(size=len(given.tokens)))
    return task, given, answers


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("constrained", [False, True])
def test_items_are_what_was_drawn(walks: EgoStore, family: str, constrained: bool) -> None:
    """Read again, they have the probabilities they were drawn by."""
    task, given, answers = asked(walks, replace(CONFIG, constrained=constrained), family)
    with torch.no_grad():
        found = task.items(task.policy, given)
    for row, tokens in enumerate(given.tokens):
        mine = found.log_probs[row][found.mask[row]].numpy()
        drawn = answers.log_probs[row][answers.mask[row]].numpy()
        if constrained:
            drawn = drawn[drawn != 0]
            assert (given.actions[row] >= 0).all() and len(mine) == 3
        else:
            assert len(mine) == len(tokens)
        np.testing.assert_allclose(mine, drawn, rtol=0, atol=2e-4)
    assert (found.entropies[found.mask] > 0).all()
    most = np.log(4) if constrained else np.log(task.policy.processor.tokenizer.get_vocab_size())
    assert float(found.entropies.max()) <= most + 1e-5
    assert not bool(found.log_probs[~found.mask].any())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("constrained", [False, True])
def test_a_question_is_read_once(walks: EgoStore, family: str, constrained: bool) -> None:
    """Items and gradients are those of every answer behind a question of its own."""
    task, given, _ = asked(walks, replace(CONFIG, constrained=constrained), family)
    rng = np.random.default_rng(1)
    order = rng.permutation(len(given.tokens))  # answers of a question need not stand together
    given = replace(
        given,
        question=given.question[order],
        tokens=tuple(given.tokens[i] for i in order),
        actions=given.actions[order],
    )
    found: dict[bool, Any] = {}
    for once in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(task.policy), "reads_apart", once)
            task.zero_grad()
            items = task.items(task.policy, given)
            value = (
                items.log_probs
                * torch.linspace(-1, 1, items.log_probs.numel()).view_as(items.log_probs)
            ).sum() + items.entropies.sum()
            value.backward()
        grads = {n: p.grad.clone() for n, p in task.named_parameters() if p.grad is not None}
        found[once] = (items, grads)
    (one, mine), (other, theirs) = found[True], found[False]
    assert torch.equal(one.mask, other.mask) and mine.keys() == theirs.keys()
    torch.testing.assert_close(one.log_probs, other.log_probs, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(one.entropies, other.entropies, atol=2e-5, rtol=1e-5)
    scale = max(float(g.abs().max()) for g in theirs.values())
    for name, grad in theirs.items():
        torch.testing.assert_close(mine[name], grad, atol=1e-4 * scale, rtol=1e-3)


def test_recomputed_activations_are_of_whole_answers() -> None:
    policy = tiny()
    assert policy.reads_apart
    train_parts(policy, tower=False, checkpointing=True)
    assert not policy.reads_apart


def test_choices_stand_where_the_options_part(walks: EgoStore) -> None:
    task, given, _ = asked(walks, replace(CONFIG, constrained=True))
    found = choices(task.policy.processor, task.policy.wording)
    for tokens, actions, columns in zip(
        given.tokens, given.actions, head_columns(given.actions, found), strict=True
    ):
        heads = [found.slot(k).heads[a] for k, a in enumerate(actions)]
        assert [tokens[column] for column in columns] == heads


@pytest.mark.parametrize("constrained", [False, True])
def test_pieces_add_up_and_the_first_ratio_is_one(walks: EgoStore, constrained: bool) -> None:
    config = replace(
        CONFIG,
        constrained=constrained,
        updates=2,
        objective=replace(CONFIG.objective, entropy_weight=0.01),
    )
    task, given, _ = asked(walks, config)
    given = task.complete(given, 2)
    assert given.old is not None and given.start is not None
    first = task(replace(given, old=None))
    assert first.metrics["ratio_off"] == 0 and first.metrics["kl"] == pytest.approx(0, abs=1e-6)
    assert task(given).metrics["ratio_off"] < 1e-5
    with torch.no_grad():
        for weight in task.policy.parameters():
            weight *= 1.01
    task.zero_grad()
    whole = task(given)
    whole.loss.backward()
    wanted = {n: p.grad.clone() for n, p in task.named_parameters() if p.grad is not None}
    task.zero_grad()
    parts = [task(part) for part in cut(given, 3)]
    assert len(parts) == 3
    for part in parts:
        part.loss.backward()
    total = sum(float(part.loss.detach()) for part in parts)
    assert total == pytest.approx(float(whole.loss.detach()), rel=1e-4, abs=1e-6)
    for name in ("kl", "entropy", "reward", "ratio_off", "objective"):
        found = sum(part.metrics[name] for part in parts)
        assert found == pytest.approx(whole.metrics[name], rel=1e-3, abs=1e-6), name
    assert whole.metrics["kl"] > 1e-6 and whole.metrics["ratio_off"] > 1e-4
    largest = max(float(g.abs().max()) for g in wanted.values())
    for name, parameter in task.named_parameters():
        if name in wanted:
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, wanted[name], rtol=0, atol=1e-4 * largest)
    assert all(p.grad is None for p in task._start[0].parameters())
    assert all(p.grad is None for p in task.policy.tower.parameters())


def runner(
    walks: EgoStore, folder: Path, config: AnswersConfig, rate: float = 1e-3, **loop: Any
) -> OfflineRunner:
    start = tiny() if config.objective.kl_weight else None
    options = {"iterations": 6, "batch_size": 3, "save_every": 2, "log_every": 1} | loop
    return OfflineRunner(
        AnswersTask(frozen(tiny()), start, config),
        EgoSamples(walks, 3, budget=4),
        StoreFrames(walks),
        RewardConfig(),
        folder,
        LoopConfig(select_by="last", **options),
        OptimizerConfig(learning_rate=rate, clip_norm=1.0),
    )


class StoppedError(Exception):
    """The machine went away."""


def test_a_killed_run_goes_on_bit_for_bit(walks: EgoStore, tmp_path: Path) -> None:
    config = replace(CONFIG, updates=2, constrained=True)
    runner(walks, tmp_path / "a", config).run()
    broken = runner(walks, tmp_path / "b", config)
    iterate = broken.step

    def failing(number: int) -> Any:
        if number == 3:
            raise StoppedError
        return iterate(number)

    broken.step = failing  # type: ignore[method-assign]
    with pytest.raises(StoppedError):
        broken.run()
    runner(walks, tmp_path / "b", config).run()
    for name in ("log.jsonl", "answers.jsonl"):
        assert (tmp_path / "a" / name).read_text() == (tmp_path / "b" / name).read_text()
    states = [
        torch.load(tmp_path / run / "state.pt", weights_only=True)["modules"]["task"]
        for run in "ab"
    ]
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())
    lines = (tmp_path / "a" / "answers.jsonl").read_text().splitlines()
    assert len(lines) == 3 * 3  # batches of samples, each learnt from twice
    entry, wording = json.loads(lines[0]), tiny().wording
    assert len(entry["texts"]) == GROUP and len(entry["expert"]) == 3
    told = [wording.parse(text) for text in entry["texts"]]
    for text, tokens, reward, actions in zip(
        entry["texts"], entry["tokens"], entry["rewards"], told, strict=True
    ):
        assert tiny().processor.decode(tokens) == text
        assert actions is not None
        right = [0.9**k for k in range(3) if actions[k] == entry["expert"][k]]
        assert reward == pytest.approx(sum(right) / (1 + 0.9 + 0.81))


def test_states_are_written_where_a_batch_is_done_with(walks: EgoStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="multiple of the 3 updates"):
        runner(walks, tmp_path, replace(CONFIG, updates=3))


def test_rewards_alone_teach_which_action_a_colour_means(walks: EgoStore, tmp_path: Path) -> None:
    config = AnswersConfig(objective=ObjectiveConfig(group=8, kl_weight=0.0), constrained=True)
    runner(walks, tmp_path, config, rate=3e-3, iterations=30, batch_size=6, save_every=30).run()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    first = np.array([row["first"] for row in rows])
    reward = np.array([row["reward"] for row in rows])
    assert first[:5].mean() < 0.5 and first[-5:].mean() > 0.75
    assert reward[-5:].mean() > reward[:5].mean() + 0.15
    assert all(row["read"] == 1 for row in rows)
