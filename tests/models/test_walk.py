"""The walk: decisions, far jumps, endings, looking back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sterna.data.episodes import Episode
from sterna.data.r2r import read_r2r
from sterna.envs.graph_env import GraphEnv, Panoramas
from sterna.errors import InputError
from sterna.models.agent import Agent, token_batch
from sterna.models.topomap import MapRows, TopoMap
from sterna.models.walk import Walk, sample_with, walk
from sterna.world.geometry import Ints
from sterna.world.graph import NavGraph
from toy import episode_on, graph_of, line_graph, panoramas_of, tiny_model, toy_panoramas


class Scripted:
    """A policy with a given probability of STOP at every node; the rest is shared evenly."""

    def __init__(self, stop: dict[int, float]) -> None:
        self.stop = stop

    def reset(self, episodes: Sequence[Episode], topomap: TopoMap) -> None:
        """Nothing to read."""

    def act(self, rows: MapRows) -> torch.Tensor:
        open_ = rows.mask & ~rows.visited
        p = np.array([self.stop[int(n)] for n in rows.node])
        others = np.maximum(open_[:, 1:].sum(1), 1)
        odds = np.where(open_, ((1 - p) / others)[:, None], 0.0)
        odds[:, 0] = p
        with np.errstate(divide="ignore"):
            return torch.from_numpy(np.log(odds).astype(np.float32))


def go(graph: NavGraph, start: int, stop: dict[int, float], order: Sequence[int], **more: object):  # type: ignore[no-untyped-def]
    """Walk one episode through the nodes of `order` (0-based; -1 is STOP)."""
    env = GraphEnv(panoramas_of([graph]))

    def choose(rows: MapRows, logits: np.ndarray) -> Ints:
        wanted = order[int(rows.step[0])]
        return np.array([0 if wanted < 0 else np.flatnonzero(rows.nodes[0] == wanted)[0]])

    episode = episode_on(graph, [start, int(graph.neighbours(start)[0])])
    return walk(Scripted(stop), env, [episode], choose, **more)  # type: ignore[arg-type]


def test_looks_back_to_the_best_stop() -> None:
    """Trap 8: 0.2, 0.6, 0.3 along A-B-C ends at B, the way C -> B is walked and counted."""
    done = go(line_graph(4), 0, {0: 0.2, 1: 0.6, 2: 0.3}, [1, 2, -1])
    assert done.hops == [[[0], [1], [2], [1]]]
    assert done.looked_back.tolist() == [True]
    assert done.stop_scores[0, :3] == pytest.approx([0.2, 0.6, 0.3])
    assert np.isneginf(done.stop_scores[0, 3:]).all()


def test_looks_back_along_several_nodes() -> None:
    done = go(line_graph(5), 0, {0: 0.9, 1: 0.2, 2: 0.3, 3: 0.4}, [1, 2, 3, -1])
    assert done.hops == [[[0], [1], [2], [3], [2, 1, 0]]]


def test_best_place_is_here() -> None:
    done = go(line_graph(3), 0, {0: 0.2, 1: 0.3, 2: 0.6}, [1, 2, -1])
    assert done.hops == [[[0], [1], [2]]] and not done.looked_back[0]


def test_the_earlier_node_wins_a_tie() -> None:
    done = go(line_graph(5), 0, {0: 0.1, 1: 0.5, 2: 0.5, 3: 0.1}, [1, 2, 3, -1])
    assert done.hops[0][-1] == [2, 1]


def test_stops_at_once() -> None:
    done = go(line_graph(3), 1, {1: 0.9}, [-1])
    assert done.hops == [[[1]]]


def test_far_jump_takes_the_known_way() -> None:
    """From C back to the unvisited neighbour D of A, over B and A, in one decision."""
    positions = np.array([[0, 0, 0], [0, 2, 0], [0, 4, 0], [2, 0, 0]])
    graph = graph_of(positions, [(0, 1), (1, 2), (0, 3)])
    done = go(graph, 0, {0: 0.2, 1: 0.1, 2: 0.3, 3: 0.9}, [1, 2, 3, -1], keep=True)
    assert done.hops == [[[0], [1], [2], [1, 0, 3]]]
    arrived = done.rows[-1]
    assert arrived.node.tolist() == [3] and arrived.pose.tolist() == [15], "it came along +x"


def test_ends_when_nothing_is_left_to_explore() -> None:
    """Trap 6: at B both nodes are visited, so the walk ends whatever is chosen; STOP is certain."""
    done = go(line_graph(2), 0, {0: 0.4, 1: 0.1}, [1, 1])
    assert done.hops == [[[0], [1]]]
    assert done.stop_scores[0, :2] == pytest.approx([0.4, 1.0])


def test_ends_after_max_steps_and_looks_back() -> None:
    done = go(line_graph(9), 0, {n: 0.5 - 0.01 * n for n in range(9)}, range(1, 9), max_steps=4)
    assert done.hops == [[[0], [1], [2], [3], [2, 1, 0]]]
    assert done.stop_scores.shape == (1, 4)


def test_in_training_a_sampled_stop_ends_without_looking_back() -> None:
    def on_goal(rows: MapRows) -> np.ndarray:
        return rows.node == 3

    early = go(line_graph(5), 0, dict.fromkeys(range(5), 0.5), [1, -1], ends_at=on_goal)
    assert early.hops == [[[0], [1]]] and not early.looked_back[0]
    stop = {0: 0.9, 1: 0.2, 2: 0.2, 3: 0.2}
    regular = go(line_graph(5), 0, stop, [1, 2, 3, 4], ends_at=on_goal)
    assert regular.hops == [[[0], [1], [2], [3], [2, 1, 0]]], "on the goal it ends and looks back"


@pytest.fixture(scope="module")
def panoramas(toy_house: Path) -> Panoramas:
    return toy_panoramas(toy_house)


@pytest.fixture(scope="module")
def episodes(toy_house: Path) -> list[Episode]:
    return read_r2r(toy_house, "train")[::23][:14]


def run(panoramas: Panoramas, episodes: Sequence[Episode], *, cache: bool = True) -> Walk:
    model = tiny_model().eval()
    return walk(Agent(model, panoramas, cache=cache), GraphEnv(panoramas), episodes, keep=True)


def logits_of(done: Walk, agent: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(nodes, logits) of every decision of an agent, without padding."""
    out = []
    for rows, logits in zip(done.rows, done.logits, strict=True):
        for row in np.flatnonzero(rows.agent == agent):
            used = rows.mask[row]
            out.append((rows.nodes[row, used], logits[row, used]))
    return out


