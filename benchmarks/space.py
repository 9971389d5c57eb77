"""Time continuous space: steps a second of many agents at once, distance fields, paths, follower.

The scene is a house of 6 x 4 rooms of 4 x 4 m with doors and furniture. A step is a forward move
of 0.25 m with collisions (sliding); agents turn at random when they meet something.

Usage: python benchmarks/space.py [--agents 1000] [--seconds 2] [--json]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from sterna.world.follower import follow
from sterna.world.space import Space
from sterna.world.surface import Scene

ROOM, WALL, DOOR = 4.0, 0.1, 0.9


def wall(length: int, across: float, axis: int) -> list[tuple[float, ...]]:
    """A wall through `length` rooms with a door in the middle of each."""
    pieces = []
    for room in range(length):
        start, middle = room * ROOM, (room + 0.5) * ROOM
        for a, b in ((start, middle - DOOR / 2), (middle + DOOR / 2, start + ROOM)):
            low, high = (a, across - WALL / 2), (b, across + WALL / 2)
            pieces.append((*low[:: 1 - 2 * axis], 0.0, *high[:: 1 - 2 * axis], 2.5))
    return pieces


def house(columns: int = 6, rows: int = 4, seed: int = 0) -> Scene:
    rng = np.random.default_rng(seed)
    boxes = [piece for row in range(1, rows) for piece in wall(columns, row * ROOM, 0)]
    boxes += [piece for column in range(1, columns) for piece in wall(rows, column * ROOM, 1)]
    for column in range(columns):
        for row in range(rows):
            for _ in range(4):
                x, y = (column, row) * np.array(ROOM) + rng.uniform(0.6, 2.6, 2)
                width, depth = rng.uniform(0.3, 1.0, 2)
                boxes.append((x, y, 0.0, x + width, y + depth, rng.uniform(0.4, 1.8)))
    floors = np.array([[0, 0, columns * ROOM, rows * ROOM, 0]])
    return Scene(boxes=np.array(boxes), floors=floors)


def rate(work: Callable[[], int], seconds: float) -> float:
    """Units of work a second; the first call is not timed."""
    work()
    done, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        done += work()
    return done / passed


def measure(agents: int, seconds: float) -> dict[str, Any]:
    start = time.perf_counter()
    space = Space(house())
    made = time.perf_counter() - start
    rng = np.random.default_rng(1)
    places = space.random_points(agents, rng)
    heading = rng.random(agents) * 2 * math.pi
    goals = iter(space.random_points(100_000, rng))
    goal = next(goals)

    def step() -> int:
        nonlocal places, heading
        places, hit = space.move(places, heading, 0.25)
        heading = np.where(hit, rng.random(agents) * 2 * math.pi, heading)
        return agents

    def field() -> int:
        space.field(next(goals))
        return 1

    def path() -> int:
        space.shortest_path(places[rng.integers(agents)], goal)
        return 1

    def distances() -> int:
        return len(space.distances(places, goal))

    def one() -> int:
        space.move(places[:1], heading[:1], 0.25)
        return 1

    def expert() -> int:
        return len(follow(space, places[:64], heading[:64], goal))

    return {
        "cells": len(space.surface.height),
        "boxes": len(house().boxes),
        "made_s": round(made, 2),
        "steps_per_s": round(rate(step, seconds)),
        "steps_per_s_one_agent": round(rate(one, seconds)),
        "distances_per_s": round(rate(distances, seconds)),
        "follower_actions_per_s": round(rate(expert, seconds)),
        "fields_per_s": round(rate(field, seconds), 1),
        "paths_per_s": round(rate(path, seconds), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    report = measure(options.agents, options.seconds)
    report |= {"agents": options.agents, "threads": os.environ.get("OMP_NUM_THREADS")}
    if options.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        print(f"{name:>24}  {value}")


if __name__ == "__main__":
    main()
