"""Sockets and signals: a service that listens, and ends when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Callable
from typing import Any, Self

from aiohttp import web

from sterna.edge.runtime import Engine
from sterna.edge.service.access import Access
from sterna.edge.service.app import LOG, Endpoints, refusal
from sterna.edge.service.limits import Limits, Refusal
from sterna.errors import InputError

_BACKLOG = 1024
_LINGER = 1.0  # seconds in which the rest of a refused body is read, so that the answer arrives
_FULL = Refusal(503, "busy", "too many connections are open; try again")


class Service:
    """An engine that listens, as an asynchronous context: ``async with Service(engine) as it:``."""

    def __init__(
        self,
        engine: Engine,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        limits: Limits | None = None,
        threads: int = 1,
    ) -> None:
        """Serve on a port (0: any that is free); `threads` requests are inferred at once.

        Raises `InputError` for a host beyond this machine without a token.
        """
        if threads < 1:
            raise InputError(f"threads must be at least 1, found {threads}")
        self.limits = limits or Limits()
        self._endpoints = (engine, Access(host, token), self.limits, threads)
        self._host, self._port = host, port

    async def __aenter__(self) -> Self:
        """Listen; raises `InputError` where that is not possible."""
        self.endpoints = Endpoints(*self._endpoints)
        self._runner = web.AppRunner(
            self.endpoints.application(), shutdown_timeout=self.limits.shutdown_seconds
        )
        await self._runner.setup()
        try:
            self._server = await asyncio.get_running_loop().create_server(
                self._connect, self._host, self._port, backlog=_BACKLOG
            )
        except OSError as error:
            await self._end()
            raise InputError(
                f"cannot listen on {self._host}, port {self._port} ({error.strerror or error}); "
                "give another --host or --port"
            ) from None
        self._sweeping = asyncio.create_task(self._sweep())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Take no more connections, let requests under way finish, end the threads."""
        self._server.close()
        self._sweeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._sweeping
        await self.endpoints.drain(self.limits.shutdown_seconds)
        await self._end()

    async def _end(self) -> None:
        await self._runner.cleanup()
        await self.endpoints.work.close()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Where it answers."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    def _connect(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None
        if len(server.connections) >= self.limits.connections:
            self.endpoints.metrics.connections_refused += 1
            return _Full()
        return _Connection(
            server,
            self._malformed,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=self.limits.keepalive_seconds,
            lingering_time=_LINGER,
            auto_decompress=False,
            access_log=None,
        )

    def _malformed(self, status: int) -> None:
        self.endpoints.metrics.saw("other", "malformed", status, 0.0)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(5.0, self.limits.idle_seconds / 4))
            self.endpoints.sessions.expire()


class _Connection(web.RequestHandler):
    """A connection whose errors below the application, such as broken HTTP, are JSON too."""

    __slots__ = ("_tell",)

    def __init__(self, server: web.Server, tell: Callable[[int], None], **more: Any) -> None:
        super().__init__(server, **more)
        self._tell = tell

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what the application never saw; the connection is closed behind it."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun; nothing can be added")
        self._tell(status)
        if status == 400:
            return _closing(Refusal(400, "malformed", "this is not a sound HTTP request"))
        LOG.error("a request failed", exc_info=exc)
        return _closing(Refusal(status, "internal", "the service failed; its log says why"))


def _closing(error: Refusal) -> web.Response:
    response = refusal(error)
    response.force_close()
    return response


class _Full(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        body = json.dumps(_FULL.body()).encode()
        head = (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
        )
        assert isinstance(transport, asyncio.Transport)
        transport.write(head.encode() + body)
        transport.close()


def serve(service: Service, ready: Callable[[str], None] = print) -> None:
    """Run a service until SIGINT or SIGTERM; `ready` is called with its address."""
    allow_connections(service.limits.connections + 64)
    asyncio.run(_serve(service, ready))


async def _serve(service: Service, ready: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    async with service:
        ready(service.url)
        await stop.wait()


def allow_connections(count: int) -> None:
    """Raise this process's own bound on open files as far as it may go."""
    try:
        import resource
    except ImportError:  # Windows has no such bound
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
