"""Studies: whole tables over seeds, with their controls, resumed where they were killed.

A study trains a teacher, its blind control, a student alone and the same student distilled; every
row is scored once on val_unseen with weights selected on val_seen. `r2r-text` does so on R2R with
text observations, `toy` on generated houses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sterna.files import read_json, write_json, write_text
from sterna.metrics import Result, paired_difference, read_result, score_predictions, write_result
from sterna.metrics.result import estimates
from sterna.recipes.baselines import RandomPolicy
from sterna.recipes.config import DistillRun, TrainConfig
from sterna.recipes.evaluation import run_eval
from sterna.recipes.r2r import text_student, text_teacher, toy_student, toy_teacher
from sterna.recipes.runs import protocol_of, train
from sterna.recipes.world import World
from sterna.train.evaluate import predict

SPLITS = ("val_unseen", "val_seen")
STUDIES = {"r2r-text": (text_teacher, text_student), "toy": (toy_teacher, toy_student)}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One row of a study: its label, the folders of its seeds, how they are evaluated."""

    name: str
    label: str
    folders: tuple[str, ...]
    evaluation: str = "eval"
    permute: bool = False
    blind: bool = False


def arms(seeds: Sequence[int]) -> list[Arm]:
    """Return the rows of a study."""

    def student(name: str) -> tuple[str, ...]:
        return tuple(f"{name}-{seed}" for seed in seeds)

    return [
        Arm(name="random", label="random agent", folders=("random",)),
        Arm(name="teacher", label="teacher", folders=("teacher",)),
        Arm(name="blind", label="teacher, trained blind", folders=("teacher-blind",)),
        Arm(
            name="permuted",
            label="teacher, instructions permuted",
            folders=("teacher",),
            evaluation="eval-permuted",
            permute=True,
        ),
        Arm(
            name="unseeing",
            label="teacher, views zeroed at test time",
            folders=("teacher",),
            evaluation="eval-blind",
            blind=True,
        ),
        Arm(name="alone", label="student, alone", folders=student("student-alone")),
        Arm(name="distilled", label="student, distilled", folders=student("student-distilled")),
    ]


def runs(
    out: Path,
    seeds: Sequence[int],
    teacher: TrainConfig,
    student: DistillRun,
    *,
    views: str | None = None,
    iterations: int | None = None,
) -> dict[str, TrainConfig]:
    """Return the trainings of a study by folder name, in an order that meets their needs."""

    def sized(config: TrainConfig, seed: int) -> TrainConfig:
        loop = replace(config.loop, seed=seed)
        if iterations is not None:
            share = config.loop.warm_start / config.loop.iterations
            loop = replace(loop, iterations=iterations, warm_start=round(share * iterations))
        return replace(
            config, loop=loop, data=replace(config.data, views=views or config.data.views)
        )

    first = sized(teacher, 0)
    plan = {"teacher": first, "teacher-blind": replace(first, data=replace(first.data, blind=True))}
    alone = replace(student, distill=replace(student.distill, weight=0.0))
    taught = replace(student, teacher=out / "teacher" / "best")
    for seed in seeds:
        plan[f"student-alone-{seed}"] = sized(alone, seed)
        plan[f"student-distilled-{seed}"] = sized(taught, seed)
    return plan


def run_study(
    name: str,
    root: Path,
    out: Path,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    views: str | None = None,
    iterations: int | None = None,
    threads: int | None = None,
) -> tuple[str, dict[str, Any]]:
    """Train what is not trained, evaluate what is not evaluated, and render the table.

    Returns the Markdown table and its numbers; both are written to ``out`` (results.md,
    results.json). `name` is one of `STUDIES`.
    """
    teacher, student = STUDIES[name]
    plan = runs(out, seeds, teacher(), student(), views=views, iterations=iterations)
    for folder, config in plan.items():
        if not (out / folder / "run.json").is_file():
            train(config, root, out / folder, threads=threads)
    world = World(root, plan["teacher"].data)
    table = arms(seeds)
    found = {arm.name: [_results(arm, f, out, root, world) for f in arm.folders] for arm in table}
    values = {"study": name, **summarise(table, found, out)}
    text = render(values)
    write_json(out / "results.json", values)
    write_text(out / "results.md", text + "\n")
    return text, values


def _results(arm: Arm, folder: str, out: Path, root: Path, world: World) -> dict[str, Result]:
    results = {}
    for split in SPLITS:
        file = out / folder / arm.evaluation / f"result_{split}.json"
        if file.is_file():
            results[split] = read_result(file)
        elif arm.name == "random":
            results[split] = _random(world, split, file)
        else:
            results[split] = run_eval(
                out / folder,
                root,
                split,
                permute=arm.permute,
                blind=arm.blind,
                out=file.parent,
            )
    return results


def _random(world: World, split: str, file: Path) -> Result:
    episodes = world.episodes(split)
    predictions = predict(RandomPolicy(), world.panoramas(episodes), episodes)
    connectivity = world.layout.connectivity
    result = score_predictions(predictions, episodes, connectivity, protocol_of(world.config))
    result = replace(result, seed=0)
    write_result(file, result)
    return result


