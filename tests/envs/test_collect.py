"""Recorded walks: labels are the environment's own expert's; noise, agents, replays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scenes import flat
from sterna.data.ego import EgoCamera, EgoStore, EgoWriter
from sterna.data.ego.store import decode
from sterna.data.episodes import Episode
from sterna.data.vlnce import Trajectory
from sterna.envs.collect import CollectConfig, Recorded, collect, record, replay, replay_in
from sterna.envs.continuous import Camera
from sterna.envs.expert import windows
from sterna.envs.film import SourceFilm
from sterna.envs.house import HouseEnv
from sterna.errors import InputError
from sterna.metrics import R2R_CE, RXR_CE
from sterna.world.frames import Action
from sterna.world.space import Space

CAMERA = Camera(width=16, height=12, hfov=90, elevation=1.25)
SMALL = replace(R2R_CE, name="small", camera_width=16, camera_height=12)
STIFF = replace(RXR_CE, name="stiff", camera_width=16, camera_height=12)  # 30 degrees, no sliding


def paint(scan, eye, heading, camera, sensor):
    """A frame that tells the pose: no two steps of a walk look alike."""
    tone = np.array([eye[0] * 20, eye[1] * 20, heading * 40]) % 256
    return np.broadcast_to(tone.astype(np.uint8), (camera.height, camera.width, 3)).copy()


FILM = SourceFilm(paint, CAMERA)


@pytest.fixture(scope="module")
def grounds() -> dict[str, Space]:
    return {"flat": Space(flat())}


def episode(name: str, start, goal, *, between=(), heading: float = 0.5) -> Episode:
    return Episode(
        instr_id=name, scan="flat", path=(), heading=heading, instruction=f"Go to {name}.",
        path_id=name, position=start, waypoints=(start, *between, goal), goal_positions=(goal,),
        goal_radius=1.0, distance=1.0,
    )  # fmt: skip


EPISODES = [
    episode("one", (1.0, 4.0, 0.0), (4.0, 4.3, 0.0)),
    episode("two", (3.0, 7.5, 0.0), (3.4, 4.0, 0.0), heading=3.0),
    episode("three", (2.0, 2.2, 0.0), (2.0, 2.3, 0.0)),  # there already
]
ROUND = [episode("round", (1.0, 4.0, 0.0), (6.5, 2.0, 0.0), between=((9.0, 4.0, 0.0),))]


def walk_all(grounds, episodes=EPISODES, agent=None, **options) -> list[Recorded]:
    protocol, slots = options.pop("protocol", SMALL), options.pop("slots", 64)
    config = CollectConfig(**options)
    return list(
        collect(agent, episodes, grounds, film=FILM, protocol=protocol, config=config, slots=slots)
    )


def own_labels(env: HouseEnv, one: Recorded, step: int) -> list[int]:
    """What the environment's expert does from a step of a walk on, asked one action at a time."""
    env.reset(options={"instr_id": one.walk.episodes[0].instr_id})
    for action in one.walk.taken[:step]:
        env.step(action)
    assert np.array_equal(env.pose().position, one.walk.poses[step, :3])
    found: list[int] = []
    while len(found) < 8 and found[-1:] != [Action.STOP]:
        found.append(env.expert_action())
        env.step(found[-1])
    return found + [Action.STOP] * (8 - len(found))


@pytest.mark.parametrize(("protocol", "noise"), [(SMALL, 0.0), (SMALL, 0.3), (STIFF, 0.3)])
def test_labels_are_the_environments_own(grounds, protocol, noise: float) -> None:
    env = HouseEnv(grounds, EPISODES, protocol=protocol)
    records = walk_all(grounds, protocol=protocol, noise=noise)
    strayed = 0
    for one in records:
        walk = one.walk
        assert one.stopped and one.left < 0.25 and walk.source == "expert"
        # Steps where the walk left the expert's way, and others.
        off = np.flatnonzero(walk.taken != walk.expert[:, 0])
        for step in {*off[:4], *range(0, len(walk.taken), 9)}:
            assert walk.expert[step].tolist() == own_labels(env, one, step), (walk.episodes, step)
        strayed += len(off)
    assert strayed > 3 if noise else strayed == 0


def test_an_expert_that_turns_less_walks_straighter_and_stops_where_it_is_told(grounds) -> None:
    far = [
        episode(str(n), (1.0, 4.0, 0.0), (7.0, 2.0 + n / 3, 0.0), heading=n / 2) for n in range(12)
    ]
    turns, ends = [], []
    for cost, within in ((0.004, 0.25), (0.02, 0.6)):
        walks = walk_all(grounds, far, protocol=STIFF, turn_cost=cost, stop_within=within)
        turns.append(sum(int((one.walk.taken >= Action.LEFT).sum()) for one in walks))
        ends.append(np.mean([one.left for one in walks]))
        assert all(one.stopped and one.left < within for one in walks)
    assert turns[1] < 0.8 * turns[0] and ends[1] > 0.3 > ends[0]


def test_frames_are_what_is_seen_before_each_action(grounds) -> None:
    for one in walk_all(grounds, noise=0.3, quality=95):
        for file, pose in zip(one.frames, one.walk.poses, strict=True):
            seen = decode(file).astype(int)
            told = paint("flat", pose[:3], pose[3], CAMERA, "rgb")
            assert np.abs(seen - told).max() <= 4


def test_the_number_side_by_side_changes_nothing(grounds) -> None:
    alone, many = (walk_all(grounds, noise=0.3, slots=slots) for slots in (1, 3))
    for one, other in zip(alone, many, strict=True):
        assert (one.walk.records() == other.walk.records()).all()
        assert one.frames == other.frames and one.left == other.left
    changed = walk_all(grounds, noise=0.3, seed=1)
    assert any(len(a.frames) != len(b.frames) for a, b in zip(alone, changed, strict=True))


