"""Objects in imitation: which one is meant where, what naming another costs, which goal it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sterna.data.episodes import Episode
from sterna.data.r2r import read_r2r
from sterna.envs.graph_env import GraphEnv, Panoramas
from sterna.errors import InputError
from sterna.minivln.stage2 import DistillConfig, DistillTask
from sterna.models.agent import Agent
from sterna.models.topomap import MapRows
from sterna.models.walk import walk
from sterna.train.grounding import IGNORED, aimed, grounding_loss, object_targets
from sterna.train.imitation import ImitationConfig, ImitationTask, Recorded
from sterna.train.memory import Memory
from sterna.train.pieces import split
from toy import TINY, random_objects, tiny_model, toy_panoramas

SIZES = replace(TINY, object_size=5, dropout=0.0, feature_dropout=0.0)
CONFIG = ImitationConfig(demonstrate="expert", multi_endpoints=True)
DRAWS = np.random.default_rng(3).random((15, 4))


@pytest.fixture(scope="module")
def panoramas(toy_house: Path) -> Panoramas:
    bare = toy_panoramas(toy_house)
    return bare.showing(random_objects(bare.atlas))


@pytest.fixture(scope="module")
def episodes(toy_house: Path, panoramas: Panoramas) -> list[Episode]:
    """Each asks for an object seen at its path's last viewpoint but one, and at one neighbour."""
    atlas, out = panoramas.atlas, []
    for episode in read_r2r(toy_house, "train")[:150:5]:
        place = atlas.node(episode.scan, episode.path[-2])
        ids = panoramas.object_ids[place]
        if ids[0] >= 0:
            goals = (episode.path[-2], episode.path[-1])
            out.append(replace(episode, object_id=int(ids[ids >= 0][-1]), goals=goals))
    assert len(out) >= 8
    return out


def learner(panoramas: Panoramas, **more: object) -> ImitationTask:
    return ImitationTask(tiny_model(0, SIZES), panoramas, replace(CONFIG, **more)).train()


def recorded(task: ImitationTask, episodes: list[Episode]) -> Recorded:
    return task.collect(episodes[:4], episodes[4:8], DRAWS)


def test_targets_are_the_token_of_the_object_on_goals_alone(
    panoramas: Panoramas, episodes: list[Episode]
) -> None:
    batch = recorded(learner(panoramas), episodes)
    targets, atlas = object_targets(panoramas, batch.episodes, batch.rows), panoramas.atlas
    asked = 0
    for row, target in enumerate(targets):
        episode, node = batch.episodes[batch.rows.agent[row]], batch.rows.node[row]
        shown = panoramas.object_ids[node].tolist()
        on_goal = atlas.viewpoints[node] in episode.goals
        if on_goal and episode.object_id in shown:
            place = shown.index(episode.object_id)
            assert target == 1 + panoramas.view_lengths[node] + place
            asked += 1
        else:
            assert target == IGNORED
    assert 0 < asked < len(targets)


def test_loss_against_numpy(panoramas: Panoramas, episodes: list[Episode]) -> None:
    task = learner(panoramas)
    batch = recorded(task, episodes)
    output, _, _ = task.run(batch)
    targets = object_targets(panoramas, batch.episodes, batch.rows)
    wanted = 0.0
    for index, logits in output.objects():
        for row, scores in zip(index, logits.detach().double().numpy(), strict=True):
            if targets[row] != IGNORED:
                finite = scores[np.isfinite(scores)]
                entropy = np.log(np.exp(finite).sum()) - scores[targets[row]]
                wanted += float(batch.weight[row] * entropy)
    assert wanted > 0
    found = grounding_loss(output, batch, targets)
    assert found.item() == pytest.approx(wanted, rel=1e-5)
    learnt = task(batch)
    sum_ = learnt.metrics["action"] + learnt.metrics["grounding"]
    assert learnt.loss.item() == pytest.approx(sum_, rel=1e-5)
    halved = learner(panoramas, grounding=0.5)(batch)
    half = learnt.metrics["action"] + 0.5 * learnt.metrics["grounding"]
    assert halved.loss.item() == pytest.approx(half, rel=1e-5)
    assert "grounding" not in learner(panoramas, grounding=0.0)(batch).metrics


def test_no_target_leaves_the_head_a_gradient_of_zeros(
    panoramas: Panoramas, episodes: list[Episode]
) -> None:
    """Otherwise processes that share a batch would wait for a gradient that never comes."""
    task = learner(panoramas)
    bare = [replace(e, object_id=None) for e in episodes]
    learnt = task(recorded(task, bare))
    learnt.loss.backward()
    assert learnt.metrics["grounding"] == 0.0 and task.policy.og_head is not None
    grads = [p.grad for p in task.policy.og_head.parameters()]
    assert all(grad is not None and not grad.any() for grad in grads)


