"""The Gymnasium environment of continuous space: checker, sensors, reward, endings, scores."""

from __future__ import annotations

import math
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import scenes
from sterna.data.episodes import Episode
from sterna.envs.continuous import Camera, ContinuousNavEnv, cameras_of
from sterna.envs.house import HouseEnv
from sterna.errors import InputError
from sterna.metrics import R2R_CE, R2R_DUET, RXR_CE
from sterna.world.frames import Action, Pose
from sterna.world.space import Space

SPACE = Space(scenes.flat())


def episode(name: str, start: tuple, goal: tuple, heading: float = 0.0) -> Episode:
    return Episode(
        instr_id=name, scan="flat", path=(), heading=heading, instruction=f"Go to {goal}.",
        path_id=name, position=start, goal_positions=(goal,),
    )  # fmt: skip


EPISODES = [
    episode("1", (1.0, 4.0, 0.0), (4.5, 4.0, 0.0), math.pi / 2),
    episode("2", (1.0, 4.0, 0.0), (11.0, 7.0, 0.0)),
    episode("3", (7.0, 4.0, 0.0), (2.0, 2.0, 0.0)),
]


def frames(scan: str, eye: np.ndarray, heading: float, camera: Camera, sensor: str) -> np.ndarray:
    """Flat pictures that tell the pose: enough to see what was asked for."""
    shape = (camera.height, camera.width)
    if sensor == "rgb":
        return np.full((*shape, 3), int(10 * eye[2]) + int(heading), np.uint8)
    depth = np.full(shape, eye[0], np.float64)
    depth[0], depth[1], depth[2] = np.inf, np.nan, 0.1
    return depth


def test_checker_without_and_with_pictures() -> None:
    check_env(HouseEnv({"flat": SPACE}, EPISODES), skip_render_check=True)
    env = HouseEnv({"flat": SPACE}, EPISODES, frames=frames, sensors=("rgb", "depth", "pose"))
    check_env(env, skip_render_check=True)


def test_made_by_name() -> None:
    made = gymnasium.make(
        "sterna/House-v0", grounds={"flat": SPACE}, episodes=EPISODES, frames=frames,
        render_mode="rgb_array",
    )  # fmt: skip
    made.reset(seed=1)
    assert made.render().shape == (224, 224, 3)


def test_it_is_a_continuous_environment() -> None:
    env: ContinuousNavEnv = HouseEnv({"flat": SPACE}, EPISODES)
    env.reset(options={"instr_id": "1"})
    assert env.pose().position == pytest.approx(np.array([1, 4, 0]))
    assert env.geodesic((1, 4, 0), (2.5, 4, 0)) == pytest.approx(1.5)
    assert env.shortest_path((1, 4, 0), (3, 4, 0)).shape == (2, 3)
    assert env.is_navigable((1, 4, 0)) and not env.is_navigable((1, 1, 0))
    assert env.is_navigable(env.snap((1, 1, 0))) and not env.collided()
    assert env.topdown(0.0, 0.1)[0].any()
    assert env.observe_at(Pose(np.array([2.0, 4, 0]), 1.0))["pose"].tolist() == [2, 4, 0, 1]
    assert env.pose().position[0] == 1, "looking from elsewhere moves nothing"


@pytest.mark.parametrize("protocol", [R2R_CE, RXR_CE])
def test_sensors_follow_the_protocol(protocol) -> None:
    env = HouseEnv({"flat": SPACE}, EPISODES, frames=frames, protocol=protocol)
    seen, _ = env.reset(options={"instr_id": "1"})
    camera = cameras_of(protocol)["depth"]
    assert seen["rgb"].shape == (protocol.camera_height, protocol.camera_width, 3)
    assert seen["rgb"][0, 0, 0] == int(10 * protocol.camera_elevation) + 1
    assert seen["depth"].shape == (camera.height, camera.width, 1)
    assert seen["depth"][:3, 0, 0] == pytest.approx([camera.far, camera.far, max(0.1, camera.near)])
    assert seen["depth"][9, 0, 0] == pytest.approx(1.0) and seen["depth"].dtype == np.float32
    assert env.observation_space.contains(seen) and seen["instruction"] == EPISODES[0].instruction


def test_reward_is_progress_plus_bonus_and_scores_come_at_the_end() -> None:
    env = HouseEnv({"flat": SPACE}, EPISODES)
    _, info = env.reset(options={"instr_id": "1"})
    start, total = info["distance_to_goal"], 0.0
    assert start == pytest.approx(3.5, abs=0.03) and not info["success"]
    for _ in range(4):
        _, reward, terminated, truncated, info = env.step(Action.FORWARD)
        assert reward == pytest.approx(0.25, abs=0.04) and not (terminated or truncated)
        total += reward
    assert total == pytest.approx(start - info["distance_to_goal"]) and "scores" not in info
    _, reward, terminated, truncated, info = env.step(Action.STOP)
    assert (terminated, truncated) == (True, False) and reward == pytest.approx(10.0)
    scores = info["scores"]
    assert scores["SR"] == 1 and scores["TL"] == pytest.approx(1.0) and scores["steps"] == 5


def test_a_stop_too_far_away_and_the_step_cap() -> None:
    short = replace(R2R_CE, name="short", max_steps=3)
    env = HouseEnv({"flat": SPACE}, EPISODES, protocol=short)
    env.reset(options={"instr_id": "2"})
    _, reward, terminated, _, info = env.step(Action.STOP)
    assert terminated and reward == 0.0 and info["scores"]["SR"] == 0
    env.reset(options={"instr_id": "2"})
    ends = [env.step(Action.LEFT)[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


def test_the_expert_reaches_the_goal() -> None:
    env = HouseEnv({"flat": SPACE}, EPISODES)
    env.reset(options={"instr_id": "3"})
    ended = False
    while not ended:
        _, _, ended, truncated, info = env.step(env.expert_action())
        assert not truncated
    assert info["scores"]["SR"] == 1 and info["scores"]["SPL"] > 0.95


def test_same_seed_same_episode() -> None:
    env = HouseEnv({"flat": SPACE}, EPISODES)
    names = [env.reset(seed=seed)[1]["instr_id"] for seed in range(12)]
    assert names == [env.reset(seed=seed)[1]["instr_id"] for seed in range(12)]
    assert len(set(names)) == 3


def test_bad_arguments() -> None:
    grounds = {"flat": SPACE}
    with pytest.raises(InputError, match="at least one episode"):
        HouseEnv(grounds, [])
    with pytest.raises(InputError, match="no sensor 'smell'"):
        HouseEnv(grounds, EPISODES, sensors=("smell",))
    with pytest.raises(InputError, match="need frames"):
        HouseEnv(grounds, EPISODES, sensors=("rgb",))
    with pytest.raises(InputError, match="render_mode must be"):
        HouseEnv(grounds, EPISODES, render_mode="human")
    with pytest.raises(InputError, match="no camera_width"):
        cameras_of(R2R_DUET)
    env = HouseEnv(grounds, EPISODES)
    with pytest.raises(InputError, match="no episode 'nobody'"):
        env.reset(options={"instr_id": "nobody"})
    small = HouseEnv(grounds, EPISODES, frames=lambda *a: np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(InputError, match="expected rgb of"):
        small.reset(seed=0)
    shut = Space(scenes.shut_room())
    env = HouseEnv({"flat": shut}, [episode("1", (1, 1, 0), (3, 1, 0))])
    with pytest.raises(InputError, match="episode 1: no way leads"):
        env.reset()
