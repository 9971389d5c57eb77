"""Bodies that nobody should send: tables of them, and mutations of sound ones.

STERNA_FUZZ sets how many mutations are sent (400 by default).
"""

from __future__ import annotations

import json
import os
import random
import struct
from typing import Any

import numpy as np
import pytest

from edge.conftest import Exported
from edge.serving import (
    SECONDS,
    Answer,
    asynchronous,
    request_bytes,
    seen_at,
    send,
    started,
    walk_alone,
)
from edge.test_service import plain
from sterna.edge.messages import read_decision, write_observation
from sterna.edge.runtime import Engine
from sterna.edge.service import Service
from sterna.edge.wire import BINARY, HEAD, JSON, MAGIC, encode

COUNT = int(os.environ.get("STERNA_FUZZ", "400"))


@pytest.fixture(scope="module")
def engine(exported: Exported) -> Engine:
    return Engine.open(exported.folder)


def changed(path: str, value: Any) -> Any:
    """A change of one field of a message: ``neighbours.0.name``."""

    def change(message: Any) -> Any:
        *way, last = path.split(".")
        part = message
        for name in way:
            part = part[int(name) if isinstance(part, list) else name]
        part[last] = value
        return message

    return change


ROW = [0.0] * 32
THINGS = {"ids": [1], "features": [[0.0] * 5], "directions": [[0, 0]], "sizes": [[1, 1]]}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("node", None, "node: expected a string"),
        ("node", "", "1 to 200"),
        ("node", "x" * 201, "1 to 200"),
        ("node", "\udc00", "surrogate"),
        ("position", [0, 0], "list of 3 numbers"),
        ("position", [0, 0, "0"], "expected a number"),
        ("position", [0, 0, 1e7], "between -1e+06 and 1e+06"),
        ("position", [0, 0, True], "expected a number"),
        ("position", [0, 0, 10**400], "expected a number"),
        ("heading", "north", "expected a number"),
        ("heading", 1e3, "between -100 and 100"),
        ("elevation", None, "expected a number"),
        ("neighbours", {}, "expected a list"),
        ("neighbours", [7], "expected objects"),
        ("neighbours", [{"name": "a", "position": [0, 0, 0]}] * 65, "at most 64"),
        ("neighbours", [{"name": "a", "position": [0, 0, 0]}] * 2, "must differ"),
        ("neighbours.0.colour", 3, "unknown field 'colour'"),
        ("neighbours.0.name", "n5", "must differ"),
        ("neighbours.0.distance", -1.0, "0 or more metres"),
        ("neighbours.0.position", None, "list of 3 numbers"),
        ("views", [], "1 to 256 rows"),
        ("views", [[]], "expected shape (36, 32), found (1, 0)"),
        ("views", [ROW] * 35, "expected shape (36, 32), found (35, 32)"),
        ("views", [ROW] * 300, "1 to 256 rows"),
        ("views", [ROW, ROW[:-1]], "differ in length"),
        ("views", [["0"] * 32] * 36, "numbers and nothing else"),
        ("views", [[None] * 32] * 36, "numbers and nothing else"),
        ("views", [[10**400] * 32] * 36, "numbers and nothing else"),
        ("views", [[1e300] * 32] * 36, "beyond float32"),
        ("views", [[1e7] * 32] * 36, "no features"),
        ("views", [[[0.0]] * 32] * 36, "rows of numbers"),
        ("views", {"shape": [36, 32], "offset": 0}, "rows of numbers"),
        ("views", "AAAA", "rows of numbers"),
        ("view_headings", [0.0] * 35, "expected 36, one a view"),
        ("view_headings", [], "1 to 256"),
        ("view_elevations", [0.0] * 36, "view_headings beside them"),
        ("objects", [], "expected an object"),
        ("objects", THINGS | {"ids": [1, 2]}, "differ in length"),
        ("objects", THINGS | {"ids": [2**60]}, "whole numbers"),
        ("objects", THINGS | {"sizes": [[1]]}, "2 numbers"),
        ("speed", 1, "unknown field 'speed'"),
    ],
)
def test_fields_that_are_not_what_they_should_be(
    engine: Engine, path: str, value: Any, words: str
) -> None:
    """Each is refused with one clear line, and the session goes on as if it had never come."""

    async def check() -> None:
        async with Service(engine) as service:
            place = await started(service.port, [3, 7, 20])
            sound = plain(seen_at(5, engine, 1, heading=0.0))
            body = json.dumps(changed(path, value)(plain(seen_at(5, engine, 1, heading=0.0))))
            for what in ("ahead", "step"):
                if what == "ahead" and "must differ" in words:
                    continue  # the map is asked on arrival
                answer = await send(
                    service.port, request_bytes("POST", f"{place}/{what}", body.encode())
                )
                answer.refused(422, "refused", words)
            data = request_bytes("POST", f"{place}/step", json.dumps(sound).encode())
            answer = await send(service.port, data)
            assert read_decision(answer.json) == walk_alone(engine, [3, 7, 20], 1)[0]

    asynchronous(check)()


