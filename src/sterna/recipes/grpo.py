"""Closed-loop GRPO: recipes, and the run that `sterna grpo` does for graph policies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sterna.recipes.config import ClosedLoopRun, DataConfig
from sterna.recipes.houses import house_student
from sterna.recipes.policies import check_fit, open_policy
from sterna.recipes.r2r import minivln_r2r, text_student, toy_student
from sterna.recipes.runs import Ready, protocol_of, ready
from sterna.recipes.world import World
from sterna.train.loop import LoopConfig
from sterna.train.schedule import OptimizerConfig
from sterna.vlnr1.graph_loop import ClosedLoopRunner
from sterna.vlnr1.graph_task import ClosedLoopConfig, ClosedLoopTask
from sterna.vlnr1.objective import ObjectiveConfig


def text_walks() -> ClosedLoopRun:
    """A student of text observations: rewards beside a little imitation, near where it began."""
    base = text_student()
    return ClosedLoopRun(
        data=base.data,
        grpo=ClosedLoopConfig(
            objective=ObjectiveConfig(kl_weight=0.02), temperature=0.5, imitation=0.05, max_steps=12
        ),
        loop=LoopConfig(
            iterations=100,
            batch_size=16,
            length_window=8,
            eval_every=50,
            save_every=50,
            log_every=10,
            select_by="SR+SPL",
        ),
        optimizer=OptimizerConfig(learning_rate=2e-4, warmup=5, schedule="cosine", clip_norm=1.0),
        select=base.select,
    )


def house_walks() -> ClosedLoopRun:
    """A student of houses made from seeds."""
    base, text = house_student(), text_walks()
    return replace(
        text,
        data=base.data,
        grpo=replace(text.grpo, max_steps=base.imitation.max_steps),
        loop=replace(text.loop, iterations=300, eval_every=50),
        select=base.select,
    )


def toy_walks() -> ClosedLoopRun:
    """A student of toy houses, in half a minute."""
    base, text = toy_student(), text_walks()
    return replace(
        text,
        data=base.data,
        grpo=replace(text.grpo, max_steps=10),
        loop=replace(text.loop, iterations=60, eval_every=20, save_every=20),
        optimizer=replace(text.optimizer, learning_rate=1e-3, warmup=5),
        select=base.select,
    )


def minivln_walks() -> ClosedLoopRun:
    """MiniVLN's student of R2R with CLIP features, 20k iterations of 8 x 8 walks."""
    text = text_walks()
    return replace(
        text,
        data=DataConfig(views=minivln_r2r().data.views),
        grpo=replace(text.grpo, max_steps=15),
        loop=replace(
            text.loop, iterations=20_000, batch_size=8, log_every=50, eval_every=500, save_every=500
        ),
        optimizer=replace(text.optimizer, learning_rate=5e-6, warmup=200),
    )


CLOSED_LOOP = {
    "text-student": text_walks,
    "house-student": house_walks,
    "toy-student": toy_walks,
    "minivln-r2r-scalevln": minivln_walks,
}


def prepare(config: ClosedLoopRun, root: Path, out: Path) -> Ready:
    """Read all that a run of closed-loop GRPO needs."""
    folder = config.need_policy()
    policy, _ = open_policy(folder)
    world = World(root, config.data)
    episodes = world.episodes("train")
    chosen = world.episodes(config.select.split, about=config.select.episodes)
    panoramas, every = world.training_panoramas([*episodes, *chosen])
    check_fit(policy.config, panoramas, [*episodes, *chosen], str(folder))
    start = open_policy(folder)[0] if config.grpo.objective.kl_weight else None
    task = ClosedLoopTask(policy, start, panoramas, config.grpo, protocol_of(config.data))
    return ready(
        ClosedLoopRunner,
        task,
        policy,
        config,
        out,
        world=world,
        seen=every,
        episodes=episodes,
        chosen=chosen,
        notes=_notes(config),
    )


def _notes(config: ClosedLoopRun) -> str:
    reward = ", ".join(f"{name} {value:g}" for name, value in vars(config.grpo.reward).items())
    return (
        f"Improved by closed-loop GRPO from {config.policy} on {config.data.task} (views: "
        f"{config.data.views}), rewards {reward}, seed {config.loop.seed}, "
        f"{config.loop.iterations} iterations, weights selected on {config.select.split} by "
        f"{config.loop.select_by}."
    )
