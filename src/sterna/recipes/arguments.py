"""What `sterna train` and `sterna distil` take: a recipe's configuration and where to run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Union

import tyro

from sterna.recipes.config import (
    ClosedLoopRun,
    DistillRun,
    PretrainRun,
    Stage1Run,
    TrainConfig,
)
from sterna.recipes.metaworld import CloningRun
from sterna.recipes.options import Common
from sterna.recipes.practice import OfflineRun, RolloutRun
from sterna.recipes.sftconfig import SftRun


@dataclass(frozen=True, kw_only=True)
class RunArguments(Common):
    """Where a run lives."""

    out: Path
    """Run folder; the same command continues a run that was killed."""
    seed: int | None = None
    """Seed of weights, order, actions and dropout (short for --loop.seed)."""
    iterations: int | None = None
    """Optimiser steps (short for --loop.iterations)."""
    plan: bool = False
    """Measure a few iterations here, print memory, time per iteration and total time; start
    nothing."""


@dataclass(frozen=True, kw_only=True)
class TrainArguments(RunArguments):
    """A training run of this recipe; every value can be changed."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class DistilArguments(RunArguments):
    """A distillation run of this recipe; every value can be changed."""

    config: Annotated[DistillRun, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class PretrainArguments(RunArguments):
    """A pre-training run of this recipe; every value can be changed."""

    config: Annotated[PretrainRun, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class Stage1Arguments(RunArguments):
    """A distillation of pre-training by this recipe; every value can be changed."""

    config: Annotated[Stage1Run, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class ClosedLoopArguments(RunArguments):
    """A run of closed-loop GRPO by this recipe; every value can be changed."""

    config: Annotated[ClosedLoopRun, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class SftArguments(RunArguments):
    """A run of supervised fine-tuning by this recipe; every value can be changed."""

    config: Annotated[SftRun, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class OfflineArguments(RunArguments):
    """A run of GRPO on recorded samples by this recipe; every value can be changed."""

    config: Annotated[OfflineRun, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class RolloutArguments(RunArguments):
    """A run of GRPO in environments by this recipe; every value can be changed."""

    config: Annotated[RolloutRun, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class CloningArguments(RunArguments):
    """A run of behaviour cloning by this recipe; every value can be changed."""

    config: Annotated[CloningRun, tyro.conf.arg(name="")]


def choices(kind: type[Any], recipes: Mapping[str, Callable[[], Any]]) -> Any:
    """Return a type for tyro: one subcommand a recipe, its values as defaults."""
    marked = []
    for name, recipe in recipes.items():
        mark = tyro.conf.subcommand(
            name,
            default=kind(config=recipe(), out=Path("runs") / name),
            description=recipe.__doc__,
            prefix_name=False,
        )
        marked.append(Annotated[kind, mark])
    return Union[tuple(marked)]  # noqa: UP007  (a union made at run time)


def configured(arguments: Any) -> Any:
    """Return the configuration with the short options put in."""
    loop = arguments.config.loop
    if arguments.seed is not None:
        loop = replace(loop, seed=arguments.seed)
    if arguments.iterations is not None:
        loop = replace(loop, iterations=arguments.iterations)
    return replace(arguments.config, loop=loop)
