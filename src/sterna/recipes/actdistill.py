"""ActDistill: configurations and recipes; `routing` opens what they name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from sterna.actdistill.distill import RouteConfig
from sterna.actdistill.graph import GraphConfig
from sterna.actdistill.losses import LossConfig
from sterna.actdistill.router import RouterConfig
from sterna.actdistill.tuning import Tune
from sterna.errors import InputError
from sterna.recipes.config import DataConfig, EvalConfig, TrainConfig
from sterna.recipes.houses import house_teacher
from sterna.recipes.metaworld import vla_s
from sterna.recipes.r2r import text_teacher, toy_teacher
from sterna.recipes.sftconfig import WalksConfig
from sterna.train.imitation import ImitationConfig
from sterna.train.loop import LoopConfig
from sterna.train.schedule import OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class ActRun:
    """Both stages for one teacher."""

    teacher: Path | None = None
    """The policy to make faster: a run (its `best` is meant) or a folder of weights."""
    graph: GraphConfig = field(default_factory=GraphConfig)
    """Graphs over tokens and layers; in training alone."""
    probe: LoopConfig = field(default_factory=lambda: LoopConfig(select_by="last"))
    """Stage 1."""
    probe_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    router: RouterConfig = field(default_factory=RouterConfig)
    route: RouteConfig = field(default_factory=RouteConfig)
    """Gates and their budget."""
    losses: LossConfig = field(default_factory=LossConfig)
    tune: Tune = "full"
    """What of the student learns beside router and heads."""
    rank: int = 8
    """Rank of low-rank updates (tune lora)."""
    smaller: tuple[int, ...] = ()
    """Units of a physically smaller student, which begins as them and follows the teacher's mapped
    blocks; empty: the teacher's own network, routed."""
    frozen_heads: bool = False
    """Keep the heads as the probe left them."""
    live: bool = False
    """Let the teacher run beside the student instead of reading targets from disk."""
    router_rate: float = 10.0
    """Factor on the learning rate for the router."""
    head_rate: float = 10.0
    """Factor on the learning rate for graph and action heads."""
    average: float = 0.0
    """Decay of an exponential mean of student and router, which is what is kept; 0: none."""
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(select_by="last"))
    """Stage 2."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        """Check what depends on several parts."""
        if self.smaller and self.route.gate != "fixed":
            raise InputError(
                "actdistill: a smaller student runs whole; set route.gate fixed, and route.keep to "
                "all of its units"
            )
        if {self.probe.select_by, self.loop.select_by} != {"last"}:
            raise InputError(
                "actdistill: both stages keep their last weights; probe.select_by and "
                "loop.select_by must be last"
            )
        if min(self.router_rate, self.head_rate) <= 0 or self.rank < 1:
            raise InputError("actdistill: router_rate, head_rate and rank must be positive")
        if not 0 <= self.average < 1:
            raise InputError(f"actdistill: average must be in [0, 1), found {self.average}")

    def need_teacher(self) -> Path:
        """Return the teacher's folder; `InputError` if none was named."""
        if self.teacher is None:
            raise InputError(
                "actdistill: no teacher; name its run, for example --teacher runs/teacher"
            )
        return self.teacher


@dataclass(frozen=True, kw_only=True)
class DuetAct(ActRun):
    """A DUET, on recorded walks: annotated paths, and the teacher's own with expert labels."""

    data: DataConfig = field(default_factory=DataConfig)
    imitation: ImitationConfig = field(default_factory=ImitationConfig)
    select: EvalConfig = field(default_factory=EvalConfig)
    """Split that follows stage 2; also calibrates thresholds and orders the baselines."""
    episodes: int | None = None
    """Training episodes that are walked, evenly over all; None: all."""
    walks: int = 1
    """Walks of the teacher an episode, beside the annotated path."""
    held_out: int = 64
    """Episodes of the selection split that calibrate and order."""
    walker: Path | None = None
    """A student of an earlier round, calibrated for this budget: it walks every training episode
    once, with its gates, and the expert labels its walks, which are learnt from too; the new
    student and its router begin as it, so that nothing is warmed up or brought down (the round of
    DAgger that recorded walks of a teacher lack)."""


@dataclass(frozen=True, kw_only=True)
class NavigatorAct(ActRun):
    """A vision-language navigator, on egocentric walks."""

    walks: WalksConfig = field(default_factory=WalksConfig)
    """Samples as the navigator was fine-tuned on; `held_out` calibrates, orders and scores."""
    env: Literal["none", "house"] = "none"
    """house: evaluation also walks, in houses; none: held-out answers alone."""
    env_episodes: Path | None = None
    """Episode file to walk; None: that of the split in the data folder."""
    slots: int = 8
    """Environments that are walked side by side."""
    execute: int | None = None
    """Actions of an answer that are carried out before it looks again; None: all."""