def summarise(
    table: Sequence[Arm], found: Mapping[str, list[dict[str, Result]]], out: Path
) -> dict[str, Any]:
    """Return the numbers of the table: means over seeds with both kinds of standard error."""
    rows = []
    for arm in table:
        row: dict[str, Any] = {"name": arm.name, "label": arm.label, "seeds": len(arm.folders)}
        for split in SPLITS:
            row[split] = _means([results[split] for results in found[arm.name]])
        row |= _costs(arm, found[arm.name][0]["val_unseen"], out)
        rows.append(row)
    first = found["teacher"][0]["val_unseen"]
    differences = {
        f"{a} - {b}": _difference(found[a], found[b])
        for a, b in (("teacher", "blind"), ("distilled", "alone"), ("distilled", "teacher"))
    }
    return {
        "protocol": first.protocol.to_dict(),
        "protocol_hash": first.protocol.hash,
        "version": first.version,
        "selection_split": first.selection_split,
        "rows": rows,
        "paired_differences_val_unseen": differences,
    }


def _means(results: Sequence[Result]) -> dict[str, dict[str, float | None]]:
    out = {}
    for name in ("SR", "SPL", "OSR", "NE", "TL", "nDTW", "SDTW", "CLS"):
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


def _difference(a: list[dict[str, Result]], b: list[dict[str, Result]]) -> dict[str, Any]:
    first, second = ([r["val_unseen"] for r in results] for results in (a, b))
    mean = paired_difference(
        replace(first[0], per_episode=_pooled(first)),
        replace(second[0], per_episode=_pooled(second)),
    )
    out: dict[str, Any] = {}
    for name in ("SR", "SPL"):
        values: dict[str, Any] = dict(vars(mean[name]))
        if len(first) == len(second) > 1:
            pairs = zip(first, second, strict=True)
            each = np.array([x.scores[name].mean - y.scores[name].mean for x, y in pairs])
            values["per_seed"] = each.tolist()
            values["seed_error"] = float(each.std(ddof=1) / len(each) ** 0.5)
        out[name] = values
    return out


def _costs(arm: Arm, result: Result, out: Path) -> dict[str, Any]:
    costs: dict[str, Any] = {
        key: int(result.cost[key])
        for key in ("parameters", "parameters_without_word_table")
        if key in result.cost
    }
    times = []
    for folder in arm.folders:
        file = out / folder / "run.json"
        if file.is_file() and arm.evaluation == "eval":
            run = read_json(file)
            times.append(run["seconds"])
            costs |= {key: run[key] for key in ("iteration", "threads", "machine")}
    if times:
        costs["train_seconds"] = float(np.mean(times))
    return costs


def render(values: Mapping[str, Any]) -> str:
    """Render the numbers of a study as a Markdown table with its reading."""
    lines = [
        f"Protocol {values['protocol']['name']} (`{values['protocol_hash']}`), sterna "
        f"{values['version']}; weights selected on {values['selection_split']}, scored once on "
        "val_unseen. ± is the standard error over seeds where there are several, else over "
        "episodes clustered by path.",
        "",
        "| agent | parameters | without word table | seeds | SR | SPL | OSR | NE (m) | TL (m) | "
        "val_seen SR | training |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        *(_row(row) for row in values["rows"]),
        "",
        "Paired by episode on val_unseen (seeds averaged first):",
        "",
        "| difference | SR | s.e. by path | by scan | over seeds | SPL | s.e. by path |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, scores in values["paired_differences_val_unseen"].items():
        sr, spl = scores["SR"], scores["SPL"]
        cells = [
            f"{100 * sr['mean']:+.2f}",
            _points(sr["path_error"]),
            _points(sr["scan_error"]),
            _points(sr.get("seed_error")),
            f"{100 * spl['mean']:+.2f}",
            _points(spl["path_error"]),
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    by_name = {row["name"]: row for row in values["rows"]}
    kept, whole = (by_name[name]["val_unseen"]["SR"]["mean"] for name in ("distilled", "teacher"))
    size, full = (by_name[name]["parameters"] for name in ("distilled", "teacher"))
    lines += [
        "",
        f"The distilled student keeps {100 * kept / whole:.1f}% of the teacher's SR with "
        f"{100 * size / full:.2f}% of its parameters.",
    ]
    return "\n".join(lines)


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _row(row: Mapping[str, Any]) -> str:
    scores = row["val_unseen"]

    def rate(name: str) -> str:
        score = scores[name]
        error = score["seed_error"] if score["seed_error"] is not None else score["path_error"]
        return f"{100 * score['mean']:.2f} ± {100 * error:.2f}"

    counts = [f"{row[k]:,}" if k in row else "-" for k in _COUNTS]
    minutes = f"{row['train_seconds'] / 60:.0f} min" if "train_seconds" in row else "-"
    cells = [
        row["label"],
        *counts,
        str(row["seeds"]),
        rate("SR"),
        rate("SPL"),
        f"{100 * scores['OSR']['mean']:.2f}",
        f"{scores['NE']['mean']:.2f}",
        f"{scores['TL']['mean']:.2f}",
        f"{100 * row['val_seen']['SR']['mean']:.2f}",
        minutes,
    ]
    return "| " + " | ".join(cells) + " |"


_COUNTS = ("parameters", "parameters_without_word_table")
