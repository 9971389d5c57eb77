"""A robot's side of `sterna serve`: an asynchronous client that uses the time of walking.

Needs numpy and aiohttp. `Walk` is one episode; `drive` lets a robot walk one, and overlaps what can
be: the instruction is read while the robot takes its first look, and the place it walks to is sent
and encoded while it is still on its way, so that on arrival only the decision is left.

>>> async with Client("http://127.0.0.1:8765") as client:
...     async with await client.start("Walk past the sofa and stop at the stairs.") as walk:
...         decision = await walk.step(Observation(...))
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol, Self, TypeVar

import aiohttp

from sterna.edge.messages import read_decision, write_observation
from sterna.edge.runtime import Decision, Observation
from sterna.edge.wire import BINARY, JSON, encode
from sterna.errors import InputError

A = TypeVar("A")
B = TypeVar("B")
_AGAIN = (429, 503)
_LOST = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError)


class ServiceError(InputError):
    """The service refused: `status` of HTTP, its short `code`, the step it stands at if it said."""

    def __init__(self, status: int, code: str, message: str, step: int | None = None) -> None:
        """Take over what the service said."""
        super().__init__(f"service: {message} ({status}, {code})")
        self.status, self.code, self.step = status, code, step


class Client:
    """A connection to a service, for any number of walks at once; an asynchronous context."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float = 60.0,
        tries: int = 4,
        wait: float = 0.2,
    ) -> None:
        """Ask the service at `url`.

        `timeout` are seconds for one request. One that got lost, or met a busy service, is sent up
        to `tries` times, after `wait` seconds and twice as many each time; the service decides a
        step only once, however often it is asked.
        """
        self.url, self._tries, self._wait = url.rstrip("/"), tries, wait
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._timeout = aiohttp.ClientTimeout(total=timeout)

    async def __aenter__(self) -> Self:
        """Open a pool of connections."""
        self._http = aiohttp.ClientSession(
            headers=self._headers,
            timeout=self._timeout,
            connector=aiohttp.TCPConnector(limit=0),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the pool."""
        await self._http.close()

    async def model(self) -> dict[str, Any]:
        """Return what the policy expects: sizes, directions of the views, limits of an episode."""
        told: dict[str, Any] = await self.ask("GET", "/v1/model")
        return told

    async def health(self) -> dict[str, Any]:
        """Return what the service says of itself."""
        told: dict[str, Any] = await self.ask("GET", "/health")
        return told

    async def metrics(self) -> str:
        """Return the service's counts in Prometheus' text format."""
        async with self._http.get(f"{self.url}/metrics") as answer:
            await _check(answer)
            return await answer.text()

    async def start(
        self, instruction: str | Sequence[int], *, max_steps: int | None = None
    ) -> Walk:
        """Begin an episode with an instruction, as text or as word ids."""
        words = instruction if isinstance(instruction, str) else [int(i) for i in instruction]
        message: dict[str, Any] = {"instruction": words}
        if max_steps is not None:
            message["max_steps"] = max_steps
        told = await self.ask("POST", "/v1/sessions", json.dumps(message).encode(), JSON)
        return Walk(self, told["session"])

    async def ask(self, method: str, path: str, body: bytes = b"", kind: str = JSON) -> Any:
        """Send a request, again where it got lost; raises `ServiceError` for a refusal."""
        wait = self._wait
        for rest in reversed(range(self._tries)):
            try:
                return await self._ask(method, path, body, kind)
            except (ServiceError, *_LOST) as error:
                again = not isinstance(error, ServiceError) or error.status in _AGAIN
                if not rest or not again:
                    raise
            await asyncio.sleep(wait)
            wait *= 2
        raise InputError(f"tries: expected at least 1, found {self._tries}")

    async def _ask(self, method: str, path: str, body: bytes, kind: str) -> Any:
        headers = {"Content-Type": kind} if body else None
        url = self.url + path
        async with self._http.request(method, url, data=body or None, headers=headers) as answer:
            await _check(answer)
            return None if answer.status == 204 else await answer.json()


async def _check(answer: aiohttp.ClientResponse) -> None:
    if answer.ok:
        return
    try:
        said = (await answer.json(content_type=None))["error"]
        error = ServiceError(answer.status, said["code"], said["message"], said.get("step"))
    except (ValueError, KeyError, TypeError):
        error = ServiceError(answer.status, "unknown", f"{answer.reason}, without a reason")
    raise error


class Walk:
    """One episode at a service; an asynchronous context that ends it there."""

    def __init__(self, client: Client, name: str) -> None:
        """Continue the session of that name."""
        self.client, self.name, self.steps = client, name, 0
        self._sent: dict[str, Observation] = {}

    async def __aenter__(self) -> Self:
        """Return the walk."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it; one that is gone already is no error."""
        try:
            await self.end()
        except ServiceError as error:
            if error.status != 404:
                raise

    async def ahead(self, seen: Observation) -> None:
        """Send what will be seen at a node that the robot is on its way to, to be encoded."""
        await self._post("ahead", write_observation(seen))
        self._sent[seen.node] = seen

    async def step(self, seen: Observation) -> Decision:
        """Send what is seen and return the decision; what was sent ahead is not sent again."""
        message = {"step": self.steps, **write_observation(seen)}
        early = self._sent.pop(seen.node, None)
        if early is not None:
            for name in _shared(seen, early):
                message.pop(name, None)
        try:
            told = await self._post("step", message)
        except ServiceError as error:
            if error.code != "refused" or not early:
                raise
            told = await self._post("step", {"step": self.steps, **write_observation(seen)})
        self.steps += 1
        return read_decision(told)

    async def end(self) -> None:
        """End the episode at the service."""
        await self.client.ask("DELETE", f"/v1/sessions/{self.name}")

    async def _post(self, what: str, message: dict[str, Any]) -> Any:
        try:
            return await self.client.ask(
                "POST", f"/v1/sessions/{self.name}/{what}", encode(message), BINARY
            )
        except ServiceError as error:
            self.steps = self.steps if error.step is None else error.step
            raise


def _shared(seen: Observation, early: Observation) -> list[str]:
    """Return the large fields that an observation has in common with an earlier one."""
    return [name for name in ("views", "objects") if getattr(seen, name) is getattr(early, name)]


class Robot(Protocol):
    """What `drive` needs of a robot."""

    async def look(self) -> Observation:
        """Return what is seen where the robot stands."""

    async def go(self, path: Sequence[str]) -> None:
        """Walk through these places, and return on arrival at the last."""

    async def glimpse(self, node: str) -> Observation | None:
        """Return what will be seen at a place that the robot is on its way to, once it is known.

        From further cameras, a map, or a first sight of it while driving; None where it is not
        known before arrival. If `look` then returns the same `views`, they are not sent again.
        """


async def drive(
    client: Client, robot: Robot, instruction: str | Sequence[int], *, max_steps: int | None = None
) -> list[Decision]:
    """Let a robot walk an episode to its end, way back included; returns the decisions."""
    decisions: list[Decision] = []
    walk, seen = await _both(client.start(instruction, max_steps=max_steps), robot.look())
    async with walk:
        while True:
            decisions.append(await walk.step(seen))
            if decisions[-1].stop:
                await robot.go(decisions[-1].path)
                return decisions
            ahead = _send_ahead(walk, robot, decisions[-1].target)
            await _both(robot.go(decisions[-1].path), ahead)
            seen = await robot.look()


async def _send_ahead(walk: Walk, robot: Robot, node: str) -> None:
    early = await robot.glimpse(node)
    if early is not None:
        with contextlib.suppress(ServiceError):  # time lost and nothing else: `step` tells
            await walk.ahead(early)


async def _both(first: Coroutine[Any, Any, A], second: Coroutine[Any, Any, B]) -> tuple[A, B]:
    """Wait for two things at once; where one fails the other is given up."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = group.create_task(first), group.create_task(second)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return tasks[0].result(), tasks[1].result()
