"""What a service refuses: size, time, number, tokens; clients that are slow or gone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cli_tools import sterna
from edge.conftest import Exported
from edge.serving import (
    asynchronous,
    dial,
    post,
    read_answer,
    request_bytes,
    seen_at,
    send,
    started,
    walk_alone,
)
from edge.test_service import plain
from sterna.edge.client import Client
from sterna.edge.messages import read_decision
from sterna.edge.runtime import Engine
from sterna.edge.service import Limits, Service
from sterna.edge.service.metrics import Metrics
from sterna.edge.service.sessions import Sessions
from sterna.errors import InputError

TOKEN = "a token of the tests"


@pytest.fixture(scope="module")
def engine(exported: Exported) -> Engine:
    return Engine.open(exported.folder)


@contextmanager
def held(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Hold every decision until the event is set."""
    decide, let_go = engine.decide, threading.Event()

    def waiting(feed: Any) -> Any:
        let_go.wait(60)
        return decide(feed)

    monkeypatch.setattr(engine, "decide", waiting)
    try:
        yield let_go
    finally:
        let_go.set()


@asynchronous
async def test_bodies_too_large(engine: Engine) -> None:
    async with Service(engine, limits=Limits(body_bytes=1000)) as service:
        path = await started(service.port)
        big = request_bytes("POST", f"{path}/step", b" " * 1001)
        (await send(service.port, big)).refused(413, "too_large", "at most 1000")
        head = (
            b"".join(big.partition(b"Content-Length")[:1]) + b"Transfer-Encoding: chunked\r\n\r\n"
        )
        chunks = b"".join(b"1f4\r\n" + b" " * 500 + b"\r\n" for _ in range(3))
        (await send(service.port, head + chunks)).refused(413, "too_large")
        head = request_bytes("POST", f"{path}/step", Content_Length=str(10**15))
        (await send(service.port, head)).refused(413, "too_large")  # without waiting for it
        assert service.endpoints.bodies.held == 0


@asynchronous
async def test_bodies_too_many(engine: Engine) -> None:
    """Half-sent bodies count; what is over the bound is asked to come again."""
    async with Service(engine, limits=Limits(buffered_bytes=5000)) as service:
        path = await started(service.port)
        body = request_bytes("POST", f"{path}/step", b" " * 9000)
        _, writer = await dial(service.port)
        writer.write(body[:4900])
        while service.endpoints.bodies.held < 4000:
            await asyncio.sleep(0.01)
        answer = await post(service.port, "/v1/sessions", {"instruction": "go " * 500})
        answer.refused(503, "busy")
        assert answer.headers["retry-after"] == "1"
        writer.close()
        while service.endpoints.bodies.held:
            await asyncio.sleep(0.01)
        await started(service.port)


@asynchronous
async def test_media_types(engine: Engine) -> None:
    async with Service(engine) as service:
        for headers in (
            {"kind": "text/plain"},  # what a page in a browser may send without being asked
            {"kind": "application/x-pickle"},
            {"Content_Encoding": "gzip"},
        ):
            data = request_bytes("POST", "/v1/sessions", b'{"instruction": "go"}', **headers)
            (await send(service.port, data)).refused(415, "media_type")


@asynchronous
async def test_a_slow_body_is_given_up_and_nobody_waits_for_it(engine: Engine) -> None:
    async with Service(engine, limits=Limits(read_seconds=1.0)) as service:
        path = await started(service.port)
        data = request_bytes("POST", f"{path}/step", json.dumps({"node": "x" * 99}).encode())
        reader, writer = await dial(service.port)
        dripping = asyncio.create_task(read_answer(reader))
        for byte in data[:-50], data[-50:-49], data[-49:-48]:
            writer.write(byte)
            answer = await send(service.port, request_bytes("GET", "/health"))
            assert answer.status == 200 and not dripping.done()
        (await dripping).refused(408, "slow_body", "within 1 s")
        assert await reader.read() == b""  # and the connection is closed
        writer.close()


@asynchronous
async def test_a_slow_head_is_given_up(engine: Engine) -> None:
    async with Service(engine, limits=Limits(keepalive_seconds=0.3)) as service:
        reader, writer = await dial(service.port)
        writer.write(b"POST /v1/sessions HTTP/1.1\r\nHost: local")
        assert await reader.read() == b""
        writer.close()


