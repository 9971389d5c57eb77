"""A toy world for fine-tuning: a frame's colour says what to do. Run as a program, a whole run.

python toy_sft.py WALKS OUT ITERATIONS [tuned]
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from sterna.data.ego.store import EgoCamera, EgoStore, encode
from sterna.data.ego.writer import EgoWriter, Walk
from sterna.data.episodes import Episode
from sterna.metrics.protocol import RXR_CE
from sterna.recipes.sft import prepare_sft
from sterna.recipes.sftconfig import NavigatorConfig, SftRun, StartNavigator, WalksConfig
from sterna.train.loop import LoopConfig
from sterna.train.schedule import OptimizerConfig
from toy_navigator import SIDE, tiny_config

COLOURS = np.array([[250, 20, 20], [20, 250, 20], [20, 20, 250], [240, 240, 240]], np.uint8)

TEXTS = ("go to the red sofa", "find the kitchen")


def toy_store(folder: Path, *, walks: int = 4, seed: int = 0) -> EgoStore:
    """Walks of 4 to 9 steps; the frame of a step has the colour of its action."""
    rng = np.random.default_rng(seed)
    writer = EgoWriter(
        folder,
        settings={"seed": seed},
        protocol=RXR_CE.to_dict(),
        protocol_hash=RXR_CE.hash,
        camera=EgoCamera(width=SIDE, height=SIDE, hfov=90.0, elevation=1.25),
    )
    with writer.shard("one") as shard:
        for number in range(walks):
            taken = rng.integers(1, 4, int(rng.integers(4, 10)))
            taken[-1] = 0
            padded = np.append(taken, np.zeros(8, int))
            noise = rng.integers(0, 20, (len(taken), SIDE, SIDE, 3))
            frames = (COLOURS[taken][:, None, None] - noise).clip(0, 255).astype(np.uint8)
            walk = Walk(
                episodes=(
                    _episode(number, ("go to the red sofa", "find the kitchen")[number % 2]),
                ),
                taken=taken,
                expert=np.stack([padded[t : t + 8] for t in range(len(taken))]),
                poses=rng.random((len(taken), 4)),
                collided=np.zeros(len(taken), bool),
                source="expert",
            )
            shard.add(walk, [encode(frame, 95) for frame in frames])
    writer.finish()
    return EgoStore(folder)


def _episode(number: int, text: str) -> Episode:
    return Episode(
        instr_id=f"e{number}", scan="toy", path=(), heading=0.0, instruction=text, path_id=number
    )


def toy_run(
    store: Path, iterations: int = 20, *, tower: str = "frozen", family: str = "qwen2_5_vl", **loop
) -> SftRun:
    values = {"batch_size": 8, "eval_every": 10, "save_every": 10, "log_every": 1}
    return SftRun(
        walks=WalksConfig(train=store, actions=3, budget=4),
        model=NavigatorConfig(small=tiny_config(family), tower=tower),
        start=StartNavigator(vision=False),
        loop=LoopConfig(iterations=iterations, select_by="last", **values | loop),
        optimizer=OptimizerConfig(learning_rate=3e-3, schedule="cosine", clip_norm=1.0),
    )


def toy_runner(store: Path, out: Path, iterations: int = 20, **how):
    return prepare_sft(toy_run(store, iterations, **how), out).runner


if __name__ == "__main__":
    walks, out, iterations, *more = sys.argv[1:]
    tower = more[0] if more else "frozen"
    config = toy_run(Path(walks), int(iterations), tower=tower)
    # AdamW divides by the size of a gradient: with its usual epsilon it turns the noise of sums in
    # another order into whole steps, where a gradient is all but zero.
    calm = replace(config.optimizer, epsilon=1e-3)
    prepare_sft(replace(config, optimizer=calm), Path(out)).runner.run()
