"""Houses as an environment: the checker, pictures, episodes, the follower, agents at random."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from sterna.data.episodes import Episode
from sterna.data.vlnce import read_vlnce, write_vlnce
from sterna.envs.continuous import Camera
from sterna.envs.houses import HouseFrames, agent_of, draw_episodes, make_env
from sterna.envs.walkers import Walkers
from sterna.errors import InputError
from sterna.metrics import R2R_CE, RXR_CE, continuous_scores
from sterna.world.frames import Action, direction
from sterna.world.geometry import Floats
from sterna.world.houses import House, make_house, render
from sterna.world.houses.ground import ground_of
from sterna.world.houses.scans import scan_of
from sterna.world.space import Space

SEEDS = (0, 2, 5)  # the last two have two storeys
EACH = 20  # episodes a house; benchmarks/walk_houses.py walks 500 and takes a million steps

SMALL = replace(R2R_CE, name="small", camera_width=32, camera_height=24, depth_width=40)


@pytest.fixture(scope="module")
def houses() -> list[House]:
    return [make_house(seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def grounds(houses: list[House]) -> dict[str, Space]:
    return {scan_of(house.seed): ground_of(house) for house in houses}


@pytest.fixture(scope="module")
def episodes(houses: list[House], grounds: dict[str, Space]) -> list[Episode]:
    pairs = zip(houses, grounds.values(), strict=True)
    return [e for house, ground in pairs for e in draw_episodes(house, ground, EACH)]


def test_the_checker_passes() -> None:
    check_env(make_env([2], episodes=2, protocol=SMALL), skip_render_check=True)


def test_episodes_are_those_of_every_run(
    houses: list[House], grounds: dict[str, Space], episodes: list[Episode]
) -> None:
    again = draw_episodes(houses[1], grounds["house-000002"], 5)
    assert again == episodes[EACH : EACH + 5]
    assert len({e.instr_id for e in episodes}) == len(episodes)
    assert [(e.position, e.goal_positions[0]) for e in again[:2]] == PINNED
    for episode in episodes:
        ground, start = grounds[episode.scan], episode.position
        assert 5 <= episode.distance <= 20
        length = ground.geodesic(start, episode.goal_positions[0])
        assert length == pytest.approx(episode.distance, abs=1e-4)
        assert episode.waypoints[0] == start and episode.waypoints[-1:] == episode.goal_positions
        assert ground.is_navigable(episode.waypoints).all()
        assert math.degrees(episode.heading) == pytest.approx(round(math.degrees(episode.heading)))
    climbs = [abs(e.position[2] - e.goal_positions[0][2]) > 2 for e in episodes]
    assert sum(climbs) > 8


# A change of these changes episodes people have: say so in the changelog.
PINNED = [
    ((1.725, 2.325, 2.88), (1.725, 2.425, 0.0)),
    ((0.775, 5.275, 2.88), (2.325, 12.125, 2.88)),
]


def test_episodes_survive_a_file(episodes: list[Episode], tmp_path) -> None:
    write_vlnce(tmp_path / "val.json.gz", episodes)
    back = read_vlnce(tmp_path / "val.json.gz")
    assert [e.scan for e in back] == [e.scan for e in episodes]
    for read, written in zip(back, episodes, strict=True):
        assert (read.instr_id, read.position, read.distance, read.instruction) == (
            written.instr_id, written.position, written.distance, written.instruction,
        )  # fmt: skip
        assert read.waypoints == written.waypoints
        assert read.heading == pytest.approx(written.heading)


def test_the_follower_reaches_every_goal(
    grounds: dict[str, Space], episodes: list[Episode]
) -> None:
    walkers = Walkers(grounds, R2R_CE)
    walkers.reset(episodes)
    while not walkers.done.all():
        walkers.step(walkers.follower_actions())
    scores = continuous_scores(walkers.traces(), R2R_CE)
    assert scores["SR"].min() == 1.0 and scores["SPL"].mean() > 0.95
    assert scores["NE"].max() < 0.25 and scores["nDTW"].mean() > 0.9


def test_steps_at_random_stay_on_the_walkable_area(
    houses: list[House], grounds: dict[str, Space], episodes: list[Episode]
) -> None:
    crowd = episodes * 5  # 300 agents
    walkers, rng = Walkers(grounds, R2R_CE), np.random.default_rng(3)
    walkers.reset(crowd)
    start = walkers.position
    for _ in range(70):
        walkers.step(rng.choice((1, 1, 1, 2, 3), size=len(crowd)))
        for scan, ground in grounds.items():
            own = walkers.position[[e.scan == scan for e in crowd]]
            assert ground.is_navigable(own).all()
    assert walkers.collisions.sum() > 1000, "they met walls"
    assert np.linalg.norm(walkers.position - start, axis=1).mean() > 1
    for house in houses:
        own = walkers.position[[e.scan == scan_of(house.seed) for e in crowd]]
        least = clearance(house, grounds[scan_of(house.seed)], own)
        assert least > 0.1 - 0.71 * 0.05, "nearer to a box than cells leave open"


def clearance(house: House, space: Space, points: Floats) -> float:
    """Least distance on the flat to what stands in an agent's way, from the house's own boxes."""
    boxes = house.boxes[house.box_class != house.classes.index("stairs")].astype(np.float64)
    gap = np.maximum(boxes[:, None, :2] - points[:, :2], points[:, :2] - boxes[:, None, 3:5])
    away = np.hypot(*np.moveaxis(gap.clip(0), -1, 0))
    step, head = points[:, 2] + space.agent.step, points[:, 2] + space.agent.height
    meets = (boxes[:, None, 5] > step + 1e-3) & (boxes[:, None, 2] < head - 1e-3)
    return float(np.where(meets, away, np.inf).min())


def test_frames_are_the_renderers(houses: list[House], grounds: dict[str, Space]) -> None:
    eye = grounds["house-000000"].surface.centres[20000] + [0, 0, 1.25]
    camera = Camera(width=48, height=36, hfov=90, elevation=1.25, near=0.5, far=4)
    frames = HouseFrames(houses)
    rgb = frames("house-000000", eye, 0.7, camera, "rgb")
    depth = frames("house-000000", eye, 0.7, camera, "depth")
    lens = render.Camera(width=48, height=36, hfov=90)
    plain = render.Renderer(houses[0]).render(lens, eye, 0.7)
    assert (rgb == plain.rgb[0]).all() and (depth == plain.depth[0]).all()
    assert frames.renderer("house-000000") is frames.renderer("house-000000")
    both = HouseFrames(houses, threads=2)
    assert (both("house-000000", eye, 0.7, camera, "rgb") == rgb).all()
    other = HouseFrames()("house-000000", eye, 0.7, camera, "rgb")  # made when asked for
    assert (other == rgb).all() and rgb.std() > 5


def test_depth_tells_how_far_the_agent_can_go() -> None:
    """Ahead of the camera depth is the distance to what stops it, within the camera's range."""
    env = make_env([0], episodes=3, protocol=SMALL, sensors=("depth", "pose"))
    seen, _ = env.reset(options={"instr_id": "house-000000_1"})
    assert seen["depth"].shape == (256, 40, 1) and seen["depth"].dtype == np.float32
    assert env.observation_space.contains(seen)
    assert seen["depth"].min() >= 0 and seen["depth"].max() <= 10
    for _ in range(12):
        pose = env.pose()
        level = float(env.observe_at(pose)["depth"][127:129, 19:21].min())
        free = 0.0
        while env.is_navigable(
            pose.position + np.append(direction(pose.heading) * (free + 0.02), 0)
        ):
            free += 0.02
        # Lower things may stop the agent before what the camera looks at.
        assert free < level, "it walks through what it sees"
        env.step(Action.RIGHT)
    near = replace(SMALL, name="near", depth_near=0.5, depth_far=2.0)
    close = make_env([0], episodes=env.episodes, protocol=near, sensors=("depth",))
    clipped, _ = close.reset(options={"instr_id": "house-000000_1"})
    assert seen["depth"].min() < 0.5, "the range matters here"
    assert (clipped["depth"] == seen["depth"].clip(0.5, 2.0)).all()


def test_bodies_and_bad_arguments(houses: list[House], grounds: dict[str, Space]) -> None:
    assert agent_of(R2R_CE).radius == 0.1 and agent_of(RXR_CE).height == 0.88
    with pytest.raises(InputError, match="at least one house's seed"):
        make_env([])
    with pytest.raises(InputError, match="no house is named '17DRP5sb8fy'"):
        HouseFrames().renderer("17DRP5sb8fy")
    camera = Camera(width=8, height=8, hfov=90, elevation=1.25)
    with pytest.raises(InputError, match="no sensor 'smell'"):
        HouseFrames(houses)("house-000000", np.zeros(3), 0.0, camera, "smell")
    with pytest.raises(InputError, match="house 0: no path of 90 to 91 m"):
        draw_episodes(houses[0], grounds["house-000000"], 1, shortest=90, longest=91)
