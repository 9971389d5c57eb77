"""The command line called in this process, and a training run small enough for a test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sterna.cli import main

TINY_MODEL = ("--model.hidden-size", "16", "--model.heads", "2", "--model.ffn-size", "16")
TINY_RUN = (
    *TINY_MODEL,
    *("--iterations", "4", "--loop.batch-size", "4", "--loop.warm-start", "2"),
    *("--loop.eval-every", "2", "--loop.save-every", "2", "--select.episodes", "6"),
)


@dataclass(frozen=True)
class Said:
    """What a command left: its exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on standard output; anything else there is an error."""
        assert self.code == 0, self.err
        return json.loads(self.out)

    def refused(self, *words: str) -> None:
        """Check that the command refused its input with one clear line that names `words`."""
        lines = self.err.splitlines()
        assert self.code == 2 and self.out == "", (self.code, self.out)
        assert len(lines) == 1 and lines[0].startswith("sterna: "), self.err
        assert all(word in lines[0] for word in words), lines[0]


def sterna(capsys: pytest.CaptureFixture[str], *words: object) -> Said:
    """Run `sterna WORDS...`."""
    capsys.readouterr()
    try:
        code = main([str(word) for word in words])
    except SystemExit as stop:  # the option parser's own exits
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return Said(code, out, err)


def train_tiny(
    capsys: pytest.CaptureFixture[str],
    world: Path,
    out: Path,
    *more: object,
    name: str = "train",
    kind: str = "toy",
) -> Said:
    """Train (or distil) a few iterations in a toy world; `kind` begins the recipe's name."""
    recipe = f"{kind}-teacher" if name == "train" else f"{kind}-student"
    return sterna(capsys, name, recipe, "--data", world, "--out", out, *TINY_RUN, *more)


@contextmanager
def killed_at(iteration: int) -> Iterator[None]:
    """Interrupt every run, training or pre-training, as it begins an iteration."""
    from sterna.train.loop import Runner  # torch takes a moment to import

    whole = Runner.step

    def stopping(runner: Runner, number: int) -> object:
        if number == iteration:
            raise KeyboardInterrupt
        return whole(runner, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, "step", stopping)
        yield