@dataclass(frozen=True, kw_only=True)
class VlaAct(ActRun):
    """A policy of `sterna metaworld train`, on the demonstrations that it was cloned from."""

    demos: Path = Path("demos")
    """Folder of `sterna metaworld demos`."""
    shift: int = 2
    """Largest random shift of a picture that a student learns from, pixels."""
    feel_noise: float = 0.05
    """Noise on its proprioception, in standard deviations of the training frames."""
    judged: int = 1024
    """Held-out frames that calibrate thresholds and order the baselines, evenly over all."""
    execute: int = 4
    """Actions of a chunk that are executed when it is scored."""
    scores: Path = Path("scores")
    """Folder where scored episodes are kept, one folder a policy; an evaluation goes on there."""


def deep_toy_teacher() -> TrainConfig:
    """A teacher of toy houses with layers to spare: 3 of words, 4 of each cross-modal encoder."""
    base = toy_teacher()
    return replace(
        base,
        model=replace(base.model, language_layers=3, cross_layers=4),
        start=replace(base.start, still=True),
    )


def deep_house_teacher() -> TrainConfig:
    """A teacher of houses with layers to spare: 3 of words, 6 of each cross-modal encoder."""
    base = house_teacher()
    return replace(
        base,
        model=replace(base.model, language_layers=3, cross_layers=6),
        start=replace(base.start, still=True),
    )


TRAINING = {"toy-deep-teacher": deep_toy_teacher, "house-deep-teacher": deep_house_teacher}
"""Teachers that are deep enough to skip layers, for `sterna train`."""


def _routed(base: TrainConfig, probe: int, iterations: int, rate: float) -> DuetAct:
    calm = OptimizerConfig(
        learning_rate=2e-3, warmup=20, schedule="cosine", weight_decay=0.01, clip_norm=1.0
    )
    loop = LoopConfig(
        iterations=iterations,
        batch_size=16,
        log_every=20,
        eval_every=iterations,
        save_every=100,
        select_by="last",
    )
    return DuetAct(
        data=base.data,
        imitation=replace(base.imitation, branches=0.0),
        select=base.select,
        graph=GraphConfig(width=32, size=32),
        probe=replace(loop, iterations=probe, eval_every=probe),
        probe_optimizer=calm,
        loop=loop,
        optimizer=replace(calm, learning_rate=rate),
    )


def toy_duet() -> DuetAct:
    """A DUET of toy houses (`toy-deep-teacher`), in a minute."""
    return replace(_routed(deep_toy_teacher(), 150, 300, 3e-4), held_out=24)


def house_duet() -> DuetAct:
    """A DUET of houses made from seeds (`house-deep-teacher`)."""
    teacher = deep_house_teacher()
    return replace(
        _routed(teacher, 500, 1500, 3e-4),
        episodes=4000,
        # As it learnt, at half the rate: it begins where that ended.
        optimizer=replace(teacher.optimizer, learning_rate=2e-3),
        router_rate=3.0,
        head_rate=3.0,
        average=0.99,
    )


def text_duet() -> DuetAct:
    """The teacher of R2R with text observations (`text-teacher`)."""
    return replace(_routed(text_teacher(), 800, 3000, 1e-4), episodes=4000)


def navigator() -> NavigatorAct:
    """A vision-language navigator of `sterna sft`, on the walks that it was fine-tuned on."""
    base = _routed(toy_teacher(), 500, 2000, 2e-4)
    return NavigatorAct(
        # Targets of every sample are written down; neighbouring steps are nearly the same.
        walks=WalksConfig(stride=4),
        graph=replace(base.graph, width=64, size=64),
        probe=replace(base.probe, batch_size=32),
        probe_optimizer=base.probe_optimizer,
        loop=replace(base.loop, batch_size=32),
        # As it was fine-tuned, at half the rate: it begins where that ended.
        optimizer=OptimizerConfig(
            kind="muon",
            learning_rate=1.5e-3,
            warmup=20,
            schedule="cosine",
            betas=(0.9, 0.98),
            weight_decay=0.02,
            clip_norm=1.0,
        ),
        router_rate=3.0,
        head_rate=3.0,
        average=0.99,
    )


def metaworld() -> VlaAct:
    """A policy of `sterna metaworld train` (vla-s)."""
    base = _routed(toy_teacher(), 300, 1000, 3e-4)
    return VlaAct(
        # Each frame is seen a few times at most: dropout in the heads would only cost time.
        graph=replace(base.graph, dropout=0.0),
        probe=replace(base.probe, batch_size=64),
        probe_optimizer=base.probe_optimizer,
        loop=replace(base.loop, batch_size=64),
        # As the policy was cloned, at half its rate: it begins where that ended.
        optimizer=replace(vla_s().optimizer, learning_rate=1e-3, warmup=20),
        router_rate=3.0,
        head_rate=3.0,
        average=0.99,
    )


ACTDISTILL: dict[str, Callable[[], Any]] = {
    "toy-duet": toy_duet,
    "house-duet": house_duet,
    "text-duet": text_duet,
    "navigator-s": navigator,
    "vla-s": metaworld,
}
"""Recipes by the names that `sterna actdistill` takes."""
