"""The Gymnasium environment: checker, determinism, reward, endings."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium
import h5py
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sterna.data.r2r import read_r2r
from sterna.envs.graph_env import Panoramas
from sterna.envs.gym import NavigationEnv
from sterna.errors import InputError
from toy import episode_on, line_graph, panoramas_of, toy_panoramas


@pytest.fixture(scope="module")
def panoramas(toy_house: Path) -> Panoramas:
    return toy_panoramas(toy_house)


@pytest.fixture
def env(panoramas: Panoramas, toy_house: Path) -> NavigationEnv:
    return NavigationEnv(panoramas, read_r2r(toy_house, "val_seen"))


@pytest.fixture
def line() -> NavigationEnv:
    graph = line_graph(4)
    return NavigationEnv(panoramas_of([graph]), [episode_on(graph, [0, 1, 2, 3])], max_steps=5)


def test_checker_direct(env: NavigationEnv) -> None:
    check_env(env, skip_render_check=True)


def test_checker_made(panoramas: Panoramas, toy_house: Path) -> None:
    """No warning either: the suite makes warnings errors."""
    made = gymnasium.make(
        "sterna/R2R-v0", panoramas=panoramas, episodes=read_r2r(toy_house, "val_unseen")
    )
    check_env(made.unwrapped)
    assert made.unwrapped.max_steps == 15  # type: ignore[attr-defined]
    assert "sterna/R4R-v0" in gymnasium.registry


def test_made_from_files(toy_house: Path, tmp_path: Path) -> None:
    views = tmp_path / "toy.hdf5"
    views.write_bytes((toy_house / "features" / "toy.hdf5").read_bytes())
    with h5py.File(views, "a") as file:
        file.attrs["feature_size"] = 32
    made = gymnasium.make("sterna/R2R-v0", data=toy_house, views=views, split="val_seen")
    observation, info = made.reset(seed=3)
    assert made.observation_space.contains(observation)
    assert info["distance_to_goal"] > 0 and info["action_mask"][0] == 1


def rollout(env: NavigationEnv, seed: int) -> list[object]:
    observation, info = env.reset(seed=seed)
    env.action_space.seed(seed)
    out: list[object] = [info["instr_id"], *map(np.copy, observation.values())]
    ended = False
    while not ended:
        action = env.action_space.sample(info["action_mask"])
        observation, reward, terminated, truncated, info = env.step(action)
        out += [action, reward, info["viewpoint"], *map(np.copy, observation.values())]
        ended = terminated or truncated
    return out


def test_same_seed_same_episode(env: NavigationEnv) -> None:
    for seed in range(4):
        first, second = rollout(env, seed), rollout(env, seed)
        assert len(first) == len(second)
        for a, b in zip(first, second, strict=True):
            assert np.array_equal(a, b)
    assert len({env.reset(seed=s)[1]["instr_id"] for s in range(20)}) > 5


def test_reward_is_progress_plus_bonus(line: NavigationEnv) -> None:
    _, info = line.reset(seed=0)
    assert info["distance_to_goal"] == 6.0 and not info["success"]
    total = 0.0
    for node in "BCD":
        before = info["distance_to_goal"]
        candidates = line._world.atlas.candidates[line._world.node[0]]
        action = 1 + int(np.flatnonzero(candidates == "ABCD".index(node))[0])
        _, reward, terminated, truncated, info = line.step(action)
        assert info["viewpoint"] == node and not (terminated or truncated)
        assert reward == pytest.approx(before - info["distance_to_goal"])
        total += reward
    assert info["success"] and total == pytest.approx(6.0)
    _, reward, terminated, truncated, info = line.step(0)
    assert (reward, terminated, truncated) == (10.0, True, False)


def test_success_is_strictly_within_the_radius() -> None:
    graph = line_graph(4)
    env = NavigationEnv(
        panoramas_of([graph]), [episode_on(graph, [0, 1, 2, 3])], success_radius=6.0
    )
    assert not env.reset(seed=0)[1]["success"]
    assert env.step(0)[1] == 0.0


def test_index_without_candidate_stays(line: NavigationEnv) -> None:
    _, info = line.reset(seed=0)
    bad = int(np.flatnonzero(info["action_mask"] == 0)[0])
    for _ in range(4):
        _, reward, terminated, truncated, info = line.step(bad)
        assert (reward, terminated, truncated, info["viewpoint"]) == (0.0, False, False, "A")
    assert line.step(bad)[3], "truncated after max_steps decisions"


def test_goal_set_and_named_episode(line: NavigationEnv) -> None:
    graph = line_graph(4)

    episode = replace(episode_on(graph, [0, 1, 2, 3]), goals=("A", "D"), instr_id="both")
    env = NavigationEnv(panoramas_of([graph]), [episode_on(graph, [3, 2]), episode])
    _, info = env.reset(options={"instr_id": "both"})
    assert info["distance_to_goal"] == 0.0 and info["success"]
    with pytest.raises(InputError, match="no episode 'nobody'"):
        env.reset(options={"instr_id": "nobody"})


def test_bad_arguments(panoramas: Panoramas) -> None:
    with pytest.raises(InputError, match="at least one episode"):
        NavigationEnv(panoramas, [])
    with pytest.raises(InputError, match="give panoramas and episodes"):
        NavigationEnv()
    graph = line_graph(2)
    with pytest.raises(InputError, match="render_mode must be None"):
        NavigationEnv(panoramas_of([graph]), [episode_on(graph, [0, 1])], render_mode="human")


def test_nothing_else_imports_gymnasium() -> None:
    code = "import sys, sterna.envs.graph_env; assert 'gymnasium' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
