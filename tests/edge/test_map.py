"""The runtime's own map and panorama against the library's, without any network."""

from __future__ import annotations

import numpy as np
import pytest

from sterna.edge.runtime.panorama import lay_out
from sterna.edge.runtime.topomap import TopoMap
from sterna.edge.walks import Rooms
from sterna.envs.graph_env import OBJECT, Panoramas
from sterna.errors import InputError
from sterna.models import topomap as library
from sterna.world.atlas import Atlas
from sterna.world.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS
from toy import panoramas_of, random_graph, random_objects

LEVEL = np.arange(8) * np.pi / 4, np.zeros(8)


def observe(topomap: TopoMap, atlas: Atlas, node: int, step: int) -> int:
    here = topomap.add_node(atlas.viewpoints[node], atlas.positions[node])
    for other, metres in zip(atlas.candidates[node], atlas.candidate_distance[node], strict=True):
        if other >= 0:
            slot = topomap.add_node(atlas.viewpoints[other], atlas.positions[other])
            topomap.add_edge(here, slot, float(metres))
    topomap.visit(here, step)
    return here


@pytest.mark.parametrize("seed", range(5))
def test_the_map_is_that_of_training(seed: int) -> None:
    """Slots, distances, hops, positions, ways: equal bit for bit along a random walk."""
    rng = np.random.default_rng(seed)
    atlas = Atlas([random_graph(rng, 60)])
    node, one = int(rng.integers(60)), np.array([0])
    theirs, ours = library.TopoMap(atlas, np.array([node])), TopoMap()
    for step in range(14):
        pose = int(rng.integers(36))
        rows = theirs.observe(one, np.array([node]), np.array([pose]), step)
        here = observe(ours, atlas, node, step)
        assert [atlas.viewpoints[n] for n in rows.nodes[0, 1:]] == ours.names
        assert np.array_equal(rows.steps[0, 1:], ours.last_visit + 1)
        metres = np.where(np.isfinite(ours.distances), ours.distances, 0).astype(np.float32)
        assert np.array_equal(rows.distances[0, 1:, 1:], metres)
        seen = ours.seen_from(here, VIEW_HEADINGS[pose], VIEW_ELEVATIONS[pose])
        assert np.array_equal(rows.positions[0, 1:], seen)
        for end in range(len(ours)):
            names = [atlas.viewpoints[n] for n in theirs.path(0, here, end)]
            assert names == list(ours.named(ours.path(here, end)))
        open_ = np.flatnonzero(~rows.visited[0])[1:]
        node = int(rows.nodes[0, rng.choice(open_)])
    assert len(ours) > 32  # it grew beyond its first room


def test_what_does_not_belong_on_a_map_is_refused() -> None:
    topomap = TopoMap()
    a, b = topomap.add_node("a", (0, 0, 0)), topomap.add_node("b", (3, 4, 0))
    with pytest.raises(InputError, match="3 finite metres"):
        topomap.add_node("c", (0, 0))
    with pytest.raises(InputError, match="no way is known from 'a' to 'b'"):
        topomap.path(a, b)
    with pytest.raises(InputError, match="two nodes"):
        topomap.add_edge(a, a)
    with pytest.raises(InputError, match="finite metres"):
        topomap.add_edge(a, b, float("nan"))
    topomap.add_edge(a, b)
    assert topomap.distances[a, b] == 5.0 and topomap.path(a, b) == [b]


@pytest.mark.parametrize("angles", [(VIEW_HEADINGS, VIEW_ELEVATIONS), LEVEL])
@pytest.mark.parametrize("with_objects", [False, True])
def test_tokens_are_those_of_training(angles: tuple, with_objects: bool) -> None:
    rng = np.random.default_rng(3)
    bare = panoramas_of([random_graph(rng, 25)])
    if len(angles[0]) == 8:
        from sterna.data.views import InMemoryViews

        views = {key: rng.standard_normal((8, 32)) for key in bare.atlas.keys}
        bare = Panoramas(bare.atlas, InMemoryViews(views, *angles))
    store = random_objects(bare.atlas) if with_objects else None
    world = bare.showing(store) if store else bare
    rooms = Rooms(bare, *angles, store)
    for node in range(25):
        pose = int(rng.integers(36))
        looks = float(VIEW_HEADINGS[pose]), float(VIEW_ELEVATIONS[pose])
        seen = world.observe(np.array([node]), np.array([pose]))
        tokens = lay_out(rooms.observation(node), *angles, looks, (32, 5 if store else None))
        count = int(world.view_lengths[node])
        assert np.array_equal(tokens.views, seen.features[0, :count].astype(np.float32))
        places = seen.locations[0, : int(world.lengths[node])]
        np.testing.assert_allclose(tokens.locations, places, rtol=0, atol=1e-7)
        kinds = seen.nav_types[0, : int(world.lengths[node])]
        assert np.array_equal(tokens.kinds, kinds[:count])
        assert (kinds[count:] == OBJECT).all() and len(kinds) == count + len(tokens.ids)
        if store:
            placed = store.at(bare.atlas.keys[node])
            assert np.array_equal(tokens.ids, placed.ids)
            assert np.array_equal(tokens.objects, placed.features)
