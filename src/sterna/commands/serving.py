"""`sterna serve`: an exported policy behind HTTP. Imports nothing that needs torch."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from sterna.commands.common import parse
from sterna.edge.runtime import Engine
from sterna.errors import InputError

TOKEN = "STERNA_TOKEN"


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What the service takes on (`sterna.edge.service.Limits`)."""

    sessions: int = 1024
    """Sessions open at once."""
    idle_seconds: float = 600.0
    """A session that is silent for so long is closed."""
    body_bytes: int = 4 * 2**20
    """Size of one request's body."""
    read_seconds: float = 10.0
    """Time in which a body must arrive."""
    answer_seconds: float = 30.0
    """Time in which an answer must be found."""
    connections: int = 2048
    """Connections open at once."""


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve an exported policy over HTTP (docs/edge.md says what to post)."""

    folder: tyro.conf.Positional[Path]
    """Folder that `sterna export` wrote."""
    engine: Literal["onnx", "onnx-int8", "onnx-static", "onnx-static-int8"] = "onnx"
    """Graphs to run."""
    host: str = "127.0.0.1"
    """Address to listen on; one that others can reach needs a token."""
    port: int = 8765
    """Port; 0 takes one that is free."""
    token: str | None = None
    """Secret that requests must carry; better set STERNA_TOKEN, which other users cannot list."""
    threads: int | None = None
    """Requests inferred at once, on one CPU thread each (default: all cores)."""
    limit: Bounds = field(default_factory=Bounds)
    """Limits."""
    json: bool = False
    """Print one JSON object when the service listens."""


def serve(argv: Sequence[str]) -> int:
    """Serve until told to end."""
    args: Serve = parse(Serve, argv, "serve")
    try:
        from sterna.edge.service import Limits, Service
        from sterna.edge.service import serve as run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "aiohttp":
            raise
        raise InputError("serve needs aiohttp; pip install 'sterna[serve]'") from None
    if not 0 <= args.port < 2**16:
        raise InputError(f"--port: expected 0 to 65535, found {args.port}")
    service = Service(
        Engine.open(args.folder, args.engine),
        host=args.host,
        port=args.port,
        token=args.token or os.environ.get(TOKEN) or None,
        limits=Limits(**vars(args.limit)),
        threads=args.threads if args.threads is not None else os.cpu_count() or 1,
    )
    run(service, lambda url: _listening(args, url))
    print("sterna serve: ended", file=sys.stderr)
    return 0


def _listening(args: Serve, url: str) -> None:
    told = {"url": url, "engine": args.engine, "folder": str(args.folder)}
    text = f"serving {args.folder} ({args.engine}) on {url}; Ctrl-C ends it"
    print(json.dumps(told) if args.json else text, flush=True)
