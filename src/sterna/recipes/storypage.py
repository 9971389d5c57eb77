"""The quickstart's table, sentences and page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sterna import __version__
from sterna.metrics import Result
from sterna.recipes.housepictures import HousePictures
from sterna.recipes.report import (
    COLOURS,
    COLUMNS,
    NoPictures,
    Pictures,
    Walker,
    curve,
    shown_episodes,
)
from sterna.recipes.study import Study
from sterna.show.report import Report, ScoreRow, write_report

SHOWN = 6  # episodes on the page
NEAR = 1.5  # metres: a stricter success beside the field's 3 m


# --- table ---------------------------------------------------------------------------------------


def within(result: Result, metres: float) -> float:
    """Return the share of episodes that end closer to the goal than `metres`, along the graph."""
    return float(np.mean(np.array((result.per_episode or {})["NE"]) < metres))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Render rows as text: percent and metres, standard errors clustered by path."""
    near = f"SR at {NEAR} m"
    head = f"{'':<20}{'parameters':>12}{'SR':>14}{'SPL':>14}{near:>13}{'OSR':>8}{'NE':>8}{'TL':>8}"
    return "\n".join([head, *map(_line, rows)])


def _line(row: Mapping[str, Any]) -> str:
    scores = row["val_unseen"]

    def rate(name: str) -> str:
        return f"{100 * scores[name]['mean']:.1f} ± {100 * (scores[name]['path_error'] or 0):.1f}"

    size = f"{row['parameters']:,}" if "parameters" in row else "-"
    return (
        f"{row['label']:<20}{size:>12}{rate('SR'):>14}{rate('SPL'):>14}"
        f"{100 * row['SR_within_1.5m']:>13.1f}{100 * scores['OSR']['mean']:>8.1f}"
        f"{scores['NE']['mean']:>8.2f}{scores['TL']['mean']:>8.2f}"
    )


def sentences(values: Mapping[str, Any]) -> list[str]:
    """Say what the table shows of teacher and student."""
    rows = {row["name"]: row for row in values["rows"]}
    student, teacher = (rows[name] for name in ("both", "teacher"))
    mine, theirs = (row["val_unseen"]["SR"]["mean"] for row in (student, teacher))
    size = 100 * student["parameters"] / teacher["parameters"]
    gain = values["paired_differences_val_unseen"]["both - none"]["SR"]
    kept = f"{100 * mine / theirs:.1f}% of its teacher's SR" if theirs else "no SR to compare"
    return [
        f"the distilled student has {kept} with {size:.1f}% of its parameters",
        f"distilled minus alone, paired by episode: {100 * gain['mean']:+.1f} SR "
        f"(s.e. by path {100 * (gain['path_error'] or 0):.1f})",
    ]


# --- page ----------------------------------------------------------------------------------------


def write_page(
    study: Study,
    root: Path,
    out: Path,
    results: Mapping[str, Result],
    values: Mapping[str, Any],
    data: Path | None,
    *,
    threads: int = 1,
) -> Path:
    """Write the page of a finished story into `out`, in so many threads; return its path."""
    labels = {arm.name: arm.label for arm in study.arms}
    walkers = [
        Walker(name=labels[name], colour=colour, folder=out / _folder(study, name))
        for name, colour in zip(("both", "teacher"), COLOURS, strict=False)
    ]
    pictures: Pictures = HousePictures(threads=threads) if data is None else NoPictures()
    chosen = choose(results["both"], results["teacher"], SHOWN)
    shown, plans, strips = shown_episodes(root, study.data, "val_unseen", chosen, walkers, pictures)
    curves = [
        curve(labels[name], colour, out / _folder(study, name))
        for name, colour in zip(("both", "teacher", "none", "blind"), COLOURS, strict=False)
    ]
    rows = [_score_row(row) for row in values["rows"]]
    report = Report(
        title="Sterna quickstart",
        lead=f"{values['title']}. A teacher, a student with an eighth of its parameters, and "
        "what they must beat, scored on episodes in buildings that none of them has seen.",
        columns=_COLUMNS,
        rows=tuple(rows),
        notes=(*sentences(values), *_NOTES),
        curves=tuple(curves),
        score="SR on val_seen, percent (fine-tuning alone)",
        episodes=tuple(shown),
        plans=plans,
        strips=strips,
        foot=f"sterna {__version__}, protocol {values['protocol']['name']} "
        f"({values['protocol_hash']}), seed {values['seed']}. Made by `sterna quickstart`.",
    )
    return write_report(report, out / "report.html")


_COLUMNS = (*COLUMNS[:3], f"SR at {NEAR} m", *COLUMNS[3:])
_NOTES = (
    "SR: episodes that end within 3 m of the goal, percent; SPL: the same, weighted by how direct "
    "the walk was; OSR: within 3 m at any time; NE: metres left at the end; TL: metres walked. "
    "± is the standard error over episodes, clustered by path.",
    "The far-node agent walks to a random place that could be the goal; the blind teacher was "
    "trained without views; the student alone has had as many steps as the distilled one.",
)


def _folder(study: Study, name: str) -> str:
    return next(arm for arm in study.arms if arm.name == name).folders[0]


def _score_row(row: Mapping[str, Any]) -> ScoreRow:
    scores = row["val_unseen"]

    def rate(name: str) -> str:
        return f"{100 * scores[name]['mean']:.1f} ± {100 * (scores[name]['path_error'] or 0):.1f}"

    cells = (
        f"{row['parameters']:,}" if "parameters" in row else "",
        rate("SR"),
        rate("SPL"),
        f"{100 * row['SR_within_1.5m']:.1f}",
        f"{100 * scores['OSR']['mean']:.1f}",
        f"{scores['NE']['mean']:.2f}",
        f"{scores['TL']['mean']:.2f}",
    )
    control = row["name"] not in ("both", "teacher")
    return ScoreRow(name=row["label"], cells=cells, control=control)


def choose(student: Result, teacher: Result, count: int) -> list[str]:
    """Choose episodes to show: successes and failures of both in turn, other scans first."""
    tables = student.per_episode or {}, teacher.per_episode or {}
    place = {name: i for i, name in enumerate(tables[1]["instr_id"])}
    kinds: dict[tuple[bool, bool], list[tuple[str, str]]] = {}
    for i, name in enumerate(tables[0]["instr_id"]):
        outcome = bool(tables[0]["SR"][i]), bool(tables[1]["SR"][place[name]])
        kinds.setdefault(outcome, []).append((str(tables[0]["scan"][i]), str(name)))
    wanted = [(True, True), (True, False), (False, True), (True, True), (False, False)]
    out: list[str] = []
    seen: list[str] = []
    while len(out) < count and any(kinds.values()):
        for outcome in wanted:
            left = kinds.get(outcome, [])
            if left and len(out) < count:
                fresh = min(left, key=lambda one: (seen.count(one[0]), left.index(one)))
                left.remove(fresh)
                seen.append(fresh[0])
                out.append(fresh[1])
    return out
