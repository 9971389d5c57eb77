"""The toy world for walks in groups, and a task that learns from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sterna.data.episodes import Episode
from sterna.data.r2r import read_r2r
from sterna.envs.graph_env import Panoramas
from sterna.metrics import R2R_DUET
from sterna.vlnr1.graph_task import ClosedLoopConfig, ClosedLoopTask
from toy import tiny_model, toy_panoramas

MakeTask = Callable[[ClosedLoopConfig], ClosedLoopTask]


@pytest.fixture(scope="session")
def panoramas(toy_house: Path) -> Panoramas:
    return toy_panoramas(toy_house)


@pytest.fixture(scope="session")
def episodes(toy_house: Path) -> list[Episode]:
    return read_r2r(toy_house, "train")[::90]


@pytest.fixture
def make_task(panoramas: Panoramas) -> MakeTask:
    """A task of a tiny policy and of its like as the start."""

    def make(config: ClosedLoopConfig) -> ClosedLoopTask:
        return ClosedLoopTask(tiny_model(), tiny_model(), panoramas, config, R2R_DUET)

    return make
