"""Time one DAgger iteration: the original's step-by-step way against the packed pass.

Batch 8 on real R2R paths: a teacher-forced roll-out (7 decisions) and an exploring one (15), 22
navigation calls in all; then backward, clipping and AdamW. Actions are forced, so that all arms see
the same states; features and weights are random. Arms: `stepwise` (fp32, see stepwise.py),
`packed` (fp32, in eight pieces: less memory) and `packed-bf16` (autocast, in two pieces: fewer
shapes to compile products for). Every arm runs in a process of its own, on one thread.
Reported, after one iteration that is not counted: median seconds of an iteration by the clock and
by CPU time, ratio to `stepwise` by CPU time (the machine may be shared), peak resident memory, and
the largest difference of a fused logit to `stepwise` (dropout off).

Usage: python benchmarks/dagger.py --data <folder> [--widths 312 768] [--iterations 3] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stepwise import (
    NoiseViews,
    StepwiseAgent,
    noise_model,
    ordinary_kernels,
    sizes,
    whole_layers,
    with_words,
)
from torch.nn import functional

from sterna.data.episodes import Episode
from sterna.data.r2r import read_r2r
from sterna.envs.graph_env import Panoramas
from sterna.models.agent import Agent
from sterna.models.topomap import MapRows
from sterna.train.experts import reference_nodes
from sterna.train.imitation import (
    ImitationConfig,
    ImitationTask,
    Recorded,
    action_loss,
    joined,
    record,
)
from sterna.train.optimizer import make_optimizer
from sterna.train.pieces import split
from sterna.train.schedule import OptimizerConfig
from sterna.world.atlas import Atlas
from sterna.world.graph import connectivity_dir

ARMS = ("stepwise", "stepwise-ours", "packed", "packed-bf16")
BATCH = 8
PIECES = {"packed": 8, "packed-bf16": 2}
CONFIG = ImitationConfig()
Logits = dict[str, np.ndarray]


def world(
    data: str | Path, count: int = 2 * BATCH, width: int = 768
) -> tuple[Panoramas, list[Episode]]:
    """Training episodes whose longest path has 7 nodes, and panoramas of made-up features."""
    every = [e for e in read_r2r(data, "train") if len(e.path) in (6, 7)]
    episodes = with_words(every[:: len(every) // count][:count])
    atlas = Atlas.load(connectivity_dir(data), {e.scan for e in episodes})
    return Panoramas(atlas, NoiseViews(width)), episodes


def forced(rows: MapRows, logits: np.ndarray) -> np.ndarray:
    """Some unvisited node, the same in every arm; never STOP."""
    out = []
    for i, (agent, step) in enumerate(zip(rows.agent, rows.step, strict=True)):
        open_ = np.flatnonzero(rows.mask[i] & ~rows.visited[i])[1:]
        rank = np.argsort(rows.nodes[i, open_])
        draw = np.random.default_rng([int(agent), int(step)]).integers(max(1, len(open_)))
        out.append(int(open_[rank[draw]]) if len(open_) else 0)
    return np.array(out)


class Arm:
    """One way of doing an iteration."""

    def __init__(self, name: str, data: str, width: int) -> None:
        self.name = name
        self.panoramas, episodes = world(data)
        self.shown, self.tried = episodes[:BATCH], episodes[BATCH:]
        self.references = reference_nodes(self.panoramas.atlas, self.shown)
        model = noise_model(sizes(width))
        model = whole_layers(model) if name.startswith("stepwise") else model
        self.task = ImitationTask(model, self.panoramas, CONFIG)
        self.optimizer = make_optimizer(self.task, OptimizerConfig())

    def loss(self) -> tuple[torch.Tensor, Logits]:
        """Both roll-outs; the loss with gradient, and all logits by agent and step."""
        if self.name.startswith("stepwise"):
            return self._stepwise()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.name.endswith("bf16")):
            return self._packed()

    def _collect(self) -> Recorded:
        rows, labels, _ = record(self.panoramas, self.shown, None, config=CONFIG)
        with torch.no_grad():
            agent = Agent(self.task.policy, self.panoramas, cache=False)
            tried, expert, _ = record(
                self.panoramas, self.tried, forced, agent=agent, config=CONFIG
            )
        parts = [(rows, labels, CONFIG.ml_weight, BATCH), (tried, expert, 1.0, BATCH)]
        return joined((*self.shown, *self.tried), parts)

    def _packed(self) -> tuple[torch.Tensor, Logits]:
        batch = self._collect()
        output, _, _ = self.task.run(batch)
        loss, _ = action_loss(output, batch)
        logits = {}
        for index, fused in output.fused():
            for i, values in zip(index, fused.detach().float().numpy(), strict=True):
                key = f"{batch.rows.agent[i]}/{batch.rows.step[i]}"
                logits[key] = values[batch.rows.mask[i, : len(values)]]
        return loss, logits

    def _backward(self) -> None:
        if self.name.startswith("stepwise"):
            self.loss()[0].backward()
            return
        narrow = self.name.endswith("bf16")
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            batch = self._collect()
        for piece in split(batch, PIECES[self.name]):
            with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
                loss = self.task(piece).loss
            loss.backward()

    def _stepwise(self) -> tuple[torch.Tensor, Logits]:
        losses, logits = [], {}
        groups = ((self.shown, None, CONFIG.ml_weight), (self.tried, forced, 1.0))
        for number, (episodes, choose, weight) in enumerate(groups):
            agent = StepwiseAgent(self.task.policy, self.panoramas, gradient=True)
            _, labels, _ = record(self.panoramas, episodes, choose, agent=agent, config=CONFIG)
            first = 0
            for rows, fused in agent.decisions:
                wanted = torch.from_numpy(labels[first : first + len(rows)])
                entropy = functional.cross_entropy(fused, wanted, reduction="sum")
                losses.append(entropy * (weight / BATCH))
                first += len(rows)
                for i, values in enumerate(fused.detach().numpy()):
                    key = f"{rows.agent[i] + number * BATCH}/{rows.step[i]}"
                    logits[key] = values[: rows.mask.shape[1]][rows.mask[i]]
        return torch.stack(losses).sum(), logits

    def iterate(self) -> tuple[float, float]:
        """One optimiser step; its seconds, of the clock and of this process's CPU time."""
        start = time.perf_counter(), time.process_time()
        self.task.train()
        self.optimizer.zero_grad(set_to_none=True)
        self._backward()
        torch.nn.utils.clip_grad_norm_(self.task.parameters(), 40.0)
        self.optimizer.step()
        return time.perf_counter() - start[0], time.process_time() - start[1]


