"""What the edge runtime costs: seconds to import, memory, file sizes, time of an episode.

Exports a preset with random weights (or takes an exported folder), then starts one fresh process
for each engine, without torch: seconds to import `sterna.edge.runtime` and onnxruntime, to open the
folder, resident memory after 3 episodes (7 steps, 44 words, 36 views, 5 neighbours each). Times are
the best of 5 imports and the median of episodes; CPU seconds stand beside the clock, because the
machine may be shared.

Usage: python benchmarks/edge.py [--preset minivln] [--folder DIR] [--threads 1] [--json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

IMPORT = """
import json, sys, time
clock, cpu = time.perf_counter(), time.process_time()
import sterna.edge.runtime, onnxruntime
took = time.perf_counter() - clock, time.process_time() - cpu
assert "torch" not in sys.modules and "scipy" not in sys.modules
print(json.dumps(took))
"""

WALK = """
import json, statistics, sys, time
import numpy as np
from sterna.edge.runtime import Engine, Navigator, Neighbour, Observation
folder, name, threads, episodes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
clock = time.perf_counter()
engine = Engine.open(folder, name, threads=threads)
opened = time.perf_counter() - clock
rng = np.random.default_rng(0)
views = rng.standard_normal((8, 36, engine.feature_size)).astype(np.float32)
known = engine.manifest.sizes["vocab_size"]

def seen(i):
    near = [f"n{i}-{k}" for k in range(4)] + [f"m{i + 1}"] + [f"m{i - 1}"] * (i > 0)
    here = np.array([0, 2.0 * i, 0])
    around = [(np.cos(k), np.sin(k), 0) for k in range(len(near))]
    ways = [Neighbour(name=n, position=here + d) for n, d in zip(near, around)]
    return Observation(node=f"m{i}", position=here, heading=0.0, views=views[i], neighbours=ways)

def episode():
    begun = time.perf_counter(), time.process_time()
    navigator.start(rng.integers(0, known, 44).tolist())
    for i in range(7):
        navigator.score(seen(i))
    return time.perf_counter() - begun[0], time.process_time() - begun[1]

navigator = Navigator(engine)
times = [episode() for _ in range(episodes)]
said = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "open_s": opened,
    "resident_MB": int(said["VmRSS"].split()[0]) / 1e3,
    "peak_MB": int(said["VmHWM"].split()[0]) / 1e3,
    "episode_ms": 1e3 * statistics.median(t[0] for t in times),
    "episode_cpu_ms": 1e3 * statistics.median(t[1] for t in times),
    "torch": "torch" in sys.modules,
}))
"""


def run(program: str, *words: object) -> Any:
    command = [sys.executable, "-c", program, *map(str, words)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    if said.returncode:
        raise SystemExit(said.stderr)
    return json.loads(said.stdout)


def write(name: str, folder: Path) -> None:
    import torch

    from sterna.edge.export import TOKENIZER, write_engines, write_manifest
    from sterna.models.duet import DUET
    from sterna.models.presets import preset
    from sterna.recipes.toyworld import toy_tokenizer
    from sterna.world.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS

    torch.manual_seed(0)
    model = DUET(preset(name)).eval()
    graphs = write_engines(model, folder, int8=True)
    toy_tokenizer().save(str(folder / TOKENIZER))
    views = VIEW_HEADINGS, VIEW_ELEVATIONS
    about = {"run": {}, "parameters": sum(p.numel() for p in model.parameters())}
    write_manifest(folder, model, graphs, views=views, max_words=200, max_steps=15, about=about)


def measure(folder: Path, threads: int, episodes: int) -> list[dict[str, Any]]:
    from sterna.edge.runtime import read_manifest

    manifest = read_manifest(folder)
    took = [run(IMPORT) for _ in range(5)]
    reports = []
    for name, graphs in manifest.graphs.items():
        size = sum((folder / file).stat().st_size for file in graphs.values())
        report = {"engine": name, "threads": threads, "graphs_MB": size / 1e6}
        report |= {"import_s": min(t[0] for t in took), "import_cpu_s": min(t[1] for t in took)}
        reports.append(report | run(WALK, folder, name, threads, episodes))
    return reports


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="minivln")
    parser.add_argument("--folder", type=Path, help="an exported folder, instead of a preset")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--episodes", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        if options.folder is None:
            write(options.preset, folder)
        reports = measure(folder, options.threads, options.episodes)
    for report in reports:
        rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in report.items()}
        if not options.json:
            print(rounded)
    if options.json:
        print(json.dumps(reports))


if __name__ == "__main__":
    main()
