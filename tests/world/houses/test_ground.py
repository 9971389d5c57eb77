"""Houses as worlds to walk in: every room is reached, stairs climb, what is solid is solid."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sterna.errors import InputError
from sterna.world.houses import House, make_house
from sterna.world.houses.ground import ground_of, room_points, scene_of
from sterna.world.houses.scans import scan_of, seed_of
from sterna.world.space import Space, path_length
from sterna.world.surface import Agent

SEEDS = (0, 2, 3)  # one storey; two storeys with the stairwell along x; another


@pytest.fixture(scope="module")
def grounds() -> list[tuple[House, Space]]:
    return [(house, ground_of(house)) for house in map(make_house, SEEDS)]


def test_every_room_is_reached_from_the_hall(grounds: list[tuple[House, Space]]) -> None:
    for house, ground in grounds:
        points = room_points(house, ground)
        hall = points[[room.kind for room in house.rooms].index("hall")]
        away = ground.distances(points, hall)
        assert np.isfinite(away).all() and away.max() < 40
        assert (away >= np.linalg.norm(points - hall, axis=1) - 1e-9).all()
        for room, point in zip(house.rooms, points, strict=True):
            assert house.room_at(*point) == room and ground.is_navigable(point)


def test_stairs_climb_over_the_landing(grounds: list[tuple[House, Space]]) -> None:
    for house, ground in grounds[1:]:
        (stairs,) = house.stairs
        way = ground.shortest_path(stairs.foot, stairs.top)
        run = (stairs.steps // 2 - 1) * stairs.tread
        slope = math.hypot(run, stairs.steps // 2 * stairs.rise)
        # Two flights and 0.35 m before each; the landing is crossed between the flights' middles.
        assert 2 * slope + 0.7 < ground.geodesic(stairs.foot, stairs.top) < 2 * slope + 2.0
        assert path_length(way) > 2 * slope
        assert (np.diff(way[:, 2]) > -1e-6).all(), "up all the way"
        assert ground.snap(stairs.turn) == pytest.approx(np.array(stairs.turn), abs=1e-6)
        low, high = np.array(stairs.hole[:2]), np.array(stairs.hole[2:])
        foot, top = np.array(stairs.foot[:2]), np.array(stairs.top[:2])
        steps = np.linspace(foot, foot + (stairs.turn[0][:2] - foot), 60)
        inside = steps[((steps > low) & (steps < high)).all(1)]
        climbing = ground.snap(np.c_[inside, np.linspace(0, stairs.turn[0][2], len(inside))])
        assert np.diff(climbing[:, 2]).max() < 0.1 and climbing[-1, 2] > 1.3
        assert np.linalg.norm(foot - top) > 1, "the flights lie side by side"


def test_the_upper_floor_ends_at_the_opening(grounds: list[tuple[House, Space]]) -> None:
    for house, ground in grounds[1:]:
        (stairs,) = house.stairs
        low, high = stairs.hole[:2], stairs.hole[2:]
        upper = ground.surface.centres[ground.surface.height > stairs.top[2] - 1e-6]
        over = ((upper[:, :2] > low) & (upper[:, :2] < high)).all(1)
        assert not over.any() and len(upper) > 5000


def test_walls_windows_and_the_front_door_are_shut(grounds: list[tuple[House, Space]]) -> None:
    for house, ground in grounds:
        centres = ground.surface.centres
        outline = [room.rectangles for room in house.rooms]
        flat = np.array([rectangle for part in outline for rectangle in part])
        assert (centres[:, :2] > flat[:, :2].min(0)).all()
        assert (centres[:, :2] < flat[:, 2:].max(0)).all()
        (front,) = [door for door in house.doors if door.rooms[1] is None]
        here = np.array([*front.centre, house.floors[front.storey]])
        assert not ground.is_navigable(here)


def test_rugs_are_walked_over_and_tables_are_not(grounds: list[tuple[House, Space]]) -> None:
    for house, ground in grounds:
        scene = scene_of(house)
        rugs = [thing for thing in house.things if thing.kind == "rug"]
        tables = [thing for thing in house.things if thing.kind == "dining table"]
        assert rugs and tables
        for rug in rugs:
            low = np.subtract(rug.centre, rug.half)[:2]
            high = np.add(rug.centre, rug.half)[:2]
            cells = ground.surface.centres
            above = np.abs(cells[:, 2] - house.floors[rug.storey]) < 0.01
            assert ((cells[:, :2] > low) & (cells[:, :2] < high)).all(1)[above].any()
        for table in tables:
            spot = (*table.centre[:2], house.floors[table.storey])
            assert not ground.is_navigable(spot)
        assert len(scene.boxes) + (house.box_class == 0).sum() == len(house.boxes)


def test_a_wider_agent_has_less_room(grounds: list[tuple[House, Space]]) -> None:
    house, slim = grounds[0]
    wide = ground_of(house, Agent(radius=0.2))
    assert len(wide.surface.height) < 0.9 * len(slim.surface.height)
    assert slim.is_navigable(wide.surface.centres).all()


def test_names_of_scans() -> None:
    assert scan_of(17) == "house-000017" and seed_of("house-000017") == 17
    assert seed_of(scan_of(12_345_678)) == 12_345_678
    for other in ("house-17", "house-0000017", "17DRP5sb8fy", "xhouse-000017", "house-00001x"):
        assert seed_of(other) is None
    with pytest.raises(InputError, match="from 0 up, found -1"):
        scan_of(-1)
