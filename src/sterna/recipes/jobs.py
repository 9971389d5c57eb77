"""Jobs side by side: in this process, or in many, with a progress bar; the first error ends all."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

Job = tuple[Callable[..., None], tuple[Any, ...]]


@contextmanager
def job_pool(workers: int) -> Iterator[Callable[[Sequence[Job], str, int], None]]:
    """Give a function that runs jobs here (one worker) or in so many processes.

    It takes the jobs, what to call them, and how many there are with those done before.
    """
    if workers == 1:
        yield lambda jobs, what, total: _bar(map(_run, jobs), len(jobs), what, total)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:

        def run(jobs: Sequence[Job], what: str, total: int) -> None:
            asked = [pool.submit(_run, job) for job in jobs]
            _bar((job.result() for job in as_completed(asked)), len(jobs), what, total)

        try:
            yield run
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _run(job: Job) -> None:
    import torch

    torch.set_num_threads(1)
    what, arguments = job
    what(*arguments)


def _bar(done: Iterable[None], count: int, what: str, total: int) -> None:
    with tqdm(total=total, initial=total - count, desc=what, unit="job") as bar:
        for _ in done:
            bar.update()


def differences(found: Any, wanted: Mapping[str, Any]) -> str:
    """Return which settings of a begun work, as it wrote them down, are others now."""
    other = found if isinstance(found, dict) else {}
    return "; ".join(
        f"{k}: {other.get(k)} there, {v} now" for k, v in wanted.items() if other.get(k) != v
    )
