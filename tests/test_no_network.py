"""The guard that keeps every test off the network does its work."""

from __future__ import annotations

import socket

import pytest


def test_the_outside_is_refused_and_this_machine_is_not() -> None:
    with socket.socket() as outside, pytest.raises(RuntimeError, match="without a network"):
        outside.connect(("192.0.2.1", 80))
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