@asynchronous
async def test_a_client_that_vanishes(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gone within its body: nothing happened. Gone before the answer: it is kept."""
    wanted = walk_alone(engine, [1, 5, 9], seed=0)[0]
    async with Service(engine) as service:
        path = await started(service.port)
        message = plain(seen_at(5, engine, 0, heading=0.0), step=0)
        data = request_bytes("POST", f"{path}/step", json.dumps(message).encode())
        for cut in (len(data) // 2, len(data)):
            with held(engine, monkeypatch) as let_go:
                _, writer = await dial(service.port)
                writer.write(data[:cut])
                await writer.drain()
                while not service.endpoints.bodies.held:
                    await asyncio.sleep(0.01)
                if cut == len(data):
                    while not service.endpoints.work.pending:
                        await asyncio.sleep(0.01)
                writer.transport.abort()
                let_go.set()
            while service.endpoints.work.pending or service.endpoints.bodies.held:
                await asyncio.sleep(0.01)
            state = (await send(service.port, request_bytes("GET", path))).json
            assert state["step"] == (cut == len(data))
        answer = await post(service.port, f"{path}/step", message)
        assert read_decision(answer.json) == wanted


@asynchronous
async def test_requests_that_wait(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(session_requests=2, requests=3)
    async with Service(engine, limits=limits) as service:
        first, second = [await started(service.port) for _ in range(2)]
        message = plain(seen_at(5, engine, 0, heading=0.0))
        with held(engine, monkeypatch) as let_go:
            asked = [
                asyncio.create_task(post(service.port, f"{first}/step", message | {"step": i}))
                for i in range(2)
            ]
            while service.endpoints.work.pending < 2:
                await asyncio.sleep(0.01)
            answer = await post(service.port, f"{first}/step", message)
            answer.refused(429, "too_many", "of this session")
            asked.append(asyncio.create_task(post(service.port, f"{second}/step", message)))
            while service.endpoints.work.pending < 3:
                await asyncio.sleep(0.01)
            (await post(service.port, f"{second}/step", message)).refused(503, "busy")
            let_go.set()
        told = [answer.status for answer in await asyncio.gather(*asked)]
        assert told[0] == told[2] == 200 and told[1] in (200, 409, 422)  # 1: the same place again


@asynchronous
async def test_an_answer_that_takes_too_long_is_kept(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = walk_alone(engine, [1, 5, 9], seed=0)[0]
    async with Service(engine, limits=Limits(answer_seconds=0.5)) as service:
        path = await started(service.port)
        message = plain(seen_at(5, engine, 0, heading=0.0), step=0)
        with held(engine, monkeypatch):
            (await post(service.port, f"{path}/step", message)).refused(503, "slow", "0.5 s")
        while service.endpoints.work.pending:
            await asyncio.sleep(0.01)
        answer = await post(service.port, f"{path}/step", message)
        assert read_decision(answer.json) == wanted


@asynchronous
async def test_steps_come_in_order(engine: Engine) -> None:
    async with Service(engine) as service:
        path = await started(service.port)
        message = plain(seen_at(5, engine, 0, heading=0.0))
        for number in (1, -1, 2**70):
            answer = await post(service.port, f"{path}/step", message | {"step": number})
            answer.refused(409, "out_of_step", "expected step 0")
            assert answer.json["error"]["step"] == 0
        for number in ("0", 0.0, True):
            answer = await post(service.port, f"{path}/step", message | {"step": number})
            answer.refused(422, "refused", "whole number")


@asynchronous
async def test_maps_and_sessions_are_bounded(engine: Engine) -> None:
    async with Service(engine, limits=Limits(map_nodes=4, sessions=2)) as service:
        first = await started(service.port)
        answer = await post(service.port, f"{first}/step", plain(seen_at(5, engine, heading=0.0)))
        answer.refused(422, "refused", "the map would hold 5 places, of 4")
        await started(service.port)
        answer = await post(service.port, "/v1/sessions", {"instruction": "go"})
        answer.refused(429, "too_many_sessions", "2 sessions are open")
        await send(service.port, request_bytes("DELETE", first))
        await started(service.port)


def test_silent_sessions_expire(engine: Engine) -> None:
    now = [0.0]
    metrics = Metrics()
    limits = Limits(sessions=3, idle_seconds=10)
    sessions = Sessions(engine, limits, metrics, clock=lambda: now[0])
    silent, asking, busy = (sessions.open() for _ in range(3))
    busy.pending = 1
    now[0] = 8.0
    sessions.find(asking.name)
    now[0] = 11.0
    fresh = sessions.open()  # room is made by the one that is silent
    assert len(sessions) == 3 and metrics.sessions["expired"] == 1
    assert sessions.find(asking.name) and sessions.find(busy.name) and sessions.find(fresh.name)
    with pytest.raises(Exception, match="no such session"):
        sessions.find(silent.name)


@asynchronous
async def test_the_sweep_closes_silent_sessions(engine: Engine) -> None:
    async with Service(engine, limits=Limits(idle_seconds=0.1)) as service:
        await started(service.port)
        while len(service.endpoints.sessions):
            await asyncio.sleep(0.02)
        assert service.endpoints.metrics.sessions["expired"] == 1


@asynchronous
async def test_connections_are_bounded(engine: Engine) -> None:
    async with Service(engine, limits=Limits(connections=2)) as service:
        kept = [await dial(service.port) for _ in range(2)]
        for reader, writer in kept:
            writer.write(request_bytes("GET", "/health"))
            assert (await read_answer(reader)).status == 200
        reader, writer = await dial(service.port)
        (await read_answer(reader)).refused(503, "busy", "too many connections")
        for _, other in [*kept, (reader, writer)]:
            other.close()
        while service._runner.server.connections:  # type: ignore[union-attr]
            await asyncio.sleep(0.01)
        assert (await send(service.port, request_bytes("GET", "/health"))).status == 200


@asynchronous
async def test_a_token_is_asked_for(engine: Engine) -> None:
    async with Service(engine, host="0.0.0.0", token=TOKEN) as service:
        for path in ("/metrics", "/v1/model", "/v1/sessions/x", "/nowhere"):
            for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
                answer = await send(service.port, request_bytes("GET", path, **given))
                answer.refused(401, "token", "Authorization: Bearer")
                assert answer.headers["www-authenticate"] == "Bearer"
        assert (await send(service.port, request_bytes("GET", "/health"))).status == 200
        url = f"http://127.0.0.1:{service.port}"
        async with Client(url, token=TOKEN) as client, await client.start("go") as walk:
            await walk.step(seen_at(5, engine, heading=0.0))
        async with Client(url, token=TOKEN + "!") as client:
            with pytest.raises(InputError, match=r"\(401, token\)"):
                await client.start("go")


@asynchronous
async def test_without_a_token_only_this_machine(engine: Engine) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "robot.example"):
        with pytest.raises(InputError, match="needs a token"):
            Service(engine, host=host)
    with pytest.raises(InputError, match="at least 16 characters, found 5"):
        Service(engine, token="short")
    async with Service(engine) as service:  # a page that gave its own name this address
        for host in ("evil.example", "evil.example:80", "", "[::1", "127.0.0.1.evil.example"):
            answer = await send(service.port, request_bytes("GET", "/v1/model", Host=host))
            assert answer.status in (400, 421), host
        for host in ("localhost:1", "[::1]:2", "127.0.0.5"):
            answer = await send(service.port, request_bytes("GET", "/v1/model", Host=host))
            assert answer.status == 200


@asynchronous
async def test_what_is_not_http(engine: Engine) -> None:
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
    async with Service(engine) as service:
        for data in (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
            head + b"A: " + b"b" * 20_000 + b"\r\n\r\n",
            head + b"".join(b"A%d: b\r\n" % i for i in range(500)) + b"\r\n",
            head + b"Content-Length: -1\r\n\r\n",
            head + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
            head + b"no colon\r\n\r\n",
        ):
            (await send(service.port, data)).refused(400, "malformed")
        path = await started(service.port)
        chunked = request_bytes("POST", f"{path}/step").partition(b"Content-Length")[0]
        answer = await send(service.port, chunked + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n")
        assert answer.status == 400 and b"Traceback" not in answer.body


def test_the_command_ends_cleanly(exported: Exported) -> None:
    """A request that is under way when the signal comes is answered; the exit code is 0."""
    command = [sys.executable, "-m", "sterna.cli", "serve", str(exported.folder), "--port", "0"]
    with subprocess.Popen(
        [*command, "--json", "--threads", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        port = int(json.loads(process.stdout.readline())["url"].rsplit(":", 1)[1])
        asynchronous(_end_while_asking)(port, process)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "sterna serve: ended\n")


async def _end_while_asking(port: int, process: subprocess.Popen[str]) -> None:
    path = await started(port)
    body = json.dumps({"node": "x"}).encode()
    data = request_bytes("POST", f"{path}/step", body)
    reader, writer = await dial(port)
    writer.write(data[:-1])
    while b"sterna_body_bytes 12" not in (await send(port, request_bytes("GET", "/metrics"))).body:
        await asyncio.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.2)
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)  # nobody new is taken
    writer.write(data[-1:])
    (await read_answer(reader)).refused(422, "refused", "position is missing")
    writer.close()


def test_the_command_refuses(
    exported: Exported,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("STERNA_TOKEN", raising=False)
    folder = exported.folder
    sterna(capsys, "serve", tmp_path).refused("expected an exported folder")
    sterna(capsys, "serve", folder, "--host", "0.0.0.0").refused("needs a token")
    sterna(capsys, "serve", folder, "--port", "70000").refused("0 to 65535")
    sterna(capsys, "serve", folder, "--threads", "0").refused("at least 1")
    sterna(capsys, "serve", folder, "--limit.sessions", "0").refused("above 0")
    monkeypatch.setenv("STERNA_TOKEN", "short")
    sterna(capsys, "serve", folder).refused("at least 16 characters")
