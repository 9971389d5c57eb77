"""Viewpoints of houses: where they stand, what joins them, and Matterport's statistics."""

from __future__ import annotations

import os
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from sterna.errors import InputError
from sterna.world.houses import House, make_house
from sterna.world.houses.ground import ground_of
from sterna.world.houses.ids import scan_of, viewpoint_of
from sterna.world.houses.render import Renderer
from sterna.world.houses.sight import open_lines, thinned
from sterna.world.houses.viewpoints import Viewpoints, place_viewpoints
from sterna.world.space import Space

# More seeds: STERNA_HOUSES=1000 pytest tests/world/houses/test_viewpoints.py
SEEDS = range(int(os.environ.get("STERNA_HOUSES", "8")))


@cache
def placed(seed: int) -> tuple[House, Space, Viewpoints]:
    house = make_house(seed)
    ground = ground_of(house)
    return house, ground, place_viewpoints(house, ground)


@pytest.mark.parametrize("seed", SEEDS)
def test_viewpoints_stand_on_the_floor_of_their_rooms(seed: int) -> None:
    house, ground, points = placed(seed)
    assert ground.is_navigable(points.floor).all()
    assert len(points.graph) == len(points.room) == len(points.height) == len(points.door)
    camera = points.floor + np.stack([0 * points.height, 0 * points.height, points.height], 1)
    np.testing.assert_allclose(camera, points.graph.positions, atol=1e-5)
    assert ((points.height >= 1.45) & (points.height <= 1.55)).all()
    thousandths = points.floor * 1000
    np.testing.assert_allclose(thousandths, thousandths.round(), atol=1e-6)
    for (x, y, z), room, door in zip(points.floor, points.room, points.door, strict=True):
        if door < 0:
            found = house.room_at(x, y, z)
            assert found is None or found.id == room
        else:
            assert room in house.doors[door].rooms
            assert np.hypot(*np.subtract((x, y), house.doors[door].centre)) < 0.7


@pytest.mark.parametrize("seed", SEEDS)
def test_every_room_has_one_and_stairs_are_walked_over(seed: int) -> None:
    house, _, points = placed(seed)
    standing = set(points.room[points.door < 0].tolist())
    assert standing == {room.id for room in house.rooms}
    for stairs in house.stairs:
        nodes = []
        for point in (stairs.foot, *stairs.turn, stairs.top):
            apart = np.linalg.norm(points.floor - point, axis=1)
            assert apart.min() < 1e-6
            nodes.append(int(apart.argmin()))
        graph = points.graph
        for a, b in pairwise(nodes):
            assert graph.has_edge(a, b)


@pytest.mark.parametrize("seed", SEEDS)
def test_edges_are_seen_and_walked(seed: int) -> None:
    house, ground, points = placed(seed)
    graph, render = points.graph, Renderer(house)
    assert np.isfinite(graph.distances).all()
    start = np.repeat(np.arange(len(graph)), np.diff(graph.indptr))
    a, b = graph.positions[start], graph.positions[graph.indices]
    t, _ = render.cast(a, b - a)  # by the renderer's own code
    assert (t > 1 - 1e-6).all()
    assert graph.distance.max() <= 5.0
    straight = np.linalg.norm(points.floor[start] - points.floor[graph.indices], axis=1)
    some = range(seed, len(start), 31)
    way = [ground.geodesic(points.floor[start[i]], points.floor[graph.indices[i]]) for i in some]
    assert (np.array(way) <= straight[list(some)] * 1.12).all()


def test_statistics_are_those_of_matterport() -> None:
    count, degree, length, paths = [], [], [], []
    for seed in SEEDS:
        graph = placed(seed)[2].graph
        count.append(len(graph))
        degree.append(len(graph.indices) / len(graph))
        length.append(graph.distance.mean())
        assert np.diff(graph.indptr).max() <= 16
        for a in range(0, len(graph), 3):
            for b in range(len(graph)):
                if graph.distances[a, b] >= 5 and 4 <= len(graph.shortest_path(a, b)) - 1 <= 6:
                    paths.append(graph.distances[a, b])
    assert np.mean(count) >= 60
    assert 3.7 < np.mean(degree) < 4.4
    assert 2.0 < np.mean(length) < 2.4
    assert 9.5 < np.mean(paths) < 11


def test_the_same_viewpoints_every_time() -> None:
    house, ground, points = placed(0)
    again = place_viewpoints(house, ground_of(make_house(0)))
    assert again.graph.viewpoints == points.graph.viewpoints
    np.testing.assert_array_equal(again.floor, points.floor)
    np.testing.assert_array_equal(again.graph.indices, points.graph.indices)
    assert len(ground.surface.height) > 0


def test_ids_look_like_the_fields_and_never_meet() -> None:
    names = [viewpoint_of(seed, i) for seed in range(40) for i in range(150)]
    assert len(set(names)) == len(names)
    assert all(len(n) == 32 and set(n) <= set("0123456789abcdef") for n in names)
    assert scan_of(17) == "house-000017"
    with pytest.raises(InputError, match="seed"):
        scan_of(-1)


def test_rooms_out_of_reach_are_refused() -> None:
    house, other = make_house(0), make_house(1)
    with pytest.raises(InputError, match="house 0"):
        place_viewpoints(house, ground_of(other))


def test_lines_of_sight_are_exact() -> None:
    house = make_house(0)
    rng = np.random.default_rng(0)
    start, end = (rng.integers((0, 0, 100), (15000, 12000, 2400), (400, 3)) for _ in range(2))
    end[::3, 2] = start[::3, 2]
    end[::5, 0] = start[::5, 0]
    found = open_lines(house, start, end)
    boxes = np.rint(house.boxes.astype(np.float64) * 1000)
    outside = ~((start[:, None] >= boxes[:, :3]) & (start[:, None] <= boxes[:, 3:])).all(2).any(1)
    t, _ = Renderer(house).cast(start / 1000, (end - start) / 1000)  # other code, in floats
    np.testing.assert_array_equal(found[outside & found], t[outside & found] > 1)
    assert (found == (t > 1))[outside].mean() > 0.98  # a line may pass within a millimetre
    assert 0.05 < found[outside].mean() < 0.95


def test_thinning_keeps_what_is_connected() -> None:
    rng = np.random.default_rng(1)
    points = rng.integers(0, 8000, (40, 3))
    joined = rng.random((40, 40)) < 0.4
    joined = np.triu(joined, 1) | np.triu(joined, 1).T
    few = thinned(points, joined, (1, 1))
    some = thinned(points, joined, (4, 7))
    from scipy.sparse.csgraph import connected_components

    assert connected_components(few)[0] == connected_components(joined)[0]
    assert (few <= some).all() and (some <= joined).all() and few.sum() < some.sum()
    assert (few == few.T).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_no_two_stand_on_the_same_spot(seed: int) -> None:
    _, _, points = placed(seed)
    apart = np.linalg.norm(points.floor[:, None] - points.floor[None], axis=-1)
    np.fill_diagonal(apart, 9.0)
    assert apart.min() > 0.3
