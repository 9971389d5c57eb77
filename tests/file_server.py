"""A web server on this machine that offers files, and can be told to misbehave."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass
class Offer:
    """One file on offer, and how its server treats those who ask for it."""

    content: bytes = b""
    ranges: bool = True
    """Answer Range with 206."""
    if_range: bool = True
    """Mind If-Range; a careless server continues whatever file it has."""
    etag: str | None = None
    """"" sends none, None that of the content."""
    modified: str = ""
    cut: list[int] = field(default_factory=list)
    """Bytes after which the first, second, ... connection is cut; later ones are not."""
    first: list[int] = field(default_factory=list)
    """Statuses of the first, second, ... answers, without content."""
    status: int | None = None
    """Status of all answers."""
    headers: dict[str, str | None] = field(default_factory=dict)
    """Headers in place of the usual ones; None leaves one out."""
    then: Offer | None = None
    """What is offered in its place from the second request on."""


@dataclass
class Server:
    """The running server: its address, what it offers by path, and what it was asked."""

    url: str
    offers: dict[str, Offer] = field(default_factory=dict)
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    """Path, Range and If-Range of every request."""


@contextmanager
def serve() -> Iterator[Server]:
    """Run a server in a thread until the block ends."""
    state = Server(url="")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            span = self.headers.get("Range")
            state.asked.append((self.path, span, self.headers.get("If-Range")))
            offer = state.offers.get(self.path.split("?")[0])
            if offer is None:
                self.send_error(404)
                return
            if offer.then is not None:
                state.offers[self.path.split("?")[0]] = offer.then
            _answer(self, offer, span)

        def log_message(self, *args: Any) -> None:
            """Say nothing: standard error belongs to what is tested."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


def _answer(handler: Any, offer: Offer, span: str | None) -> None:
    etag = f'"{hashlib.md5(offer.content).hexdigest()}"' if offer.etag is None else offer.etag
    status, start = 200, 0
    if offer.first:
        status = offer.first.pop(0)
    elif offer.status is not None:
        status = offer.status
    elif span and offer.ranges:
        version = handler.headers.get("If-Range")
        if version in (None, etag, offer.modified) or not offer.if_range:
            start = int(span.removeprefix("bytes=").removesuffix("-"))
            status = 206 if start < len(offer.content) else 416
    body = offer.content[start:] if status in (200, 206) else b""
    headers: dict[str, str | None] = {
        "Content-Length": str(len(body)),
        "Content-Type": "application/octet-stream",
        "ETag": etag or None,
        "Last-Modified": offer.modified or None,
    }
    if status == 206:
        size = len(offer.content)
        headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
    handler.send_response(status)
    for name, value in (headers | offer.headers).items():
        if value is not None:
            handler.send_header(name, value)
    handler.end_headers()
    if offer.cut and status in (200, 206):
        body = body[: offer.cut.pop(0)]
    handler.wfile.write(body)
    handler.close_connection = True
