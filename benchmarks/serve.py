"""What `sterna serve` stands: many sessions, slow and vanishing clients, bodies nobody should send.

Exports a preset with random weights (or takes an exported folder), starts the command in a process
of its own and keeps `--sessions` sessions open while `--requests` observations are posted, each of
all views with random features: an episode that ends is followed by the next in another session. At
the same time `--slow` clients drip their bodies, `--vanishing` ones hang up halfway or before the
answer, and `--fuzz` damaged bodies are posted. Every sound answer is compared with the runtime
alone, from a table of walks worked out before.

Reports p50, p95, p99 of requests (client side, milliseconds), answers by status, wrong answers, and
the service's resident memory at intervals; `flat` compares the last quarter with the second. All
robots arrive at once: `opened` are the ranks of what was sent after that crowd, from twice the
longest pause on. A shorter `--pause` asks for more than two cores answer.

Usage: python benchmarks/serve.py [--folder DIR] [--sessions 1000] [--requests 50000] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from sterna.edge.messages import read_decision, write_observation
from sterna.edge.runtime import Decision, Engine, Navigator, Neighbour, Observation
from sterna.edge.wire import BINARY, JSON, encode

SIDE = 8
TIMEOUT = aiohttp.ClientTimeout(total=120)


def seen_at(node: int, views: Any, first: bool) -> Observation:
    row, column = divmod(node, SIDE)
    near = [(row + r, column + c) for r, c in ((0, 1), (1, 0), (0, -1), (-1, 0))]
    places = {
        SIDE * r + c: (2.0 * c, 2.0 * r, 0.0) for r, c in near if 0 <= min(r, c) <= max(r, c) < SIDE
    }
    return Observation(
        node=f"n{node}",
        position=(2.0 * column, 2.0 * row, 0.0),
        heading=0.0 if first else None,
        views=views[node],
        neighbours=[Neighbour(name=f"n{n}", position=place) for n, place in places.items()],
    )


class Walks:
    """Walks of the runtime alone: the words, then each body and the decision it must bring."""

    def __init__(self, engine: Engine, count: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        shape = SIDE * SIDE, len(engine.manifest.headings), engine.feature_size
        views = rng.standard_normal(shape).astype(np.float32)
        self.bodies: dict[tuple[int, int], bytes] = {}
        self.views = views
        self.all = [self._walk(engine, rng) for _ in range(count)]

    def body(self, node: int, number: int) -> bytes:
        if (node, number) not in self.bodies:
            message = write_observation(seen_at(node, self.views, number == 0))
            self.bodies[node, number] = encode({"step": number, **message})
        return self.bodies[node, number]

    def _walk(self, engine: Engine, rng: Any) -> tuple[list[int], list[tuple[int, Decision]]]:
        known = engine.manifest.sizes["vocab_size"]
        words = rng.integers(0, known, int(rng.integers(8, 60))).tolist()
        node, steps = int(rng.integers(SIDE * SIDE)), []
        navigator = Navigator(engine)
        navigator.start(words)
        while not steps or not steps[-1][1].stop:
            decision = navigator.step(seen_at(node, self.views, not steps))
            steps.append((node, decision))
            node = int(decision.target[1:])
        return words, steps


class Load:
    """All clients, and what they saw."""

    def __init__(self, url: str, walks: Walks, options: argparse.Namespace) -> None:
        self.url, self.walks, self.options = url, walks, options
        self.port = int(url.rsplit(":", 1)[1])
        self.left = options.requests
        self.sent: list[tuple[float, float]] = []  # when, and how long until the answer
        self.statuses: dict[str, Counter[int]] = {}
        self.wrong = self.lost = self.done = 0
        self.most_open = 0
        self.memory: list[tuple[float, float, int]] = []

    def saw(self, who: str, status: int) -> None:
        self.statuses.setdefault(who, Counter())[status] += 1

    async def post(self, http: aiohttp.ClientSession, path: str, body: bytes, kind: str) -> Any:
        """Post until the service is not too busy; count the time of each try."""
        while True:
            begun = time.perf_counter()
            headers = {"Content-Type": kind}
            async with http.post(self.url + path, data=body, headers=headers) as answer:
                told = await answer.json()
            self.sent.append((begun, time.perf_counter() - begun))
            self.saw("sound", answer.status)
            if answer.status not in (429, 503):
                return told
            await asyncio.sleep(random.uniform(0.05, 0.5))

    async def robot(self, http: aiohttp.ClientSession, rng: random.Random) -> None:
        """Walk episode after episode until all requests were posted."""
        while self.left > 0:
            words, steps = rng.choice(self.walks.all)
            body = json.dumps({"instruction": words}).encode()
            told = await self.post(http, "/v1/sessions", body, JSON)
            path = f"/v1/sessions/{told['session']}"
            for number, (node, wanted) in enumerate(steps):
                self.left -= 1
                body = self.walks.body(node, number)
                found = await self.post(http, f"{path}/step", body, BINARY)
                self.wrong += "error" in found or read_decision(found) != wanted
                self.done += 1
                await asyncio.sleep(rng.uniform(0, self.options.pause))
            await self.end(http, path)

    async def start(self, http: aiohttp.ClientSession) -> str:
        body = json.dumps({"instruction": self.walks.all[0][0]}).encode()
        return f"/v1/sessions/{(await self.post(http, '/v1/sessions', body, JSON))['session']}/step"

    async def end(self, http: aiohttp.ClientSession, path: str) -> None:
        async with http.delete(self.url + path.removesuffix("/step")) as answer:
            self.saw("sound", answer.status)

    def _head(self, path: str, length: int) -> bytes:
        lines = f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {BINARY}"
        return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()

    async def slow(self, http: aiohttp.ClientSession, rng: random.Random) -> None:
        """Drip a body, a byte every half second, until the service gives up."""
        while self.left > 0:
            path = await self.start(http)
            body = self.walks.body(self.walks.all[0][1][0][0], 0)
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(self._head(path, len(body)))
            told = asyncio.create_task(reader.readline())
            while not told.done() and not writer.is_closing():
                writer.write(b"S")
                await asyncio.sleep(0.5)
            self.saw("slow", int((told.result().split() or [b"", b"0"])[1]))
            writer.close()
            await self.end(http, path)

    async def vanish(self, http: aiohttp.ClientSession, rng: random.Random) -> None:
        """Hang up within a body, or before the answer."""
        while self.left > 0:
            path = await self.start(http)
            body = self.walks.body(rng.choice(self.walks.all)[1][0][0], 0)
            cut = rng.choice((len(body) // 2, len(body)))
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(self._head(path, len(body)) + body[:cut])
            await asyncio.sleep(rng.uniform(0, 0.05))
            writer.transport.abort()
            self.lost += 1
            await asyncio.sleep(rng.uniform(0, 0.5))
            await self.end(http, path)

    async def fuzz(self, http: aiohttp.ClientSession, rng: random.Random) -> None:
        """Post damaged bodies, as JSON and in the binary format; no answer may be a 5xx but 503."""
        path = await self.start(http)
        message = write_observation(seen_at(self.walks.all[0][1][0][0], self.walks.views, True))
        sound = {
            BINARY: encode(message),
            JSON: json.dumps(message, default=np.ndarray.tolist).encode(),
        }
        for _ in range(self.options.fuzz):
            kind = rng.choice((JSON, BINARY, BINARY))
            body, headers = damaged(rng, sound[kind]), {"Content-Type": kind}
            async with http.post(self.url + path, data=body, headers=headers) as answer:
                await answer.read()
                self.saw("fuzz", answer.status)
            if answer.status == 200:  # it made sense still
                await self.end(http, path)
                path = await self.start(http)

    async def watch(self, http: aiohttp.ClientSession, begun: float) -> None:
        while True:
            async with http.get(f"{self.url}/metrics") as answer:
                text = await answer.text()
            resident = float(re.findall(r"^process_resident_memory_bytes (\S+)", text, re.M)[0])
            count = int(re.findall(r"^sterna_sessions_open (\S+)", text, re.M)[0])
            self.most_open = max(self.most_open, count)
            self.memory.append((time.perf_counter() - begun, resident / 1e6, self.done))
            print(
                f"{self.memory[-1][0]:6.0f} s  {self.done:6d} steps  {count:5d} sessions  "
                f"{resident / 1e6:6.0f} MB",
                file=sys.stderr,
            )
            await asyncio.sleep(self.options.every)

    async def run(self) -> dict[str, Any]:
        options, rng = self.options, random.Random(0)
        connector = aiohttp.TCPConnector(limit=0)
        begun = time.perf_counter()
        async with aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as http:
            watching = asyncio.create_task(self.watch(http, begun))
            work = [self.robot(http, random.Random(i)) for i in range(options.sessions)]
            work += [self.slow(http, rng) for _ in range(options.slow)]
            work += [self.vanish(http, rng) for _ in range(options.vanishing)]
            await asyncio.gather(*work, self.fuzz(http, rng))
            watching.cancel()
        return self.report(begun, time.perf_counter() - begun)

    def report(self, begun: float, seconds: float) -> dict[str, Any]:
        when, took = np.array(self.sent).T
        ranks = _ranks(took) | {"opened": _ranks(took[when > begun + 2 * self.options.pause])}
        sizes = [size for _, size, _ in self.memory]
        quarter = max(1, len(sizes) // 4)
        early, late = np.mean(sizes[quarter : 2 * quarter] or sizes), np.mean(sizes[-quarter:])
        return {
            "seconds": seconds,
            "sessions": self.options.sessions,
            "most_open": self.most_open,
            "steps": self.done,
            "steps_per_s": self.done / seconds,
            **ranks,
            "wrong": self.wrong,
            "vanished": self.lost,
            "statuses": {who: dict(sorted(seen.items())) for who, seen in self.statuses.items()},
            "memory_MB": [[round(t), round(size), done] for t, size, done in self.memory],
            "flat": float(late / early),
        }


def _ranks(seconds: Any) -> dict[str, float]:
    values = seconds if len(seconds) else [0.0]
    return {f"p{p}_ms": 1e3 * float(np.percentile(values, p)) for p in (50, 95, 99)}


def damaged(rng: random.Random, body: bytes) -> bytes:
    out = bytearray(body)
    for _ in range(rng.choice((1, 2, 8))):
        at = rng.randrange(min(len(out), rng.choice((64, 2048, len(body))))) if out else 0
        size, change = rng.choice((1, 4, 64)), rng.randrange(4)
        if change == 0 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            del out[at : at + size]
        elif change == 2:
            out[at:at] = rng.choice((b"null", b"1e999", b"[" * 500, b'"', b"{}", b"\xff" * 8))
        else:
            out[at : at + size] = rng.randbytes(size)
    return bytes(out) or b"0"


@asynccontextmanager
async def service(folder: Path, options: argparse.Namespace) -> AsyncIterator[str]:
    """The command in a process of its own; it must end with code 0."""
    words = "serve", folder, "--engine", options.engine, "--port", "0", "--json"
    bounds = "--threads", options.threads, "--limit.sessions", 2 * options.sessions + 500
    more = "--limit.connections", 4 * options.sessions + 500, "--limit.answer-seconds", "60"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sterna.cli", *map(str, (*words, *bounds, *more))),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield json.loads(await process.stdout.readline())["url"]
        if process.returncode is not None:
            raise SystemExit(f"the service ended with code {process.returncode}")
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        if await process.wait():
            raise SystemExit(f"the service ended with code {process.returncode}")


async def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    from sterna.edge.service.server import allow_connections

    allow_connections(4 * options.sessions + 500)
    walks = Walks(Engine.open(folder, options.engine), options.walks)
    async with service(folder, options) as url:
        return await Load(url, walks, options).run()


def write(name: str, folder: Path) -> None:
    """Export a preset with random weights, int8 beside float32."""
    import torch

    from sterna.edge.export import TOKENIZER, write_engines, write_manifest
    from sterna.models.duet import DUET
    from sterna.models.presets import preset
    from sterna.recipes.toyworld import toy_tokenizer
    from sterna.world.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS

    torch.manual_seed(0)
    model = DUET(preset(name)).eval()
    graphs = write_engines(model, folder, int8=True)
    toy_tokenizer().save(str(folder / TOKENIZER))
    views = VIEW_HEADINGS, VIEW_ELEVATIONS
    about = {"run": {}, "parameters": sum(p.numel() for p in model.parameters())}
    write_manifest(folder, model, graphs, views=views, max_words=200, max_steps=15, about=about)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="an exported folder, instead of a preset")
    parser.add_argument("--preset", default="minivln")
    parser.add_argument("--engine", default="onnx-int8")
    parser.add_argument("--threads", type=int, default=2, help="requests inferred at once")
    parser.add_argument("--sessions", type=int, default=1000, help="robots at the same time")
    parser.add_argument("--requests", type=int, default=50_000, help="observations posted")
    parser.add_argument("--pause", type=float, default=16.0, help="longest pause of a robot, s")
    parser.add_argument("--slow", type=int, default=20, help="clients that drip")
    parser.add_argument("--vanishing", type=int, default=20, help="clients that hang up")
    parser.add_argument("--fuzz", type=int, default=10_000, help="damaged bodies")
    parser.add_argument("--walks", type=int, default=64, help="different episodes")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between memory readings")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        if options.folder is None:
            write(options.preset, folder)
        report = asyncio.run(measure(folder, options))
    if options.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name}: {round(value, 3) if isinstance(value, float) else value}")
    if report["wrong"] or any(
        s >= 500 and s != 503 for c in report["statuses"].values() for s in c
    ):
        raise SystemExit("wrong answers, or failures of the service")


if __name__ == "__main__":
    main()
