"""The main job in one command: a small teacher, a student alone, a distilled student, a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sterna.data.layout import Layout
from sterna.errors import InputError
from sterna.files import write_json, write_text
from sterna.metrics import Result, paired_difference
from sterna.recipes.config import DistillRun, TrainConfig
from sterna.recipes.r2r import text_student, text_teacher, toy_student, toy_teacher
from sterna.recipes.runs import run_eval, train
from sterna.recipes.toyworld import write_toy_world
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
    resumes; a finished one is not repeated.
    """
    root = None if toy or data is None else _r2r(data)
    where = "R2R, text observations" if root else "generated toy houses"
    teacher, student = _recipes(bool(root), seed)
    if root is None:
        root = toy_data(out, seed)
    train(teacher, root, out / "teacher", threads=threads)
    alone = replace(student, distill=replace(student.distill, weight=0.0))
    taught = replace(student, teacher=out / "teacher" / "best")
    train(alone, root, out / "student-alone", threads=threads)
    train(taught, root, out / "student-distilled", threads=threads)
    rows = []
    for name in ("teacher", "student-alone", "student-distilled"):
        folder = out / name
        result = run_eval(folder, root, "val_unseen", out=folder / "eval")
        rows.append(Row(name=name, result=result, folder=folder))
    gain = paired_difference(rows[2].result, rows[1].result)["SR"]
    title = f"{where}, val_unseen, weights selected on val_seen, seed {seed}"
    text = "\n".join(
        [
            title,
            table(rows),
            f"distilled minus alone, paired by episode: {100 * gain.mean:+.1f} SR "
            f"(s.e. by path {100 * (gain.path_error or 0):.1f})",
            f"runs: {out}",
            f"next: sterna show {_some_episode(rows)} --data {root} --policy {rows[-1].folder}",
        ]
    )
    values = {"title": title, "rows": [row_values(row) for row in rows]}
    write_json(out / "results.json", values)
    write_text(out / "results.txt", text + "\n")
    return text, values


def toy_data(out: Path, seed: int = 0) -> Path:
    """Return the data folder of generated houses in a run folder, written if it is not there."""
    root = out / "toy-data"
    if not (root / "r2r" / "R2R_train.json").is_file():
        write_toy_world(root, seed)
    return root


def _r2r(data: Path) -> Path | None:
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
    return (
        replace(teacher, loop=_shortened(teacher.loop, real, seed)),
        replace(student, loop=_shortened(student.loop, real, seed)),
    )


def _shortened(loop: LoopConfig, real: bool, seed: int) -> LoopConfig:
    """Cut R2R to minutes on two cores: the recipes' own lengths take an hour a run."""
    if real:
        loop = replace(loop, iterations=240, warm_start=80, eval_every=120)
    return replace(loop, seed=seed)


def _some_episode(rows: Sequence[Row]) -> str:
    table_ = rows[-1].result.per_episode or {}
    return str(table_["instr_id"][0])


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
