"""ActDistill's tables as studies: graphs, losses, router and gates, budgets.

A row is a student, distilled once a seed and calibrated; it is scored at its budgets on the split,
the first row of a study beside its teacher and every fixed selection at the FLOPs it then used. The
four studies share one folder: rows with equal settings are trained once, and so is each probe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from sterna import __version__
from sterna.errors import InputError
from sterna.files import read_json, write_bytes, write_json, write_text
from sterna.recipes.actdistill import ACTDISTILL, ActRun, NavigatorAct, VlaAct
from sterna.recipes.routed import CALIBRATION, HEADS, STUDENT, run_distill, run_probe
from sterna.recipes.routed_table import ARMS, RHOS, run_calibrate, run_eval
from sterna.recipes.runs import RUN_FILE
from sterna.recipes.study import Step, plan_text, plan_values, work
from sterna.show.curves import curves
from sterna.show.gates import gates

MAIN = ("SR", "SPL", "SR_1m", "SPL_1m", "success", "first", "whole")
"""Scores that are shown, as far as a kind of policy has them."""
PAIRED = ("SR_1m", "SR", "success", "first")
"""The score that differences are of: the first of these that there is."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a study is asked for; `None` leaves the recipe's own value."""

    out: Path
    recipe: str = "toy-duet"
    """A recipe of `sterna actdistill`."""
    teacher: Path | None = None
    demos: Path | None = None
    """Demonstrations (recipes of Meta-World)."""
    walks: tuple[Path, ...] = ()
    """Folders of egocentric walks to learn from (navigators)."""
    held_out: Path | None = None
    """Walks that thresholds and selections are found on (navigators)."""
    episodes: Path | None = None
    """Episode file that is walked (navigators); None: held-out answers are scored alone."""
    execute: int | None = None
    """Actions of an answer that are carried out before looking again (navigators)."""
    seeds: tuple[int, ...] = (0, 1, 2)
    iterations: int | None = None
    """Optimiser steps of a student."""
    probe_iterations: int | None = None
    rho: float = 0.5
    """Budget of every row but those of the budget study."""
    split: str = "val_unseen"
    about: int | None = None
    """Episodes of an evaluation, about this many."""
    draws: int = 3
    """Random selections beside the first row."""
    beside: tuple[str, ...] = ()
    """Other policies of the teacher's kind beside the first row; {seed} in a folder is the seed."""
    change: Callable[[Any], Any] = field(default=lambda run: run)
    """Changes every run, after all else (its sizes, for tests)."""


