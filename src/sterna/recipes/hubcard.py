"""The card of a policy that is put on the Hub: how it was scored, chosen, trained, and how fast.

Everything in it is read from files: the saved policy's own card, the run's configuration, result
files of `sterna eval`, and a table of `sterna bench latency`. Nothing is typed in but terms.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sterna import __version__
from sterna.data.sources import SOURCES
from sterna.errors import InputError
from sterna.files import read_json
from sterna.metrics import Result
from sterna.metrics.result import read_result
from sterna.models.folder import CARD, CONFIG
from sterna.recipes.runs import RUN_FILE

_SHOWN = ("SR", "SPL", "OSR", "NE", "TL", "nDTW", "RGS", "RGSPL")
_RATES = {"SR", "SPL", "OSR", "nDTW", "RGS", "RGSPL"}
_RECIPE = "recipe.json"
_TIMED = ("model", "engine", "threads", "episode ms", "p95", "step ms", "peak MB", "file MB")


@dataclass(frozen=True, kw_only=True)
class Found:
    """What lies around a policy: its run's configuration and numbers."""

    run: Mapping[str, Any]
    progress: Mapping[str, Any]


def find_run(folder: Path) -> Found:
    """Read recipe.json and run.json in a policy folder or the run above it (empty if none)."""
    for place in (folder, folder.parent):
        recipe, progress = place / _RECIPE, place / RUN_FILE
        if recipe.is_file() or progress.is_file():
            values = read_json(progress) if progress.is_file() else {}
            run = read_json(recipe) if recipe.is_file() else values.get("config") or {}
            return Found(run=run, progress=values)
    return Found(run={}, progress={})


