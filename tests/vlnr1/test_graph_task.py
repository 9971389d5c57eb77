"""Closed-loop GRPO in graphs: its gradient is that of plain walks, its first ratio is 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.metrics import R2R_DUET
from sterna.models.agent import Agent, TextReader
from sterna.models.topomap import TopoMap
from sterna.train.grounding import IGNORED
from sterna.vlnr1.graph_task import ClosedLoopConfig, ClosedLoopTask, Walked, cut, lessons
from sterna.vlnr1.objective import ObjectiveConfig, group_advantages
from sterna.vlnr1.walks import Sampled, WalkReward, sample, scores_of, walk_rewards
from toy import episode_on, line_graph, panoramas_of, tiny_model

MakeTask = Callable[[ClosedLoopConfig], ClosedLoopTask]
GROUP, STEPS = 4, 5
PLAIN = ClosedLoopConfig(
    objective=ObjectiveConfig(group=GROUP, kl_weight=0.0),
    reward=WalkReward(progress=0.5, ndtw=0.5),
    max_steps=STEPS,
    temperature=0.7,
)
"""Rewards that a random policy earns too."""


def drawn(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((STEPS, count * GROUP))


def collected(task: ClosedLoopTask, episodes: list[Episode]) -> Walked:
    return task.train().collect(episodes, drawn(len(episodes)))


def gradient(task: ClosedLoopTask, batch: Walked) -> dict[str, Tensor]:
    task.zero_grad()
    task(batch).loss.backward()
    return {n: p.grad.clone() for n, p in task.named_parameters() if p.grad is not None}


def twin(task: ClosedLoopTask, episodes: list[Episode], found: Sampled) -> Tensor:
    """-mean over walks of A * mean over its decisions of log p, one walk after the other."""
    atlas, total = task.panoramas.atlas, torch.zeros(())
    scores = scores_of(atlas, episodes, found.walks, R2R_DUET)
    advantages = group_advantages(walk_rewards(scores, PLAIN.reward)).ravel()
    for number, advantage in enumerate(advantages):
        episode, zero = episodes[number // GROUP], np.zeros(1, int)
        agent = Agent(task.policy, task.panoramas, cache=False)
        node, pose, chosen = np.zeros(0, int), np.zeros(0, int), []
        for step, (rows, choices) in enumerate(
            zip(found.walks.rows, found.walks.choices, strict=True)
        ):
            here = np.flatnonzero(rows.agent == number)
            if not len(here):
                break
            node, pose = rows.node[here], rows.pose[here]
            if step == 0:
                topomap = TopoMap(atlas, node)
                agent.reset([episode], topomap)
            mine = topomap.observe(zero, node, pose, step)
            if step < STEPS - 1 and (mine.mask & ~mine.visited)[:, 1:].any():
                logits = agent.navigate(mine).fused[0] / PLAIN.temperature
                chosen.append(logits.log_softmax(0)[int(choices[here[0]])])
        if chosen:
            total = total - float(advantage) * torch.stack(chosen).mean()
    return total / len(advantages)


def test_the_gradient_is_that_of_plain_walks(
    make_task: MakeTask, panoramas: Panoramas, episodes: list[Episode]
) -> None:
    """Shared states, panoramas and buckets are for speed alone."""
    task, some = make_task(PLAIN), episodes[:3]
    batch = collected(task, some)
    mine = gradient(task, batch)
    with torch.no_grad():
        text = TextReader(task.policy)(some)
    found = sample(task.policy, panoramas, text, some, drawn(3), temperature=PLAIN.temperature)
    assert len(batch.rows) < sum(len(rows) for rows in found.walks.rows)
    task.zero_grad()
    twin(task, some, found).backward()
    largest = max(float(g.abs().max()) for g in mine.values())
    assert largest > 1e-3
    for name, parameter in task.named_parameters():
        if name in mine:
            wanted = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            torch.testing.assert_close(mine[name], wanted, rtol=0, atol=1e-4 * largest, msg=name)


@pytest.mark.parametrize("updates", [1, 2])
def test_the_first_ratio_is_exactly_one(
    make_task: MakeTask, episodes: list[Episode], updates: int
) -> None:
    """To rounding also against the walkers' own; dropout, on in training, would spoil it."""
    task = make_task(replace(PLAIN, updates=updates))
    batch = collected(task, episodes[:3])
    assert (batch.old is None) == (updates == 1)
    first = task(batch)
    assert first.metrics["ratio_off"] < (1e-6 if updates == 2 else 1e-30)
    assert first.metrics["clip_share"] == 0
    assert not task.policy.training and task.policy.config.feature_dropout > 0
    assert abs(first.metrics["objective"]) < 0.2
    if updates == 2:
        first.loss.backward()
        with torch.no_grad():
            for parameter in task.policy.parameters():
                if parameter.grad is not None:
                    parameter -= 0.002 * parameter.grad / parameter.grad.norm().clamp(min=1e-9)
        second = task(batch)
        assert second.metrics["ratio_off"] > 1e-4
        assert second.metrics["objective"] > first.metrics["objective"]