NESTED = b"[" * 100_000


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (JSON, b""),
        (JSON, b"[]"),
        (JSON, b"7"),
        (JSON, b'{"node": NaN}'),
        (JSON, b'{"": 1}'),
        (JSON, b"\xff\xfe{}"),
        (JSON, '{"node": "a"}'.encode("utf-16")),
        (JSON, b'{"step": ' + b"9" * 5000 + b"}"),
        (JSON, NESTED),
        (JSON, b'{"views": ' + NESTED),
        (BINARY, b""),
        (BINARY, b'{"node": "a"}'),
        (BINARY, MAGIC),
        (BINARY, MAGIC + b"\0\0\0\0"),
        (BINARY, MAGIC + b"\xff\xff\xff\xff{}"),
        (BINARY, MAGIC + struct.pack("<I", 2) + b"[]" + bytes(100)),
        (BINARY, b"\x80\x04\x95" + bytes(40)),
    ],
)
def test_bodies_that_say_nothing(engine: Engine, kind: str, body: bytes) -> None:
    async def check() -> None:
        async with Service(engine) as service:
            place = await started(service.port)
            for path in (f"{place}/step", f"{place}/ahead", "/v1/sessions"):
                answer = await send(service.port, request_bytes("POST", path, body, kind))
                answer.refused(400, "malformed", "body: ")

    asynchronous(check)()


@pytest.mark.parametrize(
    "array",
    [
        {"shape": [36, 32], "offset": 4},
        {"shape": [36, 32], "offset": -4},
        {"shape": [36, 32], "offset": 2**40},
        {"shape": [2**30, 2**30], "offset": 0},
        {"shape": [36, -32], "offset": 0},
        {"shape": [36, 32.0], "offset": 0},
        {"shape": [True, 32], "offset": 0},
        {"shape": [], "offset": 0},
        {"shape": [1, 36, 32], "offset": 0},
        {"shape": [36, 32]},
        {"offset": 0},
        {"shape": None, "offset": 0},
        {"shape": [0, 32], "offset": 0},
    ],
    ids=str,
)
@asynchronous
async def test_arrays_that_are_not_there(engine: Engine, array: Any) -> None:
    message = write_observation(seen_at(5, engine, heading=0.0))
    views = np.ascontiguousarray(message["views"], "<f4").tobytes()
    text = json.dumps(message | {"views": array}).encode()
    body = MAGIC + struct.pack("<I", len(text)) + text + views
    async with Service(engine) as service:
        place = await started(service.port)
        answer = await send(service.port, request_bytes("POST", f"{place}/step", body, BINARY))
        answer.refused(422, "refused", "views: ")


def mutated(rng: random.Random, body: bytes) -> bytes:
    """Bytes flipped, cut, repeated, or put in from a list of troublesome ones."""
    out = bytearray(body)
    edge = min(len(out), 4096) if rng.random() < 0.7 else len(out)  # mostly where the structure is
    for _ in range(rng.choice((1, 1, 2, 8))):
        at, size = rng.randrange(edge), rng.choice((1, 2, 7, 64))
        change = rng.randrange(5)
        if change == 0:
            out[at % len(out)] ^= 1 << rng.randrange(8)
        elif change == 1:
            del out[at : at + size]
        elif change == 2:
            out[at:at] = out[at : at + size]
        elif change == 3:
            out[at : at + size] = rng.randbytes(size)
        else:
            out[at:at] = rng.choice(TROUBLE)
        edge = max(1, min(edge, len(out)))
        if not out:
            break
    return bytes(out[: rng.randrange(1, len(out) + 1)] if rng.random() < 0.1 else out)


TROUBLE = (b"null", b"-0", b"1e999", b"NaN", b'"\\ud800"', b"{}", b"[]", b"\0", b"\xff\xff\xff\xff")
TROUBLE += (b"[" * 2000, b"9" * 400, b'"', b",", b":", b"\\u0000", b"\r\n\r\n", MAGIC)
ALLOWED = {200, 201, 400, 409, 422}


@pytest.mark.timeout(SECONDS + 180)
@asynchronous
async def test_mutations_of_sound_bodies(engine: Engine) -> None:
    """Whatever comes: an answer in JSON that is no 5xx, and walks beside it stay right."""
    rng = random.Random(int(os.environ.get("STERNA_FUZZ_SEED", "0")))
    seen = seen_at(5, engine, 1, heading=0.0)
    sound = {
        JSON: json.dumps(plain(seen)).encode(),
        BINARY: encode(write_observation(seen)),
    }
    assert sound[BINARY][: len(MAGIC)] == MAGIC and len(sound[BINARY]) > HEAD
    wanted, statuses = walk_alone(engine, [3, 7, 20], 1)[0], set[int]()
    async with Service(engine, threads=2) as service:
        place = await started(service.port, [3, 7, 20])
        for number in range(COUNT):
            kind = rng.choice((JSON, BINARY))
            path = rng.choice((f"{place}/step", f"{place}/step", f"{place}/ahead", "/v1/sessions"))
            body = mutated(rng, sound[kind])
            answer = await send(service.port, request_bytes("POST", path, body, kind))
            _check(answer, body)
            statuses.add(answer.status)
            stepped = answer.status == 200 and path.endswith("step")  # it still made sense
            if stepped or number % 50 == 49:
                if not stepped:
                    data = request_bytes("POST", f"{place}/step", sound[kind], kind)
                    assert read_decision((await send(service.port, data)).json) == wanted
                place = await started(service.port, [3, 7, 20])
        assert service.endpoints.work.pending == service.endpoints.bodies.held == 0
    assert {400, 422} <= statuses


def _check(answer: Answer, body: bytes) -> None:
    assert answer.status in ALLOWED, (answer.status, answer.body, body[:500])
    assert b"Traceback" not in answer.body
    if answer.status >= 400:
        assert set(answer.json["error"]) <= {"code", "message", "step"}
