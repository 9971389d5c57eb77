"""The agent in real houses: many at once as alone, one generation for all, no frame seen twice."""

from dataclasses import replace

import numpy as np
import pytest

from sterna.envs.houses import make_env
from sterna.errors import InputError
from sterna.metrics.protocol import RXR_CE
from sterna.models.navigator import agent as module
from sterna.models.navigator.agent import ActingConfig, NavigatorAgent
from sterna.world.frames import Action
from toy_navigator import SIDE, tiny

SMALL_EYE = replace(RXR_CE, name="small eye", camera_width=SIDE, camera_height=SIDE)


@pytest.fixture(scope="module")
def env():
    return make_env([0], episodes=3, protocol=SMALL_EYE, sensors=("rgb",))


@pytest.fixture(scope="module")
def navigator():
    return tiny(actions=3)


def scenes(env):
    """First observations of the three episodes, and what each env would see at other places."""
    out = []
    for episode in env.episodes:
        out.append(env.reset(options={"instr_id": episode.instr_id})[0])
    return out


def walk(agent, env, slots, rounds=5):
    """Let an agent act on prepared frames: those of the episodes' starts, turned round by round."""
    first = scenes(env)
    agent.reset(range(len(slots)), [first[slot] for slot in slots])
    told = []
    for turn in range(rounds):
        seen = [{**first[slot], "rgb": np.roll(first[slot]["rgb"], turn, 1)} for slot in slots]
        told.append(agent.act(seen, [True] * len(slots)))
    return np.array(told)


def test_together_as_alone(env, navigator):
    together = walk(NavigatorAgent(navigator), env, [0, 1, 2])
    for slot in range(3):
        alone = walk(NavigatorAgent(navigator), env, [slot])
        assert alone[:, 0].tolist() == together[:, slot].tolist()
    assert together.shape == (5, 3) and set(np.unique(together)) <= {0, 1, 2, 3}


@pytest.mark.parametrize("execute", [1, 2, 3])
def test_all_ask_in_one_generation_and_look_again_in_time(env, navigator, monkeypatch, execute):
    asked, looked = [], []
    generate, look = module.sample, navigator.features

    def counted(navigator, batch, **options):
        asked.append(len(batch.encoded.ids))
        return generate(navigator, batch, **options)

    monkeypatch.setattr(module, "sample", counted)
    monkeypatch.setattr(navigator, "features", lambda f: (looked.append(len(f)), look(f))[1])
    agent = NavigatorAgent(navigator, ActingConfig(execute=execute))
    walk(agent, env, [0, 1, 2], rounds=6)
    assert asked == [3] * (6 // execute) and agent.asked == sum(asked)
    assert looked == [3] * 6 and agent.unread == 0


def test_slots_come_and_go(env, navigator):
    first = scenes(env)
    agent = NavigatorAgent(navigator, ActingConfig(execute=1))
    agent.reset([0, 2], [first[0], first[2]])
    told = agent.act([first[0], None, first[2]], [True, False, True])
    assert told[1] == Action.STOP
    with pytest.raises(InputError, match="slot 1 acts before its episode began"):
        agent.act(first, [True, True, True])
    agent.reset([1], [first[1]])
    alone = NavigatorAgent(navigator, ActingConfig(execute=1))
    alone.reset([0], [first[1]])
    both = agent.act([None, first[1], None], np.array([False, True, False]))
    assert both[1] == alone.act([first[1]], [True])[0]


def test_answers_that_cannot_be_read_lead_one_step_forward(env, navigator, monkeypatch):
    generate = module.sample

    def mumble(navigator, batch, **options):
        return replace(generate(navigator, batch, **options), texts=["hm"] * len(batch.encoded.ids))

    monkeypatch.setattr(module, "sample", mumble)
    agent = NavigatorAgent(navigator)
    assert walk(agent, env, [0, 1], rounds=2).tolist() == [[Action.FORWARD] * 2] * 2
    assert agent.asked == agent.unread == 4


def test_the_blind_see_nothing(env, navigator):
    blind = ActingConfig(blind=True)
    agent = NavigatorAgent(navigator, blind)
    dark = {"instruction": "go", "rgb": np.zeros((SIDE, SIDE, 3), np.uint8)}
    light = {"instruction": "go", "rgb": np.full((SIDE, SIDE, 3), 200, np.uint8)}
    agent.reset([0, 1], [dark, light])
    told = [agent.act([dark, light], [True, True]) for _ in range(4)]
    assert all(a == b for a, b in told)


def test_settings_and_observations_are_checked(navigator):
    with pytest.raises(InputError, match="at most the 3 actions"):
        NavigatorAgent(navigator, ActingConfig(execute=4))
    with pytest.raises(InputError, match="execute must be at least 1"):
        ActingConfig(execute=0)
    agent = NavigatorAgent(navigator)
    agent.reset([0], [{"instruction": "go"}])
    with pytest.raises(InputError, match='no "rgb"'):
        agent.act([{"instruction": "go"}], [True])
