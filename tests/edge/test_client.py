"""The client: what it does at once, what it sends again, what it says of refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from edge.conftest import Exported
from edge.serving import asynchronous, seen_at, walk_alone
from sterna.edge.client import Client, ServiceError, drive
from sterna.edge.runtime import Engine, Observation
from sterna.edge.service import Service
from sterna.errors import InputError

WORDS = [3, 7, 20]


@pytest.fixture
def engine(exported: Exported) -> Engine:
    return Engine.open(exported.folder)


class Robot:
    """A robot whose moves and looks end only when the service has done its part meanwhile."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.engine, self.seed, self.events = engine, seed, list[str]()
        self.node, self.heading, self.known = 5, 0.0, dict[int, Observation]()
        self.wait_for_encoding = True
        self._record(engine)

    def _record(self, engine: Engine) -> None:
        for name in ("read", "look", "decide"):
            setattr(engine, name, self._noted(name, getattr(engine, name)))

    def _noted(self, name: str, method: Any) -> Any:
        def noted(argument: Any) -> Any:
            self.events.append(name)
            return method(argument)

        return noted

    async def until(self, event: str) -> None:
        """Wait until something happened after the last event of the robot."""
        count = len(self.events)
        while event not in self.events[count:]:
            await asyncio.sleep(0.005)

    async def look(self) -> Observation:
        self.events.append("look begins")
        if not self.known:  # the first look lasts until the instruction is read
            await self.until("read")
        self.events.append("look ends")
        seen = self.known.get(self.node)
        if seen is None:
            seen = seen_at(self.node, self.engine, self.seed, heading=self.heading)
            self.known[self.node] = seen
        return seen

    async def go(self, path: Sequence[str]) -> None:
        self.events.append("go begins")
        if path and self.wait_for_encoding:
            await self.until("look")
        self.node = int(path[-1][1:]) if path else self.node
        self.events.append("go ends")

    async def glimpse(self, node: str) -> Observation | None:
        there = int(node[1:])
        self.known[there] = seen_at(there, self.engine, self.seed)
        return self.known[there]


def most(engine: Engine) -> tuple[int, int]:
    """A seed whose walk alone takes several steps, and how many."""
    for seed in range(50):
        count = len(walk_alone(engine, WORDS, seed))
        if count >= 4:
            return seed, count
    raise AssertionError("no walk of four steps")


@asynchronous
async def test_encoding_and_walking_happen_at_once(engine: Engine) -> None:
    """The order of events: a robot that waited for its arrival before sending would hang here."""
    seed, count = most(engine)
    wanted = walk_alone(engine, WORDS, seed)
    robot = Robot(engine, seed)
    last = robot.go

    async def go(path: Sequence[str]) -> None:
        robot.wait_for_encoding = robot.events.count("decide") < count  # the way back is not new
        await last(path)

    robot.go = go  # type: ignore[method-assign]
    async with Service(engine) as service, Client(service.url) as client:
        found = await drive(client, robot, WORDS)
    assert found == wanted
    first = ["look begins", "read", "look ends", "look", "decide"]
    between = ["go begins", "look", "go ends", "look begins", "look ends", "decide"]
    assert robot.events == [*first, *between * (count - 1), "go begins", "go ends"]


@asynchronous
async def test_robots_that_see_nothing_ahead(engine: Engine) -> None:
    seed, _ = most(engine)
    wanted = walk_alone(engine, WORDS, seed)
    robot = Robot(engine, seed)
    robot.wait_for_encoding = False

    async def nothing(node: str) -> None:
        return None

    async def look() -> Observation:
        more = {} if robot.known else {"heading": 0.0}
        robot.known[robot.node] = seen_at(robot.node, engine, seed, **more)
        return robot.known[robot.node]

    robot.glimpse, robot.look = nothing, look  # type: ignore[assignment, method-assign]
    async with Service(engine) as service, Client(service.url) as client:
        assert await drive(client, robot, WORDS) == wanted


