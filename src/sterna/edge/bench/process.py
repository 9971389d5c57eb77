"""Arms side by side: each in its own process, one at work at a time, turn by turn.

A machine that others use as well, or that grows warm, then slows all arms alike, and ratios of one
run stay comparable. Every second round runs backwards, so that no arm always follows the same one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

import sterna
from sterna.edge.bench.episode import Shape
from sterna.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A policy (`model` names it, `folder` holds it) on an engine with a number of threads."""

    model: str
    engine: str
    threads: int
    folder: Path
    rho: float | None = None
    """Budget of an exported routed policy."""

    @property
    def label(self) -> str:
        """Name for messages."""
        return f"{self.model} {self.engine} at {self.threads} threads"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is walked: `rounds` turns of every arm, `episodes` measured walks a turn."""

    rounds: int = 8
    episodes: int = 4
    progress: bool = True

    def __post_init__(self) -> None:
        """Check the counts."""
        for name in ("rounds", "episodes"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} must be at least 1, found {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one arm said: `ready` once (see `worker`), then `turns`, one a round."""

    arm: Arm
    ready: Mapping[str, Any]
    turns: Sequence[Mapping[str, Any]]


class Worker:
    """The process of one arm."""

    def __init__(self, arm: Arm, shape: Shape, scratch: Path) -> None:
        """Start it; `scratch` (a folder, new) takes its messages and what it compiles."""
        scratch.mkdir(parents=True)
        self.arm, self._messages = arm, scratch / "messages.txt"
        job = {
            "engine": arm.engine,
            "folder": str(arm.folder),
            "threads": arm.threads,
            "shape": asdict(shape),
            "rho": arm.rho,
        }
        with self._messages.open("w") as messages:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sterna.edge.bench.worker", json.dumps(job)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                text=True,
                env=_environment(arm.threads, scratch),
            )

    def __enter__(self) -> Worker:
        """Nothing more to do."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def ask(self, walks: int) -> dict[str, Any]:
        """Let it walk; returns what it says."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{walks}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended, and `answer` says why
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Return what it says next; `InputError` where it cannot run, or ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            said = [text for text in self._messages.read_text().splitlines() if text.strip()]
            why = said[-1][:300] if said else "no message; is there enough memory?"
            raise InputError(f"{self.arm.label}: its process ended (exit code {code}): {why}")
        said_now: dict[str, Any] = json.loads(line)
        if "error" in said_now:
            raise InputError(f"{self.arm.label}: {said_now['error']}")
        return said_now


def _environment(threads: int, scratch: Path) -> dict[str, str]:
    """Return the environment of a worker: threads fixed, this package, a compiler cache of its own.

    A cache of its own keeps the time of the first walk that of a first start.
    """
    ours = [str(Path(sterna.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    fixed = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {
        **os.environ,
        **dict.fromkeys(fixed, str(threads)),
        "PYTHONPATH": os.pathsep.join(path for path in ours if path),
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "compiled"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }


def measure(arms: Sequence[Arm], shape: Shape, plan: Plan, scratch: Path) -> list[Record]:
    """Open every arm, one after the other, then let them take turns; records as `arms` stand."""
    with ExitStack() as stack, _bar(len(arms) * (1 + plan.rounds), plan.progress) as bar:
        workers, ready = [], []
        for number, arm in enumerate(arms):
            bar.set_postfix_str(f"open {arm.label}")
            worker = stack.enter_context(Worker(arm, shape, scratch / f"arm{number}"))
            workers.append(worker)
            ready.append(worker.answer())
            bar.update()
        turns: list[list[dict[str, Any]]] = [[] for _ in arms]
        for number in range(plan.rounds):
            order = range(len(arms)) if number % 2 == 0 else reversed(range(len(arms)))
            for i in order:
                bar.set_postfix_str(arms[i].label)
                turns[i].append(workers[i].ask(plan.episodes))
                bar.update()
    return [
        Record(arm=arm, ready=said, turns=walked)
        for arm, said, walked in zip(arms, ready, turns, strict=True)
    ]


def _bar(total: int, progress: bool) -> Any:
    return tqdm(total=total, desc="latency", unit="turn", disable=not progress, leave=False)
