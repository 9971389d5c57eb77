"""Tasks of graded difficulty: true of the house, of the length they promise, the same each time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sterna.data.vlnce import read_vlnce, write_vlnce
from sterna.envs.tasks import TASKS, draw_tasks
from sterna.errors import InputError
from sterna.world.houses import House, make_house
from sterna.world.houses.ground import ground_of
from sterna.world.houses.language.landmarks import find_landmarks, gaps
from sterna.world.houses.language.vocabulary import vocabulary
from sterna.world.space import Space

# A change of these changes episodes people have: say so in the changelog.
PINNED = {}


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


def test_goals_lie_beside_a_thing_in_its_room(place: tuple[House, Space]) -> None:
    house, ground = place
    marks = find_landmarks(house)
    for episode in draw_tasks(house, ground, "easy", 8):
        kinds = [k for k in set(marks.kinds) if k in episode.instruction]
        assert kinds or any(word in episode.instruction for word in ("the",))
        away = gaps(np.array(episode.goal_positions)[:, :2], marks.rects)
        assert (away[:, : marks.windows.start].min(1) < 1.15).all()
        between = np.linalg.norm(
            np.subtract(episode.goal_positions[:1], episode.goal_positions[1:]), axis=1
        )
        assert (between >= 1.0 - 1e-6).all()


def test_unknown_tasks_are_named(place: tuple[House, Space]) -> None:
    with pytest.raises(InputError, match="expected one of easy, medium, easy-steps"):
        draw_tasks(*place, "hard", 3)
