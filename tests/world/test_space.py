"""Walking, distances and paths in hand-made scenes, against independent geometry."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.sparse.csgraph import dijkstra

import scenes
from sterna.errors import InputError
from sterna.world.frames import direction
from sterna.world.space import Space, path_length
from sterna.world.surface import Agent, Scene

NORTH, EAST, SOUTH, WEST = (math.radians(a) for a in (0, 90, 180, 270))


@pytest.fixture(scope="module")
def flat() -> Space:
    return Space(scenes.flat())


@pytest.fixture(scope="module")
def maisonette() -> Space:
    return Space(scenes.maisonette())


@pytest.fixture(scope="module")
def room() -> Space:
    """4 x 3 m; walls stand 5 cm into it, so an agent of 10 cm reaches to 15 cm."""
    return Space(scenes.room())


def test_free_steps_are_exact(room: Space) -> None:
    headings = np.linspace(0, 6, 50)
    start = np.tile([2.0, 1.5, 0.0], (50, 1))
    ends, collided = room.move(start, headings, 0.25)
    assert not collided.any()
    assert np.abs(ends[:, :2] - start[:, :2] - 0.25 * direction(headings)).max() < 1e-12


@pytest.mark.parametrize("sliding", [True, False])
def test_head_on_it_stops_at_the_wall(room: Space, sliding: bool) -> None:
    ends, collided = room.move([[2, 0.25, 0], [3.7, 1, 0]], [SOUTH, EAST], 0.25, sliding=sliding)
    assert collided.all()
    assert ends[:, :2] == pytest.approx(np.array([[2, 0.15], [3.85, 1]]), abs=1e-5)


def test_sliding_keeps_the_part_along_the_wall(room: Space) -> None:
    """At 60 degrees to the wall's normal: 0.25 sin 60 along it, nothing into it."""
    for heading, sign in ((math.radians(120), 1), (math.radians(240), -1)):
        ends, collided = room.move([[2, 0.15 + 1e-6, 0]], [heading], 0.25)
        assert collided[0]
        assert ends[0, 0] == pytest.approx(2 + sign * 0.25 * math.sin(math.radians(60)), abs=1e-5)
        assert ends[0, 1] == pytest.approx(0.15, abs=1e-5)


def test_without_sliding_it_stays_where_it_touches(room: Space) -> None:
    """From 10 cm off the wall at 45 degrees it touches after 14 cm and stays on its line."""
    ends, collided = room.move([[2, 0.25, 0]], [math.radians(135)], 0.25, sliding=False)
    assert collided[0] and ends[0, :2] == pytest.approx([2.1, 0.15], abs=1e-5)


def test_in_a_corner_nothing_moves(room: Space) -> None:
    start = np.array([[0.15 + 1e-6, 0.15 + 1e-6, 0]])
    for heading in np.radians([180, 200, 225, 250, 270]):
        ends, collided = room.move(start, [heading], 0.25)
        assert collided[0] and np.abs(ends - start)[0, :2].max() < 2e-6


def test_thin_walls_are_not_tunnelled() -> None:
    scene = Scene(boxes=[[1, 0, 0, 1.001, 2, 2]], floors=[[0, 0, 2, 2, 0]])
    space = Space(scene, Agent(radius=0.05))
    ends, _ = space.move([[0.9, 1, 0]], [EAST], 5.0)
    assert ends[0, 0] < 1
    assert np.isinf(space.geodesic([0.5, 1, 0], [1.5, 1, 0]))
    assert len(space.shortest_path([0.5, 1, 0], [1.5, 1, 0])) == 0


