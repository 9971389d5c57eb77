"""Time houses and their pictures: houses/s, frames/s, 36-view panoramas; threads stated.

Usage: python benchmarks/render.py [--houses 10] [--frames 64] [--threads 1] [--shadows 0 4]

Compiling is left out: one small frame is rendered before the clock starts. Figures are medians
over houses.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

import numpy as np

from sterna.world.houses import House, make_house
from sterna.world.houses.render import Camera, Renderer


def spots(house: House, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw points at eye height, room after room, and headings."""
    rng, places = np.random.default_rng(house.seed), []
    for i in range(count):
        room = house.rooms[i % len(house.rooms)]
        x0, y0, x1, y1 = room.rectangles[0]
        x, y = rng.uniform(x0 + 0.3, x1 - 0.3), rng.uniform(y0 + 0.3, y1 - 0.3)
        places.append((x, y, house.floors[room.storey] + 1.5))
    return np.array(places), rng.uniform(0, 2 * np.pi, count)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(house: House, frames: int, threads: int, shadows: int) -> dict[str, float]:
    renderer = Renderer(house, shadows=shadows, threads=threads)
    places, headings = spots(house, frames)
    renderer.render(Camera(width=8, height=8), places[:1], headings[:1])  # compiles
    out = {}
    for size in (128, 224):
        camera = Camera(width=size, height=size, hfov=60)
        batch = seconds(lambda c=camera: renderer.render(c, places, headings))
        single = seconds(
            lambda c=camera: [
                renderer.render(c, p, h) for p, h in zip(places, headings, strict=True)
            ]
        )
        panorama = seconds(lambda s=size: renderer.panorama(places[0], s))
        out[f"fps {size} batch"] = frames / batch
        out[f"fps {size} single"] = frames / single
        out[f"panorama {size} ms"] = 1000 * panorama
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--houses", type=int, default=10)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shadows", type=int, nargs="+", default=[0, 4])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    start = time.perf_counter()
    houses = [make_house(seed) for seed in range(options.houses)]
    made = (time.perf_counter() - start) / options.houses
    report: dict[str, object] = {
        "cores": os.cpu_count(),
        "threads": options.threads,
        "houses": options.houses,
        "boxes a house": statistics.mean(len(h.boxes) for h in houses),
        "ms a house": 1000 * made,
    }
    for shadows in options.shadows:
        rows = [measure(h, options.frames, options.threads, shadows) for h in houses]
        report[f"shadows {shadows}"] = {
            name: statistics.median(row[name] for row in rows) for name in rows[0]
        }
    if options.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for key, number in value.items():
                print(f"  {key:20} {number:9.1f}")
        else:
            print(f"{name:22} {value:9.1f}" if isinstance(value, float) else f"{name:22} {value}")


if __name__ == "__main__":
    main()
