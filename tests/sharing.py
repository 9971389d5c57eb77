"""The command line in several processes on this machine, as `accelerate launch` would start them.

Children are forked from a server that has imported torch and the library once, so that starting one
costs next to nothing.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sterna.files import read_json

# As the command line sets them before torch and tqdm are imported; here that is done once for all.
os.environ |= {"TORCH_CPP_LOG_LEVEL": "ERROR", "TQDM_DELAY": "30", "TQDM_MININTERVAL": "30"}
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["sterna.recipes.tables", "sterna.commands.scoring", "torch"])


@dataclass(frozen=True)
class Ending:
    """How one of several processes ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, kw_only=True)
class Harm:
    """What befalls process `number` as it begins iteration `iteration`: a signal, or bad numbers.

    `sign` 0: its loss is not a number.
    """

    number: int
    iteration: int
    sign: int


def share(
    count: int, folder: Path, *words: object, harm: Harm | None = None, seconds: float = 240.0
) -> list[Ending]:
    """Run `sterna WORDS...` in `count` processes; what they say goes through `folder`.

    As a launcher does, this process keeps the store by which they meet.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    folder.mkdir(parents=True, exist_ok=True)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    port, given = store.port, [str(word) for word in words]
    children = [
        _FORKS.Process(target=_run, args=(given, number, count, port, folder, harm))
        for number in range(count)
    ]
    for child in children:
        child.start()
    until = time.monotonic() + seconds
    for child in children:
        child.join(max(0.0, until - time.monotonic()))
    hanging = [n for n, child in enumerate(children) if child.is_alive()]
    for child in children:
        child.kill()
        child.join()
    assert not hanging, f"processes {hanging} still ran after {seconds} s"
    return [
        Ending(int(child.exitcode or 0), *(_said(folder, n, what) for what in ("out", "err")))
        for n, child in enumerate(children)
    ]


def all_well(endings: list[Ending]) -> str:
    """Check that all ended well, the main one alone speaking; return what it said."""
    assert all(one.code == 0 for one in endings), [one.err[-2000:] for one in endings]
    assert all(one.out == one.err == "" for one in endings[1:]), endings[1:]
    return endings[0].out


def _said(folder: Path, number: int, what: str) -> str:
    return (folder / f"{number}.{what}").read_text("utf-8")


def _run(
    words: list[str], number: int, count: int, port: int, folder: Path, harm: Harm | None
) -> None:
    os.environ |= {
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "TQDM_DISABLE": "1",
    }
    for what, stream in (("out", 1), ("err", 2)):
        os.dup2(os.open(folder / f"{number}.{what}", os.O_CREAT | os.O_TRUNC | os.O_WRONLY), stream)
    import torch

    torch.set_num_threads(1)
    from sterna.cli import main

    if harm is not None and harm.number == number:
        befall(harm)
    code = main(words)
    sys.stdout.flush()
    os._exit(code)


def befall(harm: Harm) -> None:
    """Let harm come to this process."""
    from sterna.train.loop import Runner

    whole: Any = Runner.step

    def step(runner: Any, iteration: int) -> Any:
        if iteration == harm.iteration:
            if harm.sign:
                os.kill(os.getpid(), harm.sign)
                signal.pause()
            for parameter in runner.learner.parameters():
                parameter.data.fill_(float("nan"))
        return whole(runner, iteration)

    Runner.step = step  # type: ignore[method-assign]


# ---- the same training ----

EVEN = (
    *("--iterations", "5", "--loop.batch-size", "6", "--loop.log-every", "1"),
    *("--loop.eval-every", "5", "--select.episodes", "5", "--model.hidden-size", "16"),
    # Adam divides by the size of gradients: of those that are nothing but rounding, too.
    *("--model.ffn-size", "16", "--optimizer.warmup", "0", "--optimizer.epsilon", "1e-3"),
)
"""A short training whose weights can be compared to 1e-5."""


def state(folder: Path) -> dict[str, Any]:
    """Return a training state, without how long it took."""
    import torch

    content: dict[str, Any] = torch.load(folder / "state.pt", weights_only=True)
    progress = json.loads(content["progress"])
    del progress["seconds"]
    return content | {"progress": progress}


def same_training(one: Path, many: Path) -> None:
    """Weights and losses to 1e-5, what was walked and chosen exactly; and something was learnt."""
    import torch

    a, b = state(one)["modules"]["task"], state(many)["modules"]["task"]
    for name, weight in a.items():
        torch.testing.assert_close(weight, b[name], atol=1e-5, rtol=1e-5, msg=name)
    logs = [
        [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (one, many)
    ]
    assert len(logs[0]) == len(logs[1]) >= 6
    for alone, shared in zip(*logs, strict=True):
        assert alone.pop("kind") == shared.pop("kind")
        assert alone == pytest.approx(shared, rel=1e-5, abs=1e-6)
    losses = [line["loss"] for line in logs[0] if "loss" in line]
    assert len(set(losses)) == len(losses)
    assert read_json(many / "run.json")["processes"] > 1 and (many / "best").is_dir()
