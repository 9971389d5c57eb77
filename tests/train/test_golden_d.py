"""Training mathematics against the original DUET code (golden set D): real R2R, no dropout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from golden import formula_state
from golden_train import check_gradients, forced, map_order
from golden_world import SMALL, golden_episodes, golden_panoramas
from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.files import read_json
from sterna.models.agent import Agent
from sterna.models.duet import DUET
from sterna.models.topomap import MapRows
from sterna.models.walk import Walk
from sterna.train.experts import (
    follow_path,
    goal_nodes,
    ndtw_expert,
    reference_nodes,
    shortest_path_expert,
)
from sterna.train.imitation import ImitationConfig, ImitationTask, Recorded, joined, record
from sterna.train.optimizer import make_optimizer
from sterna.train.schedule import OptimizerConfig
from sterna.world.geometry import Ints

RUNS = ["teacher_ml1", *(f"sample{i}_{expert}" for i in range(3) for expert in ("spl", "ndtw"))]
Stored = dict[str, Any]


@pytest.fixture(scope="module")
def stored(data_dir: Path) -> Stored:
    return read_json(data_dir / "golden" / "D_r2r_small.json.gz")  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def episodes(data_dir: Path, stored: Stored) -> list[Episode]:
    order = stored["teacher_ml1"]["order"]
    assert all(stored[name]["order"] == order for name in RUNS)
    return golden_episodes(data_dir, "train", order, stored["txt_ids"])


@pytest.fixture(scope="module")
def panoramas(data_dir: Path, episodes: list[Episode]) -> Panoramas:
    return golden_panoramas(data_dir, episodes)


def new_task(stored: Stored, panoramas: Panoramas, config: ImitationConfig) -> ImitationTask:
    sizes = replace(SMALL, dropout=0.0, feature_dropout=0.0)
    policy = DUET(sizes)
    policy.load_state_dict(
        formula_state(sizes, stored["weights"]["sigma"], stored["weights"]["tag"])
    )
    return ImitationTask(policy, panoramas, config).train()


def explore(
    task: ImitationTask, panoramas: Panoramas, episodes: Sequence[Episode], name: str
) -> tuple[MapRows, Ints, Walk]:
    with torch.no_grad():
        agent = Agent(task.policy, panoramas, cache=False)
        return record(panoramas, episodes, forced(name), agent=agent, config=task.config)


def one_rollout(
    task: ImitationTask, panoramas: Panoramas, episodes: list[Episode], name: str
) -> tuple[Recorded, Walk]:
    if name == "teacher_ml1":
        # With an agent, so that the walk-back (which needs its stop scores) can be compared.
        with torch.no_grad():
            agent = Agent(task.policy, panoramas, cache=False)
            rows, labels, done = record(panoramas, episodes, None, agent=agent, config=task.config)
    else:
        rows, labels, done = explore(task, panoramas, episodes, name.split("_")[0])
    return joined(tuple(episodes), [(rows, labels, 1.0, len(episodes))]), done


@pytest.mark.parametrize("name", RUNS)
def test_rollout_loss_and_gradients(
    stored: Stored, episodes: list[Episode], panoramas: Panoramas, name: str
) -> None:
    wanted = stored[name]
    expert = "ndtw" if name.endswith("ndtw") else "spl"
    task = new_task(stored, panoramas, ImitationConfig(expert=expert))
    batch, done = one_rollout(task, panoramas, episodes, name)
    names = panoramas.atlas.viewpoints
    assert [[[names[n] for n in hop] for hop in hops] for hops in done.hops] == wanted["paths"]
    check_targets(batch.rows, done, panoramas, episodes, wanted, teacher=name == "teacher_ml1")
    loss = task(batch).loss
    assert loss.item() == pytest.approx(wanted["loss"], rel=2e-5)
    loss.backward()
    check_gradients(task.policy, wanted)


def check_targets(
    rows: MapRows,
    done: Walk,
    panoramas: Panoramas,
    episodes: list[Episode],
    wanted: Stored,
    *,
    teacher: bool,
) -> None:
    """Both experts at every decision, and what is on the map."""
    atlas = panoramas.atlas
    references = reference_nodes(atlas, episodes)
    walked = [
        np.concatenate([np.array(h) for h in done.hops[a][: t + 1]])
        for a, t in zip(rows.agent, rows.step, strict=True)
    ]
    labels = {
        "spl": shortest_path_expert(atlas, rows, goal_nodes(references)),
        "ndtw": ndtw_expert(atlas, rows, references, walked),
    }
    if teacher:
        labels = dict.fromkeys(labels, follow_path(rows, references))
    targets = {(a, t): i for i, (a, t) in enumerate(zip(rows.agent, rows.step, strict=True))}
    seen = 0
    for t, step in enumerate(wanted["steps"]):
        for a in range(len(episodes)):
            row = targets.get((a, t))
            for expert, values in labels.items():
                target = step["targets"][expert][a]
                assert (target == -100) == (row is None)
                if row is not None:
                    assert map_order(rows, row)[target] == values[row], (a, t, expert)
            if row is not None:
                nodes = [atlas.viewpoints[rows.nodes[row, s]] for s in map_order(rows, row)[1:]]
                assert nodes == step["map"][a]
                seen += 1
    assert seen == len(rows)


def test_four_iterations(stored: Stored, episodes: list[Episode], panoramas: Panoramas) -> None:
    """0.2 * demonstrations + explorations, clip 40, AdamW at 1e-4, as the loop does it."""
    task = new_task(stored, panoramas, ImitationConfig())
    optimizer = make_optimizer(task, OptimizerConfig(learning_rate=1e-4))
    for wanted in stored["iterations_lr1e-4"]:
        shown, labels, _ = record(panoramas, episodes, None, config=task.config)
        tried, expert, _ = explore(task, panoramas, episodes, "sample0")
        parts = [(shown, labels, task.config.ml_weight, 4), (tried, expert, 1.0, 4)]
        batch = joined((*episodes, *episodes), parts)
        only = joined(tuple(episodes), parts[:1])
        with torch.no_grad():
            assert task(only).loss.item() == pytest.approx(wanted["teacher_part"], rel=2e-5)
        loss = task(batch).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(task.parameters(), 40.0)
        optimizer.step()
        assert loss.item() == pytest.approx(wanted["total"], rel=2e-5)
        assert float(norm) == pytest.approx(wanted["grad_norm"], rel=1e-4)
        squares = sum(float(p.detach().double().square().sum()) for p in task.parameters())
        assert np.sqrt(squares) == pytest.approx(wanted["param_norm_after"], rel=1e-7)