Change = Callable[[ActRun], ActRun]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A student: how it differs from the recipe. Rows of one name are the same in all studies."""

    name: str
    label: str
    change: Change = field(default=lambda run: run)
    probe: str = "full"
    """Rows of one probe have equal graphs and kinds of predictions."""
    rhos: tuple[float, ...] = ()
    """Budgets to score at (none: the study's one)."""
    routed: bool = True
    """Off: always the same units, found once for the budget and tuned; nothing to calibrate."""


def _graph(**values: bool) -> Change:
    return lambda run: replace(run, graph=replace(run.graph, **values))


def _losses(**values: Any) -> Change:
    return lambda run: replace(run, losses=replace(run.losses, **values))


def _router(**values: bool) -> Change:
    return lambda run: replace(run, router=replace(run.router, **values))


def _route(**values: Any) -> Change:
    return lambda run: replace(run, route=replace(run.route, **values))


FULL = Row(name="full", label="both graphs, all terms, concat")
GRAPH = (
    FULL,
    Row(
        name="mean",
        label="mean of the tokens, layer graph",
        change=_graph(tokens=False),
        probe="mean",
    ),
    Row(name="flat", label="token graph alone", change=_graph(layers=False), probe="flat"),
    Row(
        name="bare",
        label="no graph at all",
        change=_graph(tokens=False, layers=False),
        probe="bare",
    ),
)
_TERMS = ("align", "structure", "truth", "teacher", "previous")
LOSSES = (
    FULL,
    *(Row(name=f"no-{t}", label=f"without {t}", change=_losses(**{t: False})) for t in _TERMS),
    Row(name="task", label="task and budget alone", change=_losses(alpha=0.0, beta=0.0)),
    *(
        Row(name=f"gamma-{g:g}", label=f"gamma {g:g}", change=_losses(gamma=g))
        for g in (0.0, 1.0, 4.0)
    ),
    Row(
        name="paper",
        label="released objective",
        change=_losses(variant="paper"),
        probe="paper",
    ),
)
ROUTER = (
    FULL,
    Row(name="no-recent", label="router without actions", change=_router(recent=False)),
    Row(name="no-vision", label="router without vision", change=_router(vision=False)),
    Row(name="no-text", label="router without words", change=_router(text=False)),
    Row(
        name="vision",
        label="router sees vision alone",
        change=_router(text=False, recent=False),
    ),
    Row(name="topk", label="gate topk", change=_route(gate="topk")),
    *(
        Row(
            name=f"tuned-{choice}",
            label=f"{choice}, tuned alike",
            change=_route(gate="fixed", select=choice),
            routed=False,
        )
        for choice in ("first-k", "cosine", "greedy")
    ),
)
BUDGET = (
    Row(name="many", label="one model", change=_route(lowest=0.25), rhos=RHOS),
    *(
        Row(name=f"rho-{r:g}", label=f"a model for {r:g}", change=_route(rho=r), rhos=(r,))
        for r in RHOS
    ),
)
STUDIES: dict[str, tuple[Row, ...]] = {
    "actdistill-graph": GRAPH,
    "actdistill-losses": LOSSES,
    "actdistill-router": ROUTER,
    "actdistill-budget": BUDGET,
}


def rows_of(name: str) -> tuple[Row, ...]:
    """Return the rows of a study."""
    if name not in STUDIES:
        raise InputError(f"study {name!r} is unknown; choose one of {', '.join(STUDIES)}")
    return STUDIES[name]


def config_of(row: Row, options: Options, seed: int) -> ActRun:
    """Return what a row trains with a seed."""
    if options.recipe not in ACTDISTILL:
        raise InputError(f"recipe {options.recipe!r} is none of {', '.join(ACTDISTILL)}")
    run: ActRun = ACTDISTILL[options.recipe]()
    run = replace(
        run,
        teacher=options.teacher or run.teacher,
        route=replace(run.route, rho=options.rho),
        probe=replace(run.probe, seed=seed),
        loop=replace(run.loop, seed=seed),
    )
    if options.iterations is not None:
        n = options.iterations
        run = replace(run, loop=replace(run.loop, iterations=n, eval_every=n))
    if options.probe_iterations is not None:
        n = options.probe_iterations
        run = replace(run, probe=replace(run.probe, iterations=n, eval_every=n))
    if isinstance(run, VlaAct):
        scores = options.out / "scores"
        run = replace(run, scores=scores, demos=options.demos or run.demos)
    if isinstance(run, NavigatorAct):
        run = _walking(run, options)
    changed: ActRun = options.change(row.change(run))
    return changed


def _walking(run: NavigatorAct, options: Options) -> NavigatorAct:
    walks = replace(run.walks, held_out=options.held_out or run.walks.held_out)
    if options.walks:
        walks = replace(walks, train=options.walks[0], more=options.walks[1:])
    if options.episodes is not None:
        run = replace(run, env="house", env_episodes=options.episodes)
    return replace(run, walks=walks, execute=options.execute or run.execute)


def steps(name: str, options: Options, root: Path | None, threads: int | None = None) -> list[Step]:
    """Return what a study does, in order: probes, students, thresholds, scores."""
    found: dict[str, Step] = {}
    for place, row in enumerate(rows_of(name)):
        for seed in options.seeds:
            for step in _row_steps(name, row, seed, options, root, threads, first=place == 0):
                found.setdefault(step.name, step)
    return list(found.values())


def _row_steps(
    name: str,
    row: Row,
    seed: int,
    options: Options,
    root: Path | None,
    threads: int | None,
    *,
    first: bool,
) -> list[Step]:
    out = options.out
    probe, folder = f"probe-{row.probe}-{seed}", f"{row.name}-{seed}"

    def config() -> ActRun:
        return config_of(row, options, seed)

    def scored() -> None:
        rhos = _budgets(row, options, out / folder) if row.routed else [options.rho]
        arms = ARMS if first else ARMS[:1]
        run_eval(
            out / folder,
            root,
            options.split,
            rhos,
            arms,
            about=options.about,
            draws=options.draws,
            beside=_beside(options, seed) if first else {},
            out=_scores(out, folder, first).parent,
        )

    thresholds = Step(
        name=f"{folder}/calibrate",
        needs=(folder,),
        leaves=(out / folder / CALIBRATION,),
        run=lambda: run_calibrate(out / folder, root),
    )
    return [
        Step(
            name=probe,
            needs=(),
            leaves=(out / probe / RUN_FILE, out / probe / HEADS),
            run=lambda: run_probe(config(), root, out / probe, threads=threads),
        ),
        Step(
            name=folder,
            needs=(probe,),
            leaves=(out / folder / RUN_FILE, out / folder / STUDENT),
            run=lambda: run_distill(config(), root, out / probe, out / folder, threads=threads),
        ),
        *([thresholds] if row.routed else []),
        Step(
            name=f"{folder}/{'compare' if first else 'eval'}",
            needs=(thresholds.name if row.routed else folder,),
            leaves=(_scores(out, folder, first, options.split),),
            run=scored,
        ),
    ]


def _beside(options: Options, seed: int) -> dict[str, Path]:
    """Return the other policies of a seed by name: the folder's without the seed."""
    return {
        Path(text.replace("{seed}", "")).name.strip("-_"): Path(text.replace("{seed}", str(seed)))
        for text in options.beside
    }


def _scores(out: Path, folder: str, first: bool, split: str = "") -> Path:
    return out / folder / ("compare" if first else "eval") / f"actdistill_{split}.json"


def _budgets(row: Row, options: Options, folder: Path) -> list[float]:
    """Return the budgets of a row that leave room for what always runs."""
    known = [entry["rho"] for entry in read_json(folder / CALIBRATION)["budgets"]]
    wanted = row.rhos or (options.rho,)
    found = [rho for rho in wanted if rho in known]
    # A model whose own budget is too small for what always runs still runs at the least there is.
    return found or [min(known)]


def run_study(
    name: str,
    options: Options,
    root: Path | None,
    *,
    threads: int | None = None,
    only: Sequence[str] = (),
) -> tuple[str, dict[str, Any]]:
    """Train what is not trained, score what is not scored, and render the table.

    Returns it as Markdown and as numbers, and writes both to ``out`` (NAME.md, NAME.json), with
    NAME.png: how often each layer ran; of the budget study NAME-curve.png too, score by cost. With
    `only` just some steps are taken, see `study.run_study`.
    """
    every = steps(name, options, root, threads)
    chosen = [s for s in every if not only or any(fnmatchcase(s.name, p) for p in only)]
    if not chosen:
        raise InputError(f"--only {' '.join(only)}: no such step; --plan lists them")
    work(chosen, every, options.out)
    if not all(step.done for step in every):
        return plan_text(every), plan_values(every)
    values = table(name, options)
    text = render(values)
    write_json(options.out / f"{name}.json", values)
    shown = f"{text}\n\n![Layers that ran]({name}.png)\n"
    if name == "actdistill-budget":
        title = f"Score by cost, {options.recipe}, {options.split}"
        score, arms = curve(values)
        write_bytes(options.out / f"{name}-curve.png", curves(arms, title, score))
        shown += f"\n![{title}]({name}-curve.png)\n"
    write_text(options.out / f"{name}.md", shown)
    students = [row for row in values["rows"] if row["arm"] == "student"]
    picture = [{"label": f"{r['label']}, {r['rho']:g}", "open": r["open"]} for r in students]
    title = f"Layers that run, {options.recipe}, {options.split}"
    write_bytes(options.out / f"{name}.png", gates(picture, values["units"], title))
    return text, values


def table(name: str, options: Options) -> dict[str, Any]:
    """Return the numbers of a finished study: a row a student and budget, then what it is beside.

    Means over seeds with their standard error where there are several (else that over episodes);
    differences from the study's first student at the same budget (for policies that have none, at
    its first), by episode, seeds averaged first.
    """
    lines: list[dict[str, Any]] = []
    units: list[str] = []
    for place, row in enumerate(rows_of(name)):
        files = [
            read_json(_scores(options.out, f"{row.name}-{seed}", place == 0, options.split))
            for seed in options.seeds
        ]
        units = files[0]["units"]
        for arm, rho in dict.fromkeys((r["arm"], r["rho"]) for r in files[0]["rows"]):
            found = [[r for r in f["rows"] if (r["arm"], r["rho"]) == (arm, rho)] for f in files]
            label = row.label if arm == "student" else arm
            lines.append({"row": row.name, "label": label, "arm": arm, "rho": rho, **_line(found)})
    students = [line for line in lines if line["arm"] == "student"]
    for line in lines:
        base = [x for x in students if x["rho"] == line["rho"]] or students
        line["minus_first"] = _difference(line, base[0])
    return {
        "study": name,
        "version": __version__,
        "recipe": options.recipe,
        "split": options.split,
        "seeds": list(options.seeds),
        "units": units,
        "rows": lines,
    }


def curve(values: Mapping[str, Any]) -> tuple[str, dict[str, list[dict[str, Any]]]]:
    """Return the score of a budget study's picture, and its arms' points (`show.curves`)."""
    name = next(n for n in PAIRED if n in values["rows"][0]["scores"])
    arms: dict[str, list[dict[str, Any]]] = {"one model": [], "a model a budget": [], "teacher": []}
    for row in values["rows"]:
        arm = row["arm"]
        if arm == "student":
            arm = "one model" if row["row"] == "many" else "a model a budget"
        point = {"share": row["share"], **{k: row["scores"][name][k] for k in ("mean", "error")}}
        arms.setdefault(arm, []).append(point)
    return name, arms


def _line(found: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Return means over seeds (and over random draws within each)."""
    names = [n for n in MAIN if n in found[0][0]["scores"]]
    scores = {}
    for name in names:
        each = [float(np.mean([r["scores"][name]["mean"] for r in rows])) for rows in found]
        error = found[0][0]["scores"][name].get("standard_error")
        if len(each) > 1:
            error = float(np.std(each, ddof=1) / len(each) ** 0.5)
        scores[name] = {"mean": float(np.mean(each)), "error": error, "per_seed": each}

    def mean(value: Callable[[Mapping[str, Any]], float]) -> float:
        return float(np.mean([np.mean([value(r) for r in rows]) for rows in found]))

    counted = [r["counted"].get("flops_per_decision") for rows in found for r in rows]
    paired = next((n for n in PAIRED if n in found[0][0]["per_episode"]), None)
    episodes = None
    if paired is not None:
        episodes = np.mean(
            [np.mean([r["per_episode"][paired] for r in rows], 0) for rows in found], 0
        ).tolist()
    return {
        "scores": scores,
        "share": mean(lambda r: r["share"]),
        "flops_per_decision": float(np.mean(counted)) if all(counted) else None,
        "milliseconds": mean(lambda r: r["milliseconds"].get("median", float("nan"))),
        "open": np.mean([np.mean([r["open"] for r in rows], 0) for rows in found], 0).tolist(),
        "paired": paired,
        "per_episode": episodes,
    }


def _difference(line: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, float] | None:
    if line["per_episode"] is None or base["per_episode"] is None:
        return None
    gap = np.subtract(line["per_episode"], base["per_episode"])
    error = float(gap.std(ddof=1) / len(gap) ** 0.5) if len(gap) > 1 else 0.0
    return {"mean": float(gap.mean()), "error": error}


def render(values: Mapping[str, Any]) -> str:
    """Render the numbers of a study as Markdown."""
    names = list(values["rows"][0]["scores"])
    heads = ["policy", "rho", "layers' FLOPs", "MFLOP a decision", "ms", *names, "minus first"]
    seeds = len(values["seeds"])
    lines = [
        f"Recipe {values['recipe']}, {values['split']}, {seeds} seed(s), sterna "
        f"{values['version']}. ± is the standard error over seeds where there are several, else "
        "over episodes; differences are paired by episode. Layers' FLOPs: share that ran; ms: a "
        "decision in torch at batch 1. Fixed selections keep units of the teacher and cost at "
        "least what the student above them did; they are not trained.",
        "",
        f"| {' | '.join(heads)} |",
        "|---|" + "--:|" * (len(heads) - 1),
        *(_row(row, names) for row in values["rows"]),
    ]
    return "\n".join(lines)


def _row(row: Mapping[str, Any], names: Sequence[str]) -> str:
    flops, gap = row["flops_per_decision"], row["minus_first"]
    cells = [
        row["label"],
        f"{row['rho']:g}",
        f"{100 * row['share']:.1f}%",
        "-" if flops is None else f"{flops / 1e6:.1f}",
        f"{row['milliseconds']:.2f}",
        *(_score(row["scores"][name]) for name in names),
        "-" if gap is None else f"{100 * gap['mean']:+.2f} ± {100 * gap['error']:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def _score(score: Mapping[str, Any]) -> str:
    shown = f"{100 * score['mean']:.2f}"
    return shown if score["error"] is None else f"{shown} ± {100 * score['error']:.2f}"
