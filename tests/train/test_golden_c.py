"""Whole greedy episodes on real R2R against the original DUET agent (golden set C)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from golden import formula_model
from golden_walk import TOLERANCE, Recording, compare, expected
from golden_world import SMALL, golden_episodes, golden_panoramas
from sterna.data.episodes import Episode
from sterna.envs.graph_env import GraphEnv, Panoramas
from sterna.files import read_json
from sterna.metrics import R2R_DUET, score_predictions
from sterna.models.agent import Agent
from sterna.models.duet import DUET
from sterna.models.walk import walk
from sterna.train.evaluate import predict, predictions_of
from sterna.world.graph import connectivity_dir

SCORES = {  # ours: (in an episode, in the summary as percent or metres)
    "NE": ("nav_error", "nav_error", 1),
    "oracle_error": ("oracle_error", "oracle_error", 1),
    "action_steps": ("action_steps", "action_steps", 1),
    "steps": ("trajectory_steps", "steps", 1),
    "TL": ("trajectory_lengths", "lengths", 1),
    "SR": ("success", "sr", 100),
    "SPL": ("spl", "spl", 100),
    "OSR": ("oracle_success", "oracle_sr", 100),
    "nDTW": ("nDTW", "nDTW", 100),
    "SDTW": ("SDTW", "SDTW", 100),
    "CLS": ("CLS", "CLS", 100),
}


@pytest.fixture(scope="module", params=["small_w1", "small_w2"])
def case(
    request: pytest.FixtureRequest, data_dir: Path
) -> tuple[dict[str, Any], DUET, Panoramas, list[Episode]]:
    stored = read_json(data_dir / "golden" / f"C_{request.param}.json.gz")
    words = {name: episode["txt_ids"] for name, episode in stored["episodes"].items()}
    episodes = golden_episodes(data_dir, "val_unseen", list(words), words)
    model = formula_model(SMALL, stored["weights"]["sigma"], stored["weights"]["tag"])
    assert isinstance(model, DUET)
    return stored, model, golden_panoramas(data_dir, episodes), episodes


def test_every_decision_and_score(case: Any, data_dir: Path) -> None:
    stored, model, panoramas, episodes = case
    agent = Recording(model, panoramas)
    done = walk(agent, GraphEnv(panoramas), episodes)
    predictions = predictions_of(panoramas.atlas, episodes, done)
    assert len(episodes) == 60
    for i, (episode, prediction) in enumerate(zip(episodes, predictions, strict=True)):
        wanted = stored["episodes"][episode.instr_id]
        assert [list(hop) for hop in prediction.hops] == wanted["trajectory"]
        seen = agent.seen[episode.instr_id]
        assert len(seen) == len(wanted["steps"])
        for found, step in zip(seen, wanted["steps"], strict=True):
            compare(found, expected(step))
        stops = [step["stop_prob"] for step in wanted["steps"]]
        np.testing.assert_allclose(done.stop_scores[i, : len(stops)], stops, atol=TOLERANCE)
    result = score_predictions(predictions, episodes, connectivity_dir(data_dir), R2R_DUET)
    for ours, (single, mean, factor) in SCORES.items():
        for name, value in zip(
            result.per_episode["instr_id"], result.per_episode[ours], strict=True
        ):
            assert value == pytest.approx(stored["episodes"][name]["scores"][single], abs=1e-9)
        assert result.scores[ours].mean * factor == pytest.approx(stored["summary"][mean], abs=1e-9)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_batch_size_changes_nothing(case: Any, batch_size: int) -> None:
    stored, model, panoramas, episodes = case
    some = episodes[:: 3 if batch_size == 1 else 1]
    agent = Agent(model, panoramas)
    found = predict(agent, panoramas, some, batch_size=batch_size, progress=False)
    for prediction in found:
        wanted = stored["episodes"][prediction.instr_id]["trajectory"]
        assert [list(hop) for hop in prediction.hops] == wanted