@asynchronous
async def test_what_was_sent_ahead_is_small_on_arrival(engine: Engine) -> None:
    sizes: list[int] = []
    async with Service(engine) as service, Client(service.url) as client:
        ask = client.ask

        async def counted(method: str, path: str, body: bytes = b"", *more: str) -> Any:
            sizes.append(len(body))
            return await ask(method, path, body, *more)

        client.ask = counted  # type: ignore[method-assign]
        async with await client.start(WORDS) as walk:
            seen = seen_at(5, engine, heading=0.0)
            await walk.ahead(seen)
            first = await walk.step(Observation(**{**vars(seen), "elevation": 0.5}))
        async with await client.start(WORDS) as walk:
            assert first == await walk.step(Observation(**{**vars(seen), "elevation": 0.5}))
        views = 4 * 36 * 32
        assert sizes[1] > views > 4 * sizes[2] and sizes[5] > views
        async with await client.start(WORDS) as walk:
            for node in range(5, 11):  # more than are kept: the first is sent whole again
                await walk.ahead(seen_at(node, engine, heading=0.0))
            decision = await walk.step(walk._sent["n5"])
            assert decision.node == "n5" and walk.steps == 1


@asynccontextmanager
async def cutting(port: int, when: Sequence[str]) -> Any:
    """A relay that cuts a connection before the request is passed on, or before its answer is.

    `when` says of each request in turn: "before", "after", or "" to leave it alone.
    """
    plans = iter(when)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = head.lower().split(b"content-length:")
                length = int(fields[1].split(b"\r\n")[0]) if len(fields) > 1 else 0
                body = await reader.readexactly(length)
                plan = next(plans, "")
                if plan == "before":
                    return
                back.write(head + body)
                answer = await there.readuntil(b"\r\n\r\n")
                fields = answer.lower().split(b"content-length:")
                length = int(fields[1].split(b"\r\n")[0]) if len(fields) > 1 else 0
                answer += await there.readexactly(length)
                if plan == "after":
                    return
                writer.write(answer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            back.close()
            writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.sleep(0.05)  # relays end


@asynchronous
async def test_lost_answers_are_asked_for_again(engine: Engine) -> None:
    """However often a connection is cut, every step is decided once."""
    seed, _ = most(engine)
    wanted = walk_alone(engine, WORDS, seed)
    cuts = ["", "after", "before", "", "after", "after", "", "before", "before", "", "after"]
    async with Service(engine) as service, cutting(service.port, cuts) as url:
        async with Client(url, wait=0.01) as client, await client.start(WORDS) as walk:
            found = [await walk.step(seen_at(5, engine, seed, heading=0.0))]
            while not found[-1].stop:
                node = int(found[-1].target[1:])
                found.append(await walk.step(seen_at(node, engine, seed)))
            assert found == wanted
        assert len(service.endpoints.sessions) == 0


@asynchronous
async def test_refusals_are_errors_with_a_reason(engine: Engine) -> None:
    async with (
        Service(engine) as service,
        Client(service.url) as client,
        await client.start(WORDS) as walk,
    ):
        with pytest.raises(ServiceError, match=r"give a heading; .*\(422, refused\)") as caught:
            await walk.step(seen_at(5, engine))
        assert (caught.value.status, caught.value.code, caught.value.step) == (
            422,
            "refused",
            0,
        )
        bad = Observation(**{**vars(seen_at(5, engine)), "views": np.zeros((2, 32))})
        with pytest.raises(InputError, match=r"expected shape \(36, 32\), found \(2, 32\)"):
            await walk.step(Observation(**{**vars(bad), "heading": 0.0}))
        walk.steps = 3
        with pytest.raises(ServiceError, match="expected step 0"):
            await walk.step(seen_at(5, engine, heading=0.0))
        await walk.step(seen_at(5, engine, heading=0.0))  # it knows its step again
        await walk.end()  # and ending twice is no error
        url = service.url
    async with Client(url, tries=2, wait=0.01) as client:
        with pytest.raises(OSError):
            await client.health()


@asynchronous
async def test_a_robot_that_fails_is_heard(engine: Engine) -> None:
    class Lame(Robot):
        async def go(self, path: Sequence[str]) -> None:
            raise RuntimeError("a wheel came off")

    seed, _ = most(engine)
    async with Service(engine) as service, Client(service.url) as client:
        with pytest.raises(RuntimeError, match="a wheel came off"):
            await drive(client, Lame(engine, seed), WORDS)
        assert len(service.endpoints.sessions) == 0
