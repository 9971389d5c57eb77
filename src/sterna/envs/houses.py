"""Environments in houses made from seeds: their ground, their pictures, and paths to walk.

from sterna.envs.houses import make_env
env = make_env([0, 1, 2], episodes=20)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sterna.data.episodes import Episode
from sterna.envs.continuous import Camera
from sterna.envs.house import HouseEnv
from sterna.errors import InputError
from sterna.metrics.protocol import R2R_CE, Protocol
from sterna.world.geometry import Floats, Ints
from sterna.world.houses import House, make_house
from sterna.world.houses import render as pictures
from sterna.world.houses.dice import Dice
from sterna.world.houses.ground import ground_of, room_cells
from sterna.world.houses.scans import scan_of, seed_of
from sterna.world.space import Space
from sterna.world.surface import Agent

SHORTEST, LONGEST = 5.0, 20.0  # metres of a path; R2R's are about 10
GOAL_RADIUS = 3.0
_STREAM = 40  # of a house's dice: apart from those that make the house
_TRIES = 60  # starts tried for a goal before another goal is drawn
_GOALS = 20  # goals tried for an episode


class HouseFrames:
    """A `FrameSource` for houses: a renderer each, kept from frame to frame.

    Houses not given are made when their scan (`scan_of`) is asked for. `threads` changes speed
    alone; `shadows` are the shadow rays a pixel (`render.Renderer`).
    """

    def __init__(self, houses: Iterable[House] = (), *, threads: int = 1, shadows: int = 0) -> None:
        self.threads, self.shadows = threads, shadows
        self._houses = {scan_of(house.seed): house for house in houses}
        self._renderers: dict[str, pictures.Renderer] = {}
        self._last: tuple[tuple[Any, ...], pictures.Frames] | None = None

    def renderer(self, scan: str) -> pictures.Renderer:
        """Return the renderer of a scan; `InputError` if no house has that name."""
        if scan not in self._renderers:
            house = self._houses.get(scan) or _made(scan)
            self._renderers[scan] = pictures.Renderer(
                house, threads=self.threads, shadows=self.shadows
            )
        return self._renderers[scan]

    def __call__(
        self, scan: str, eye: Floats, heading: float, camera: Camera, sensor: str
    ) -> NDArray[Any]:
        """Return "rgb" uint8 [height, width, 3] or "depth" float32 [height, width] in metres.

        Depth is measured along the camera's axis and infinite where nothing is met; the
        environment clips it to the camera's range.
        """
        if sensor not in ("rgb", "depth"):
            raise InputError(f"houses: no sensor {sensor!r}; there are rgb and depth")
        key = (scan, *np.asarray(eye).tolist(), heading, camera.width, camera.height, camera.hfov)
        if self._last is None or self._last[0] != key:
            lens = pictures.Camera(width=camera.width, height=camera.height, hfov=camera.hfov)
            # One pass gives both: kept in case the other sensor looks through the same lens.
            self._last = key, self.renderer(scan).render(lens, eye, heading)
        frames = self._last[1]
        picture: NDArray[Any] = (frames.rgb if sensor == "rgb" else frames.depth)[0]
        return picture


def _made(scan: str) -> House:
    seed = seed_of(scan)
    if seed is None:
        raise InputError(f"no house is named {scan!r}; expected a name such as {scan_of(17)}")
    return make_house(seed)


def agent_of(protocol: Protocol) -> Agent:
    """Return the body that a protocol fixes; what it leaves open is Habitat's default."""
    default = Agent()
    return Agent(
        radius=protocol.agent_radius or default.radius,
        height=protocol.agent_height or default.height,
    )


def draw_episodes(
    house: House,
    ground: Space,
    count: int,
    *,
    shortest: float = SHORTEST,
    longest: float = LONGEST,
) -> list[Episode]:
    """Draw `count` shortest paths between two rooms of a house, the same ones each time.

    Their geodesic lengths lie between `shortest` and `longest` metres. `waypoints` are the corners
    of the shortest path, `distance` its geodesic length; the instruction names the two rooms.
    `InputError` if the house holds no such path.
    """
    dice = Dice(house.seed, _STREAM)
    cells = room_cells(house, ground)
    rooms = [(room, own) for room, own in enumerate(cells) if len(own)]
    return [
        _draw_episode(house, ground, dice, rooms, number, (shortest, longest))
        for number in range(count)
    ]


def _draw_episode(
    house: House,
    ground: Space,
    dice: Dice,
    rooms: list[tuple[int, Ints]],
    number: int,
    limits: tuple[float, float],
) -> Episode:
    for _ in range(_GOALS):
        target, goal = _draw_point(ground, dice, rooms)
        for _ in range(_TRIES):
            origin, start = _draw_point(ground, dice, rooms)
            if origin == target:
                continue
            length = ground.geodesic(start, goal)
            if limits[0] <= length <= limits[1]:
                names = house.rooms[origin].name, house.rooms[target].name
                heading = math.radians(dice.below(360))
                return _episode(house, ground, number, (start, goal), heading, length, names)
    raise InputError(
        f"house {house.seed}: no path of {limits[0]} to {limits[1]} m between two rooms was found"
    )


def _draw_point(ground: Space, dice: Dice, rooms: list[tuple[int, Ints]]) -> tuple[int, Floats]:
    """Draw a room and a point of its floor [3]."""
    room, cells = dice.pick(rooms)
    point = ground.surface.centres_of(np.array(cells[dice.below(len(cells))])).round(4)
    return room, point


def _episode(
    house: House,
    ground: Space,
    number: int,
    ends: tuple[Floats, Floats],
    heading: float,
    length: float,
    names: tuple[str, str],
) -> Episode:
    scan = scan_of(house.seed)
    way = ground.shortest_path(*ends).round(6)
    points = tuple((x, y, z) for x, y, z in way.tolist())
    return Episode(
        instr_id=f"{scan}_{number}",
        scan=scan,
        path=(),
        heading=heading,
        instruction=f"Walk from the {names[0]} to the {names[1]}.",
        path_id=f"{scan}_{number}",
        distance=round(length, 4),
        position=points[0],
        waypoints=points,
        goal_positions=points[-1:],
        goal_radius=GOAL_RADIUS,
        scene=f"houses/{scan}",
    )


def make_env(
    seeds: Sequence[int],
    *,
    episodes: int | Sequence[Episode] = 20,
    protocol: Protocol = R2R_CE,
    sensors: Sequence[str] = ("rgb", "depth"),
    threads: int = 1,
    shadows: int = 0,
    render_mode: str | None = None,
) -> HouseEnv:
    """Return an environment in the houses of some seeds.

    `episodes` are given, or a number: so many are drawn in each house (`draw_episodes`). The body,
    the cameras and the actions are the protocol's. `threads` render; they change no pixel.
    """
    houses = [make_house(seed) for seed in dict.fromkeys(seeds)]
    if not houses:
        raise InputError("environment: expected at least one house's seed, found none")
    agent = agent_of(protocol)
    grounds = {scan_of(house.seed): ground_of(house, agent) for house in houses}
    if isinstance(episodes, int):
        count = episodes
        pairs = zip(houses, grounds.values(), strict=True)
        episodes = [e for house, ground in pairs for e in draw_episodes(house, ground, count)]
    return HouseEnv(
        grounds,
        episodes,
        frames=HouseFrames(houses, threads=threads, shadows=shadows),
        protocol=protocol,
        sensors=sensors,
        render_mode=render_mode,
    )
