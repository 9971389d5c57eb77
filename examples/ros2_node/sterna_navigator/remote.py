"""A thinker on another computer: `sterna serve`, asked from code that is not asynchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from sterna.edge.client import Client, Walk
from sterna.edge.runtime import Decision, Observation

T = TypeVar("T")


class Remote:
    """The calls of `sterna.edge.runtime.Navigator` that the guide makes, answered by a service."""

    def __init__(self, url: str, token: str | None = None) -> None:
        """Ask the service at `url`; `close` ends the connection."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._client = Client(url, token=token)
        self._walk: Walk | None = None
        self._wait(self._client.__aenter__())

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def start(self, instruction: str) -> None:
        """Begin an episode; one that is under way ends."""
        self._end()
        self._walk = self._wait(self._client.start(instruction))

    def step(self, seen: Observation) -> Decision:
        """Decide; call `start` before."""
        assert self._walk is not None
        return self._wait(self._walk.step(seen))

    def _end(self) -> None:
        if self._walk is not None:
            self._wait(self._walk.__aexit__())
            self._walk = None

    def close(self) -> None:
        """End the episode and the connection."""
        self._end()
        self._wait(self._client.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
