"""Inference off the event loop, bounded, and one request of a session at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sterna.edge.service.limits import Limits, Refusal
from sterna.edge.service.sessions import Session

T = TypeVar("T")


class Work:
    """A pool of threads that sessions share.

    A job that was begun is finished, whether or not somebody still waits for it: it changes the map
    of its session, and the session's next request must find the map whole.
    """

    def __init__(self, threads: int, limits: Limits) -> None:
        """Begin with so many threads."""
        self.limits, self.pending = limits, 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="sterna")
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, session: Session, job: Callable[[], T]) -> T:
        """Run a job of a session behind those that it has; raises `Refusal` where it cannot wait.

        Also where the answer takes longer than the limit; the job then goes on without a listener.
        """
        if self.pending >= self.limits.requests:
            raise Refusal(503, "busy", f"{self.pending} requests wait already; try again")
        if session.pending >= self.limits.session_requests:
            raise Refusal(
                429, "too_many", f"{session.pending} requests of this session wait already"
            )
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.pending, session.pending = self.pending + 1, session.pending + 1
        task = asyncio.create_task(self._in_turn(session, job, answer))
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._done(session, task))
        done, _ = await asyncio.wait([answer], timeout=self.limits.answer_seconds)
        if not done:
            answer.cancel()
            raise Refusal(503, "slow", f"no answer within {self.limits.answer_seconds:g} s")
        return answer.result()

    async def _in_turn(
        self, session: Session, job: Callable[[], T], answer: asyncio.Future[T]
    ) -> None:
        async with session.turn:
            if not answer.cancelled():  # else its client was told already
                await self._answer(job, answer)

    def _done(self, session: Session, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.pending, session.pending = self.pending - 1, session.pending - 1

    async def _answer(self, job: Callable[[], T], answer: asyncio.Future[T]) -> None:
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._pool, job)
        except Exception as error:
            if not answer.cancelled():
                answer.set_exception(error)
                answer.exception()  # seen, should its listener be gone
        else:
            if not answer.cancelled():
                answer.set_result(result)

    async def close(self) -> None:
        """Wait for jobs under way, then end the threads."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self.limits.shutdown_seconds)
        for task in self._tasks:
            task.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)
