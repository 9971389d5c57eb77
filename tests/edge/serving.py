"""What the tests of the service share: tests as coroutines, a walk to take, raw requests."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from sterna.edge.runtime import Decision, Engine, Navigator, Neighbour, Objects, Observation

pytest.importorskip("aiohttp", reason="aiohttp is not installed: `sterna serve` is not checked")

SECONDS = 120 + int(os.environ.get("STERNA_FUZZ", "0"))  # until a test counts as hanging
SIDE = 4  # places on a side of the square that test robots walk in


def asynchronous(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test that is a coroutine; one that hangs fails (`SECONDS`)."""

    async def whole(*arguments: Any, **named: Any) -> None:
        try:
            await asyncio.wait_for(test(*arguments, **named), SECONDS)
        finally:
            while DIALLED:
                await hang_up(DIALLED.pop())

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(whole(*arguments, **named))

    return run


DIALLED: list[asyncio.StreamWriter] = []
"""Connections of the test that runs; what it leaves open is closed behind it."""


async def dial(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection to this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    DIALLED.append(writer)
    return reader, writer


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def seen_at(node: int, engine: Engine, seed: int = 0, **more: Any) -> Observation:
    """What is seen at a place of a square of 4 x 4, 2 m apart, with random features."""
    rng = np.random.default_rng([seed, node])
    row, column = divmod(node, SIDE)
    around = [(row + r, column + c) for r, c in ((0, 1), (1, 0), (0, -1), (-1, 0))]
    near = [(r, c) for r, c in around if 0 <= r < SIDE and 0 <= c < SIDE]
    if engine.object_size is not None:
        more["objects"] = Objects(
            ids=np.arange(3),
            features=rng.standard_normal((3, engine.object_size)).astype(np.float32),
            directions=rng.uniform(-1, 1, (3, 2)),
            sizes=rng.uniform(20, 200, (3, 2)),
        )
    return Observation(
        node=f"n{node}",
        position=(2.0 * column, 2.0 * row, 0.0),
        views=rng.standard_normal((36, engine.feature_size)).astype(np.float32),
        neighbours=[
            Neighbour(name=f"n{SIDE * r + c}", position=(2.0 * c, 2.0 * r, 0.0)) for r, c in near
        ],
        **more,
    )


def walk_alone(engine: Engine, words: list[int], seed: int) -> list[Decision]:
    """The decisions of the runtime without a service."""
    navigator = Navigator(engine)
    navigator.start(words)
    decisions = [navigator.step(seen_at(5, engine, seed, heading=0.0))]
    while not decisions[-1].stop:
        decisions.append(navigator.step(seen_at(int(decisions[-1].target[1:]), engine, seed)))
    return decisions


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def refused(self, status: int, code: str, words: str = "") -> None:
        """Check that this is a refusal: a status, one line of JSON, no trace of the program."""
        assert self.status == status, (self.status, self.body)
        assert self.headers["content-type"].startswith("application/json")
        error = self.json["error"]
        assert error["code"] == code and words in error["message"], error
        assert "\n" not in error["message"] and b"Traceback" not in self.body


def request_bytes(
    method: str, path: str, body: bytes = b"", kind: str = "application/json", **headers: str
) -> bytes:
    """A request as it goes over the wire; `headers` by name with ``_`` for ``-``."""
    told = {"Host": "127.0.0.1", "Content-Type": kind, "Content-Length": str(len(body))}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def send(port: int, data: bytes) -> Answer:
    """Send bytes on a connection of their own and return the answer."""
    reader, writer = await dial(port)
    writer.write(data)
    answer = await read_answer(reader)
    await hang_up(writer)
    return answer


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Answer(int(head[0].split()[1]), headers, body)


async def post(port: int, path: str, message: Any, **headers: str) -> Answer:
    """Post JSON."""
    return await send(port, request_bytes("POST", path, json.dumps(message).encode(), **headers))


async def started(port: int, words: Any = (1, 5, 9)) -> str:
    """Open a session and return its path."""
    answer = await post(port, "/v1/sessions", {"instruction": list(words)})
    assert answer.status == 201, answer.body
    return f"/v1/sessions/{answer.json['session']}"
