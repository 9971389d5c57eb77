"""A watched agent decides as an agent does, and its attention is what the layers computed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sterna.data.r2r import read_r2r
from sterna.envs.graph_env import GraphEnv
from sterna.models.agent import Agent
from sterna.models.attention import attend
from sterna.models.walk import walk
from sterna.models.watch import WatchedAgent
from toy import TINY, tiny_model, toy_panoramas


@pytest.fixture(scope="module")
def walked(toy_house):
    panoramas = toy_panoramas(toy_house)
    episodes = read_r2r(toy_house, "val_seen")[:6]
    model = tiny_model(3).eval()
    agent = WatchedAgent(model, panoramas)
    with torch.inference_mode():
        plain = walk(Agent(model, panoramas), GraphEnv(panoramas), episodes, keep=True)
        watched = walk(agent, GraphEnv(panoramas), episodes, keep=True)
    return model, panoramas, episodes, agent, plain, watched


def test_it_walks_as_the_agent_does(walked):
    *_, agent, plain, watched = walked
    assert watched.hops == plain.hops
    for ours, theirs in zip(watched.logits, plain.logits, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    decisions = [sum(int((rows.agent == i).any()) for rows in plain.rows) for i in range(6)]
    assert [len(each) for each in agent.glances] == decisions


def test_glances_are_distributions_over_what_was_there(walked):
    _, panoramas, episodes, agent, _, watched = walked
    for episode, glances, hops in zip(episodes, agent.glances, watched.hops, strict=True):
        here = hops[0][0]
        for step, glance in enumerate(glances):
            assert glance.node == here
            assert glance.stop + glance.probabilities.sum() == pytest.approx(1, abs=1e-5)
            assert glance.views.sum() == pytest.approx(1, abs=1e-5)
            assert len(glance.views) == panoramas.view_count
            assert len(glance.words) == len(episode.token_ids)
            assert glance.words.sum() == pytest.approx(1, abs=1e-5)
            if glance.choice >= 0 and step + 1 < len(glances):
                assert glance.choice == hops[step + 1][-1] == glances[step + 1].node
                here = glance.choice


def test_attention_is_what_the_last_layers_computed(toy_house, monkeypatch):
    panoramas = toy_panoramas(toy_house)
    model = tiny_model(3, replace(TINY, cross_layers=2)).eval()
    episodes, seen = read_r2r(toy_house, "val_seen")[:1], []

    def spy(query, key, value, bias, dropout=0.0, *, details=False):
        logits = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + bias
        seen.append(logits.softmax(-1)[0].mean(0).numpy())
        return attend(query, key, value, bias, dropout, details=details)

    monkeypatch.setattr("sterna.models.layers.attend", spy)
    agent = WatchedAgent(model, panoramas)
    with torch.inference_mode():
        done = walk(agent, GraphEnv(panoramas), episodes, max_steps=1, keep=True)
    glance, rows = agent.glances[0][0], done.rows[0]
    slots = [i + 1 for i, node in enumerate(rows.nodes[0, 1:]) if node == glance.choice]
    token = 1 + int(np.flatnonzero(rows.candidates[0] == slots[0])[0]) if slots else 0
    words, tokens = len(episodes[0].token_ids), 1 + int(panoramas.lengths[glance.node])
    to_text = [s for s in seen if s.shape == (tokens, words)]
    among = [s for s in seen if s.shape == (tokens, tokens)]
    assert len(to_text) == len(among) == 2  # one a layer; the last is shown
    np.testing.assert_allclose(glance.words, to_text[-1][token], atol=1e-6)
    views = panoramas.token_rows[glance.node, : tokens - 1] % panoramas.view_count
    share = np.bincount(views, among[-1][token][1:], panoramas.view_count)
    np.testing.assert_allclose(glance.views, share / share.sum(), atol=1e-6)
