"""The toy world as panoramas and episodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sterna.data.episodes import Episode
from sterna.data.r2r import read_r2r
from sterna.envs.graph_env import Panoramas
from toy import toy_panoramas


@pytest.fixture(scope="session")
def panoramas(toy_house: Path) -> Panoramas:
    return toy_panoramas(toy_house)


@pytest.fixture(scope="session")
def episodes(toy_house: Path) -> list[Episode]:
    return read_r2r(toy_house, "train")
