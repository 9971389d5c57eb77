"""Groups of sampled walks: shared states are the walks' own, rewards are the evaluator's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sterna.data.episodes import Episode
from sterna.envs.graph_env import GraphEnv, Panoramas
from sterna.errors import InputError
from sterna.metrics import R2R_DUET, score_predictions
from sterna.models.agent import Agent, TextReader
from sterna.models.walk import sample_with, walk
from sterna.train.evaluate import predictions_of
from sterna.train.packed import buckets, packed_pass
from sterna.vlnr1.walks import Sampled, WalkReward, sample, scores_of, walk_rewards
from toy import tiny_model

GROUP, STEPS = 4, 6


def drawn(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((STEPS, count * GROUP))


def sampled(panoramas: Panoramas, episodes: list[Episode], *, look_back: bool = False) -> Sampled:
    model = tiny_model().eval()
    with torch.no_grad():
        text = TextReader(model)(episodes)
    return sample(model, panoramas, text, episodes, drawn(len(episodes)), look_back=look_back)


@pytest.mark.parametrize("look_back", [False, True])
def test_a_group_walks_as_separate_agents_would(
    panoramas: Panoramas, episodes: list[Episode], look_back: bool
) -> None:
    """The same draws, every walk an agent of its own with a map and a memory of its own."""
    found, draws = sampled(panoramas, episodes, look_back=look_back), drawn(len(episodes))
    every = [e for e in episodes for _ in range(GROUP)]
    alone = walk(
        Agent(tiny_model().eval(), panoramas, cache=False),
        GraphEnv(panoramas),
        every,
        lambda rows, logits: sample_with(lambda n: draws[int(rows.step[0]), rows.agent])(
            rows, logits
        ),
        max_steps=STEPS,
        ends_at=None if look_back else lambda rows: np.zeros(len(rows), bool),
        keep=True,
    )
    assert found.walks.hops == alone.hops
    for mine, theirs in zip(found.walks.logits, alone.logits, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-4)
    walks = {str(h) for h in alone.hops}
    assert len(episodes) < len(walks) < len(every), "some walks should part, some not"


def test_shared_states_give_the_logits_of_the_walk(
    panoramas: Panoramas, episodes: list[Episode]
) -> None:
    """The packed pass over distinct states equals what each walker saw, decision by decision."""
    model, found = tiny_model().eval(), sampled(panoramas, episodes)
    rows, shared = found.rows, found.shared
    passed = sum(len(r) for r in found.walks.rows)
    assert len(rows) < 0.9 * passed and found.visits.sum() == passed
    assert len(shared.node) < len(rows)
    tokens = int(panoramas.lengths[shared.node].max())
    groups = list(buckets(rows, tokens, 3, shared))
    table = torch.from_numpy(panoramas.features)
    logits = {}
    with torch.no_grad():
        text = TextReader(model)(episodes)
        output = packed_pass(model, panoramas, table, text, rows, groups, shared)
    for index, fused in output.fused():
        logits |= dict(zip(index.tolist(), fused.numpy(), strict=True))
    steps = {
        (int(a), int(r.step[0])): (i, k)
        for i, r in enumerate(found.walks.rows)
        for k, a in enumerate(r.agent)
    }
    for row, agent, slot in zip(found.row, found.walk, found.slot, strict=True):
        i, k = steps[int(agent), int(rows.step[row])]
        wanted = found.walks.logits[i][k]
        used = int(rows.mask[row].sum())
        np.testing.assert_allclose(logits[int(row)][:used], wanted[:used], rtol=0, atol=2e-4)
        assert found.walks.choices[i][k] == slot and np.isfinite(wanted[slot])
        assert rows.agent[row] == agent // GROUP


def test_decisions_without_effect_are_left_out(
    panoramas: Panoramas, episodes: list[Episode]
) -> None:
    found = sampled(panoramas, episodes)
    assert found.rows.step.max() == STEPS - 1
    assert (found.rows.step[found.row] < STEPS - 1).all()
    counts = np.bincount(found.walk, minlength=len(episodes) * GROUP)
    taken = np.array([len(hops) - 1 for hops in found.walks.hops])
    stopped = ~found.walks.looked_back & (counts > 0)
    assert (counts[stopped] >= taken[stopped]).all()


def test_scores_are_the_evaluator_s(
    toy_house: Path, panoramas: Panoramas, episodes: list[Episode]
) -> None:
    found = sampled(panoramas, episodes)
    scores = scores_of(panoramas.atlas, episodes, found.walks, R2R_DUET)
    predictions = predictions_of(
        panoramas.atlas, [e for e in episodes for _ in range(GROUP)], found.walks
    )
    for g in range(GROUP):
        result = score_predictions(
            predictions[g::GROUP], episodes, toy_house / "connectivity", R2R_DUET
        )
        assert result.per_episode is not None
        for name in ("SR", "SPL", "NE", "nDTW"):
            np.testing.assert_array_equal(scores[name][:, g], result.per_episode[name])


def test_rewards_are_the_weighted_sum(panoramas: Panoramas, episodes: list[Episode]) -> None:
    found = sampled(panoramas, episodes)
    scores = scores_of(panoramas.atlas, episodes, found.walks, R2R_DUET)
    config = WalkReward(success=2.0, spl=0.5, progress=0.25, ndtw=1.5)
    rewards = walk_rewards(scores, config)
    for b, episode in enumerate(episodes):
        graph = panoramas.atlas.graphs[panoramas.atlas.scan_number[episode.scan]]
        far = graph.distances[graph.index(episode.start), graph.index(episode.goal)]
        for g in range(GROUP):
            s = {name: float(values[b, g]) for name, values in scores.items()}
            progress = max(-1.0, (far - s["NE"]) / far)
            wanted = 2 * s["SR"] + 0.5 * s["SPL"] + 0.25 * progress + 1.5 * s["nDTW"]
            assert rewards[b, g] == pytest.approx(wanted, rel=1e-12)
    assert len(np.unique(rewards)) > 5


@pytest.mark.parametrize("change", [{"success": -1.0}, {"success": 0.0, "spl": 0.0}])
def test_rewards_that_are_none_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(InputError, match="one must count"):
        WalkReward(**change)
