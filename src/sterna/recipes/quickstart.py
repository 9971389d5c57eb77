"""The main job in one command: a small teacher, a student alone, a distilled student, a table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sterna.data.layout import Layout
from sterna.errors import InputError
from sterna.files import write_json, write_text
from sterna.metrics import Result, paired_difference
from sterna.recipes.config import DistillRun, TrainConfig
from sterna.recipes.evaluation import run_eval
from sterna.recipes.pictures import show_episode
from sterna.recipes.r2r import text_student, text_teacher, toy_student, toy_teacher
from sterna.recipes.runs import train
from sterna.recipes.toyreverie import write_toy_reverie
from sterna.train.loop import LoopConfig


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a results table."""

    name: str
    result: Result
    folder: Path


def quickstart(
    data: Path | None, out: Path, *, toy: bool, seed: int, threads: int | None
) -> tuple[str, dict[str, Any]]:
    """Run the whole story and return its table as text and as JSON values.

    On R2R with text observations where `data` holds both, else on generated houses. Every stage
    resumes; a finished one is not repeated. Progress goes to standard error; beside the table the
    run folder gets a picture of one episode that the distilled student walked.
    """
    root = None if toy or data is None else quickstart_root(data)
    where = "R2R, text observations" if root else "generated toy houses"
    teacher, student = _recipes(bool(root), seed)
    if root is None:
        root = toy_data(out, seed)
    alone = replace(student, distill=replace(student.distill, weight=0.0))
    taught = replace(student, teacher=out / "teacher" / "best")
    plan = {"teacher": teacher, "student-alone": alone, "student-distilled": taught}
    rows = []
    for number, (name, config) in enumerate(plan.items(), 1):
        folder = out / name
        _tell(f"{number}/{len(plan)} {name}: {config.loop.iterations} iterations on {where}")
        train(config, root, folder, threads=threads)
        result = run_eval(folder, root, "val_unseen", out=folder / "eval")
        rows.append(Row(name=name, result=result, folder=folder))
    episode = _some_episode(rows)
    picture = out / "episode.png"
    show_episode(root, episode, "val_unseen", [picture], policy=rows[-1].folder)
    gain = paired_difference(rows[2].result, rows[1].result)["SR"]
    title = f"{where}, val_unseen, weights selected on val_seen, seed {seed}"
    text = "\n".join(
        [
            title,
            table(rows),
            f"distilled minus alone, paired by episode: {100 * gain.mean:+.1f} SR "
            f"(s.e. by path {100 * (gain.path_error or 0):.1f})",
            f"runs: {out}; a walk of the distilled student: {picture}",
            f"next: sterna show {episode} --data {root} --policy {rows[-1].folder} --out walk.svg",
        ]
    )
    values = {
        "title": title,
        "rows": [row_values(row) for row in rows],
        "picture": str(picture),
    }
    write_json(out / "results.json", values)
    write_text(out / "results.txt", text + "\n")
    return text, values


def toy_data(out: Path, seed: int = 0) -> Path:
    """Return the data folder of generated houses in a run folder, written if it is not there."""
    root = out / "toy-data"
    if not (root / "reverie" / "REVERIE_test.json").is_file():  # what is written last
        write_toy_reverie(root, seed, train_scans=12, unseen_scans=4, paths=60)
    return root


def quickstart_root(data: Path) -> Path | None:
    """Return `data` if it holds R2R with graphs and text observations, else None."""
    layout = Layout(data)
    try:
        for split in ("train", "val_seen", "val_unseen"):
            layout.annotations("r2r", split)
        assert layout.connectivity and layout.textobs
    except InputError:
        return None
    return data


def _recipes(real: bool, seed: int) -> tuple[TrainConfig, DistillRun]:
    teacher, student = (text_teacher(), text_student()) if real else (toy_teacher(), toy_student())
    if real:
        student = replace(student, distill=replace(student.distill, lessons=100))
    return (
        replace(teacher, loop=_shortened(teacher.loop, real, seed)),
        replace(student, loop=_shortened(student.loop, real, seed)),
    )


def _shortened(loop: LoopConfig, real: bool, seed: int) -> LoopConfig:
    """Cut R2R to minutes on two cores: the recipes' own lengths take an hour a run."""
    if real:
        loop = replace(loop, iterations=240, warm_start=80, eval_every=120)
    return replace(loop, seed=seed)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _some_episode(rows: Sequence[Row]) -> str:
    """Name an episode to draw: the first success of the last row, else its first."""
    table_ = rows[-1].result.per_episode or {}
    return str(table_["instr_id"][int(np.argmax(table_["SR"]))])


def table(rows: Sequence[Row]) -> str:
    """Render results as a text table: percent and metres, standard errors clustered by path."""
    head = f"{'':<20}{'parameters':>12}{'SR':>14}{'SPL':>14}{'OSR':>8}{'NE':>8}{'TL':>8}"
    return "\n".join([head, *(_line(row) for row in rows)])


def _line(row: Row) -> str:
    scores = row.result.scores

    def rate(name: str) -> str:
        score = scores[name]
        return f"{100 * score.mean:.1f} ± {100 * (score.path_error or 0):.1f}"

    parameters = int(row.result.cost["parameters"])
    return (
        f"{row.name:<20}{parameters:>12,}{rate('SR'):>14}{rate('SPL'):>14}"
        f"{100 * scores['OSR'].mean:>8.1f}{scores['NE'].mean:>8.2f}{scores['TL'].mean:>8.2f}"
    )


def row_values(row: Row) -> dict[str, Any]:
    """Return a row as JSON values (without the per-episode table)."""
    values = row.result.to_dict()
    values.pop("per_episode", None)
    return {"name": row.name, **values}
