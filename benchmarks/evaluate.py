"""Time greedy evaluation: the original's way against cached panoramas; episodes a second.

`stepwise`: batches of 8, all agents decided for until the last one ends, text keys and values
computed again at every step, every panorama encoded at every visit (see stepwise.py). `cached`:
`sterna.train.evaluate.predict`, batches of 64 of similar length, each (viewpoint, pose) encoded
once. `cached-bf16`: the same under autocast. Policies are random and kept from stopping early
(STOP's logit is lowered), so that walks go to the limit of 15 decisions or until nothing is left.
The episodes are all of the smallest val_unseen scan, so that the cache is hit as often as in the
whole split; `stepwise` walks every k-th of them. Rates are by CPU time: the machine may be shared.

Usage: python benchmarks/evaluate.py --data <folder> [--widths 312 768] [--stepwise 24] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Callable

import torch
from stepwise import NoiseViews, StepwiseAgent, noise_model, sizes, whole_layers, with_words

from sterna.data.episodes import Episode
from sterna.data.r2r import read_r2r
from sterna.envs.graph_env import Panoramas
from sterna.metrics import Prediction
from sterna.models.agent import Agent, Policy
from sterna.models.topomap import MapRows
from sterna.train.evaluate import predict
from sterna.world.atlas import Atlas
from sterna.world.graph import connectivity_dir

Timed = tuple[list[Prediction], float]


class Restless:
    """A policy that hardly ever stops of its own will."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.reset = policy.reset

    def act(self, rows: MapRows) -> torch.Tensor:
        logits = self.policy.act(rows).float()
        logits[:, 0] -= 5.0
        return logits


def episodes_of_smallest_scan(data: str) -> list[Episode]:
    """All val_unseen episodes of the scan that has the fewest (with at least 64)."""
    every = read_r2r(data, "val_unseen")
    counts = Counter(e.scan for e in every)
    scan = min((s for s in counts if counts[s] >= 64), key=lambda s: (counts[s], s))
    return with_words([e for e in every if e.scan == scan])


def timed(
    make: Callable[[], Policy], panoramas: Panoramas, episodes: list[Episode], batch: int
) -> Timed:
    """Predictions and CPU seconds."""
    start = time.process_time()
    found = predict(Restless(make()), panoramas, episodes, batch_size=batch, progress=False)
    return found, time.process_time() - start


def measure(width: int, data: str, first: int) -> list[dict[str, object]]:
    episodes = episodes_of_smallest_scan(data)
    atlas = Atlas.load(connectivity_dir(data), {e.scan for e in episodes})
    panoramas = Panoramas(atlas, NoiseViews())
    few = episodes[:: len(episodes) // first][:first]
    model = noise_model(sizes(width)).eval()
    plain = whole_layers(noise_model(sizes(width)).eval())
    with torch.inference_mode():
        arms = {
            "stepwise": timed(lambda: StepwiseAgent(plain, panoramas), panoramas, few, 8),
            "cached": timed(lambda: Agent(model, panoramas), panoramas, episodes, 64),
        }
        with torch.autocast("cpu", torch.bfloat16):
            arms["cached-bf16"] = timed(lambda: Agent(model, panoramas), panoramas, episodes, 64)
    wanted = {p.instr_id: p.hops for p in arms["stepwise"][0]}
    base = len(few) / arms["stepwise"][1]
    reports: list[dict[str, object]] = []
    for name, (found, seconds) in arms.items():
        rate = len(found) / seconds
        both = [p for p in found if p.instr_id in wanted]
        reports.append(
            {
                "arm": name,
                "width": width,
                "episodes": len(found),
                "decisions_an_episode": round(sum(p.action_steps for p in found) / len(found), 1),
                "episodes_per_cpu_s": round(rate, 2),
                "times_faster": round(rate / base, 2),
                "same_walks": f"{sum(p.hops == wanted[p.instr_id] for p in both)}/{len(both)}",
            }
        )
    return reports


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("STERNA_DATA", "data"))
    parser.add_argument("--widths", type=int, nargs="+", default=[312, 768])
    parser.add_argument("--stepwise", type=int, default=24, help="episodes of the stepwise arm")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    reports = []
    for width in options.widths:
        for report in measure(width, options.data, options.stepwise):
            reports.append(report)
            if not options.json:
                print(json.dumps(report))
    if options.json:
        print(json.dumps(reports))


if __name__ == "__main__":
    main()
