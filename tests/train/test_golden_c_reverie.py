"""Whole greedy episodes on real REVERIE, objects included, against the original DUET agent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden import formula_model, view_features
from golden_walk import TOLERANCE, Recording
from golden_world import SMALL, golden_objects
from sterna.data.boxes import read_boxes
from sterna.data.episodes import Episode
from sterna.data.layout import Layout
from sterna.data.reverie import read_reverie
from sterna.data.views import InMemoryViews
from sterna.envs.graph_env import GraphEnv, Panoramas
from sterna.files import read_json
from sterna.metrics import REVERIE_DUET, score_predictions
from sterna.models.agent import Agent
from sterna.models.duet import DUET
from sterna.models.walk import walk
from sterna.train.evaluate import predict, predictions_of
from sterna.world.atlas import Atlas
from sterna.world.graph import connectivity_dir

SCORES = {  # ours: (in an episode, in the summary, as percent or metres)
    "action_steps": ("action_steps", "action_steps", 1),
    "steps": ("trajectory_steps", "steps", 1),
    "TL": ("trajectory_lengths", "lengths", 1),
    "SR": ("success", "sr", 100),
    "OSR": ("oracle_success", "oracle_sr", 100),
    "SPL": ("spl", "spl", 100),
    "RGS": ("rgs", "rgs", 100),
    "RGSPL": ("rgspl", "rgspl", 100),
}


@pytest.fixture(scope="module")
def case(data_dir: Path) -> tuple[dict[str, Any], DUET, Panoramas, list[Episode]]:
    stored = read_json(data_dir / "golden" / "C_reverie_small_w1.json.gz")
    boxes = read_boxes(Layout(data_dir).boxes)
    known = {e.instr_id: e for e in read_reverie(data_dir, "val_unseen", boxes=boxes)}
    episodes = [
        replace(known[name], token_ids=tuple(item["txt_ids"]))
        for name, item in stored["episodes"].items()
    ]
    atlas = Atlas.load(connectivity_dir(data_dir), {e.scan for e in episodes})
    views = InMemoryViews({key: view_features(key) for key in atlas.keys})
    panoramas = Panoramas(atlas, views, golden_objects(boxes, atlas))
    weights = stored["weights"]
    model = formula_model(replace(SMALL, object_size=768), weights["sigma"], weights["tag"])
    assert isinstance(model, DUET)
    return stored, model, panoramas, episodes


def compare_fused(found: dict[str, Any], step: dict[str, Any]) -> None:
    """A decision as REVERIE's set stores it: no global and local logits beside the fused ones."""
    assert (found["vp"], found["view"]) == (step["vp"], step["view"])
    assert found["visited"] == {name: i < step["visited"] for i, name in enumerate(step["map"])}
    assert list(found["local"]) == step["cand"]
    wanted = [-np.inf if v is None else v for v in step["fused"]]
    mine = [found["stop"][0], *(found["fused"][name] for name in step["map"])]
    np.testing.assert_allclose(mine, wanted, rtol=0, atol=TOLERANCE)


def test_every_decision_object_and_score(case: Any, data_dir: Path) -> None:
    stored, model, panoramas, episodes = case
    agent = Recording(model, panoramas)
    done = walk(agent, GraphEnv(panoramas), episodes)
    predictions = predictions_of(panoramas.atlas, episodes, done)
    assert len(episodes) == 20
    decisions = objects = 0
    for episode, prediction in zip(episodes, predictions, strict=True):
        wanted = stored["episodes"][episode.instr_id]
        assert [list(hop) for hop in prediction.hops] == wanted["trajectory"]
        chosen = wanted["pred_objid"]
        assert prediction.object_id == (None if chosen is None else int(chosen))
        seen = agent.seen[episode.instr_id]
        assert len(seen) == len(wanted["steps"])
        for found, step in zip(seen, wanted["steps"], strict=True):
            compare_fused(found, step)
            ids = [int(i) for i in step["obj_ids"]]
            assert list(found["objects"]) == ids
            logits = list(found["objects"].values())
            np.testing.assert_allclose(logits, step["obj_logits"] or [], rtol=0, atol=TOLERANCE)
            decisions, objects = decisions + 1, objects + len(ids)
    assert decisions == 223 and objects > 400
    result = score_predictions(predictions, episodes, connectivity_dir(data_dir), REVERIE_DUET)
    for ours, (single, mean, factor) in SCORES.items():
        for name, value in zip(
            result.per_episode["instr_id"], result.per_episode[ours], strict=True
        ):
            assert value == pytest.approx(stored["episodes"][name]["scores"][single], abs=1e-9)
        assert result.scores[ours].mean * factor == pytest.approx(stored["summary"][mean], abs=1e-9)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_batch_size_changes_nothing(case: Any, batch_size: int) -> None:
    stored, model, panoramas, episodes = case
    agent = Agent(model, panoramas)
    for found in predict(agent, panoramas, episodes, batch_size=batch_size, progress=False):
        wanted = stored["episodes"][found.instr_id]
        assert [list(hop) for hop in found.hops] == wanted["trajectory"]
        chosen = wanted["pred_objid"]
        assert found.object_id == (None if chosen is None else int(chosen))
