"""`sterna serve`: every endpoint, and walks through it beside walks of the runtime alone."""

from __future__ import annotations

import asyncio
import random
import re
from typing import Any

import numpy as np
import pytest

from edge.conftest import Exported
from edge.serving import (
    asynchronous,
    post,
    request_bytes,
    seen_at,
    send,
    started,
    walk_alone,
)
from sterna.edge.client import Client
from sterna.edge.messages import read_decision, write_observation
from sterna.edge.runtime import Decision, Engine, Observation
from sterna.edge.service import Limits, Service
from sterna.errors import InputError


@pytest.fixture(scope="module")
def engine(exported: Exported) -> Engine:
    return Engine.open(exported.folder)


def plain(seen: Observation, **more: Any) -> dict[str, Any]:
    """An observation as JSON, as a program in another language would post it."""
    message = {**write_observation(seen), **more}
    message["views"] = message["views"].tolist()
    return {name: value for name, value in message.items() if value is not None}


@asynchronous
async def test_a_walk_in_json(engine: Engine) -> None:
    wanted = walk_alone(engine, [3, 7, 20], seed=1)
    async with Service(engine) as service:
        path = await started(service.port, [3, 7, 20])
        node, found, first = 5, list[Decision](), {"heading": 0.0}
        for number in range(len(wanted)):
            message = plain(seen_at(node, engine, 1, **first), step=number)
            answer = await post(service.port, f"{path}/step", message)
            assert answer.status == 200, answer.body
            found.append(read_decision(answer.json))
            node, first = int(found[-1].target[1:]), {}
        assert found == wanted  # float for float
        state = (await send(service.port, request_bytes("GET", path))).json
        assert state["ended"] and state["step"] == len(wanted) and state["nodes"] > len(wanted)
        assert read_decision(state["decision"]) == wanted[-1]
        again = await post(service.port, f"{path}/step", {"node": "n5", "step": len(wanted) - 1})
        assert read_decision(again.json) == wanted[-1]  # asked twice, decided once
        (await post(service.port, f"{path}/step", plain(seen_at(0, engine)))).refused(409, "ended")
        assert (await send(service.port, request_bytes("DELETE", path))).status == 204
        for method in ("GET", "DELETE"):
            (await send(service.port, request_bytes(method, path))).refused(404, "no_session")


@pytest.mark.parametrize("which", ["exported", "grounded"])
@asynchronous
async def test_many_walks_at_once_are_those_of_the_runtime(
    which: str, request: pytest.FixtureRequest
) -> None:
    """24 robots, each with an instruction and rooms of its own, in no order, 4 threads."""
    engine = Engine.open(request.getfixturevalue(which).folder)
    rng = random.Random(0)
    episodes = [([rng.randrange(64) for _ in range(rng.randrange(1, 30))], i) for i in range(24)]

    async def walk(client: Client, words: list[int], seed: int) -> list[Decision]:
        async with await client.start(words) as walk:
            decisions = [await walk.step(seen_at(5, engine, seed, heading=0.0))]
            while not decisions[-1].stop:
                await asyncio.sleep(rng.random() / 50)
                seen = seen_at(int(decisions[-1].target[1:]), engine, seed)
                decisions.append(await walk.step(seen))
            return decisions

    async with Service(engine, threads=4) as service, Client(service.url) as client:
        found = await asyncio.gather(*(walk(client, *episode) for episode in episodes))
        assert (await client.health())["sessions"] == 0
    assert found == [walk_alone(engine, *episode) for episode in episodes]
    assert len({decision.target for decisions in found for decision in decisions}) > 4
    if which == "grounded":
        assert all(decisions[-1].object_id is not None for decisions in found)


@asynchronous
async def test_what_was_sent_ahead_need_not_be_sent_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    look = engine.look
    monkeypatch.setattr(engine, "look", lambda tokens: looks.append(1) or look(tokens))
    wanted = walk_alone(engine, [3, 7, 20], seed=1)[0]
    async with Service(engine) as service:
        path = await started(service.port, [3, 7, 20])
        looks.clear()
        whole = plain(seen_at(5, engine, 1, heading=0.0))
        for message in (whole, {"node": "n5"}):  # again, from what is kept
            told = await post(service.port, f"{path}/ahead", message)
            assert told.json == {"node": "n5"}
        assert len(looks) == 2
        answer = await post(service.port, f"{path}/step", {"node": "n5", "step": 0})
        assert read_decision(answer.json) == wanted and len(looks) == 2  # encoded on the way
        answer = await post(service.port, f"{path}/step", {"node": "n5"})
        answer.refused(422, "refused", "position is missing")  # used up
        for node in range(6, 11):  # the fifth pushes the first out
            seen = plain(seen_at(node, engine, heading=0.0))
            assert (await post(service.port, f"{path}/ahead", seen)).status == 200
        answer = await post(service.port, f"{path}/step", {"node": "n6"})
        answer.refused(422, "refused", "position is missing")
        other = {"node": "n9", "heading": 1.0}  # looks elsewhere than was thought
        assert (await post(service.port, f"{path}/step", other)).status == 200
        assert len(looks) == 8