def run_arm(options: argparse.Namespace) -> None:
    """The work of one process: logits to a file, numbers to standard output."""
    torch.set_num_threads(1)
    if options.arm == "stepwise":
        ordinary_kernels()
    arm = Arm(options.arm, options.data, options.widths[0])
    arm.task.eval()
    with torch.no_grad():
        loss, logits = arm.loss()
    np.savez(options.out, **logits)  # type: ignore[arg-type]
    arm.iterate()
    seconds, busy = zip(*(arm.iterate() for _ in range(options.iterations)), strict=True)
    calls = {key.split("/")[1] for key in logits if int(key.split("/")[0]) < BATCH}
    explored = {key.split("/")[1] for key in logits if int(key.split("/")[0]) >= BATCH}
    report = {
        "arm": options.arm,
        "width": options.widths[0],
        "seconds": round(statistics.median(seconds), 3),
        "cpu_seconds": round(statistics.median(busy), 3),
        "iterations": len(seconds),
        "navigation_calls": len(calls) + len(explored),
        "decisions": len(logits),
        "loss": loss.item(),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    print(json.dumps(report))


def start(arm: str, width: int, out: Path, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--arm", arm, "--widths", str(width)]
    command += ["--data", options.data, "--iterations", str(options.iterations), "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def difference(a: Path, b: Path) -> float:
    with np.load(a) as left, np.load(b) as right:
        assert set(left.files) == set(right.files), "the arms walked differently"
        worst = 0.0
        for key in left.files:
            open_ = np.isfinite(left[key])
            assert np.array_equal(open_, np.isfinite(right[key]))
            worst = max(worst, float(np.abs(left[key][open_] - right[key][open_]).max()))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("STERNA_DATA", "data"))
    parser.add_argument("--widths", type=int, nargs="+", default=[312, 768])
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        run_arm(options)
        return
    reports = []
    with tempfile.TemporaryDirectory() as folder:
        for width in options.widths:
            files = {arm: Path(folder) / f"{arm}-{width}.npz" for arm in options.arms}
            base: dict[str, Any] | None = None
            for arm, file in files.items():
                report = start(arm, width, file, options)
                base = base or report
                report["times_faster"] = round(base["cpu_seconds"] / report["cpu_seconds"], 2)
                report["memory_share"] = round(report["peak_gb"] / base["peak_gb"], 2)
                report["logit_difference"] = difference(files[base["arm"]], file)
                reports.append(report)
                if not options.json:
                    print(json.dumps(report))
    if options.json:
        print(json.dumps(reports))


if __name__ == "__main__":
    main()