@pytest.mark.parametrize("sliding", [True, False])
def test_a_million_random_steps_stay_on_walkable_ground(sliding: bool) -> None:
    """Half a million each way, 2,000 agents at once, stairs included."""
    scene = scenes.maisonette()
    space, rng = Space(scene), np.random.default_rng(5)
    solid = scene.boxes[scene.boxes[:, 1] != 0.05]  # not the flight's own steps
    position = space.random_points(2000, rng)
    heading, storeys = rng.random(2000) * 2 * math.pi, position[:, 2] > 2.6
    for step in range(250):
        heading = heading + rng.normal(0, 0.3, 2000)
        ends, collided = space.move(position, heading, 0.25, sliding=sliding)
        assert space.is_navigable(ends).all()
        walked = np.linalg.norm((ends - position)[:, :2], axis=1)
        assert walked.max() <= 0.25 + 1e-5 and (walked[~collided] > 0.25 - 1e-9).all()
        position, heading = ends, np.where(collided, rng.random(2000) * 2 * math.pi, heading)
        if step % 50 == 0:
            feet, head = position[:, None, 2] + 0.2, position[:, None, 2] + 1.5
            p = position[:, None, :2]
            gap = np.maximum(np.maximum(solid[:, :2] - p, p - solid[:, 3:5]), 0)
            near = np.linalg.norm(gap, axis=2)
            near[(solid[:, 5] <= feet + 0.05) | (solid[:, 2] >= head - 0.05)] = np.inf
            assert near.min() > 0.1 - 0.05 * math.sqrt(0.5)
    assert (storeys != (position[:, 2] > 2.6)).any(), "some agents took the stairs"


def visibility_truth(scene: Scene, radius: float, points: np.ndarray) -> np.ndarray:
    """Lengths [n, n] between points: the visibility graph of corners rounded by the radius.

    Written independently of the raster: arcs of 7 points a corner, segments sampled every 2
    centimetres against the exact distance to every box.
    """
    boxes = scene.boxes[scene.boxes[:, 5] > 0.2]
    boxes = boxes[boxes[:, 2] < 1.5]

    def free(p: np.ndarray) -> np.ndarray:
        gap = np.maximum(
            np.maximum(boxes[:, :2] - p[..., None, :], p[..., None, :] - boxes[:, 3:5]), 0
        )
        return np.linalg.norm(gap, axis=-1).min(-1) > radius - 1e-3

    arcs = []
    for box in boxes:
        for x, y, first in ((3, 4, 0), (0, 4, 90), (0, 1, 180), (3, 1, 270)):
            angles = np.radians(first + np.linspace(0, 90, 7))
            arcs.append(
                box[[x, y]] + 1.004 * radius * np.stack([np.cos(angles), np.sin(angles)], 1)
            )
    corners = np.concatenate(arcs)
    inside = ((corners > 0) & (corners < scene.floors[0, 2:4])).all(1)
    nodes = np.concatenate([points[:, :2], corners[inside & free(corners)]])
    length = np.linalg.norm(nodes[:, None] - nodes, axis=2)
    graph = np.zeros_like(length)
    for i in range(len(nodes)):
        part = np.linspace(0, 1, int(length[i].max() / 0.02))[:, None, None]
        seen = free(nodes[i] + part * (nodes[i + 1 :] - nodes[i])).all(0)
        graph[i, i + 1 :] = np.where(seen, length[i, i + 1 :], 0)
    return dijkstra(graph, directed=False, indices=np.arange(len(points)))[:, : len(points)]


def test_geodesics_equal_the_visibility_graph() -> None:
    scene = Scene(
        boxes=np.array(
            [
                *scenes.frame(0, 0, 6, 4),
                *scenes.wall_y(3, 0, 4, doors=(1.2,)),
                (0.9, 1.5, 0, 1.9, 2.5, 0.7),
                (4.0, 0.8, 0, 4.6, 3.1, 0.7),
            ]
        ),
        floors=[[0, 0, 6, 4, 0]],
    )
    space = Space(scene)
    points = space.random_points(24, np.random.default_rng(2))
    truth = visibility_truth(scene, 0.1, points)
    found = np.array([space.distances(points, goal) for goal in points]).T
    taut = np.array([[path_length(space.shortest_path(a, b)) for b in points] for a in points])
    far = truth > 1
    for lengths in (found, taut):
        assert np.abs(lengths - truth).max() < 0.06
        assert np.abs(lengths - truth)[~far].max() < 0.04
        error = (lengths[far] - truth[far]) / truth[far]
        assert np.abs(error).max() < 0.015 and abs(error.mean()) < 0.005


