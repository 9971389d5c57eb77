"""Our own golden losses: the toy recipes' first 20 steps, every term of every step.

The file of losses is made anew, after a change that is meant to change them, by

    OMP_NUM_THREADS=1 python tests/golden_losses.py

which prints how far the new numbers are from the old ones before it writes them; with --check it
only prints. The toy recipes have no dropout, so nothing random is left but what NumPy draws and the
first weights.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sterna.files import read_json, write_json
from sterna.recipes.config import PretrainRun, TrainConfig
from sterna.recipes.pretraining import pretrain, toy_pretraining, toy_stage1
from sterna.recipes.r2r import toy_student, toy_teacher
from sterna.recipes.runs import as_json, train
from sterna.recipes.toyworld import write_toy_world

FILE = Path(__file__).with_name("golden_losses.json")
STEPS = 20
COUNTS = ("agree", "rows", "mlm_right", "sap_right")
"""Numbers of the log that are counts: a rounding may move them by a whole decision."""
Curves = dict[str, list[dict[str, float]]]
"""Losses of every step, by run."""


def curves(world: Path, folder: Path) -> Curves:
    """Run pre-training, stage 1, DAgger and stage 2; teachers are the runs without one."""
    teacher, student = calm(toy_teacher()), calm(toy_student())
    first, second = calm(toy_pretraining()), calm(toy_stage1())
    pretrain(first, world, folder / "pretraining")
    pretrain(replace(second, teacher=folder / "pretraining" / "last"), world, folder / "stage1")
    train(teacher, world, folder / "dagger")
    train(replace(student, teacher=folder / "dagger" / "last"), world, folder / "stage2")
    return {name: losses(folder / name) for name in ("pretraining", "stage1", "dagger", "stage2")}


def calm(config: Any) -> Any:
    """Shorten a recipe, and keep rounding from growing: AdamW's epsilon is 1e-3.

    With a small epsilon a gradient that is zero but for rounding moves its weight by a whole step:
    that of a key's bias, which softmax cancels and which eq. (2)'s raw scores show again.
    """
    assert isinstance(config, PretrainRun | TrainConfig)
    loop = replace(
        config.loop,
        iterations=STEPS,
        batch_size=4,
        warm_start=0,
        log_every=1,
        eval_every=STEPS,
        save_every=STEPS,
        select_by="last",
    )
    optimizer = replace(config.optimizer, warmup=5, epsilon=1e-3)
    select = replace(config.select, episodes=4)
    return replace(config, loop=loop, optimizer=optimizer, select=select)


def losses(run: Path) -> list[dict[str, float]]:
    """Return every term of every step of a run."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
    dropped = (*COUNTS, "kind", "iteration", "rate", "norm")
    return [
        {name: value for name, value in line.items() if name not in dropped}
        for line in lines
        if line["kind"] == "train"
    ]


def difference(found: Curves, wanted: Curves) -> dict[str, float]:
    """Return the largest relative difference of each run; the terms must be the same."""
    out = {}
    for name, steps in wanted.items():
        pairs = list(zip(found[name], steps, strict=True))
        assert all(a.keys() == b.keys() for a, b in pairs), f"{name}: other terms than stored"
        out[name] = max(abs(a[k] - b[k]) / abs(b[k]) for a, b in pairs for k in b)
    return out


def main() -> None:
    """Compare with the stored losses, then store the new ones."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        world = write_toy_world(Path(folder) / "world", seed=0)
        found = curves(world, Path(folder))
    if FILE.exists():
        apart = difference(found, read_json(FILE)["losses"])
        print("largest relative difference to the stored losses:", apart)
    if "--check" in sys.argv[1:]:
        return
    made = {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "world": "write_toy_world(seed=0)",
        "recipes": {
            "pretraining": as_json(calm(toy_pretraining())),
            "stage1": as_json(calm(toy_stage1())),
            "dagger": as_json(calm(toy_teacher())),
            "stage2": as_json(calm(toy_student())),
        },
    }
    write_json(FILE, {"made": made, "losses": found})


if __name__ == "__main__":
    main()
