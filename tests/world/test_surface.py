"""Where an agent can stand: distances to boxes, headroom, ledges, stairs."""

from __future__ import annotations

import numpy as np
import pytest

import scenes
from sterna.errors import InputError
from sterna.world.space import Space
from sterna.world.surface import Agent, Scene, Stairs, make_surface


def gap_to(points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Distance on the flat from points to a box."""
    return np.hypot(*np.maximum(np.maximum(box[:2] - points, points - box[3:5]), 0).T)


@pytest.mark.parametrize("agent", [Agent(), Agent(radius=0.18, height=0.88)])
def test_a_cell_is_walkable_exactly_when_no_obstacle_is_nearer_than_the_radius(agent: Agent):
    scene = scenes.flat()
    surface = make_surface(scene, agent)
    solid = scene.boxes[(scene.boxes[:, 5] > agent.step) & (scene.boxes[:, 2] < agent.height)]
    assert len(solid) == len(scene.boxes) - 2, "the rug and the lamp are no obstacles"
    i, j = np.meshgrid(np.arange(240), np.arange(160))
    centres = np.stack([i.ravel(), j.ravel()], axis=1) * 0.05 + 0.025
    free = np.all([gap_to(centres, box) >= agent.radius - 1e-6 for box in solid], axis=0)
    inside = np.all((centres > 0.05) & (centres < (11.95, 7.95)), axis=1)
    expected = {tuple(c) for c in np.round(centres[free & inside], 4)}
    assert {tuple(c) for c in np.round(surface.centres[:, :2], 4)} == expected


def test_ledges_keep_the_radius_away():
    """A platform without walls: the agent's disc stays on it."""
    surface = make_surface(Scene(boxes=[], floors=[[0, 0, 2, 1, 0]]), Agent(radius=0.2))
    assert surface.centres[:, :2].min(0) == pytest.approx([0.225, 0.225])
    assert surface.centres[:, :2].max(0) == pytest.approx([1.775, 0.775])
    assert (surface.island == 0).all()


def test_floors_side_by_side_are_one_and_a_high_step_parts_them():
    one = make_surface(Scene(boxes=[], floors=[[0, 0, 1, 1, 0], [1, 0, 2, 1, 0.15]]), Agent())
    two = make_surface(Scene(boxes=[], floors=[[0, 0, 1, 1, 0], [1, 0, 2, 1, 0.25]]), Agent())
    assert one.island.max() == 0 and two.island.max() == 1


def test_thin_walls_are_never_missed():
    for x in np.linspace(1.0, 1.05, 6):
        scene = Scene(boxes=[[x, 0, 0, x, 1, 2]], floors=[[0, 0, 2, 1, 0]])
        assert make_surface(scene, Agent(radius=0.05), 0.05).island.max() == 1


def test_stairs_join_storeys_and_cut_their_opening():
    space = Space(scenes.maisonette())
    assert (space.surface.island == 0).all()
    middle, under, over = (5, 0.6, 1.35), (5, 0.6, 0), (5, 0.6, 2.7)
    assert space.is_navigable(middle)
    assert not space.is_navigable(under) and not space.is_navigable(over)
    way = space.shortest_path((1, 3, 0), (1, 5, 2.7))
    assert way[:, 2].min() == pytest.approx(0) and way[:, 2].max() == pytest.approx(2.7)
    assert len(space.shortest_path((1, 3, 0), (5, 4, 0))), "the ground floor is whole"
    beside_the_wall = space.cells([[x, 1.1, 0.675 * (x - 3)] for x in np.linspace(3.1, 6.9, 30)])
    assert (beside_the_wall < 0).all(), "a wall along the flight is no step of it"


@pytest.mark.parametrize("up", ["+x", "-x", "+y", "-y"])
def test_stairs_rise_every_way(up):
    low, high = ((2, 1), (5, 2)) if up[1] == "x" else ((1, 2), (2, 5))
    stairs = Stairs(low=low, high=high, bottom=0, top=3, up=up)
    size = np.array([3.5, 1.5]) if up[1] == "x" else np.array([1.5, 3.5])
    scene = Scene(boxes=[], floors=[[0, 0, 7, 7, 0], [0, 0, 7, 7, 3]], stairs=(stairs,))
    space = Space(scene)
    height = space.snap([*size, 1.5])[2]
    assert height == pytest.approx(1.5, abs=0.03) and (space.surface.island == 0).all()


def test_bad_scenes_and_agents():
    with pytest.raises(InputError, match="boxes must be finite"):
        Scene(boxes=[[0, 0, 0, 1, 1, np.nan]], floors=[[0, 0, 1, 1, 0]])
    with pytest.raises(InputError, match="lowest"):
        Scene(boxes=[[0, 0, 2, 1, 1, 1]], floors=[[0, 0, 1, 1, 0]])
    with pytest.raises(InputError, match="at least one floor"):
        Scene(boxes=[], floors=[])
    with pytest.raises(InputError, match="too large for an agent"):
        make_surface(scenes.room(), Agent(), cell=0.2)
    with pytest.raises(InputError, match="nothing is walkable"):
        make_surface(Scene(boxes=[], floors=[[0, 0, 0.3, 0.3, 0]]), Agent(radius=0.2))
    with pytest.raises(InputError, match="radius must be metres"):
        Agent(radius=0)
