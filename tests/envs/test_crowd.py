"""A crowd in houses walks what environments of one episode walk, to the last bit."""

import re
from dataclasses import replace

import numpy as np
import pytest

from sterna.data.tracks import Track, track_line
from sterna.envs.crowd import Crowd, walk_houses
from sterna.envs.house import HouseEnv
from sterna.envs.house_worlds import HouseWorlds
from sterna.envs.houses import agent_of
from sterna.envs.tasks import draw_tasks
from sterna.metrics.protocol import HOUSES, R2R_CE
from sterna.recipes.continuous import walk_episodes
from sterna.recipes.controls import ForwardAgent
from sterna.world.frames import Action
from sterna.world.houses import make_house
from sterna.world.houses.ground import ground_of
from sterna.world.talk.prompts import Wording

PROTOCOL = replace(HOUSES, name="TWELVE", max_steps=12)


class EgoSampleLike:
    """What a prompt needs."""

    instruction, history, previous = "go to the sofa", (), ()


class Watcher:
    """Turns and walks by what it sees, so that one wrong pixel shows."""

    def reset(self, slots, observations, episodes):
        pass

    def act(self, observations, active):
        out = np.zeros(len(active), np.int64)
        for slot in np.flatnonzero(active):
            out[slot] = 1 + int(observations[slot]["rgb"].sum()) % 3
        return out


@pytest.fixture(scope="module")
def episodes():
    house = make_house(3)
    ground = ground_of(house, agent_of(PROTOCOL))
    return draw_tasks(house, ground, "easy", 3) + draw_tasks(house, ground, "medium", 2)


def test_a_turn_is_as_wide_as_prompts_say(episodes):
    """Trap 22: the angle that a navigator reads is the angle that the simulator turns by."""
    for rules in (HOUSES, R2R_CE):
        crowd = Crowd(HouseWorlds(rules), rules, frames=False)
        crowd.begin(episodes[:1])
        before = crowd.walkers.heading[0]
        crowd.step(np.array([Action.RIGHT]))
        turned = np.degrees(crowd.walkers.heading[0] - before) % 360
        prompt = Wording.of(rules).prompt(EgoSampleLike())
        told = {float(angle) for angle in re.findall(r"right ([0-9.]+) degrees", prompt)}
        assert len(told) == 1 and turned == pytest.approx(told.pop(), abs=1e-9)


@pytest.mark.parametrize("agent", [Watcher(), ForwardAgent(5)])
def test_a_crowd_leaves_the_tracks_that_environments_leave(episodes, agent):
    worlds = HouseWorlds(PROTOCOL)

    def make(worker: int):
        return [
            HouseEnv(worlds, episodes, frames=worlds.frames, protocol=PROTOCOL, sensors=("rgb",))
            for _ in range(2)
        ]

    one_by_one, _ = walk_episodes(agent, make, episodes)
    together: list[Track] = []
    unscorable = walk_houses(agent, Crowd(worlds, PROTOCOL), episodes, together.append, slots=4)
    assert unscorable == {}
    lines = sorted(track_line(track) for track in one_by_one)
    assert sorted(track_line(track) for track in together) == lines
    assert len({len(track.actions) for track in together}) >= 1 and len(lines) == 5