def test_pieces_add_up(make_task: MakeTask, episodes: list[Episode]) -> None:
    full = replace(
        PLAIN,
        updates=2,
        imitation=0.3,
        objective=ObjectiveConfig(group=GROUP, kl_weight=0.1, entropy_weight=0.01),
    )
    task = make_task(full)
    batch = collected(task, episodes[:5])
    with torch.no_grad():
        for parameter in task.policy.parameters():
            parameter *= 1.05
    whole, grown = task(batch), gradient(task, batch)
    parts = cut(batch, 3)
    assert len(parts) == 3 and sum(len(p.rows) for p in parts) == len(batch.rows)
    task.zero_grad()
    outputs = [task(part) for part in parts]
    for output in outputs:
        output.loss.backward()
    total = sum(float(output.loss.detach()) for output in outputs)
    assert total == pytest.approx(float(whole.loss.detach()), rel=1e-5, abs=1e-6)
    for name in ("objective", "kl", "entropy", "anchor", "reward", "ratio_off"):
        found = sum(output.metrics[name] for output in outputs)
        assert found == pytest.approx(whole.metrics[name], rel=1e-4, abs=1e-6), name
    assert whole.metrics["kl"] > 1e-4
    for name, parameter in task.named_parameters():
        if name in grown:
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, grown[name], rtol=1e-3, atol=1e-5, msg=name)


def test_the_start_policy_is_left_alone(make_task: MakeTask, episodes: list[Episode]) -> None:
    task = make_task(replace(PLAIN, objective=ObjectiveConfig(group=GROUP, kl_weight=0.5)))
    batch = collected(task, episodes[:2])
    assert task(batch).metrics["kl"] == pytest.approx(0, abs=1e-6)
    assert len(list(task.parameters())) == len(list(task.policy.parameters()))
    begun = task._start[0]
    assert not begun.training and not any(p.requires_grad for p in begun.parameters())
    task(batch).loss.backward()
    assert all(p.grad is None for p in begun.parameters())


def test_groups_that_agree_move_nothing(panoramas: Panoramas, episodes: list[Episode]) -> None:
    """Trap 17: a zero-variance group gives no gradient, and no NaN."""
    task = ClosedLoopTask(tiny_model(), None, panoramas, PLAIN, R2R_DUET)
    batch = task.train().collect(episodes[:2], np.repeat(drawn(2)[:, ::GROUP], GROUP, axis=1))
    assert batch.values["equal_groups"] == 1 and (batch.advantage == 0).all()
    assert all((g == 0).all() for g in gradient(task, batch).values())


def test_without_gain_walks_are_judged_and_nothing_is_learnt_of_it(
    make_task: MakeTask, episodes: list[Episode]
) -> None:
    task = make_task(replace(PLAIN, gain=0.0))
    batch = collected(task, episodes[:3])
    assert batch.values["equal_groups"] < 1 and batch.values["reward"] != 0
    assert all((g == 0).all() for g in gradient(task, batch).values())


def test_no_lesson_where_the_goal_was_left_behind() -> None:
    graph = line_graph(4)
    panoramas = panoramas_of([graph])
    episode = episode_on(graph, [1, 2])
    topomap = TopoMap(panoramas.atlas, np.array([1]))
    zero, pose = np.zeros(1, int), np.full(1, 12)
    asked = []
    for step, node in enumerate((1, 2, 3)):
        rows = topomap.observe(zero, np.array([node]), pose, step)
        expert, lesson = lessons(panoramas.atlas, [episode], rows)
        asked.append((int(expert[0]) == 0, bool(lesson[0])))
    assert asked[:2] == [(False, True), (True, True)] and not asked[2][1]


def test_the_anchor_ignores_rows_without_a_lesson(
    make_task: MakeTask, episodes: list[Episode]
) -> None:
    task = make_task(PLAIN)
    batch = collected(task, episodes[:2])
    silent = replace(batch, expert=np.full(len(batch.rows), IGNORED))
    assert task(batch).metrics["anchor"] > 0 and task(silent).metrics["anchor"] == 0


@pytest.mark.parametrize(
    ("change", "word"),
    [({"temperature": 0.0}, "temperature"), ({"imitation": -1.0}, "imit"), ({"updates": 0}, "upd")],
)
def test_impossible_settings_are_refused(change: dict[str, object], word: str) -> None:
    with pytest.raises(InputError, match=word):
        ClosedLoopConfig(**change)  # type: ignore[arg-type]


def test_a_divergence_needs_its_start(panoramas: Panoramas) -> None:
    with pytest.raises(InputError, match="start policy"):
        ClosedLoopTask(tiny_model(), None, panoramas, ClosedLoopConfig(), R2R_DUET)
