"""The endpoints: requests in, sessions asked, JSON out; every error is JSON as well."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiohttp import web

from sterna import __version__
from sterna.edge.messages import write_decision
from sterna.edge.runtime import Engine
from sterna.edge.service.access import Access
from sterna.edge.service.bodies import Bodies
from sterna.edge.service.limits import Limits, Refusal
from sterna.edge.service.metrics import KIND, Metrics, resident_bytes
from sterna.edge.service.sessions import Session, Sessions
from sterna.edge.service.work import Work
from sterna.edge.wire import Malformed, decode
from sterna.errors import InputError

LOG = logging.getLogger("sterna.serve")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_METHODS = ("GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS")
_HEADERS = {
    401: {"WWW-Authenticate": "Bearer"},
    429: {"Retry-After": "1"},
    503: {"Retry-After": "1"},
}
_CLOSING = (400, 408, 413, 415)  # the rest of such a body is not waited for


def refusal(error: Refusal) -> web.Response:
    """Return a refusal as a response."""
    response = web.json_response(
        error.body(), status=error.status, headers=_HEADERS.get(error.status)
    )
    if error.status in _CLOSING:
        response.force_close()
    return response


class Endpoints:
    """What a service answers."""

    def __init__(self, engine: Engine, access: Access, limits: Limits, threads: int) -> None:
        """Begin without sessions; `threads` requests are inferred at once."""
        self.engine, self.access, self.metrics = engine, access, Metrics()
        self.sessions = Sessions(engine, limits, self.metrics)
        self.work, self.bodies = Work(threads, limits), Bodies(limits)
        self.under_way, self.ending = 0, False

    def application(self) -> web.Application:
        """Return the aiohttp application."""

        @web.middleware
        async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._answer(request, handler)

        app = web.Application(middlewares=[answer])
        one = "/v1/sessions/{session}"
        app.router.add_get("/health", self.health)
        app.router.add_get("/metrics", self.show_metrics)
        app.router.add_get("/v1/model", self.model)
        app.router.add_post("/v1/sessions", self.start)
        app.router.add_get(one, self.state)
        app.router.add_delete(one, self.end)
        app.router.add_post(f"{one}/step", self.step)
        app.router.add_post(f"{one}/ahead", self.ahead)
        return app

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer any request, also those that fail, and count it."""
        begun = time.perf_counter()
        resource = request.match_info.route.resource
        route = "other" if resource is None else resource.canonical
        self.under_way += 1
        try:
            if self.ending:
                raise Refusal(503, "ending", "the service is about to end")
            if route != "/health":
                self.access.check(request)
            response = await handler(request)
        except Exception as error:
            response = refusal(_refused(error))
            if isinstance(error, web.HTTPMethodNotAllowed):
                response.headers["Allow"] = error.headers["Allow"]
        finally:
            self.under_way -= 1
        if self.ending:
            response.force_close()
        method = request.method if request.method in _METHODS else "other"
        self.metrics.saw(method, route, response.status, time.perf_counter() - begun)
        return response

    async def drain(self, seconds: float) -> None:
        """Take no more requests and wait so long for those under way, their bodies included."""
        self.ending = True
        last = time.monotonic() + seconds
        while self.under_way and time.monotonic() < last:
            await asyncio.sleep(0.02)

    async def health(self, _: web.Request) -> web.Response:
        """Say that the event loop turns, and what is served."""
        return web.json_response(
            {"status": "ok", "engine": self.engine.name, "sessions": len(self.sessions)}
        )

    async def show_metrics(self, _: web.Request) -> web.Response:
        """Return all counts in Prometheus' text format."""
        gauges: dict[str, tuple[str, float]] = {
            "sterna_sessions_open": ("Sessions open.", len(self.sessions)),
            "sterna_requests_waiting": ("Requests that wait or are inferred.", self.work.pending),
            "sterna_body_bytes": ("Bytes of bodies that are held.", self.bodies.held),
        }
        if (resident := resident_bytes()) is not None:
            gauges["process_resident_memory_bytes"] = ("Resident memory.", resident)
        text = self.metrics.text(gauges)
        return web.Response(body=text.encode(), headers={"Content-Type": KIND})

    async def model(self, _: web.Request) -> web.Response:
        """Say what the policy expects to be shown."""
        manifest = self.engine.manifest
        return web.json_response(
            {
                "version": __version__,
                "engine": self.engine.name,
                "feature_size": self.engine.feature_size,
                "object_size": self.engine.object_size,
                "view_headings": manifest.headings,
                "view_elevations": manifest.elevations,
                "max_words": manifest.max_words,
                "max_steps": manifest.max_steps,
            }
        )

    async def start(self, request: web.Request) -> web.Response:
        """Open a session and read its instruction."""
        async with self.bodies.of(request) as body:
            session = self.sessions.open()
            try:
                await self._do(session, session.start, request, body)
            except Exception:
                self.sessions.end(session.name, "refused")
                raise
        return web.json_response({"session": session.name, **session.state()}, status=201)

    async def step(self, request: web.Request) -> web.Response:
        """Take an observation, answer with a decision."""
        session = self._session(request)
        async with self.bodies.of(request) as body:
            decision = await self._told(session, session.step, request, body)
        return web.json_response(write_decision(decision))

    async def ahead(self, request: web.Request) -> web.Response:
        """Take the observation of a place to come, and encode it."""
        session = self._session(request)
        async with self.bodies.of(request) as body:
            node = await self._told(session, session.ahead, request, body)
        return web.json_response({"node": node})

    async def state(self, request: web.Request) -> web.Response:
        """Say where a session stands."""
        session = self._session(request)
        decision = session.decision and write_decision(session.decision)
        told = {"session": session.name, **session.state(), "decision": decision}
        return web.json_response(told)

    async def end(self, request: web.Request) -> web.Response:
        """Close a session."""
        self.sessions.end(request.match_info["session"])
        return web.Response(status=204)

    def _session(self, request: web.Request) -> Session:
        return self.sessions.find(request.match_info["session"])

    async def _told(self, session: Session, act: Any, request: web.Request, body: bytes) -> Any:
        """Do something in a session; its errors say at which step the session stands."""
        try:
            return await self._do(session, act, request, body)
        except (InputError, Refusal) as error:
            refused = _refused(error)
            refused.more["step"] = session.state()["step"]
            raise refused from None

    async def _do(self, session: Session, act: Any, request: web.Request, body: bytes) -> Any:
        return await self.work.run(session, partial(_act, act, body, request.content_type))


def _act(act: Callable[[dict[str, Any]], Any], body: bytes, kind: str) -> Any:
    """Read a body and act on it; both take long enough to belong in a thread."""
    return act(decode(body, kind))


def _refused(error: Exception) -> Refusal:
    """Return any error as an answer; one that nobody foresaw is logged and not described."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, Malformed):
        return Refusal(400, "malformed", str(error))
    if isinstance(error, InputError):
        return Refusal(422, "refused", str(error))
    if isinstance(error, web.HTTPException):
        return Refusal(error.status, "http", error.reason)
    LOG.error("a request failed", exc_info=error)
    return Refusal(500, "internal", "the service failed; its log says why")