@asynchronous
async def test_models_say_what_they_expect(engine: Engine) -> None:
    async with Service(engine) as service, Client(service.url) as client:
        model = await client.model()
        assert model["feature_size"] == 32 and model["object_size"] is None
        assert len(model["view_headings"]) == len(model["view_elevations"]) == 36
        assert (await client.health()) == {"status": "ok", "engine": "onnx", "sessions": 0}


@asynchronous
async def test_instructions_as_text_and_shorter_episodes(engine: Engine) -> None:
    async with Service(engine) as service, Client(service.url) as client:
        async with await client.start("stop at the red door", max_steps=1) as walk:
            assert (await walk.step(seen_at(5, engine, heading=0.0))).stop
        for message, words in (
            ({}, "expected a string"),
            ({"instruction": ""}, "expected a string"),
            ({"instruction": "x" * 10_001}, "1 to 10000"),
            ({"instruction": "\ud800"}, "surrogate"),
            ({"instruction": [1, 64]}, "knows 64 words"),
            ({"instruction": [1, True]}, "word ids"),
            ({"instruction": []}, "1 to 128"),
            ({"instruction": "go", "max_steps": 0}, "max_steps"),
            ({"instruction": "go", "max_steps": 1.5}, "whole number"),
            ({"instruction": "go", "speed": 2}, "unknown field 'speed'"),
        ):
            (await post(service.port, "/v1/sessions", message)).refused(422, "refused", words)
        assert (await client.health())["sessions"] == 0  # refused ones leave nothing behind


@asynchronous
async def test_unknown_places(engine: Engine) -> None:
    async with Service(engine) as service:
        for method, path, status in (
            ("GET", "/", 404),
            ("GET", "/v1/sessions/nobody", 404),
            ("POST", "/v1/sessions/nobody/step", 404),
            ("GET", "/v1/sessions", 405),
            ("PATCH", "/health", 405),
        ):
            answer = await send(service.port, request_bytes(method, path))
            assert answer.status == status and answer.json["error"]["message"]
        assert answer.headers["allow"] == "GET,HEAD"


LINE = re.compile(r'[a-z_]+(\{([a-z_]+="[^"\\\n]*",?)+\})? [0-9.e+-]+')


@asynchronous
async def test_metrics(engine: Engine) -> None:
    async with Service(engine) as service, Client(service.url) as client:
        path = await started(service.port, [3, 7, 20])
        await post(service.port, f"{path}/step", plain(seen_at(5, engine, 1, heading=0.0)))
        await post(service.port, f"{path}/step", {"no": "observation"})
        await send(service.port, b"nonsense\r\n\r\n")
        await send(service.port, request_bytes('X"\n'.strip(), "/health"))
        text = await client.metrics()
    values = {}
    for line in text.splitlines():
        if not line.startswith("# "):
            assert LINE.fullmatch(line), line
            name, value = line.rsplit(" ", 1)
            values[name] = float(value)
    route = 'route="/v1/sessions/{session}/step"'
    assert values[f'sterna_requests_total{{method="POST",{route},status="200"}}'] == 1
    assert values[f'sterna_requests_total{{method="POST",{route},status="422"}}'] == 1
    assert values['sterna_requests_total{method="other",route="malformed",status="400"}'] >= 1
    assert values['sterna_sessions_total{event="started"}'] == values["sterna_sessions_open"] == 1
    buckets = [
        v for k, v in values.items() if k.startswith("sterna_request_seconds_bucket{" + route)
    ]
    assert buckets == sorted(buckets) and buckets[-1] == 2
    assert values[f"sterna_request_seconds_count{{{route}}}"] == 2
    assert values[f"sterna_request_seconds_sum{{{route}}}"] > 0
    assert 1e7 < values["process_resident_memory_bytes"] < 1e11
    assert values["sterna_requests_waiting"] == values["sterna_body_bytes"] == 0


@asynchronous
async def test_a_fault_is_not_described_to_the_outside(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(feed: object) -> None:
        raise ZeroDivisionError("a secret")

    async with Service(engine) as service:
        path = await started(service.port)
        monkeypatch.setattr(engine, "decide", broken)
        answer = await post(service.port, f"{path}/step", plain(seen_at(5, engine, heading=0.0)))
        answer.refused(500, "internal")
        assert b"secret" not in answer.body and "a secret" in caplog.text
        assert (await send(service.port, request_bytes("GET", "/health"))).status == 200


@asynchronous
async def test_a_taken_port_is_named(engine: Engine) -> None:
    async with Service(engine) as service:
        with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1, port {service.port}"):
            async with Service(engine, port=service.port):
                pass


def test_limits_must_let_something_through() -> None:
    with pytest.raises(InputError, match="sessions: expected a finite number above 0"):
        Limits(sessions=0)


def test_features_beyond_reason_leave_finite_chances(engine: Engine) -> None:
    """The largest numbers that messages may hold do not overflow the graphs."""
    from sterna.edge.messages import FEATURE
    from sterna.edge.runtime import Navigator

    navigator = Navigator(engine)
    navigator.start([1, 2, 3])
    seen = seen_at(5, engine, heading=0.0)
    rng = np.random.default_rng(0)
    huge = FEATURE * rng.uniform(-1, 1, (36, 32))
    scores = navigator.score(Observation(**{**vars(seen), "views": huge}))
    assert np.isfinite(scores.probabilities).all()