def public(value: Any) -> Any:
    """Return a setting without what is this machine's own: of an absolute path its name alone."""
    if isinstance(value, Mapping):
        return {key: public(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [public(item) for item in value]
    whole = isinstance(value, str) and (value.startswith("~") or Path(value).is_absolute())
    return Path(value).name if whole else value


def run_files(folder: Path) -> dict[str, bytes]:
    """Return the run's configuration as the file that `sterna eval` reads it from, if there is one.

    So that a policy fetched from the Hub is walked with the observations it was trained on.
    """
    run = find_run(folder).run
    return {_RECIPE: json.dumps(public(run), indent=1).encode()} if run else {}


def find_results(folder: Path) -> list[Path]:
    """Return the result files beside a policy: in its own ``eval`` folder, or in its run's."""
    places = [folder / "eval", folder.parent / "eval"]
    return sorted(file for place in places for file in place.glob("result_*.json"))


def build_card(
    folder: Path,
    name: str,
    *,
    results: Sequence[Path] = (),
    latency: Path | None = None,
    terms: str = "",
    licence: str | None = None,
) -> str:
    """Return the card of a policy folder to be pushed as `name`.

    `results` are files of `sterna eval`, of one policy or of its seeds; results of one split,
    protocol and control are one row, with the standard error over seeds where there are several.
    `latency` is the JSON of `sterna bench latency`; `terms` are added to those of the data.
    Raises `InputError` for a file that is none of these.
    """
    found, scored = find_run(folder), [read_result(path) for path in results]
    text = [
        _own_text(folder, name),
        _scores(scored),
        _protocols(scored),
        _training(found, scored),
        _terms(found, scored, terms),
        _latency(latency),
        f"Written by sterna {__version__}.",
    ]
    front = _front(folder, name, scored, licence)
    return "\n\n".join([front, *(part for part in text if part)]) + "\n"


def _front(folder: Path, name: str, results: Sequence[Result], licence: str | None) -> str:
    """Return the front matter: values are JSON, which YAML reads."""
    kind = "policy"
    if (folder / CONFIG).is_file():
        kind = str(read_json(folder / CONFIG).get("model") or "policy")
    values: dict[str, Any] = {
        "library_name": "sterna",
        "pipeline_tag": "robotics",
        "tags": ["vision-and-language-navigation", kind],
    }
    if licence is not None:
        values["license"] = licence
    index = _model_index(name, results)
    if index:
        values["model-index"] = index
    return "\n".join(["---", *(f"{k}: {json.dumps(v)}" for k, v in values.items()), "---"])


def _model_index(name: str, results: Sequence[Result]) -> list[dict[str, Any]]:
    entries = []
    for (split, protocol, control), group in _grouped(results).items():
        if control:
            continue
        metrics = [
            {"type": key, "value": round(_mean(group, key), 4), "name": f"{key} ({protocol})"}
            for key in _SHOWN
            if key in group[0].scores
        ]
        entries.append(
            {
                "task": {"type": "robotics", "name": "vision-and-language navigation"},
                "dataset": {"name": f"{group[0].protocol.name} {split}", "type": "other"},
                "metrics": metrics,
            }
        )
    return [{"name": name.partition("/")[2], "results": entries}] if entries else []


def _own_text(folder: Path, name: str) -> str:
    """Return the saved policy's card without its front matter, opened from the Hub."""
    file = folder / CARD
    if not file.is_file():
        return f"# {name}"
    text = file.read_text("utf-8")
    if text.startswith("---\n"):
        text = text.partition("\n---\n")[2]
    return text.strip().replace("this/folder", name)


def _grouped(results: Iterable[Result]) -> dict[tuple[str, str, str], list[Result]]:
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        key = (
            result.split or "?",
            f"{result.protocol.name} {result.protocol.hash}",
            str(result.config.get("control") or ""),
        )
        groups.setdefault(key, []).append(result)
    return groups


def _mean(group: Sequence[Result], name: str) -> float:
    return float(np.mean([result.scores[name].mean for result in group]))


def _scores(results: Sequence[Result]) -> str:
    if not results:
        return (
            "## Scores\n\nNone were given; `sterna eval` scores a policy, `sterna push` adds them."
        )
    names = [n for n in _SHOWN if all(n in result.scores for result in results)]
    rows = [["split", "protocol", "control", "seeds", "episodes", *names]]
    for (split, protocol, control), group in _grouped(results).items():
        episodes = f"{group[0].episodes:,} of {group[0].expected:,}"
        seeds = ", ".join("-" if r.seed is None else str(r.seed) for r in group)
        cells = [_cell(group, name) for name in names]
        rows.append([split, protocol, control or "-", seeds, episodes, *cells])
    notes = (
        "Rates in percent, NE and TL in metres. With several seeds: mean and standard error over "
        "seeds; with one: its standard error over episodes, clustered by building."
    )
    return "\n".join(["## Scores", "", *_table(rows), "", notes])


def _cell(group: Sequence[Result], name: str) -> str:
    scale = 100.0 if name in _RATES else 1.0
    digits = 1 if name in _RATES else 2
    values = np.array([result.scores[name].mean for result in group]) * scale
    if len(group) > 1:
        error: float | None = float(values.std(ddof=1) / np.sqrt(len(values)))
    else:
        one = group[0].scores[name]
        found = one.scan_error if one.scan_error is not None else one.standard_error
        error = None if found is None else found * scale
    shown = f"{values.mean():.{digits}f}"
    return shown if error is None else f"{shown} ± {error:.{digits}f}"


def _protocols(results: Sequence[Result]) -> str:
    different = {result.protocol.hash: result.protocol for result in results}
    if not different:
        return ""
    lines = ["## Protocol"]
    for protocol in different.values():
        values = {k: v for k, v in protocol.to_dict().items() if v is not None and k != "name"}
        lines += ["", f"{protocol.name} (`{protocol.hash}`):", ""]
        lines += [f"- {key.replace('_', ' ')}: {value}" for key, value in values.items()]
    return "\n".join(lines)


def _training(found: Found, results: Sequence[Result]) -> str:
    run, loop = found.run, found.run.get("loop") or {}
    seeds = sorted({r.seed for r in results if r.seed is not None} | _one(loop.get("seed")))
    splits = sorted(
        {r.selection_split for r in results if r.selection_split}
        | _one((run.get("select") or {}).get("split"))
    )
    data = run.get("data") or {}
    facts = {
        "seeds": ", ".join(map(str, seeds)) or "not recorded",
        "weights selected on": ", ".join(splits) or "not recorded (a converted checkpoint?)",
        "selected by": loop.get("select_by"),
        "task": data.get("task"),
        "views": data.get("views"),
        "objects": data.get("objects") if data.get("task") == "reverie" else None,
        "iterations": loop.get("iterations"),
        "batch size": loop.get("batch_size"),
        "learning rate": (run.get("optimizer") or {}).get("learning_rate"),
        "teacher": run.get("teacher"),
        "machine": found.progress.get("machine"),
    }
    rows = [
        f"- {name}: {Path(v).name if name == 'teacher' else v}" for name, v in facts.items() if v
    ]
    return "\n".join(["## Training", "", *rows])


def _one(value: Any) -> set[Any]:
    return set() if value is None else {value}


_VIEWS = {"text": "textobs", "imagenet": "features-duet", "clip": "features-scalevln"}
"""Published view features, by what the names of their files say."""


def _terms(found: Found, results: Sequence[Result], more: str) -> str:
    """Return the terms of the data sets that a policy's run and scores name."""
    task = str((found.run.get("data") or {}).get("task") or "")
    families = {task} | {result.protocol.name.split("_")[0].lower() for result in results}
    views = Path(str((found.run.get("data") or {}).get("views") or "")).name.lower()
    names = [name for name in SOURCES if name in families or name.replace("-", "") in families]
    if names:
        names = ["connectivity", *names, *(s for word, s in _VIEWS.items() if word in views)]
    lines = [f"- {SOURCES[name].name}: {SOURCES[name].terms}" for name in dict.fromkeys(names)]
    if more.strip():
        lines.append(f"- {more.strip()}")
    if not lines:
        lines = ["- not recorded; ask whoever trained it (houses made from seeds have no terms)"]
    head = "What the weights were trained and scored on; a policy made from it is under its terms:"
    return "\n".join(["## Data terms", "", head, "", *lines])


def _latency(path: Path | None) -> str:
    if path is None:
        return "## Latency\n\nNot measured: `sterna bench latency --json` does."
    table = read_json(path)
    try:
        machine = table["machine"]
        rows = [
            ["model", "engine", "threads", "episode ms", "p95", "step ms", "peak MB", "file MB"]
        ]
        for row in table["rows"]:
            rows.append(
                [
                    str(row["model"]),
                    str(row["engine"]),
                    str(row["threads"]),
                    f"{row['episode_ms']['median']:.1f}",
                    f"{row['episode_ms']['p95']:.1f}",
                    f"{row['step_ms']['median']:.2f}",
                    f"{row['peak_MB']:.0f}",
                    f"{row['file_MB']:.1f}",
                ]
            )
        where = f"{machine['cpu']}, {machine['cores']} cores" + (
            "; the machine was busy, so times are too long" if machine["busy"] else ""
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: expected the JSON of `sterna bench latency --json` ({error!r} is missing)"
        ) from error
    return "\n".join(["## Latency", "", f"Batch 1, {where}.", "", *_table(rows)])


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return ["| " + " | ".join(line) + " |" for line in lines]
