"""Processes that share a run: who is who, what they tell each other, how they end together.

`accelerate launch` (or torchrun, or Slurm) starts the same command several times and tells each
which one it is; a command started alone is all of them. Everything goes through accelerate. Numbers
that decide a gradient are made by sample and averaged over processes, so that what a run computes
does not depend on how many share it.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

_PATIENCE = timedelta(hours=12)
"""How long a process waits for another that is alive; one that has ended is noticed at once."""
_KNOCK, _ASK = 2.0, timedelta(seconds=3)
"""How long a process that ends looks for the store, and for its answer."""
_FIRST = "sterna-first-to-fail"
_LOST = ("gloo", "Connection closed by peer", "Connection reset by peer")
"""Words of errors that say that another process has gone."""

T = TypeVar("T", bound="float | Tensor")


def count() -> int:
    """Return how many processes share this run."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def number() -> int:
    """Return which of them this one is, from 0."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def alone() -> bool:
    """Return whether the run is this process alone."""
    return count() == 1


def is_main() -> bool:
    """Return whether this is the process that writes files and says what happens."""
    return number() == 0


def join() -> None:
    """Meet the other processes, if there are any."""
    if alone():
        return
    import torch
    from accelerate.state import PartialState  # type: ignore[import-untyped]

    PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)


def wait() -> None:
    """Wait until all processes are here."""
    if alone():
        return
    from accelerate.state import PartialState

    join()
    PartialState().wait_for_everyone()


@contextmanager
def main_first() -> Iterator[None]:
    """Let the main process make what is made once and kept on disk; the others then read it."""
    if not is_main():
        wait()
    yield
    if is_main():
        wait()


def mean(value: T) -> T:
    """Return the mean over processes of a number or a tensor (without gradient)."""
    if alone():
        return value
    import torch
    from accelerate.state import PartialState
    from accelerate.utils import reduce  # type: ignore[import-untyped]

    join()
    if isinstance(value, torch.Tensor):
        found: T = reduce(value.detach(), "mean")
        return found
    own = torch.tensor(float(value), dtype=torch.float64, device=PartialState().device)
    return type(value)(reduce(own, "mean"))


def mean_square(x: Tensor) -> Tensor:
    """Return the mean of the squares of a tensor, over the entries of all processes."""
    if alone():
        return x.square().mean()
    import torch

    total = mean(torch.stack([x.square().sum(), x.new_tensor(float(x.numel()))]))
    return total[0] / total[1].clamp(min=1e-12)


def share_weights(weights: Iterator[Tensor]) -> None:
    """Give all processes the main one's weights."""
    if alone():
        return
    from accelerate.utils import broadcast

    for weight in weights:
        broadcast(weight.data)


def everyones(value: Any) -> list[Any]:
    """Return the JSON values of all processes, by their numbers; floats keep every bit."""
    return [json.loads(content) for content in everyones_bytes(json.dumps(value).encode())]


def everyones_bytes(content: bytes) -> list[bytes]:
    """Return the bytes (at least one) that each process brings, by their numbers."""
    if alone():
        return [content]
    import torch
    from accelerate.state import PartialState
    from accelerate.utils import gather

    join()
    device = PartialState().device
    sizes = gather(torch.tensor([len(content)], device=device)).tolist()
    own = torch.zeros(max(sizes), dtype=torch.uint8)
    own[: len(content)] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    rows = gather(own.to(device)[None]).cpu().numpy()
    return [row[:size].tobytes() for row, size in zip(rows, sizes, strict=True)]


def is_first_to_fail() -> bool:
    """Return whether no other process has said yet why the run ends; asks but once.

    What is asked is the store by which processes meet, which the launcher keeps. Where there is
    none (any more), nobody else is known to have spoken.
    """
    if alone():
        return True
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    try:
        place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        socket.create_connection(place, _KNOCK).close()  # the store itself would try for long
        store = TCPStore(*place, is_master=False, wait_for_workers=False, timeout=_ASK)
        turn = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return int(store.add(f"{_FIRST}-{turn}", 1)) == 1
    except (KeyError, ValueError, OSError, RuntimeError):
        return True


def is_lost(error: BaseException) -> bool:
    """Return whether an error says that another process of the run has gone."""
    if alone():
        return False
    from torch.distributed import DistError

    told = str(error)
    return isinstance(error, DistError) or (
        isinstance(error, RuntimeError) and any(words in told for words in _LOST)
    )