def test_the_expert_walks_past_waypoints(grounds) -> None:
    (straight,) = walk_all(grounds, ROUND)
    (bent,) = walk_all(grounds, ROUND, route="waypoints")
    near = np.linalg.norm(bent.walk.poses[:, :2] - (9.0, 4.0), axis=1).min()
    assert near < 0.5 < np.linalg.norm(straight.walk.poses[:, :2] - (9.0, 4.0), axis=1).min()
    assert bent.left < 0.25 and len(bent.walk.taken) > len(straight.walk.taken)
    assert (bent.walk.expert == windows(bent.walk.taken, 8)).all()


class Spinner:
    """Turns left for ever; notes what it is shown."""

    name = "spinner"

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []
        self.texts: list[str] = []

    def reset(self, slots, observations, episodes) -> None:
        assert list(slots) == list(range(len(episodes)))
        self.texts = [seen["instruction"] for seen in observations]

    def act(self, observations, active) -> np.ndarray:
        assert active.any()
        self.seen.append(np.stack([seen["rgb"] for seen in observations]))
        return np.full(len(active), int(Action.LEFT))


def test_an_agents_states_get_the_experts_labels(grounds) -> None:
    agent, env = Spinner(), HouseEnv(grounds, EPISODES, protocol=SMALL)
    records = walk_all(grounds, EPISODES[:2], agent, limit=12)
    assert agent.texts == ["Go to one.", "Go to two."]
    for slot, one in enumerate(records):
        assert one.walk.taken.tolist() == [Action.LEFT] * 12 and not one.stopped
        assert one.walk.source == "spinner"
        for step in range(0, 12, 3):
            assert one.walk.expert[step].tolist() == own_labels(env, one, step)
            told = paint("flat", one.walk.poses[step, :3], one.walk.poses[step, 3], CAMERA, "rgb")
            assert (agent.seen[step][slot] == told).all()
    mixed = walk_all(grounds, EPISODES[:2], Spinner(), limit=40, beta=0.7)
    share = np.mean([m.walk.taken == m.walk.expert[:, 0] for m in mixed])
    assert 0.55 < share < 0.95
    led = walk_all(grounds, EPISODES[:2], Spinner(), beta=1.0)
    for one, other in zip(led, walk_all(grounds, EPISODES[:2]), strict=True):
        assert (one.walk.records() == other.walk.records()).all()


def reference(one: Recorded) -> Trajectory:
    places = one.walk.poses[:, :3]
    moved = np.flatnonzero(one.walk.taken == Action.FORWARD) + 1
    return Trajectory(actions=one.walk.taken, positions=places[np.append(0, moved)])


def test_replays_in_batches_and_in_an_environment(grounds) -> None:
    records = walk_all(grounds)
    known = {one.walk.episodes[0].instr_id: reference(one) for one in records}
    again = list(replay(EPISODES, known, grounds, film=FILM, protocol=SMALL))
    env = HouseEnv(grounds, EPISODES, frames=paint, protocol=SMALL, sensors=("rgb",))
    single = [replay_in(env, e, known[e.instr_id]) for e in EPISODES]
    for one, other, third in zip(records, again, single, strict=True):
        assert (one.walk.records() == other.walk.records()).all()
        assert (one.walk.records() == third.walk.records()).all()
        assert one.frames == other.frames == third.frames
        assert other.left < 1e-9 and other.walk.source == "reference"
    known.pop("two")
    with pytest.raises(InputError, match="episode two: no reference trajectory"):
        list(replay(EPISODES, known, grounds, film=FILM, protocol=SMALL))
    blind = HouseEnv(grounds, EPISODES, protocol=SMALL)
    with pytest.raises(InputError, match="expected the sensor rgb, found"):
        replay_in(blind, EPISODES[0], known["one"])


def test_rounds_are_written_once(grounds, tmp_path: Path) -> None:
    camera = EgoCamera(width=16, height=12, hfov=90, elevation=1.25)
    writer = EgoWriter(
        tmp_path / "w", settings={}, protocol=SMALL.to_dict(), protocol_hash="", camera=camera
    )
    record(writer, "0-expert", walk_all(grounds), arrived=1.0)
    record(writer, "1-spinner", walk_all(grounds, EPISODES[:2], Spinner(), limit=5))
    record(writer, "1-spinner", iter([None]))  # there already: not even asked for
    record(writer, "2-lost", walk_all(grounds, EPISODES[:2], Spinner(), limit=5), arrived=1.0)
    assert writer.finish()["counts"]["left_out"] == 2
    store = EgoStore(tmp_path / "w")
    assert [e.source for e in store.episodes] == ["expert"] * 3 + ["spinner"] * 2
    assert [len(e) for e in store.episodes[3:]] == [5, 5]


def test_bad_settings_are_refused(grounds) -> None:
    with pytest.raises(InputError, match=r"noise is from 0 to 1, found 1\.5"):
        CollectConfig(noise=1.5)
    with pytest.raises(InputError, match="quality is from 1 to 95"):
        CollectConfig(quality=100)
    for wrong in ({"turn_cost": -0.1}, {"stop_within": 0.0}, {"stop_within": 1.5}):
        with pytest.raises(InputError, match="the expert stops within 1 m and turns for"):
            CollectConfig(**wrong)
    nowhere = replace(EPISODES[0], goal_positions=((50.0, 50.0, 0.0),))
    with pytest.raises(InputError, match="no agent can stand within"):
        walk_all(grounds, [nowhere])
    with pytest.raises(InputError, match="needs waypoints"):
        walk_all(grounds, [replace(EPISODES[0], waypoints=())], route="waypoints")
