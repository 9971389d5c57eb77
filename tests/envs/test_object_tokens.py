"""Objects as panorama tokens: behind a node's own views, with DUET's angle and box features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sterna.data.objects import ObjectStore
from sterna.data.views import InMemoryViews
from sterna.envs.graph_env import OBJECT, Panoramas
from sterna.envs.gym import NavigationEnv
from sterna.errors import InputError
from sterna.models.agent import Agent, look
from sterna.models.config import DuetConfig
from sterna.world.atlas import Atlas
from sterna.world.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS
from toy import TINY, episode_on, random_graph, random_objects, tiny_model


def with_objects(size: int = 5) -> DuetConfig:
    return replace(TINY, object_size=size)


def world(most: int | None = None, *, bare: bool = False) -> tuple[Panoramas, ObjectStore]:
    atlas = Atlas([random_graph(np.random.default_rng(i), 9, f"scan{i}") for i in range(2)])
    rng = np.random.default_rng(0)
    views = InMemoryViews({k: rng.standard_normal((36, 32)).astype(np.float32) for k in atlas.keys})
    store = random_objects(atlas)
    return Panoramas(atlas, views, None if bare else store, max_objects=most), store


@pytest.mark.parametrize("most", [None, 2])
def test_tokens_are_those_of_duet(most: int | None) -> None:
    """Every token of every node against a loop, looking down and looking up."""
    panoramas, store = world(most)
    plain, _ = world(bare=True)
    counts = []
    for node, key in enumerate(panoramas.atlas.keys):
        for pose in (5, 29):
            seen = panoramas.observe(np.array([node]), np.array([pose]))
            bare = plain.observe(np.array([node]), np.array([pose]))
            views, things = bare.mask.shape[1], store.at(key)
            count = len(things) if most is None else min(most, len(things))
            assert seen.mask.shape == (1, views + count) and seen.mask.all()
            assert np.array_equal(seen.locations[:, :views], bare.locations)
            assert np.array_equal(seen.token_rows, bare.token_rows)
            assert np.array_equal(seen.features, bare.features)
            assert (seen.nav_types[0] == OBJECT).tolist() == [False] * views + [True] * count
            for k in range(count):
                heading, elevation = things.directions[k]
                h, e = heading - VIEW_HEADINGS[pose], elevation - VIEW_ELEVATIONS[pose]
                width, height = things.sizes[k] / (640, 480)
                wanted = [np.sin(h), np.cos(h), np.sin(e), np.cos(e), height, width, height * width]
                np.testing.assert_allclose(seen.locations[0, views + k], wanted, atol=1e-6)
                row = seen.object_rows[0, k]
                assert np.array_equal(panoramas.object_features[row], things.features[k])
            assert panoramas.object_ids[node, :count].tolist() == things.ids[:count].tolist()
            assert (panoramas.object_ids[node, count:] == -1).all()
        counts.append(count)
    assert min(counts) == 0 and max(counts) == (6 if most is None else most)


def test_a_batch_shows_what_each_alone_shows() -> None:
    """Padding after the objects, none between views and objects; the encoder reads no padding."""
    panoramas, _ = world()
    model = tiny_model(config=with_objects()).eval()
    nodes = np.arange(len(panoramas.atlas))
    poses = nodes % 36
    table = torch.from_numpy(panoramas.features)
    with torch.no_grad():
        together = look(model, panoramas, table, nodes, poses)
        for node, pose in zip(nodes, poses, strict=True):
            alone = look(model, panoramas, table, np.array([node]), np.array([pose]))
            count = panoramas.lengths[node]
            assert together.mask[node].sum() == count == alone.mask.sum()
            torch.testing.assert_close(together.embeds[node, :count], alone.embeds[0])
            torch.testing.assert_close(together.mean[node], alone.mean[0])


def test_objects_change_what_is_seen() -> None:
    panoramas, store = world()
    plain, _ = world(bare=True)
    model = tiny_model(config=with_objects()).eval()
    nodes = np.arange(len(panoramas.atlas))
    found = [
        look(model, p, torch.from_numpy(p.features), nodes, nodes * 0).mean.detach().numpy()
        for p in (panoramas, plain)
    ]
    differs = np.abs(found[0] - found[1]).max(1) > 1e-4
    assert differs.tolist() == [len(store.at(key)) > 0 for key in panoramas.atlas.keys]


def test_a_world_of_bare_rooms() -> None:
    panoramas, _ = world(bare=True)
    views = InMemoryViews({k: np.ones((36, 32), np.float32) for k in panoramas.atlas.keys})
    empty = Panoramas(panoramas.atlas, views, ObjectStore({}, 5, "nothing"))
    model = tiny_model(config=with_objects()).eval()
    nodes = np.arange(4)
    seen = look(model, empty, torch.from_numpy(empty.features), nodes, nodes)
    assert torch.isfinite(seen.embeds[seen.mask]).all()
    assert np.array_equal(empty.lengths, panoramas.lengths)


def test_a_model_must_fit_the_objects() -> None:
    panoramas, _ = world()
    with pytest.raises(InputError, match="objects of width 5, the policy reads none"):
        Agent(tiny_model(), panoramas)
    with pytest.raises(InputError, match="objects of width 5, the policy reads 7"):
        Agent(tiny_model(config=with_objects(7)), panoramas)
    Agent(tiny_model(config=with_objects()), panoramas)


def test_gymnasium_shows_views_alone() -> None:
    panoramas, _ = world()
    episode = episode_on(panoramas.atlas.graphs[0], [0])
    with pytest.raises(InputError, match="views alone"):
        NavigationEnv(panoramas, [episode])