def test_the_packed_pass_scores_objects_as_the_walk_does(
    panoramas: Panoramas, episodes: list[Episode]
) -> None:
    model = tiny_model(0, SIZES).eval()
    seen = []

    class Noting(Agent):
        def navigate(self, rows: MapRows):  # type: ignore[no-untyped-def]
            out = super().navigate(rows)
            seen.extend(zip(rows.agent, rows.step, out.object_logits, strict=True))
            return out

    agent = Noting(model, panoramas, cache=False)
    task = ImitationTask(model, panoramas, CONFIG).eval()
    with torch.no_grad():
        done = walk(agent, GraphEnv(panoramas), episodes[:6], keep=True)
        rows = MapRows.concatenate(done.rows)
        batch = Recorded(tuple(episodes[:6]), rows, *([np.ones(len(rows))] * 4))  # type: ignore[arg-type]
        output, _, _ = task.run(batch)
    mine = {
        (rows.agent[i], rows.step[i]): values
        for index, logits in output.objects()
        for i, values in zip(index, logits, strict=True)
    }
    for who, step, wanted in seen:
        found = mine[who, step]
        width = min(len(found), len(wanted))
        assert torch.allclose(found[:width], wanted[:width], atol=2e-5)
        assert not torch.isfinite(found[width:]).any()


def test_a_goal_is_drawn_and_reached_by_a_shortest_path(
    panoramas: Panoramas, episodes: list[Episode]
) -> None:
    atlas, chosen = panoramas.atlas, set()
    for draw in (0.0, 0.3, 0.6, 0.999):
        for before, after in zip(
            episodes, aimed(atlas, episodes, np.full(len(episodes), draw)), strict=True
        ):
            assert after.start == before.start and after.goal in before.goals
            assert after.goals == before.goals and after.instr_id == before.instr_id
            nodes = np.array([atlas.node(after.scan, v) for v in after.path])
            length = atlas.distance(nodes[:-1], nodes[1:]).sum()
            assert length == pytest.approx(float(atlas.distance(nodes[0], nodes[-1])))
            chosen.add((before.instr_id, after.goal))
    assert len(chosen) == 2 * len(episodes)
    plain = [replace(e, goals=()) for e in episodes]
    assert aimed(atlas, plain, np.zeros(len(plain))) == plain


def test_demonstrations_by_the_expert_end_on_their_goal(
    panoramas: Panoramas, episodes: list[Episode]
) -> None:
    task = learner(panoramas)
    batch = task.collect(aimed(panoramas.atlas, episodes, np.full(len(episodes), 0.2)), [], DRAWS)
    for agent, episode in enumerate(batch.episodes):
        mine = np.flatnonzero(batch.rows.agent == agent)
        last = mine[batch.rows.step[mine].argmax()]
        assert panoramas.atlas.viewpoints[batch.rows.node[last]] == episode.goal
        assert batch.labels[last] == 0 and (batch.labels[mine] == 0).sum() == 1


def distilling(panoramas: Panoramas, **more: object) -> DistillTask:
    teacher = tiny_model(1, replace(SIZES, hidden_size=32))
    config = DistillConfig(objects=True, **more)  # type: ignore[arg-type]
    return DistillTask(tiny_model(0, SIZES), teacher, panoramas, CONFIG, config).train()


def test_the_teachers_objects(panoramas: Panoramas, episodes: list[Episode]) -> None:
    """A soft cross entropy over shown objects; the memory and pieces of a batch carry it along."""
    task = distilling(panoramas)
    batch = task.prepare(recorded(task, episodes))
    assert batch.taught_objects is not None
    shown = panoramas.object_ids[batch.rows.node] >= 0
    finite = torch.isfinite(batch.taught_objects)
    assert np.array_equal(finite.sum(1).numpy(), shown.sum(1))
    whole = task(batch)
    output, _, _ = task.run(batch)
    wanted = 0.0
    for index, logits in output.objects():
        for row, mine in zip(index, logits.detach().double(), strict=True):
            if finite[row].any():
                theirs = batch.taught_objects[row][finite[row]].double().softmax(0)
                logs = mine[finite[row][: len(mine)]].log_softmax(0)
                wanted -= float(batch.row_share[row] * (theirs * logs).sum())
    assert whole.metrics["objects"] == pytest.approx(wanted, rel=1e-5) and wanted > 0
    assert "objects" not in distilling(panoramas, weight=0.0)(batch).metrics
    pieces = [task(piece).metrics["objects"] for piece in split(batch, 3)]
    assert sum(pieces) == pytest.approx(wanted, rel=1e-5)
    memory, other = Memory(2), Memory(2)
    memory.add(batch)
    other.from_state(memory.to_state(), {e.instr_id: e for e in episodes})
    again = task(other.recall(0.0))
    assert again.loss.item() == whole.loss.item() and again.metrics == whole.metrics


def test_refused_settings(panoramas: Panoramas) -> None:
    with pytest.raises(InputError, match="grounding"):
        ImitationConfig(grounding=-1.0)
    with pytest.raises(InputError, match="demonstrate must be path or expert"):
        ImitationConfig(demonstrate="goal")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="show objects already"):
        panoramas.showing(random_objects(panoramas.atlas))
