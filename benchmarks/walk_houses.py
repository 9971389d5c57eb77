"""Walk houses in continuous space: the shortest-path follower, and agents that act at random.

The follower should reach every goal (SR 100, SPL above 0.95); agents at random should never leave
the walkable area, nor come nearer to a solid box than their radius less what cells leave open.

Usage: python benchmarks/walk_houses.py [--seeds 10] [--episodes 500] [--steps 1000000] [--json]
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from typing import Any

import numpy as np

from sterna.data.episodes import Episode
from sterna.envs.houses import agent_of, draw_episodes
from sterna.envs.walkers import Walkers
from sterna.metrics import R2R_CE, RXR_CE, continuous_scores
from sterna.metrics.protocol import Protocol
from sterna.world.geometry import Floats
from sterna.world.houses import House, make_house
from sterna.world.houses.ground import ground_of
from sterna.world.space import Space

AGENTS = 2000


def follow(grounds: dict[str, Space], episodes: list[Episode], protocol: Protocol) -> Any:
    walkers = Walkers(grounds, protocol)
    walkers.reset(episodes)
    while not walkers.done.all():
        walkers.step(walkers.follower_actions())
    return continuous_scores(walkers.traces(), protocol)


def wander(house: House, space: Space, episodes: list[Episode], steps: int, protocol: Protocol):
    """Act at random; returns steps taken, steps off the walkable area, least clearance (metres)."""
    rng = np.random.default_rng(house.seed)
    crowd = [episodes[i % len(episodes)] for i in range(AGENTS)]
    walkers = Walkers({episodes[0].scan: space}, replace(protocol, name="endless", max_steps=None))
    walkers.reset(crowd)
    away, least = 0, np.inf
    for number in range(steps // AGENTS):
        walkers.step(rng.choice((1, 1, 1, 2, 3), size=AGENTS))
        away += int((~space.is_navigable(walkers.position)).sum())
        if number % 10 == 0:
            least = min(least, clearance(house, space, walkers.position))
    return steps // AGENTS * AGENTS, away, least


def clearance(house: House, space: Space, points: Floats) -> float:
    """Least distance on the flat from points [n, 3] to what stands between step and head height.

    Read off the house's own boxes; the steps of stairs are walked on.
    """
    boxes = house.boxes[house.box_class != house.classes.index("stairs")].astype(np.float64)
    gap = np.maximum(boxes[:, None, :2] - points[:, :2], points[:, :2] - boxes[:, None, 3:5])
    away = np.hypot(*np.moveaxis(gap.clip(0), -1, 0))
    step, head = points[:, 2] + space.agent.step, points[:, 2] + space.agent.height
    meets = (boxes[:, None, 5] > step + 1e-3) & (boxes[:, None, 2] < head - 1e-3)
    return float(np.where(meets, away, np.inf).min())


def measure(seeds: int, episodes: int, steps: int, protocol: Protocol) -> dict[str, Any]:
    table: dict[str, list[Any]] = {}
    taken, away, least, climbs, storeys = 0, 0, np.inf, 0, []
    begin = time.perf_counter()
    for seed in range(seeds):
        house = make_house(seed)
        space = ground_of(house, agent_of(protocol))
        drawn = draw_episodes(house, space, -(-episodes // seeds))
        storeys.append(len(house.floors))
        climbs += sum(abs(e.position[2] - e.goal_positions[0][2]) > 2 for e in drawn)
        for name, values in follow({drawn[0].scan: space}, drawn, protocol).items():
            table.setdefault(name, []).extend(values.tolist())
        more, off, near = wander(house, space, drawn, steps // seeds, protocol)
        taken, away, least = taken + more, away + off, min(least, near)
    return {
        "protocol": protocol.name,
        "houses": len(storeys),
        "of two storeys": sum(number == 2 for number in storeys),
        "episodes": len(table["SR"]),
        "on both storeys": climbs,
        "SR": float(np.mean(table["SR"])),
        "SPL": float(np.mean(table["SPL"])),
        "least SPL": float(np.min(table["SPL"])),
        "nDTW": float(np.mean(table["nDTW"])),
        "NE": float(np.mean(table["NE"])),
        "random steps": taken,
        "off the walkable area": away,
        "least clearance, m": least,
        "radius, m": agent_of(protocol).radius,
        "seconds": time.perf_counter() - begin,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--episodes", type=int, default=500)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for protocol in (R2R_CE, RXR_CE):
        found = measure(options.seeds, options.episodes, options.steps, protocol)
        if options.json:
            print(json.dumps(found))
        else:
            print("\n".join(f"{name:>24}: {value}" for name, value in found.items()), flush=True)


if __name__ == "__main__":
    main()
