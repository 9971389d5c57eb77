"""Time the scoring of R2R val_unseen (2,349 trajectories, every score) and print JSON.

Usage: STERNA_DATA=<data folder> python benchmarks/score.py [trajectory file]
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from sterna.data.r2r import read_r2r
from sterna.metrics import R2R_DUET, read_submission, score_predictions
from sterna.world.graph import connectivity_dir, load_graph

REPEATS = 5


def main() -> None:
    root = Path(os.environ["STERNA_DATA"])
    agent = root / "agents" / "r2r" / "val_unseen_seq2seq_final_agent.json"
    episodes, folder = read_r2r(root, "val_unseen"), connectivity_dir(root)
    clock = [time.perf_counter()]
    predictions = read_submission(sys.argv[1] if len(sys.argv) > 1 else agent)
    clock.append(time.perf_counter())
    for scan in sorted({episode.scan for episode in episodes}):
        load_graph(folder, scan)
    clock.append(time.perf_counter())
    runs = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        result = score_predictions(predictions, episodes, folder, R2R_DUET)
        runs.append(time.perf_counter() - start)
    read, graphs = np.diff(clock).tolist()
    report = {
        "trajectories": result.episodes,
        "scores": len(result.scores),
        "protocol": f"{result.protocol.name} {result.protocol.hash}",
        "read_file_s": round(read, 4),
        "load_graphs_s": round(graphs, 4),
        "score_median_s": round(statistics.median(runs), 4),
        "score_worst_s": round(max(runs), 4),
        "total_s": round(read + graphs + runs[0], 4),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
