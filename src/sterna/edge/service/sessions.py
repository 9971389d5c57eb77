"""Who walks at the moment: a navigator a session, and for how long it may be silent."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any

from sterna.edge.messages import read_instruction, read_observation
from sterna.edge.runtime import Decision, Engine, Navigator, Observation
from sterna.edge.runtime.navigator import AHEAD
from sterna.edge.service.limits import Limits, Refusal
from sterna.edge.service.metrics import Metrics
from sterna.errors import InputError


class Session:
    """One episode of one robot. Its methods run in threads, one at a time (`turn`)."""

    def __init__(self, engine: Engine, limits: Limits) -> None:
        """Begin without an instruction."""
        self.name = secrets.token_urlsafe(16)
        self.turn, self.pending = asyncio.Lock(), 0
        self.used = 0.0
        self.decision: Decision | None = None
        self.navigator: Navigator | None = None
        self._engine, self._limits = engine, limits
        self._ahead: dict[str, Observation] = {}

    def start(self, message: dict[str, Any]) -> None:
        """Read the instruction."""
        unknown = [name for name in message if name and name not in ("instruction", "max_steps")]
        if unknown:
            raise InputError(f"session: unknown field {unknown[0][:200]!r}")
        steps = message.get("max_steps")
        if steps is not None and type(steps) is not int:
            raise InputError("max_steps: expected a whole number")
        navigator = Navigator(self._engine, max_steps=steps)
        navigator.start(read_instruction(message.get("instruction")))
        self.navigator = navigator

    def step(self, message: dict[str, Any]) -> Decision:
        """Decide; a step that was decided already is answered with that decision again."""
        number = message.pop("step", None)
        if number is not None and type(number) is not int:
            raise InputError("step: expected a whole number")
        if self.decision is not None and number == self.decision.step:
            return self.decision
        walk = self._walk()
        if number not in (None, walk.steps):
            raise Refusal(409, "out_of_step", f"expected step {walk.steps}, found {number}")
        seen = self._read(walk, message)
        self.decision = None
        self.decision = walk.step(seen)
        self._ahead.pop(seen.node, None)
        return self.decision

    def ahead(self, message: dict[str, Any]) -> str:
        """Encode what will be seen at a node; returns its name."""
        seen = self._read(self._walk(), message)
        self._walk().look_ahead(seen)
        self._ahead.pop(seen.node, None)
        self._ahead[seen.node] = seen
        if len(self._ahead) > AHEAD:
            del self._ahead[next(iter(self._ahead))]
        return seen.node

    def state(self) -> dict[str, Any]:
        """Return where the session stands."""
        walk = self.navigator
        if walk is None:
            return {"step": 0, "ended": False, "nodes": 0}
        return {"step": walk.steps, "ended": walk.ended, "nodes": len(walk.map)}

    def _walk(self) -> Navigator:
        if self.navigator is None:
            raise Refusal(409, "not_started", "the instruction of this session was not read")
        if self.navigator.ended:
            raise Refusal(409, "ended", "the episode has ended; start another session")
        return self.navigator

    def _read(self, walk: Navigator, message: dict[str, Any]) -> Observation:
        seen = read_observation(message, self._ahead)
        names = {seen.node, *(near.name for near in seen.neighbours)}
        count = len(walk.map) + sum(name not in walk.map.slot for name in names)
        if count > self._limits.map_nodes:
            raise InputError(f"the map would hold {count} places, of {self._limits.map_nodes}")
        return seen


class Sessions:
    """All sessions that are open."""

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with none; `clock` gives seconds."""
        self.engine, self.limits, self.metrics = engine, limits, metrics
        self._open: dict[str, Session] = {}
        self._clock = clock

    def __len__(self) -> int:
        """Return the number of open sessions."""
        return len(self._open)

    def open(self) -> Session:
        """Open a session; raises `Refusal` where too many are open."""
        if len(self) >= self.limits.sessions:
            self.expire()
        if len(self) >= self.limits.sessions:
            raise Refusal(429, "too_many_sessions", f"{len(self)} sessions are open already")
        session = Session(self.engine, self.limits)
        session.used = self._clock()
        self._open[session.name] = session
        self.metrics.sessions["started"] += 1
        return session

    def find(self, name: str) -> Session:
        """Return a session and note that it was used; raises `Refusal` for none."""
        session = self._open.get(name)
        if session is None:
            raise Refusal(404, "no_session", "no such session; it ended, or was silent too long")
        session.used = self._clock()
        return session

    def end(self, name: str, event: str = "ended") -> None:
        """Close a session; raises `Refusal` for none."""
        self.find(name)
        del self._open[name]
        self.metrics.sessions[event] += 1

    def expire(self) -> None:
        """Close sessions that were silent for too long."""
        oldest = self._clock() - self.limits.idle_seconds
        for session in list(self._open.values()):
            if session.used < oldest and not session.pending:
                self.end(session.name, "expired")
