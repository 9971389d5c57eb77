"""What every test may use: real data where there is any, a toy world always, no network ever."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sterna.recipes.toyworld import write_toy_world

_LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Let sockets reach this machine only; anything else is a test that needs the network."""
    patch = pytest.MonkeyPatch()
    for name in ("connect", "connect_ex"):
        patch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
    yield
    patch.undo()


def _guarded(connect: Any) -> Any:
    def guarded(self: socket.socket, address: Any) -> Any:
        local = self.family not in (socket.AF_INET, socket.AF_INET6)
        if local or str(address[0]).startswith(_LOOPBACK):
            return connect(self, address)
        raise RuntimeError(f"a test tried to reach {address}; tests run without a network")

    return guarded


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real data, named by STERNA_DATA; without it the test is skipped aloud."""
    folder = os.environ.get("STERNA_DATA")
    if not folder:
        pytest.skip("STERNA_DATA is not set: not checked on real data (R2R, graphs, ...)")
    return Path(folder)


@pytest.fixture(scope="session")
def toy_house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of three generated houses in the field's own files; treat it as read-only."""
    return write_toy_world(tmp_path_factory.mktemp("toy"), seed=0)