def test_in_the_open_distances_are_straight_to_half_a_percent() -> None:
    """All directions, from the middle of a cell and from a corner of one."""
    space = Space(Scene(boxes=[], floors=[[-6, -6, 6, 6, 0]]))
    angles = np.linspace(0, 2 * math.pi, 361)
    points = np.concatenate([5 * direction(angles), np.zeros((361, 1))], axis=1)
    for middle in ([0.0, 0, 0], [0.025, 0.025, 0]):
        length = space.distances(points + middle, middle)
        assert np.abs(length - 5).max() < 0.004 * 5 + 0.015
    assert space.distances([[1.0, 0.5, 0]], [0.0, 0, 0])[0] == pytest.approx(math.hypot(1, 0.5))


def test_distances_are_symmetric_and_obey_the_triangle(maisonette: Space) -> None:
    points = maisonette.random_points(12, np.random.default_rng(3))
    d = np.array([maisonette.distances(points, goal) for goal in points])
    assert np.isfinite(d).all() and np.abs(d - d.T).max() < 0.04
    assert (d[:, None] <= d[:, :, None] + d[None] + 0.08).all()
    assert maisonette.geodesic(points[0], points[1:3]) == d[1:3, 0].min()


def test_paths_can_be_walked(flat: Space, maisonette: Space) -> None:
    for space in (flat, maisonette):
        points = space.random_points(12, np.random.default_rng(4))
        for a, b in zip(points[:6], points[6:], strict=True):
            way = space.shortest_path(a, b)
            assert np.array_equal(way[0], a) and np.array_equal(way[-1], b)
            assert space.sees(way[:-1], way[1:]).all()
            assert path_length(way) == pytest.approx(space.geodesic(a, b), rel=0.012, abs=0.02)
            for start, end in pairwise(way):
                heading = math.atan2(*(end - start)[:2])
                ends, hit = space.move(start[None], [heading], math.dist(start[:2], end[:2]))
                assert not hit[0] and math.dist(ends[0, :2], end[:2]) < 1e-6


def test_fields_are_kept(flat: Space) -> None:
    goal = flat.random_points(1, np.random.default_rng(0))[0]
    assert flat.field(goal) is flat.field(goal.copy())


def test_snap_and_navigable(flat: Space) -> None:
    assert flat.is_navigable([[4.5, 4, 0], [4.5, 4, 0.4], [4.5, 4, 0.6], [-50, 4, 0]]).tolist() == [
        *(True, True, False, False)
    ]
    inside_the_bed = np.array([1.5, 1.0, 0.0])
    snapped = flat.snap(inside_the_bed)
    assert flat.is_navigable(snapped) and snapped[1] == pytest.approx(1.6, abs=0.03)
    assert flat.snap([4.5, 4, 0.3]) == pytest.approx(np.array([4.5, 4, 0]))
    with pytest.raises(InputError, match=r"position \[1.5, 1.0, 0.0\] is not walkable"):
        flat.move([inside_the_bed], [0.0], 0.25)
    with pytest.raises(InputError, match="goal"):
        flat.geodesic(snapped, inside_the_bed)


def test_the_map_is_north_up_and_says_what_is_walkable(maisonette: Space) -> None:
    ground, place = maisonette.topdown(0.0, 0.05)
    upper, _ = maisonette.topdown(2.7, 0.05)
    assert not np.array_equal(ground, upper)
    points = maisonette.random_points(300, np.random.default_rng(1))
    points = points[np.minimum(np.abs(points[:, 2]), np.abs(points[:, 2] - 2.7)) < 1e-3]
    row, column = place.to_pixel(points).T
    assert np.where(points[:, 2] < 1, ground[row, column], upper[row, column]).all()
    assert np.array_equal(place.to_pixel(place.to_world([[3, 5]])), [[3, 5]])
    assert place.to_world([0, 0])[1] > place.to_world([9, 0])[1]
