"""Rows of results over seeds: means, standard errors, paired differences, Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sterna.files import read_json
from sterna.metrics import Result, paired_difference
from sterna.metrics.result import estimates

Found = dict[str, Result]
"""Results of one policy by split."""

_KEPT = (
    *("SR", "SPL", "OSR", "NE", "TL", "nDTW", "SDTW", "CLS", "SR_1m", "SPL_1m"),
    *("RGS", "RGSPL", "RGS_at_goal", "RGSPL_at_goal"),
)
_COMPARED = ("SR", "SPL", "RGS", "RGSPL", "SR_1m")
_COUNTS = ("parameters", "parameters_without_word_table")
_RATES = {"SR", "SPL", "OSR", "RGS", "RGSPL"}
_TITLES = {"NE": "NE (m)", "TL": "TL (m)"}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One row of a study: its label, the runs of its seeds, how they are evaluated.

    `before` are the pre-training runs that `folders` began with; their time is part of the row's.
    """

    name: str
    label: str
    folders: tuple[str, ...]
    before: tuple[str, ...] = ()
    evaluation: str = "eval"
    permute: bool = False
    blind: bool = False


def summarise(
    table: Sequence[Arm],
    found: Mapping[str, Sequence[Found]],
    pairs: Sequence[tuple[str, str]],
    out: Path,
) -> dict[str, Any]:
    """Return the numbers of a table: `found` holds one `Found` a folder of every arm.

    Means over seeds with both kinds of standard error, and the differences `pairs`, by episode.
    """
    rows = []
    for arm in table:
        row: dict[str, Any] = {"name": arm.name, "label": arm.label, "seeds": len(arm.folders)}
        for split in found[arm.name][0]:
            row[split] = means_of([results[split] for results in found[arm.name]])
        rows.append(row | _costs(arm, found[arm.name][0]["val_unseen"], out))
    first = found[table[-1].name][0]["val_unseen"]
    return {
        "protocol": first.protocol.to_dict(),
        "protocol_hash": first.protocol.hash,
        "version": first.version,
        "selection_split": first.selection_split,
        "rows": rows,
        "paired_differences_val_unseen": {
            f"{a} - {b}": difference(found[a], found[b]) for a, b in pairs
        },
    }


def means_of(results: Sequence[Result]) -> dict[str, dict[str, float | None]]:
    """Return means over seeds of one split, with standard errors over seeds, paths and scans."""
    out: dict[str, dict[str, float | None]] = {}
    for name in (name for name in _KEPT if name in results[0].scores):
        means = np.array([result.scores[name].mean for result in results])
        pooled = estimates(_pooled(results))[name]
        out[name] = {
            "mean": float(means.mean()),
            "seed_error": float(means.std(ddof=1) / len(means) ** 0.5) if len(means) > 1 else None,
            "path_error": pooled.path_error,
            "scan_error": pooled.scan_error,
        }
    return out


def _pooled(results: Sequence[Result]) -> dict[str, Sequence[Any]]:
    """Average each episode's scores over seeds: one table for clustered standard errors."""
    tables = [result.per_episode or {} for result in results]
    out: dict[str, Sequence[Any]] = dict(tables[0])
    for name in tables[0]:
        if name not in ("instr_id", "path_id", "scan"):
            out[name] = np.mean([table[name] for table in tables], axis=0).tolist()
    return out


def difference(a: Sequence[Found], b: Sequence[Found]) -> dict[str, Any]:
    """Return the difference a - b on val_unseen, by episode, seeds averaged first."""
    first, second = ([r["val_unseen"] for r in results] for results in (a, b))
    mean = paired_difference(
        replace(first[0], per_episode=_pooled(first)),
        replace(second[0], per_episode=_pooled(second)),
    )
    out: dict[str, Any] = {}
    for name in (name for name in _COMPARED if name in mean):
        values: dict[str, Any] = dict(vars(mean[name]))
        if len(first) == len(second) > 1:
            pairs = zip(first, second, strict=True)
            each = np.array([x.scores[name].mean - y.scores[name].mean for x, y in pairs])
            values["per_seed"] = each.tolist()
            values["seed_error"] = float(each.std(ddof=1) / len(each) ** 0.5)
        out[name] = values
    return out


