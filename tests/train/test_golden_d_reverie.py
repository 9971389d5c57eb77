"""Training mathematics on real REVERIE, with objects, against the original DUET code (set D)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from golden import formula_state, view_features
from golden_train import check_gradients, forced, map_order
from golden_world import SMALL, golden_objects
from sterna.data.boxes import read_boxes
from sterna.data.layout import Layout
from sterna.data.reverie import read_reverie
from sterna.data.views import InMemoryViews
from sterna.envs.graph_env import Panoramas
from sterna.files import read_json
from sterna.models.agent import Agent
from sterna.models.duet import DUET
from sterna.train.grounding import grounding_loss, object_targets
from sterna.train.imitation import ImitationConfig, ImitationTask, joined, record
from sterna.world.atlas import Atlas
from sterna.world.graph import connectivity_dir

SIZES = replace(SMALL, object_size=768, dropout=0.0, feature_dropout=0.0)


@pytest.fixture(scope="module")
def case(data_dir: Path) -> Any:
    stored = read_json(data_dir / "golden" / "D_reverie_small.json.gz")
    boxes = read_boxes(Layout(data_dir).boxes)
    known = {e.instr_id: e for e in read_reverie(data_dir, "train", boxes=boxes)}
    order = stored["teacher_ml1"]["order"]
    assert stored["sample0"]["order"] == order
    words = stored["txt_ids"]
    episodes = [replace(known[name], token_ids=tuple(words[name])) for name in order]
    atlas = Atlas.load(connectivity_dir(data_dir), {e.scan for e in episodes})
    views = InMemoryViews({key: view_features(key) for key in atlas.keys})
    objects = golden_objects(boxes, atlas)
    return stored, episodes, Panoramas(atlas, views, objects, max_objects=stored["max_objects"])


@pytest.mark.parametrize("name", ["teacher_ml1", "sample0"])
def test_rollout_targets_loss_and_gradients(case: Any, name: str) -> None:
    stored, episodes, panoramas = case
    wanted = stored[name]
    policy = DUET(SIZES)
    weights = stored["weights"]
    policy.load_state_dict(formula_state(SIZES, weights["sigma"], weights["tag"]))
    config = ImitationConfig(demonstrate="expert")
    task = ImitationTask(policy, panoramas, config).train()
    choose = None if name == "teacher_ml1" else forced("rev_sample0")
    with torch.no_grad():
        agent = Agent(policy, panoramas, cache=False)
        rows, labels, done = record(panoramas, episodes, choose, agent=agent, config=config)
    names = panoramas.atlas.viewpoints
    assert [[[names[n] for n in hop] for hop in hops] for hops in done.hops] == wanted["paths"]
    targets = object_targets(panoramas, episodes, rows)
    place = {(a, t): i for i, (a, t) in enumerate(zip(rows.agent, rows.step, strict=True))}
    for t, step in enumerate(wanted["steps"]):
        for a in range(len(episodes)):
            row, expert = place.pop((a, t), None), step["targets"]["expert"][a]
            assert (row is None) == (expert == -100)
            if row is not None:
                assert map_order(rows, row)[expert] == labels[row], (a, t)
                # Stored targets count tokens after STOP from 1, as ours do.
                assert targets[row] == step["targets"]["object"][a], (a, t)
    assert not place
    batch = joined(tuple(episodes), [(rows, labels, 1.0, len(episodes))])
    output, _, _ = task.run(batch)
    found = float(grounding_loss(output, batch, targets).detach())
    assert found == pytest.approx(wanted["OG_loss"], rel=2e-5)
    learnt = task(batch)
    assert learnt.metrics["action"] == pytest.approx(wanted["IL_loss"], rel=2e-5)
    assert float(learnt.loss.detach()) == pytest.approx(wanted["loss"], rel=2e-5)
    learnt.loss.backward()
    check_gradients(policy, wanted)
