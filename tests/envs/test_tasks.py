"""Tasks of graded difficulty: true of the house, of the length they promise, the same each time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sterna.data.vlnce import read_vlnce, write_vlnce
from sterna.envs.tasks import BESIDE, EYE, REACH, TASKS, draw_tasks
from sterna.errors import InputError
from sterna.world.houses import House, make_house, render
from sterna.world.houses.dice import Dice
from sterna.world.houses.ground import ground_of
from sterna.world.houses.language import HouseMap, check_errand, plain_errand
from sterna.world.houses.language.landmarks import find_landmarks, gaps
from sterna.world.houses.language.meaning import ThingRef
from sterna.world.houses.language.vocabulary import vocabulary
from sterna.world.houses.viewpoints import place_viewpoints
from sterna.world.space import Space


@pytest.fixture(scope="module")
def place() -> tuple[House, Space]:
    house = make_house(4)
    return house, ground_of(house)


@pytest.mark.parametrize("name", list(TASKS))
def test_of_every_task(name: str, place: tuple[House, Space], tmp_path) -> None:
    house, ground = place
    task, episodes = TASKS[name], draw_tasks(house, ground, name, 6, wordings=2)
    assert len(episodes) == 12 and len({e.instr_id for e in episodes}) == 12
    assert len({e.path_id for e in episodes}) == 6
    for episode in episodes:
        start, goal = episode.position, episode.goal_positions[0]
        assert ground.is_navigable([start, *episode.goal_positions]).all()
        length = ground.geodesic(start, goal)
        assert length == pytest.approx(episode.distance, abs=1e-3)
        assert length == pytest.approx(ground.geodesic(start, episode.goal_positions), abs=1e-3), (
            "the first goal is the nearest"
        )
        assert episode.goal_radius == task.radius
        assert episode.waypoints[0] == start and episode.waypoints[-1] == goal
        if task.wording == "goal":
            assert task.metres[0] <= length <= task.metres[1]
            assert math.degrees(episode.heading) == pytest.approx(
                round(math.degrees(episode.heading))
            )
    known = set(vocabulary())
    words = " ".join(e.instruction.lower() for e in episodes)
    assert not {w.strip(".,;:") for w in words.replace("'", " ").replace("-", " ").split()} - known
    write_vlnce(tmp_path / "t.json.gz", episodes)
    back = read_vlnce(tmp_path / "t.json.gz")
    assert [e.instruction for e in back] == [e.instruction for e in episodes]


def test_things_are_beside_their_goals_and_in_sight(place: tuple[House, Space]) -> None:
    house, ground = place
    marks, renderer = find_landmarks(house), render.Renderer(house)
    for episode in draw_tasks(house, ground, "easy", 6):
        goals, thing = np.array(episode.goal_positions), episode.object_id
        away = gaps(goals[:, :2], marks.rects[thing : thing + 1])
        assert (away < REACH + BESIDE).all()
        x0, y0, x1, y1 = house.rooms[marks.room_pairs[thing][0]].rectangles[0]
        assert ((goals[:, :2] > (x0, y0)) & (goals[:, :2] < (x1, y1))).all()
        apart = np.linalg.norm(goals[:, None] - goals, axis=2)
        assert (apart[~np.eye(len(goals), dtype=bool)] >= 1 - 1e-6).all()
        # Pictures, not the rays that chose them, show the thing to one who looks around.
        eyes = np.array([episode.position, *goals]) + np.array([0, 0, EYE])
        seen = renderer.panorama(eyes, 64).instance.reshape(len(eyes), -1)
        assert (seen == thing + 1).any(1).all(), episode.instruction


def test_walking_straight_ahead_seldom_leads_to_the_thing(place: tuple[House, Space]) -> None:
    """Starts face any way: a quarter of all ways begins within 45 degrees of straight ahead."""
    house, ground = place
    off = []
    for episode in draw_tasks(house, ground, "easy", 48):
        way = ground.shortest_path(episode.position, episode.goal_positions[0])
        east, north = (way[1] - way[0])[:2]
        turn = math.atan2(east, north) - episode.heading
        off.append(abs(math.remainder(turn, 2 * math.pi)))
    assert len(off) == 48
    assert 0.08 < np.mean(np.array(off) < math.pi / 4) < 0.45
    assert 0.3 < np.mean(np.array(off) > math.pi / 2) < 0.7


def test_a_thing_is_called_by_its_colour_its_kind_and_its_room(place: tuple[House, Space]) -> None:
    house, ground = place
    known = HouseMap(house, place_viewpoints(house, ground))
    dice, found = Dice(0, 1), 0
    for thing in range(len(house.things)):
        errand = plain_errand(known, thing, dice)
        if errand is None:
            continue
        found += 1
        one = house.things[thing]
        assert check_errand(known, errand, thing) == []
        assert errand.thing == ThingRef(kind=known.marks.kinds[thing], colour=one.colour)
        assert errand.room.holds is None
    assert found > 10


def test_unknown_tasks_are_named(place: tuple[House, Space]) -> None:
    with pytest.raises(InputError, match="expected one of easy, medium, easy-steps"):
        draw_tasks(*place, "hard", 3)
