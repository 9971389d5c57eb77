"""What a batch holds and what its loss is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.train.experts import goal_nodes, reference_nodes
from sterna.train.imitation import (
    ImitationConfig,
    ImitationTask,
    Recorded,
    action_loss,
    local_labels,
)
from sterna.train.schedule import uniform_draws
from toy import tiny_model


def draws(iteration: int = 0, count: int = 6) -> np.ndarray:
    return uniform_draws(0, 2, iteration, (15, count))


@pytest.fixture
def task(panoramas: Panoramas) -> ImitationTask:
    return ImitationTask(tiny_model().eval(), panoramas, ImitationConfig(ml_weight=0.2))


@pytest.fixture
def batch(task: ImitationTask, episodes: list[Episode]) -> Recorded:
    return task.collect(episodes[:30:5], episodes[100:130:5], draws())


def test_demonstrations_follow_the_annotated_path(
    task: ImitationTask, batch: Recorded, panoramas: Panoramas
) -> None:
    references = reference_nodes(panoramas.atlas, batch.episodes)
    for agent in range(6):
        mine = batch.rows.agent == agent
        assert batch.rows.node[mine].tolist() == references[agent].tolist()
        chosen = batch.rows.nodes[mine, batch.labels[mine]]
        assert chosen.tolist() == [*references[agent][1:].tolist(), -1]


def test_explorations_end_on_the_goal_or_at_a_stop(batch: Recorded, panoramas: Panoramas) -> None:
    goals = goal_nodes(reference_nodes(panoramas.atlas, batch.episodes))
    for agent in range(6, 12):
        mine = np.flatnonzero(batch.rows.agent == agent)
        on_goal = batch.rows.node[mine] == goals[agent]
        assert not on_goal[:-1].any() and len(mine) <= 15
        assert (batch.labels[mine][on_goal] == 0).all()


def test_weights_are_those_of_duet(batch: Recorded) -> None:
    """Sum over decisions, mean over episodes; 0.2 and 1."""
    shown = batch.rows.agent < 6
    assert batch.weight[shown] == pytest.approx(0.2 / 6)
    assert batch.weight[~shown] == pytest.approx(1 / 6)
    assert batch.row_share[shown].sum() == pytest.approx(0.2)
    assert batch.row_share[~shown].sum() == pytest.approx(1.0)
    assert batch.episode_share == pytest.approx([0.2 / 6] * 6 + [1 / 6] * 6)


def test_loss_is_the_weighted_cross_entropy(task: ImitationTask, batch: Recorded) -> None:
    """The NumPy twin."""
    output, _, _ = task.run(batch)
    wanted, right = 0.0, 0
    for index, fused in output.fused():
        for row, logits in zip(index, fused.detach().double().numpy(), strict=True):
            label = batch.labels[row]
            top = logits.max()
            wanted += batch.weight[row] * (top + np.log(np.exp(logits - top).sum()) - logits[label])
            right += int(logits.argmax() == label)
    result = task(batch)
    assert result.loss.item() == pytest.approx(wanted, rel=1e-5)
    assert result.metrics["agree"] == pytest.approx(right / len(batch.rows))
    assert result.metrics["rows"] == len(batch.rows)


def test_demonstrations_alone_weigh_one(task: ImitationTask, episodes: list[Episode]) -> None:
    batch = task.collect(episodes[:4], [], draws())
    assert batch.weight == pytest.approx(1 / 4) and len(batch.episodes) == 4


def test_a_batch_depends_on_weights_and_draws_only(
    task: ImitationTask, episodes: list[Episode]
) -> None:
    def nodes(iteration: int) -> list[int]:
        batch = task.collect(episodes[:2], episodes[100:106], draws(iteration))
        return batch.rows.node.tolist()  # type: ignore[no-any-return]

    torch.manual_seed(1)
    first = nodes(0)
    torch.manual_seed(2)
    assert nodes(0) == first and nodes(1) != first


@pytest.mark.parametrize("with_dropout", [True, False])
def test_exploring_keeps_the_mode(
    panoramas: Panoramas, episodes: list[Episode], with_dropout: bool
) -> None:
    """Dropout makes exploration depend on torch's seed only where that is asked for."""
    config = ImitationConfig(explore_with_dropout=with_dropout)
    task = ImitationTask(tiny_model(), panoramas, config).train()
    walks = []
    for seed in range(4):
        torch.manual_seed(seed)
        walks.append(task.collect([], episodes[100:106], draws()).rows.node.tolist())
        assert task.policy.training
    assert (len({tuple(w) for w in walks}) > 1) == with_dropout


@pytest.mark.parametrize(
    "change", [{"ml_weight": -1}, {"max_steps": 0}, {"buckets": 0}, {"expert": "best"}]
)
def test_bad_values(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match="imitation:"):
        ImitationConfig(**change)  # type: ignore[arg-type]


def test_branches_are_asked_too(task: ImitationTask, batch: Recorded) -> None:
    """Row by row: the map's logits for the label, the panorama's where it can choose it."""
    with torch.no_grad():
        output, _, _ = task.run(batch)
    wanted, ways = 0.0, {"stop": 0, "near": 0, "far": 0}
    for bucket, out in output.parts:
        for place, row in enumerate(bucket.index):
            label, slots = int(batch.labels[row]), batch.rows.candidates[row].tolist()
            terms = [-out.fused[place].log_softmax(0)[label]]
            terms.append(-0.5 * out.global_[place].log_softmax(0)[label])
            if label == 0 or label in slots:
                near = 0 if label == 0 else 1 + slots.index(label)
                terms.append(-0.5 * out.local[place].log_softmax(0)[near])
            ways["stop" if label == 0 else "near" if label in slots else "far"] += 1
            wanted += float(batch.weight[row]) * float(torch.stack(terms).sum())
    assert min(ways.values()) > 0, ways
    loss, _ = action_loss(output, batch, 0.5)
    assert float(loss) == pytest.approx(wanted, rel=1e-5)


def test_labels_of_the_panorama() -> None:
    candidates = np.array([[3, 1, 0], [2, 5, 4], [6, 0, 0]])
    assert local_labels(candidates, np.array([1, 0, 2])).tolist() == [2, 0, -100]
