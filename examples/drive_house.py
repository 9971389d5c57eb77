"""An exported policy walks a house through `sterna serve`; the walk becomes a picture or a GIF.

The house is one of a data folder (`sterna data make houses` writes some). The robot knows no graph:
it tells the service what it sees where it stands and which places it could go to, and while it
walks it sends what it will see on arrival.

    sterna export runs/student --to student-edge
    python examples/drive_house.py student-edge --data data --out walk.gif

With --url it asks a service that runs already (STERNA_TOKEN is sent), else it starts one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from sterna.data.episodes import Episode
from sterna.edge.client import Client, drive
from sterna.edge.runtime import Decision, Engine, Observation, read_manifest
from sterna.edge.service import Service
from sterna.edge.walks import Rooms, start_heading
from sterna.errors import InputError
from sterna.recipes.policies import data_config
from sterna.recipes.rooms import rooms_of
from sterna.recipes.world import World
from sterna.show.episode import draw_episode, episode_scene
from sterna.show.png import image
from sterna.show.video import write_video
from sterna.world.graph import load_graph


class HouseRobot:
    """A robot in a house of files; it stands at viewpoints and walks along edges."""

    def __init__(self, rooms: Rooms, episode: Episode) -> None:
        """Stand where an episode begins."""
        self.rooms, self.scan = rooms, episode.scan
        self.node = episode.start
        self.first: float | None = start_heading(episode)
        self.hops: list[list[str]] = [[episode.start]]
        self._ahead: dict[str, Observation] = {}

    def _seen(self, node: str, heading: float | None = None) -> Observation:
        return self.rooms.observation(self.rooms.atlas.node(self.scan, node), heading)

    async def look(self) -> Observation:
        """Return what is seen here; the heading is needed once, later it follows from the way."""
        heading, self.first = self.first, None
        return self._ahead.pop(self.node, None) or self._seen(self.node, heading)

    async def glimpse(self, node: str) -> Observation:
        """Return what will be seen on arrival."""
        self._ahead[node] = self._seen(node)
        return self._ahead[node]

    async def go(self, path: Sequence[str]) -> None:
        """Walk through these viewpoints."""
        if path:
            self.hops.append(list(path))
            self.node = path[-1]


@asynccontextmanager
async def service_at(url: str | None, folder: Path, engine: str) -> AsyncIterator[str]:
    """Give the address of a service: the one named, or one that lives as long as the walk."""
    if url is not None:
        yield url
        return
    async with Service(Engine.open(folder, engine)) as service:
        yield service.url


async def walk(
    robot: HouseRobot, episode: Episode, url: str | None, folder: Path, engine: str
) -> list[Decision]:
    """Walk an episode; the robot remembers its hops."""
    token = os.environ.get("STERNA_TOKEN")
    async with service_at(url, folder, engine) as address, Client(address, token=token) as client:
        return await drive(client, robot, episode.instruction)


def draw(world: World, episode: Episode, hops: Sequence[Sequence[str]], out: Path) -> Path:
    """Draw the walk: .png or .svg as one picture, .gif or .mp4 hop by hop."""
    graph = load_graph(world.layout.connectivity, episode.scan)
    if out.suffix in (".png", ".svg"):
        return draw_episode(graph, episode, list(hops), out)
    scenes = (episode_scene(graph, episode, list(hops[:n])) for n in range(1, len(hops) + 1))
    return write_video(out, (image(scene) for scene in scenes), fps=1.0)


def find(episodes: Sequence[Episode], name: str | None) -> Episode:
    """Return the episode of that name, or the first."""
    for episode in episodes:
        if name in (None, episode.instr_id):
            return episode
    raise InputError(
        f"no episode {name!r}; there are {len(episodes)}, {episodes[0].instr_id} first"
    )


def main(argv: Sequence[str] | None = None) -> Path:
    """Walk and draw; returns the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="exported policy")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("STERNA_DATA", "data")))
    parser.add_argument("--split", default="val_unseen")
    parser.add_argument("--episode", help="its name, for example 6440_1 (default: the first)")
    parser.add_argument("--engine", default="onnx", choices=["onnx", "onnx-int8"])
    parser.add_argument("--url", help="a service that runs already")
    parser.add_argument("--out", type=Path, default=Path("walk.gif"))
    options = parser.parse_args(argv)
    world = World(options.data, data_config(read_manifest(options.folder).about["run"]))
    episode = find(world.episodes(options.split), options.episode)
    robot = HouseRobot(rooms_of(world, world.panoramas([episode])), episode)
    decisions = asyncio.run(walk(robot, episode, options.url, options.folder, options.engine))
    print(episode.instruction)
    for decision in decisions:
        word = f"stop ({decision.reason})" if decision.stop else f"to {decision.target}"
        print(
            f"{decision.step}: at {decision.node}, {word}, probability {decision.probability:.2f}"
        )
    return draw(world, episode, robot.hops, options.out)


if __name__ == "__main__":
    print(main())
