"""The data engine: frames a second, and where the time goes.

One process walks tasks in houses of seeds, with the parts timed apart: houses (made, with their
ground), tasks (viewpoints, map, instructions), walking (follower, labels), rendering, JPEG. The
first house is left out: it compiles. Then `--workers` processes make a folder, house by house.

Usage: python benchmarks/ego.py [--task easy] [--houses 4] [--walks 24] [--noise 0.1]
    [--camera 112x112@90] [--workers 1 2] [--json]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sterna.data.ego import store
from sterna.envs import collect as walking
from sterna.envs.film import HouseFilm
from sterna.envs.houses import HouseFrames, agent_of
from sterna.envs.tasks import draw_tasks
from sterna.recipes.ego import EgoConfig, make_ego
from sterna.world.houses import make_house, scan_of
from sterna.world.houses.ground import ground_of

FIRST = 600_000  # seeds that nothing is trained or scored on


class Clock:
    """Adds up what calls take."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            begin = time.perf_counter()
            try:
                return call(*args, **options)
            finally:
                spent = time.perf_counter() - begin
                self.seconds[name] = self.seconds.get(name, 0.0) + spent

        return timed


def one_house(config: EgoConfig, seed: int, clock: Clock) -> int:
    """Walk the tasks of a house; returns frames."""
    rules = config.rules()
    house = clock.time("houses", make_house)(seed)
    ground = clock.time("houses", ground_of)(house, agent_of(rules))
    episodes = clock.time("tasks", draw_tasks)(house, ground, config.task, config.walks)
    film = clock.time("render", HouseFilm(HouseFrames([house]), config.lens()).__call__)
    plain = walking.encode
    walking.encode = clock.time("jpeg", store.encode)
    begin = time.perf_counter()
    try:
        records = list(
            walking.collect(
                None, episodes, {scan_of(seed): ground}, film=_Film(film, config), protocol=rules,
                config=config.collecting(),
            )
        )  # fmt: skip
    finally:
        walking.encode = plain
    clock.seconds["all walking"] = (
        clock.seconds.get("all walking", 0.0) + time.perf_counter() - begin
    )
    return sum(len(record.frames) for record in records)


class _Film:
    def __init__(self, call: Callable[..., Any], config: EgoConfig) -> None:
        self._call, self.camera = call, config.lens()

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)


def measure(config: EgoConfig, houses: int) -> dict[str, Any]:
    """Time one process on some houses."""
    one_house(config, FIRST, Clock())
    clock, frames = Clock(), 0
    for seed in range(FIRST + 1, FIRST + 1 + houses):
        frames += one_house(config, seed, clock)
    parts = dict(clock.seconds)
    whole = parts.pop("all walking")
    parts["walking"] = whole - parts["render"] - parts["jpeg"]
    total = sum(parts.values())
    return {
        "frames": frames,
        "frames_per_second": round(frames / total, 1),
        "walking_and_frames_per_second": round(frames / whole, 1),
        "share": {name: round(seconds / total, 3) for name, seconds in parts.items()},
    }


def side_by_side(config: EgoConfig, workers: Sequence[int]) -> dict[str, float]:
    """Frames a second of whole runs, processes and their start included."""
    out = {}
    for count in workers:
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            manifest = make_ego(config, Path(folder) / "walks", workers=count)
            seconds = time.perf_counter() - begin
            out[str(count)] = round(manifest["counts"]["frames"] / seconds, 1)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", default="easy")
    parser.add_argument("--houses", type=int, default=4)
    parser.add_argument("--walks", type=int, default=24)
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--camera", default="112x112@90")
    parser.add_argument("--workers", type=int, nargs="*", default=[])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    config = EgoConfig(
        seeds=f"{FIRST}:{FIRST + args.houses}", task=args.task, walks=args.walks,
        noise=args.noise, camera=args.camera,
    )  # fmt: skip
    found = measure(config, args.houses)
    if args.workers:
        found["by_workers"] = side_by_side(config, args.workers)
    if args.json:
        print(json.dumps(found))
        return
    shares = ", ".join(f"{name} {share:.0%}" for name, share in found["share"].items())
    print(f"{found['frames_per_second']} frames/s in one process ({shares})")
    print(f"{found['walking_and_frames_per_second']} frames/s once houses and tasks are there")
    for count, rate in found.get("by_workers", {}).items():
        print(f"{rate} frames/s with {count} processes, their start included")


if __name__ == "__main__":
    main()
