"""Closed-loop GRPO of a navigator: walks of a group, their scores, what is learnt from them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("transformers", reason="navigators need transformers: sterna[vlm]")

import scenes
from sterna.data.episodes import Episode
from sterna.envs.continuous import Camera, ContinuousNavEnv
from sterna.envs.house import HouseEnv
from sterna.errors import InputError
from sterna.metrics.protocol import RXR_CE
from sterna.models.navigator.vlm import VlmNavigator
from sterna.train.loop import LoopConfig
from sterna.train.schedule import OptimizerConfig
from sterna.vlnr1.answers import AnswersConfig, AnswersTask
from sterna.vlnr1.objective import ObjectiveConfig, group_advantages
from sterna.vlnr1.rollouts import KeepingAgent, RolloutRunner, judged, scores_of, walk_all
from sterna.vlnr1.walks import WalkReward, walk_rewards
from sterna.world.space import Space
from toy_navigator import SIDE, tiny

SPACE = Space(scenes.flat())
PROTOCOL = replace(RXR_CE, name="short-walks", max_steps=12, camera_width=SIDE, camera_height=SIDE)
GROUP = 3
CONFIG = AnswersConfig(
    objective=ObjectiveConfig(group=GROUP, kl_weight=0.05), constrained=True, updates=2
)
REWARD = WalkReward(success=1.0, spl=0.0, progress=1.0)


def episode(name: str, start: tuple[float, float, float], goal: tuple[float, float, float]) -> Any:
    return Episode(
        instr_id=name, scan="flat", path=(), heading=math.pi / 2, instruction="go to the red sofa",
        path_id=name, position=start, goal_positions=(goal,), distance=3.5,
    )  # fmt: skip


EPISODES = [
    episode("1", (1.0, 4.0, 0.0), (4.5, 4.0, 0.0)),
    episode("2", (1.0, 4.2, 0.0), (4.5, 4.2, 0.0)),
]


def pictures(
    scan: str, eye: NDArray[Any], heading: float, camera: Camera, sensor: str
) -> NDArray[Any]:
    """A picture as bright as the agent is far along, and as red as it has turned."""
    out = np.full((camera.height, camera.width, 3), int(20 * eye[0]), np.uint8)
    out[..., 0] = int(40 * (heading % (2 * math.pi)))
    return out


def make(count: int) -> list[ContinuousNavEnv]:
    return [
        HouseEnv({"flat": SPACE}, EPISODES, frames=pictures, protocol=PROTOCOL, sensors=("rgb",))
        for _ in range(count)
    ]


def frozen(navigator: VlmNavigator) -> VlmNavigator:
    for weight in navigator.tower.parameters():
        weight.requires_grad_(False)
    return navigator


def task(config: AnswersConfig = CONFIG) -> AnswersTask:
    start = tiny() if config.objective.kl_weight else None
    return AnswersTask(frozen(tiny()), start, config).train()


class Watched(HouseEnv):
    """Keeps the scores that an episode ended with."""

    scores: dict[str, float]

    def step(self, action: Any) -> Any:
        out = super().step(action)
        self.scores = out[4].get("scores", {})
        return out


@pytest.mark.parametrize("execute", [None, 1])
def test_walks_their_scores_and_their_answers(execute: int | None) -> None:
    learner = task()
    agent = KeepingAgent(learner, execute, seed=3)
    envs = [
        Watched({"flat": SPACE}, EPISODES, frames=pictures, protocol=PROTOCOL, sensors=("rgb",))
        for _ in range(2 * GROUP)
    ]
    traces = walk_all(agent, envs, [e for e in EPISODES for _ in range(GROUP)], PROTOCOL)
    scores = scores_of(traces, GROUP, PROTOCOL)
    for name in ("SR", "SPL", "NE", "steps", "nDTW"):
        wanted = [env.scores[name] for env in envs]
        np.testing.assert_allclose(scores[name].ravel(), wanted, rtol=1e-9, err_msg=name)
    first = np.array([trace.to_goal[0] for trace in traces]).reshape(2, GROUP)
    np.testing.assert_allclose(scores["progress"], (first - scores["NE"]) / first)
    given = judged(agent, scores, REWARD, CONFIG)
    kept, steps = agent.kept, [len(trace.positions) - 1 for trace in traces]
    asked = np.bincount(kept.slots, minlength=6)
    assert asked.tolist() == [-(-count // (execute or 3)) for count in steps]
    assert len(kept.features) == sum(steps)
    # What a walk did is what it answered.
    for slot in range(6):
        mine = [given.actions[i] for i, s in enumerate(kept.slots) if s == slot]
        done = np.concatenate([a[: execute or 3] for a in mine])[: steps[slot]]
        assert (done == 0).any() == traces[slot].stopped
    advantage = group_advantages(walk_rewards(scores, REWARD)).ravel()
    np.testing.assert_array_equal(given.advantage, advantage[kept.slots])
    # Every walk counts alike, however long: items of a walk share 1 / N.
    share = np.bincount(kept.slots, given.weight * 3, minlength=6)
    np.testing.assert_allclose(share, 1 / 6)


def test_images_are_those_that_were_shown() -> None:
    """The tower's features of a question's frames, history first, the present one last."""
    learner = task()
    agent = KeepingAgent(learner, 1, seed=0)
    walk_all(agent, make(1), EPISODES[:1], PROTOCOL)
    given = judged(
        agent,
        {n: np.zeros((1, 1)) for n in ("SR", "SPL", "progress", "nDTW", "NE")},
        REWARD,
        CONFIG,
    )
    for number, (question, shown) in enumerate(zip(given.questions, given.shown, strict=True)):
        assert shown.tolist() == [*question.history, number]
        assert len(question.previous) == min(8, number)
    with torch.no_grad():
        found = learner.items(learner.policy, given)
    assert found.log_probs.shape == (len(given.questions), 3)


def runner(folder: Path, config: AnswersConfig = CONFIG, **loop: Any) -> RolloutRunner:
    options = {"iterations": 4, "batch_size": 2, "save_every": 2, "log_every": 1} | loop
    return RolloutRunner(
        task(config),
        make,
        PROTOCOL,
        REWARD,
        EPISODES,
        folder,
        LoopConfig(select_by="last", **options),
        OptimizerConfig(learning_rate=2e-3, clip_norm=1.0),
    )


def test_a_run_and_its_continuation(tmp_path: Path) -> None:
    runner(tmp_path / "a").run()
    runner(tmp_path / "b", iterations=2).run()
    (tmp_path / "b" / "recipe.json").unlink()
    runner(tmp_path / "b").run()
    states = [
        torch.load(tmp_path / run / "state.pt", weights_only=True)["modules"]["task"]
        for run in "ab"
    ]
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())
    rows = [json.loads(line) for line in (tmp_path / "a" / "log.jsonl").read_text().splitlines()]
    assert [row["ratio_off"] == 0 for row in rows] == [True, False, True, False]
    assert {"reward", "SR", "SPL", "NE", "entropy", "kl", "read"} <= rows[0].keys()


def test_rewards_alone_teach_to_walk_on(tmp_path: Path) -> None:
    """The goal lies straight ahead: progress rises when turning about and stopping are unlearnt."""
    config = replace(CONFIG, objective=ObjectiveConfig(group=6, kl_weight=0.0), updates=1)
    runner(tmp_path, config, iterations=12, save_every=12).run()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    reward = np.array([row["reward"] for row in rows])
    assert reward[-3:].mean() > reward[:3].mean() + 0.2
    assert np.mean([row["NE"] for row in rows[-3:]]) < np.mean([row["NE"] for row in rows[:3]])


def test_a_tower_that_is_trained_is_refused(tmp_path: Path) -> None:
    loose = AnswersTask(tiny(seed=5), None, AnswersConfig(objective=ObjectiveConfig(kl_weight=0)))
    with pytest.raises(InputError, match="freeze the vision tower"):
        RolloutRunner(
            loose, make, PROTOCOL, REWARD, EPISODES, tmp_path, LoopConfig(), OptimizerConfig()
        )