def _costs(arm: Arm, result: Result, out: Path) -> dict[str, Any]:
    costs: dict[str, Any] = {key: int(result.cost[key]) for key in _COUNTS if key in result.cost}
    files = [out / folder / "run.json" for folder in (*arm.folders, *arm.before)]
    if arm.evaluation == "eval" and all(file.is_file() for file in files):
        runs = [read_json(file) for file in files]
        costs |= {key: runs[0][key] for key in ("iteration", "threads", "machine")}
        costs["train_seconds"] = sum(run["seconds"] for run in runs) / len(arm.folders)
    return costs


def render(values: Mapping[str, Any]) -> str:
    """Render the numbers of a study as a Markdown table with its reading."""
    rows, differences = values["rows"], values["paired_differences_val_unseen"]
    shown = _columns(rows)
    heads = ["agent", "parameters", "without word table", "seeds", *map(_title, shown)]
    heads += ["val_seen SR", "training"]
    lines = [
        f"Protocol {values['protocol']['name']} (`{values['protocol_hash']}`), sterna "
        f"{values['version']}; weights selected on {values['selection_split']}, scored once on "
        "val_unseen. ± is the standard error over seeds where there are several, else over "
        "episodes clustered by path.",
        "",
        f"| {' | '.join(heads)} |",
        "|---|" + "--:|" * (len(heads) - 1),
        *(_row(row, shown) for row in rows),
    ]
    if differences:
        names = list(next(iter(differences.values())))
        heads = ["difference"]
        for name in names:
            heads += [name, "s.e. by path", "by scan", "over seeds"]
        lines += [
            "",
            "Paired by episode on val_unseen (seeds averaged first):",
            "",
            f"| {' | '.join(heads)} |",
            "|---|" + "--:|" * (len(heads) - 1),
            *(_paired_row(name, scores) for name, scores in differences.items()),
        ]
    kept = _kept(values)
    return "\n".join([*lines, "", kept] if kept else lines)


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    grounded = any("RGS" in row["val_unseen"] for row in rows)
    return ["SR", "SPL", "OSR", *(["RGS", "RGSPL"] if grounded else ["NE"]), "TL"]


def _title(name: str) -> str:
    return _TITLES.get(name, name)


def _paired_row(name: str, scores: Mapping[str, Any]) -> str:
    cells = [name]
    for values in scores.values():
        errors = (values["path_error"], values["scan_error"], values.get("seed_error"))
        cells += [f"{100 * values['mean']:+.2f}", *map(_points, errors)]
    return f"| {' | '.join(cells)} |"


def _kept(values: Mapping[str, Any]) -> str:
    """Say how much of the teacher's scores its student keeps (`compared`: student, teacher)."""
    by_name = {row["name"]: row for row in values["rows"]}
    student, teacher = (by_name.get(name) for name in values.get("compared", ("", "")))
    if student is None or teacher is None:
        return ""

    def share(name: str) -> str:
        mine, theirs = (row["val_unseen"][name]["mean"] for row in (student, teacher))
        return f"{100 * mine / theirs:.1f}% of its teacher's {name}" if theirs else ""

    scores = [name for name in ("SR", "SPL", "RGS", "RGSPL") if name in student["val_unseen"]]
    kept = ", ".join(filter(None, map(share, scores)))
    size = 100 * student["parameters"] / teacher["parameters"]
    return f"{student['label']}: {kept}, with {size:.2f}% of its parameters."


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _row(row: Mapping[str, Any], shown: Sequence[str]) -> str:
    scores = row["val_unseen"]

    def cell(name: str) -> str:
        if name not in scores:
            return "-"
        score = scores[name]
        if name not in _RATES:
            return f"{score['mean']:.2f}"
        error = score["seed_error"] if score["seed_error"] is not None else score["path_error"]
        return f"{100 * score['mean']:.2f} ± {100 * error:.2f}"

    counts = [f"{row[k]:,}" if k in row else "-" for k in _COUNTS]
    minutes = f"{row['train_seconds'] / 60:.0f} min" if "train_seconds" in row else "-"
    seen = f"{100 * row['val_seen']['SR']['mean']:.2f}" if "val_seen" in row else "-"
    cells = [row["label"], *counts, str(row["seeds"]), *map(cell, shown), seen, minutes]
    return f"| {' | '.join(cells)} |"
