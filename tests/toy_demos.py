"""Demonstrations of a toy: a white square says where to go, the task whether to go or to flee."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sterna.data.demos.store import Demonstration, write_manifest, write_task

SIZE, CHUNK = 48, 3
TASKS = {"door-open": 1.0, "door-close": -1.0}


def toy_demo(seed: int, sign: float, frames: int = 6) -> Demonstration:
    rng = np.random.default_rng([seed, int(sign > 0)])
    row, column = rng.integers(4, SIZE - 12, 2)
    images = np.zeros((frames, 1, SIZE, SIZE, 3), np.uint8)
    images[:, :, row : row + 8, column : column + 8] = 255
    goal = np.array([row, column, 0, 0]) / (SIZE / 2) - 1.0
    actions = np.tile(sign * goal, (frames, CHUNK, 1)).astype(np.float32)
    proprio = rng.normal(0, 0.1, (frames, 4)).astype(np.float32)
    return Demonstration(
        seed=seed,
        noisy=bool(seed % 2),
        steps=frames,
        images=images,
        proprio=proprio,
        actions=actions + np.arange(frames, dtype=np.float32)[:, None, None] * 0.01,
    )


def write_toy_demos(folder: Path, episodes: int = 40) -> Path:
    entries = {}
    for name, sign in TASKS.items():
        demos = [toy_demo(seed, sign) for seed in range(episodes)]
        entries[name] = write_task(folder / name, demos, tried=episodes)
    write_manifest(folder, {"toy": True}, entries)
    return folder
