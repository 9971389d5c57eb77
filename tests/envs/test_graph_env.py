"""GraphEnv and Panoramas: token order, shapes, relative angles, moves, errors."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from sterna.data.r2r import read_r2r
from sterna.data.views import InMemoryViews
from sterna.envs.graph_env import GraphEnv, Observation, Panoramas, pose_angles
from sterna.errors import InputError
from sterna.world.atlas import Atlas
from sterna.world.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS, angle_features
from toy import episode_on, line_graph, panoramas_of, random_graph, toy_panoramas


@pytest.fixture(scope="module")
def panoramas(toy_house: Path) -> Panoramas:
    return toy_panoramas(toy_house)


def tokens_by_hand(panoramas: Panoramas, node: int) -> list[tuple[int, float, float, int]]:
    """(view, heading, elevation, type) of every token: candidates, then unused views."""
    atlas = panoramas.atlas
    count = int(atlas.degree[node])
    out = [
        (
            int(atlas.candidate_view[node, k]),
            float(atlas.candidate_heading[node, k]),
            float(atlas.candidate_elevation[node, k]),
            1,
        )
        for k in range(count)
    ]
    used = {view for view, *_ in out}
    rest = [v for v in range(36) if v not in used]
    return out + [(v, float(VIEW_HEADINGS[v]), float(VIEW_ELEVATIONS[v]), 0) for v in rest]


@pytest.mark.parametrize("seed", range(3))
def test_tokens_are_those_of_duet(seed: int) -> None:
    rng = np.random.default_rng(seed)
    panoramas = panoramas_of([random_graph(rng, 12, "a"), random_graph(rng, 5, "b")])
    count = len(panoramas.atlas)
    pose = rng.integers(0, 36, count)
    seen = panoramas.observe(np.arange(count), pose)
    assert seen.features is not None
    for node in range(count):
        wanted = tokens_by_hand(panoramas, node)
        assert panoramas.lengths[node] == len(wanted) == seen.mask[node].sum()
        heading, elevation = VIEW_HEADINGS[pose[node]], VIEW_ELEVATIONS[pose[node]]
        for t, (view, h, e, kind) in enumerate(wanted):
            assert seen.token_rows[node, t] == node * 36 + view
            assert seen.nav_types[node, t] == kind
            np.testing.assert_allclose(
                seen.locations[node, t],
                [*angle_features(h - heading, e - elevation), 1, 1, 1],
                atol=1e-6,
            )
            assert np.array_equal(seen.features[node, t], panoramas.features[node * 36 + view])
        assert (seen.locations[node, len(wanted) :] == 0).all()


def test_candidate_angles_turn_with_the_pose(panoramas: Panoramas) -> None:
    """Trap 10: navigation gives angles relative to the current view, not to heading 0."""
    node = np.array([3, 3])
    seen = panoramas.observe(node, np.array([12, 15]), features=False)
    angle = np.arctan2(seen.locations[:, 0, 0], seen.locations[:, 0, 1])
    turned = (angle[0] - angle[1]) % (2 * np.pi)
    assert turned == pytest.approx(np.radians(90), abs=1e-5)
    assert np.array_equal(seen.locations[0, 0, 2:], seen.locations[1, 0, 2:])


def test_shapes_are_trimmed_to_the_batch() -> None:
    """Candidates that share a view make a panorama longer than 36 tokens."""
    panoramas = panoramas_of([random_graph(np.random.default_rng(1), 20)])
    nodes = np.argsort(panoramas.lengths)[:4]
    seen = panoramas.observe(nodes, np.full(4, 12))
    width = int(panoramas.lengths[nodes].max())
    assert width < panoramas.token_rows.shape[1]
    assert seen.features is not None
    assert seen.features.shape == (4, width, 32) and seen.locations.shape == (4, width, 7)
    assert seen.locations.dtype == np.float32 and seen.mask.shape == (4, width)
    assert seen.candidates.shape == (4, panoramas.atlas.candidates.shape[1])
    assert panoramas.observe(nodes, np.full(4, 12), features=False).features is None


def test_eight_level_views() -> None:
    """Text observations: the nearest of eight headings stands for a candidate."""
    graph = random_graph(np.random.default_rng(5), 8)
    headings = np.radians(45.0 * np.arange(8))
    views = {f"random_{v}": np.eye(8, dtype=np.float32) for v in graph.viewpoints}
    panoramas = Panoramas(Atlas([graph]), InMemoryViews(views, headings, np.zeros(8)))
    seen = panoramas.observe(np.arange(8), np.full(8, 12))
    assert seen.features is not None
    for node in range(8):
        part = graph.edges(node)
        for k, heading in enumerate(graph.heading[part]):
            view = int(seen.features[node, k].argmax())
            apart = np.abs((heading - headings + np.pi) % (2 * np.pi) - np.pi)
            assert apart[view] == pytest.approx(apart.min())
        used = set(seen.features[node, : len(graph.neighbours(node))].argmax(-1).tolist())
        assert panoramas.lengths[node] == len(graph.neighbours(node)) + 8 - len(used)


def test_reset_and_moves(panoramas: Panoramas, toy_house: Path) -> None:
    episodes = read_r2r(toy_house, "val_seen")[:6]
    env, atlas = GraphEnv(panoramas), panoramas.atlas
    env.reset(episodes)
    for node, pose, episode in zip(env.node, env.pose, episodes, strict=True):
        assert atlas.viewpoints[node] == episode.start
        assert pose == 12 + round(np.degrees(episode.heading) / 30) % 12
    for t in range(1, 4):
        before = env.node
        target = np.array([atlas.node(e.scan, e.path[t]) for e in episodes])
        env.step(target)
        assert np.array_equal(env.node, target)
        assert np.array_equal(env.pose, atlas.hop_view(before, target))
    heading, elevation = pose_angles(env.pose)
    assert heading == pytest.approx(VIEW_HEADINGS[env.pose]) and (elevation <= np.pi / 6).all()


def test_far_jump_arrives_through_the_last_hop() -> None:
    graph = line_graph(5)
    env = GraphEnv(panoramas_of([graph]))
    env.reset([episode_on(graph, [4, 3]), episode_on(graph, [0, 1], 1)])
    env.step(np.array([0, 3]))
    assert env.node.tolist() == [0, 3]
    assert env.pose.tolist() == [18, 12], "one walked to -y, the other to +y"


def test_stop_ends_and_the_ended_stand_still() -> None:
    graph = line_graph(3)
    env = GraphEnv(panoramas_of([graph]))
    env.reset([episode_on(graph, [0, 1]), episode_on(graph, [0, 1], 1)])
    env.step(np.array([-1, 1]))
    assert env.ended.tolist() == [True, False]
    env.step(np.array([1, 2]))
    assert env.node.tolist() == [0, 2] and env.ended.tolist() == [True, False]
    pose = env.pose.copy()
    env.step(np.array([0, 2]))
    assert np.array_equal(env.pose, pose), "to stay is no hop and turns nobody"


def test_a_hop_that_is_no_edge_is_refused() -> None:
    graph = line_graph(4)
    env = GraphEnv(panoramas_of([graph]))
    env.reset([episode_on(graph, [0, 1])])
    with pytest.raises(InputError, match="no edge line_A -> line_C"):
        env.step(np.array([2]), np.array([0]))
    assert env.node.tolist() == [0]


def test_same_actions_same_arrays(panoramas: Panoramas, toy_house: Path) -> None:
    episodes = read_r2r(toy_house, "train")[:8]

    def run() -> list[Observation]:
        env, rng, out = GraphEnv(panoramas), np.random.default_rng(0), []
        env.reset(episodes)
        for _ in range(5):
            slot = (rng.random(8) * panoramas.atlas.degree[env.node]).astype(int)
            env.step(panoramas.atlas.candidates[env.node, slot])
            out.append(env.observe())
        return out

    for a, b in zip(run(), run(), strict=True):
        for item in fields(Observation):
            assert np.array_equal(getattr(a, item.name), getattr(b, item.name))


def test_observing_does_not_write_into_the_tables(panoramas: Panoramas) -> None:
    before = panoramas._absolute.copy()
    panoramas.locations(np.arange(10), np.full(10, 20), 40)
    assert np.array_equal(before, panoramas._absolute)
