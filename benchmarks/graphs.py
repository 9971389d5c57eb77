"""Time the reading of all 90 scans: distances, next hops, candidates; cold, then cached.

Usage: python benchmarks/graphs.py --data <folder> [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time

from sterna.world.atlas import Atlas
from sterna.world.graph import connectivity_dir, load_graph

REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("STERNA_DATA", "data"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = connectivity_dir(options.data)
    scans = sorted(f.name.split("_connectivity")[0] for f in folder.glob("*_connectivity.json*"))
    clock = [time.perf_counter()]
    graphs = [load_graph(folder, scan) for scan in scans]
    clock.append(time.perf_counter())
    warm = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for scan in scans:
            load_graph(folder, scan)
        warm.append(time.perf_counter() - start)
    start = time.perf_counter()
    Atlas(graphs)
    atlas = time.perf_counter() - start
    cold = clock[1] - clock[0]
    report = {
        "scans": len(graphs),
        "viewpoints": sum(map(len, graphs)),
        "directed_edges": sum(len(graph.indices) for graph in graphs),
        "cold_s": round(cold, 3),
        "cached_s": round(statistics.median(warm), 5),
        "cached_is_faster_by": round(cold / statistics.median(warm)),
        "atlas_of_all_s": round(atlas, 3),
        "target_cold_s": 5.0,
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }
    if options.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        print(f"{name:>22}  {value}")


if __name__ == "__main__":
    main()
