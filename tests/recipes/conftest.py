"""A trained toy run that several tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli_tools import TINY_RUN
from sterna.cli import main


@pytest.fixture(scope="session")
def toy_run(toy_house: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training run of four iterations in the toy world; treat it as read-only."""
    out = tmp_path_factory.mktemp("runs") / "teacher"
    words = ["train", "toy-teacher", "--data", str(toy_house), "--out", str(out), *TINY_RUN]
    assert main(words) == 0
    return out