def test_batch_and_padding_change_nothing(panoramas: Panoramas, episodes: list[Episode]) -> None:
    """Trap 5: an episode alone walks as it does in a batch; logits to 1e-5."""
    together = run(panoramas, episodes)
    assert len({len(hops) for hops in together.hops}) > 2, "walks should differ in length"
    for i, episode in enumerate(episodes):
        alone = run(panoramas, [episode])
        assert alone.hops[0] == together.hops[i]
        pairs = zip(logits_of(alone, 0), logits_of(together, i), strict=True)
        for (nodes, logits), (other_nodes, other_logits) in pairs:
            assert np.array_equal(nodes, other_nodes)
            np.testing.assert_allclose(logits, other_logits, atol=1e-5)


def test_cached_panoramas_change_nothing(panoramas: Panoramas, episodes: list[Episode]) -> None:
    cached, plain = run(panoramas, episodes), run(panoramas, episodes, cache=False)
    assert cached.hops == plain.hops
    for a, b in zip(cached.logits, plain.logits, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_cache_forgets_when_it_is_full(panoramas: Panoramas, episodes: list[Episode]) -> None:
    agent = Agent(tiny_model().eval(), panoramas)
    agent.encoder.limit = 5
    small = walk(agent, GraphEnv(panoramas), episodes, keep=True)
    assert small.hops == run(panoramas, episodes).hops


def test_visited_nodes_are_never_chosen(panoramas: Panoramas, episodes: list[Episode]) -> None:
    """Trap 6: -inf exactly on visited nodes and padding, STOP always open."""
    done = run(panoramas, episodes)
    for rows, logits, choice in zip(done.rows, done.logits, done.choices, strict=True):
        assert np.array_equal(np.isfinite(logits), rows.mask & ~rows.visited)
        assert np.isfinite(logits[:, 0]).all()
        assert not rows.visited[np.arange(len(rows)), choice].any()


def test_walks_are_walks(panoramas: Panoramas, episodes: list[Episode]) -> None:
    """Every hop is an edge; the walk ends at the visited node with the best stop probability."""
    done, atlas = run(panoramas, episodes), panoramas.atlas
    for i, hops in enumerate(done.hops):
        flat = [node for hop in hops for node in hop]
        for a, b in pairwise(flat):
            assert b in atlas.candidates[a]
        stood = [int(rows.node[list(rows.agent).index(i)]) for rows in done.rows if i in rows.agent]
        assert flat[-1] == stood[int(done.stop_scores[i, : len(stood)].argmax())]
        assert len(stood) <= 15


@settings(deadline=None)
@given(st.lists(st.one_of(st.just(-np.inf), st.floats(-20, 20)), min_size=1, max_size=8), st.data())
def test_sampling_follows_the_softmax(others: list[float], data: st.DataObject) -> None:
    logits = np.array([[0.5, *others]], np.float32)
    u = data.draw(st.floats(0, 1, exclude_max=True))
    picked = int(sample_with(lambda n: np.full(n, u))(range(len(logits)), logits)[0])  # type: ignore[arg-type]
    p = np.exp(logits[0].astype(np.float64) - logits.max())
    p /= p.sum()
    assert p[picked] > 0
    assert p[:picked].sum() <= u + 1e-9 and u <= p[: picked + 1].sum() + 1e-9


def test_sampling_frequencies() -> None:
    logits = np.tile(np.log(np.array([0.2, 0.5, 0.0001, 0.2999])), (20_000, 1)).astype(np.float32)
    logits[:, 2] = -np.inf
    rng = np.random.default_rng(0)
    picked = sample_with(lambda n: rng.random(n))(range(len(logits)), logits)  # type: ignore[arg-type]
    shares = np.bincount(picked, minlength=4) / len(picked)
    assert shares == pytest.approx([0.2, 0.5, 0.0, 0.3], abs=0.015)


def test_untokenised_episode_is_named() -> None:
    episode = replace(episode_on(line_graph(2), [0, 1]), token_ids=None)
    with pytest.raises(InputError, match="episode 0_0: no token ids"):
        token_batch([episode])
