"""The whole story in one command: houses, a teacher, its student, the controls, one page.

Every stage resumes; what is finished is not repeated.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch

from sterna.data.layout import Layout
from sterna.errors import InputError
from sterna.files import read_json, write_json, write_text
from sterna.metrics import read_result
from sterna.recipes.houses import house_teacher
from sterna.recipes.makehouses import SHIPPED, HousesConfig, make_houses
from sterna.recipes.minivln import story
from sterna.recipes.plan import plan_run
from sterna.recipes.runs import prepare
from sterna.recipes.storypage import NEAR, sentences, table, within, write_page
from sterna.recipes.study import Options, run_study
from sterna.recipes.world import shared_worlds

MINUTES = 10.0
"""What the recipes of houses are made for, on two cores."""
R2R_MINUTES = 150.0
"""What the recipes of text observations would take there."""
HOUSES = HousesConfig(
    train=60,
    val_unseen=10,
    paths=60,
    seen_paths=3,
    unseen_paths=40,
    errands=1,
    seen_errands=1,
    unseen_errands=1,
    continuous=False,
    views="level",
    encoder=SHIPPED,
)
NAME = "quickstart"
PACE = "pace.json"
"""What a run was begun with: its minutes, its share of the recipes' steps, seconds a step."""
_WORK, _CHAIN = 2.95, 1.53
"""Seconds that all trainings take together, and those that wait for one another (the distilled
student for its teacher), in those of the teacher's steps as they are timed."""
_REST = 3.0
"""Seconds a minute asked for that evaluations and the page take."""
_WORTH_TIMING, _LEAST = 60, 0.1
"""Steps from which on a machine is timed; the least share of the steps asked for."""


def quickstart(
    data: Path | None,
    out: Path,
    *,
    minutes: float = MINUTES,
    seed: int = 0,
    workers: int | None = None,
    houses: HousesConfig = HOUSES,
) -> tuple[str, dict[str, Any]]:
    """Run the whole story; return its table as text and as JSON values.

    On houses, or on R2R with text observations where `data` names a folder that holds both.
    `minutes` scales trainings and the number of houses. Progress goes to standard error. The
    run folder gets ``report.html``, ``results.json`` and ``results.txt``. On a machine too slow for
    that many minutes houses are learnt from for fewer steps (`_pace`).
    """
    if not minutes > 0:
        raise InputError(f"quickstart: --minutes must be positive, found {minutes}")
    started, many = time.monotonic(), workers or os.cpu_count() or 1
    options, root = _prepare(data, out, minutes, seed, many, houses)
    with shared_worlds():
        if data is None:
            left = 60 * minutes - (time.monotonic() - started)
            options = replace(options, share=_pace(options, root, minutes, left, many))
        _together(options, root, many)
        study = story(NAME, options)
        _, values = run_study(study, root, out, threads=1)
    results = {
        arm.name: read_result(out / arm.folders[0] / arm.evaluation / "result_val_unseen.json")
        for arm in study.arms
    }
    for row in values["rows"]:
        row["SR_within_1.5m"] = within(results[row["name"]], NEAR)
    title = f"{_where(data)}, val_unseen, weights selected on val_seen, seed {seed}"
    values |= {"title": title, "seed": seed, "minutes": minutes, "share": options.share}
    _tell("3/3 the page")
    page = write_page(study, root, out, results, values, data, threads=many)
    text = "\n".join([title, table(values["rows"]), *sentences(values), f"page: {page}"])
    write_json(out / "results.json", values)
    write_text(out / "results.txt", text + "\n")
    _tell(f"done in {(time.monotonic() - started) / 60:.1f} minutes")
    return text, values


def _where(data: Path | None) -> str:
    return "Houses from seeds" if data is None else "R2R, text observations"


def _prepare(
    data: Path | None,
    out: Path,
    minutes: float,
    seed: int,
    workers: int,
    houses: HousesConfig,
) -> tuple[Options, Path]:
    if data is not None:
        check_r2r(data)
        return Options(out=out, seeds=(seed,), scale="text", share=minutes / R2R_MINUTES), data
    share, root = minutes / MINUTES, out / "houses"
    asked = replace(houses, train=max(1, round(min(share, 3.0) * houses.train)))
    _tell(f"1/3 houses: {asked.train} to learn in, {asked.val_unseen} that nobody has seen")
    make_houses(asked, root, workers=workers)  # made ones are compared with what is asked
    return Options(out=out, seeds=(seed,), scale="houses", share=share), root


def check_r2r(data: Path) -> None:
    """Raise `InputError` unless a data folder holds R2R with graphs and text observations."""
    layout = Layout(data)
    for split in ("train", "val_seen", "val_unseen"):
        layout.annotations("r2r", split)
    assert layout.connectivity and layout.textobs


def _pace(options: Options, root: Path, minutes: float, left: float, workers: int) -> float:
    """Return the share of the recipes' steps that this machine can take in the seconds `left`.

    Never more than `options.share`. Some steps of the teacher are timed; what a run was begun with
    is kept in its folder, so that a killed one goes on.
    """
    file, asked = options.out / PACE, options.share
    if file.is_file():
        begun = read_json(file)
        if begun.get("minutes") != minutes:
            raise InputError(
                f"{file}: begun with --minutes {begun.get('minutes')}, asked for {minutes}; give "
                "the same, or another --out"
            )
        return float(begun["share"])
    teacher = house_teacher()
    seconds, share = 0.0, asked
    if asked * teacher.loop.iterations >= _WORTH_TIMING:
        torch.set_num_threads(1)
        _, plan = plan_run(prepare, teacher, root, cycles=1)
        seconds = plan["seconds_per_iteration"]
        many = (left - _REST * minutes) / (seconds * teacher.loop.iterations)
        fits = many * min(workers / _WORK, 1 / _CHAIN)
        share = min(asked, max(fits, _LEAST * asked))
        if share < asked:
            _tell(f"this machine takes {seconds:.2f} s a step: {share / asked:.0%} of the steps")
    write_json(file, {"minutes": minutes, "share": share, "seconds_per_iteration": seconds})
    return share


def _together(options: Options, root: Path, workers: int) -> None:
    """Let so many processes, this one among them, share the steps of the study."""
    _tell(f"2/3 teacher, student, controls: {workers} trainings side by side")
    context = multiprocessing.get_context("spawn")
    helpers = [context.Process(target=_help, args=(options, root)) for _ in range(workers - 1)]
    for helper in helpers:
        helper.start()
    try:
        _work(options, root)
    finally:
        for helper in helpers:
            helper.join()


def _help(options: Options, root: Path) -> None:
    threading.Thread(target=end_with_parent, daemon=True).start()
    _work(options, root)


def end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, however that went.

    What it was at goes on from its last saved state when the same command is given again.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _work(options: Options, root: Path) -> None:
    torch.set_num_threads(1)
    run_study(story(NAME, options), root, options.out, threads=1)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
