"""Many agents at once: actions, endings, scores, and the recorded walks of VLN-CE."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import scenes
from sterna.data.episodes import Episode
from sterna.data.vlnce import Trajectory, read_trajectories, read_vlnce
from sterna.envs.walkers import Walkers, replay
from sterna.errors import InputError
from sterna.metrics import R2R_CE, R2R_DUET, RXR_CE, continuous_scores
from sterna.world.frames import Action
from sterna.world.plane import OpenPlane
from sterna.world.space import Space
from sterna.world.surface import Agent

GO, LEFT, RIGHT, STOP = Action.FORWARD, Action.LEFT, Action.RIGHT, Action.STOP


def episode(name: str, start: tuple, goal: tuple, heading: float = 0.0, scan: str = "a") -> Episode:
    return Episode(
        instr_id=name,
        scan=scan,
        path=(),
        heading=heading,
        instruction="go there",
        path_id=name,
        position=start,
        goal_positions=(goal,),
    )


def drawn_episodes(
    space: Space, scan: str, goals: int, each: int, rng: np.random.Generator
) -> list:
    """Episodes of at least 3 m between random points, several to a goal."""
    found = []
    for goal in space.random_points(goals, rng):
        starts = space.random_points(4 * each, rng)
        starts = starts[space.distances(starts, goal) > 3.2][:each]
        found += [
            episode(
                f"{scan}{len(found)}.{k}",
                tuple(p),
                tuple(goal),
                rng.integers(12) * math.pi / 6,
                scan,
            )
            for k, p in enumerate(starts.tolist())
        ]
    return found


def test_actions_endings_and_scores_on_the_open_plane() -> None:
    walkers = Walkers({"a": OpenPlane()}, replace(R2R_CE, name="short", max_steps=5))
    walkers.reset([episode("1", (0, 0, 0), (0, 4, 0)), episode("2", (0, 0, 0), (5, 0, 0))])
    for actions in ([GO, RIGHT], [GO, RIGHT], [STOP, GO], [GO, GO], [GO, LEFT], [GO, GO]):
        walkers.step(actions)
    assert walkers.position[0].tolist() == [0, 0.5, 0], "nothing moves after STOP"
    assert walkers.position[1] == pytest.approx(0.5 * np.array([0.5, math.sqrt(3) / 2, 0]))
    assert walkers.steps.tolist() == [3, 5] and walkers.stopped.tolist() == [True, False]
    assert walkers.heading[1] == pytest.approx(math.radians(15)), "the sixth action came too late"
    scores = continuous_scores(walkers.traces(), walkers.protocol)
    assert scores["NE"][0] == 3.5 and scores["TL"].tolist() == pytest.approx([0.5, 0.5])
    assert scores["SR"].tolist() == [0, 0] and scores["steps"].tolist() == [3, 5]


def test_bad_episodes_and_protocols_are_refused_by_name() -> None:
    space = Space(scenes.room())
    walkers = Walkers({"a": space}, R2R_CE)
    with pytest.raises(InputError, match="episode 1: no world for scan 'b'"):
        walkers.reset([episode("1", (1, 1, 0), (2, 2, 0), scan="b")])
    with pytest.raises(InputError, match="episode 1: it has no position"):
        walkers.reset([replace(episode("1", (1, 1, 0), (2, 2, 0)), position=None)])
    with pytest.raises(InputError, match=r"episode 1: .* more than 1.0 m away"):
        walkers.reset([episode("1", (1, 9, 0), (2, 2, 0))])
    walkers.reset([replace(episode("1", (1, 1, 0), (2, 2, 0)), goal_positions=())])
    with pytest.raises(InputError, match="episode 1: it has no goal"):
        walkers.traces()
    with pytest.raises(InputError, match="actions are 0 to 3"):
        walkers.step([4])
    with pytest.raises(InputError, match="R2R_DUET: it must fix forward_step"):
        Walkers({}, R2R_DUET)


@pytest.mark.parametrize(
    ("scan", "protocol"), [("flat", R2R_CE), ("maisonette", R2R_CE), ("maisonette", RXR_CE)]
)
def test_the_follower_succeeds_everywhere(scan: str, protocol) -> None:
    """576 episodes in all; the floor above and the stairs are on the way of many."""
    agent = Agent(radius=protocol.agent_radius, height=protocol.agent_height)
    space, rng = Space(getattr(scenes, scan)(), agent), np.random.default_rng(7)
    episodes = drawn_episodes(space, scan, 8, 24, rng)
    assert len(episodes) > 170
    walkers = Walkers({scan: space}, protocol)
    walkers.reset(episodes)
    while not walkers.done.all():
        walkers.step(walkers.follower_actions())
    scores = continuous_scores(walkers.traces(), protocol)
    assert scores["SR"].min() == 1.0 and scores["NE"].max() < 0.25
    assert scores["SPL"].mean() > 0.95 and scores["nDTW"].mean() > 0.9
    if scan == "maisonette":
        climbs = [abs(e.position[2] - e.goal_positions[0][2]) > 2 for e in episodes]
        assert sum(climbs) > 30


def test_a_goal_in_another_world_each() -> None:
    grounds = {name: Space(getattr(scenes, name)()) for name in ("room", "flat")}
    walkers = Walkers(grounds, R2R_CE)
    walkers.reset(
        [
            episode("1", (1, 1, 0), (3, 2, 0), scan="room"),
            episode("2", (1, 4, 0), (11, 4, 0), scan="flat"),
        ]
    )
    for _ in range(120):
        walkers.step(walkers.follower_actions(stop_within=0.3))
    assert walkers.stopped.all()
    traces = walkers.traces({"1": Trajectory(actions=np.array([0]), positions=np.ones((1, 3)))})
    assert traces[0].reference.shape == (1, 3) and len(traces[1].reference) >= 2
    assert traces[1].to_goal[-1] < 0.3 and traces[1].geodesic == traces[1].to_goal[0]


@pytest.mark.parametrize(
    ("split", "count", "close"), [("val_seen", 778, 393), ("val_unseen", 1839, 1077)]
)
def test_recorded_walks_replay_without_a_mesh(
    data_dir: Path, split: str, count: int, close: int
) -> None:
    """All reference trajectories of VLN-CE by kinematics alone, on the flat.

    `close` walks stay within 1 cm all the way; the rest met something in the real scene.
    """
    episodes, walks = read_vlnce(data_dir, split), read_trajectories(data_dir, split)
    plane = OpenPlane()
    walkers = Walkers(dict.fromkeys({e.scan for e in episodes}, plane), R2R_CE)
    recorded = [walks[e.instr_id] for e in episodes]
    places = replay(episodes, recorded, walkers)
    worst = np.array(
        [
            np.linalg.norm((places[: len(w.positions), i] - w.positions)[:, :2], axis=1).max()
            for i, w in enumerate(recorded)
        ]
    )
    assert len(worst) == count and (worst < 0.01).sum() == close
    assert np.percentile(worst, 90) < 0.0905 and worst.max() < 0.5
    ends = np.array([w.positions[-1] for w in recorded])
    goals = np.array([e.goal_positions[0] for e in episodes])
    assert np.linalg.norm(ends - goals, axis=1).max() <= 0.5
    assert walkers.stopped.all()
