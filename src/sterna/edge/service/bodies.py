"""Bodies of requests: taken in whole, within bounds of size, time and memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import ClientError, web

from sterna.edge.service.limits import Limits, Refusal
from sterna.edge.wire import BINARY, JSON


class Bodies:
    """All bodies that are held at the moment; `held` are their bytes."""

    def __init__(self, limits: Limits) -> None:
        """Begin with none."""
        self.limits, self.held = limits, 0

    @asynccontextmanager
    async def of(self, request: web.Request) -> AsyncIterator[bytes]:
        """Give the body of a request for as long as it is needed; raises `Refusal`."""
        self._check_head(request)
        parts: list[bytes] = []
        try:
            await self._take(request, parts)
            yield b"".join(parts)
        finally:
            self.held -= sum(map(len, parts))

    async def _take(self, request: web.Request, parts: list[bytes]) -> None:
        taken = 0
        try:
            async with asyncio.timeout(self.limits.read_seconds):
                async for part in request.content.iter_any():
                    parts.append(part)
                    taken, self.held = taken + len(part), self.held + len(part)
                    self._check_size(taken)
        except TimeoutError:
            seconds = self.limits.read_seconds
            raise Refusal(
                408, "slow_body", f"the body did not arrive within {seconds:g} s"
            ) from None
        except (ClientError, ConnectionError, web.RequestPayloadError):
            raise Refusal(400, "cut_short", "the body ended before its end") from None

    def _check_head(self, request: web.Request) -> None:
        if request.content_type not in (JSON, BINARY):
            raise Refusal(415, "media_type", f"Content-Type: expected {JSON} or {BINARY}")
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise Refusal(415, "media_type", "Content-Encoding: send bodies as they are")
        self._check_size(request.content_length or 0)

    def _check_size(self, count: int) -> None:
        if count > self.limits.body_bytes:
            raise Refusal(413, "too_large", f"a body has at most {self.limits.body_bytes} bytes")
        if self.held > self.limits.buffered_bytes:
            raise Refusal(503, "busy", "too many bodies are under way; try again")
