"""Time GraphEnv: agent-steps a second with all observation arrays, random moves to neighbours.

A step is: move 64 agents to a random neighbour each, then build the whole observation, features
gathered from a float16 table of 36 x 768 a viewpoint. The gather alone is timed beside it.

Usage: python benchmarks/env.py --data <folder> [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any

import numpy as np

from sterna.data.episodes import Episode
from sterna.data.r2r import read_r2r
from sterna.data.views import ViewStore, camera_angles
from sterna.envs.graph_env import GraphEnv, Panoramas
from sterna.world.atlas import Atlas
from sterna.world.graph import connectivity_dir

WIDTH = 768


class NoiseViews(ViewStore):
    """Features of any viewpoint, made up: the benchmark needs their size, not their values."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__({}, *camera_angles(), width, dtype=np.float16)

    def table(self, keys: Any, *, logits: bool = False, progress: bool = True) -> Any:
        rng = np.random.default_rng(0)
        return rng.integers(0, 15000, (len(keys), 36, self.size), np.int16).view(np.float16)


def random_moves(env: GraphEnv, rng: np.random.Generator) -> np.ndarray:
    """A neighbour of every agent."""
    atlas = env.atlas
    slot = (rng.random(len(env.node)) * atlas.degree[env.node]).astype(np.int64)
    return atlas.candidates[env.node, slot]


def run(env: GraphEnv, episodes: list[Episode], seconds: float, *, features: bool) -> float:
    """Return agent-steps a second."""
    rng = np.random.default_rng(1)
    env.reset(episodes)
    steps, total = 0, 0
    start = time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        env.step(random_moves(env, rng), env.node)
        seen = env.observe(features=features)
        steps += len(episodes)
        total += seen.token_rows.size
    assert total
    return steps / passed


def gather_only(panoramas: Panoramas, count: int, seconds: float) -> float:
    """Agent-steps a second if a step were nothing but the gather of its features."""
    rng = np.random.default_rng(2)
    nodes = rng.integers(0, len(panoramas.atlas), (50, count))
    steps, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        node = nodes[steps // count % 50]
        width = int(panoramas.lengths[node].max())
        panoramas.features[panoramas.token_rows[node, :width]]
        steps += count
    return steps / passed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("STERNA_DATA", "data"))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    every = read_r2r(options.data, "val_unseen")
    episodes = every[:: len(every) // options.batch][: options.batch]
    atlas = Atlas.load(connectivity_dir(options.data), {e.scan for e in every})
    panoramas = Panoramas(atlas, NoiseViews())
    env = GraphEnv(panoramas)
    run(env, episodes, 0.2, features=True)
    report = {
        "batch": options.batch,
        "viewpoints": len(atlas),
        "with_features_per_s": round(run(env, episodes, options.seconds, features=True)),
        "without_features_per_s": round(run(env, episodes, options.seconds, features=False)),
        "gather_alone_per_s": round(gather_only(panoramas, options.batch, options.seconds)),
        "target_per_s": 20_000,
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }
    report["times_target"] = round(report["with_features_per_s"] / 20_000, 2)
    if options.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        print(f"{name:>24}  {value}")


if __name__ == "__main__":
    main()
