"""Numbers of a run: one JSON line an entry, TensorBoard beside it where that is installed."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sterna.files import write_text

BEFORE = ("lesson", "language-lesson")
"""Kinds of entries that come before the first iteration and count steps of their own."""


class RunLog:
    """Appends to ``log.jsonl``; a resumed run first drops the entries it will write again."""

    def __init__(self, folder: str | Path, *, iteration: int = 0, tensorboard: bool = True) -> None:
        """Open the log of a run that is about to do `iteration`."""
        self.path = Path(folder) / "log.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._drop_from(iteration)
        self._writer: Any = None
        if tensorboard and find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(Path(folder) / "tensorboard"), purge_step=iteration)

    def _drop_from(self, iteration: int) -> None:
        if not self.path.exists():
            return
        if not iteration:  # all of it will be written again, what came before the first one too
            write_text(self.path, "")
            return
        whole = [line for line in self.path.read_text("utf-8").split("\n")[:-1] if line]
        entries = [(line, json.loads(line)) for line in whole]
        kept = [
            line
            for line, entry in entries
            if entry["kind"] in BEFORE or entry["iteration"] <= iteration
        ]
        write_text(self.path, "".join(f"{line}\n" for line in kept))

    def write(self, kind: str, iteration: int, values: dict[str, float]) -> None:
        """Append one entry."""
        entry = {"kind": kind, "iteration": iteration, **values}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{kind}/{name}", value, iteration)

    def close(self) -> None:
        """Flush what TensorBoard still holds."""
        if self._writer is not None:
            self._writer.close()


class NoLog(RunLog):
    """The log of a process that leaves logging to another."""

    def __init__(self, folder: str | Path, *, iteration: int = 0) -> None:
        """Touch nothing."""
        self._writer = None

    def write(self, kind: str, iteration: int, values: dict[str, float]) -> None:
        """Write nothing."""
