"""Steps a second in a house: in this process, and over HTTP from servers in processes of their own.

Both walk the same actions with the same pictures, and must see the same. `--plane` measures the
exchange alone: a server without a simulator, pictures of 8 x 8.

Usage: python benchmarks/simulator.py [--steps 300] [--size 224] [--servers 1 2] [--json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from sterna.data.episodes import Episode
from sterna.envs import habitat_server
from sterna.envs.continuous import ContinuousNavEnv
from sterna.envs.habitat import HabitatEnv
from sterna.envs.house import HouseEnv
from sterna.envs.house_worlds import HouseWorlds
from sterna.envs.houses import draw_episodes
from sterna.envs.simulator import Simulator
from sterna.envs.slots import Slots
from sterna.metrics import R2R_CE
from sterna.metrics.protocol import Protocol
from sterna.world.houses import make_house
from sterna.world.houses.ground import ground_of

SEED = 3
ACTIONS = (1, 1, 2, 1, 1, 3)


@contextmanager
def servers(count: int, *command: str) -> Iterator[list[str]]:
    """Start servers and yield their addresses."""
    running = [
        subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    try:
        lines = [process.stdout.readline() for process in running if process.stdout]
        yield [line.split(" on ")[1].split(";")[0] for line in lines]
    finally:
        for process in running:
            process.terminate()
            process.wait()


def rate(slots: Slots, name: str, steps: int) -> tuple[float, Any]:
    """Return steps a second of all slots together, and the last picture of each."""
    every = range(len(slots))
    slots.each(every, lambda _, env: env.reset(options={"instr_id": name}))
    begin = time.perf_counter()
    for number in range(steps):
        action = ACTIONS[number % len(ACTIONS)]
        seen = slots.each(every, lambda _, env, a=action: env.step(a)[0])
    seconds = time.perf_counter() - begin
    slots.close()
    return steps * len(slots) / seconds, np.array([one["rgb"] for one in seen])


def measure(protocol: Protocol, steps: int, counts: list[int], coding: str) -> list[dict[str, Any]]:
    house = make_house(SEED)
    episodes = draw_episodes(house, ground_of(house), 1)
    name, rows = episodes[0].instr_id, []

    def near(worker: int) -> list[ContinuousNavEnv]:
        worlds = HouseWorlds(protocol)
        return [
            HouseEnv(worlds, episodes, frames=worlds.frames, protocol=protocol, sensors=("rgb",))
        ]

    expected = None
    for count in counts:
        found, picture = rate(Slots(near, count), name, steps)
        expected = picture[:1] if expected is None else expected
        rows.append({"where": "this process", "workers": count, "steps/s": round(found, 1)})
        with servers(
            count, "-m", "sterna.cli", "habitat", "serve", "--houses", "--port", "0"
        ) as urls:
            far = over_http(protocol, urls, episodes, coding)
            found, picture = rate(Slots(far, count), name, steps)
        assert (picture == expected).all(), "over HTTP the pictures differ"
        rows.append({"where": f"HTTP, {coding}", "workers": count, "steps/s": round(found, 1)})
    return rows


def over_http(protocol: Protocol, urls: list[str], episodes: list[Episode], coding: str) -> Any:
    def far(worker: int) -> list[ContinuousNavEnv]:
        simulator = Simulator(protocol, urls[worker], sensors=("rgb",), coding=coding)
        return [HabitatEnv(simulator, episodes)]

    return far


def exchange(steps: int) -> dict[str, Any]:
    """Return what an exchange costs without a simulator."""
    tiny = replace(R2R_CE, name="tiny", camera_width=8, camera_height=8, max_steps=None)
    episode = Episode(
        instr_id="1", scan="flat", path=(), heading=0.0, instruction="Go.", path_id=1,
        position=(0.0, 0.0, 0.0), goal_positions=((9.0, 9.0, 0.0),), scene="flat",
    )  # fmt: skip
    with servers(1, habitat_server.__file__, "--backend", "plane", "--port", "0") as urls:
        slots = Slots(over_http(tiny, urls, [episode], "raw"))
        found, _ = rate(slots, "1", steps)
    return {"where": "HTTP, an empty plane", "workers": 1, "steps/s": round(found, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--servers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--coding", default="raw")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    protocol = replace(
        R2R_CE, name="measured", camera_width=args.size, camera_height=args.size, max_steps=None
    )
    rows = [exchange(args.steps), *measure(protocol, args.steps, args.servers, args.coding)]
    for row in rows:
        print(
            json.dumps(row) if args.json else "{where:>24} {workers:>3} {steps/s:>9}".format(**row)
        )


if __name__ == "__main__":
    main()
