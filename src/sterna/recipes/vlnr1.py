"""VLN-R1's tables as studies: reward, memory, actions of an answer, size of the group.

A row is a fine-tuned navigator (SFT), or one that practised after it (GRPO), walked in houses. All
four studies share the runs of one folder: the fine-tuned navigator they begin with is trained once
a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sterna.errors import InputError
from sterna.files import write_json, write_text
from sterna.metrics import read_result
from sterna.models.navigator.families import transformers
from sterna.recipes.practice import (
    OFFLINE,
    ROLLOUTS,
    OfflineRun,
    ReadyPractice,
    RolloutRun,
    prepare_offline,
    prepare_rollouts,
    run_practice,
)
from sterna.recipes.results import Found, difference, means_of
from sterna.recipes.sft import SFT, run_sft
from sterna.recipes.sftconfig import SftRun
from sterna.recipes.simulated import EvalConfig, run_eval_env
from sterna.recipes.study import Step, plan_text, plan_values, work

SPLIT = "val_unseen"
_RATES = ("SR", "OSR", "SPL", "nDTW", "SR_1m", "SPL_1m")
_COLUMNS = ("SR_1m", "SPL_1m", "SR", "OSR", "SPL", "NE", "TL", "nDTW")
_TITLES = {"NE": "NE (m)", "TL": "TL (m)", "SR_1m": "SR at 1 m", "SPL_1m": "SPL at 1 m"}
_START = "sft"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a study is asked for; `None` leaves a recipe's own value."""

    out: Path
    walks: Path
    """Walks that are learnt from (`sterna ego make`)."""
    more: tuple[Path, ...] = ()
    """More of them, learnt from beside those."""
    held_out: Path | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    sft: str = "navigator-s"
    """Recipe of fine-tuning."""
    grpo: str = "navigator-s"
    """Recipe of practice on recorded samples."""
    rollouts: str = "navigator-s-walks"
    """Recipe of practice in houses."""
    iterations: int | None = None
    practice: int | None = None
    """Iterations of GRPO."""
    about: int | None = None
    """Episodes of an evaluation, about this many."""
    episodes: Path | None = None
    """Episode file to walk, instead of the data folder's val_unseen."""
    eyes: Path | None = None
    """A tower that has learnt to see; None: every seed teaches its own."""
    execute: int | None = None
    """Actions of an answer that are carried out before looking again; None: all."""
    practised: Path | None = None
    """Episode file of practice in houses, instead of the data folder's train."""
    policy: Path | None = None
    """A navigator that all rows practise from, in place of one fine-tuned a seed."""
    change: Callable[[Any], Any] = field(default=lambda run: run)
    """Changes every run, after all else (its sizes, for tests)."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row: how it was fine-tuned, and how it practised (None: not at all)."""

    name: str
    label: str
    walks: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `SftRun.walks` that differ from the recipe's."""
    practice: Callable[[OfflineRun], OfflineRun] | None = None
    closed: bool = False
    """It practised by walks of its own."""

    @property
    def start(self) -> str:
        """Folder (without seed) of its fine-tuning: rows that begin alike share it."""
        return "-".join([_START, *(str(value) for value in self.walks.values())])

    @property
    def folder(self) -> str:
        """Folder (without seed) of the navigator that is walked."""
        return self.start if self.practice is None and not self.closed else f"grpo-{self.name}"


def _shape(shape: str) -> Callable[[OfflineRun], OfflineRun]:
    return lambda run: replace(run, reward=replace(run.reward, shape=shape))  # type: ignore[arg-type]


def _group(size: int) -> Callable[[OfflineRun], OfflineRun]:
    def change(run: OfflineRun) -> OfflineRun:
        objective = replace(run.grpo.objective, group=size)
        return replace(run, grpo=replace(run.grpo, objective=objective))

    return change


_SFT_ROW = Row(name=_START, label="SFT")
ROWS: dict[str, tuple[Row, ...]] = {
    "vlnr1-reward": (
        _SFT_ROW,
        *(
            Row(name=shape, label=f"GRPO, {label}", practice=_shape(shape))
            for shape, label in (
                ("hard", "hard"),
                ("uniform", "uniform"),
                ("linear", "linear"),
                ("decayed", "time-decayed"),
            )
        ),
        Row(name="walks", label="GRPO, closed loop", closed=True),
    ),
    "vlnr1-memory": tuple(
        Row(name=f"{kind}-{budget}", label=label, walks={"memory": kind, "budget": budget})
        for kind, budget, label in (
            ("average", 8, "SFT, average 8"),
            ("average", 16, "SFT, average 16"),
            ("decay", 16, "SFT, exponential decay 16"),
            ("long-short", 16, "SFT, long-short 16"),
        )
    ),
    "vlnr1-actions": tuple(
        Row(name=f"actions-{n}", label=f"SFT, {n} actions an answer", walks={"actions": n})
        for n in (1, 4, 6, 8)
    ),
    "vlnr1-group": (
        _SFT_ROW,
        *(
            Row(name=f"group-{g}", label=f"GRPO, groups of {g}", practice=_group(g))
            for g in (2, 4, 6)
        ),
        Row(name="decayed", label="GRPO, groups of 8", practice=_shape("decayed")),
    ),
}
"""Rows by study; the last row of memory, the 6 of actions and SFT are one and the same run."""
_PAPER = {"memory": "long-short", "budget": 16, "actions": 6}


def rows_of(name: str) -> tuple[Row, ...]:
    """Return the rows of a study; `InputError` for an unknown one."""
    if name not in ROWS:
        raise InputError(f"study {name!r} is unknown; choose one of {', '.join(ROWS)}")
    # What the recipe does anyway is no difference: such rows share the start of all others.
    return tuple(
        replace(row, walks={} if row.walks.items() <= _PAPER.items() else row.walks)
        for row in ROWS[name]
    )


def steps(name: str, options: Options, root: Path | None, threads: int | None) -> list[Step]:
    """Return what a study does, in order, every row's first seed before any second."""
    rows = rows_of(name)
    if options.policy is not None and len({row.start for row in rows}) > 1:
        raise InputError(
            f"study: the rows of {name} are fine-tuned each in its own way, so none can begin with "
            f"{options.policy}; leave --policy out"
        )
    found: dict[str, Step] = {}
    for seed in options.seeds:
        for row in rows:
            for step in _row_steps(row, seed, options, root, threads):
                found.setdefault(step.name, step)
    return list(found.values())


def folder_of(row: Row, seed: int, options: Options) -> str:
    """Return the folder of the navigator of a row that is walked."""
    stands = options.policy is not None and row.folder == row.start
    return _START if stands else f"{row.folder}-{seed}"


def _start_of(row: Row, seed: int, options: Options) -> Path:
    """Return the navigator that a row practises from, or is."""
    return options.policy or options.out / f"{row.start}-{seed}" / "last"


def _row_steps(
    row: Row, seed: int, options: Options, root: Path | None, threads: int | None
) -> list[Step]:
    start, folder = f"{row.start}-{seed}", folder_of(row, seed, options)
    practises = row.folder != row.start

    def tune() -> object:
        return run_sft(_sft_run(row, seed, options), options.out / start, threads=threads)

    def practise() -> object:
        ready = _practice(row, seed, options, root, options.out / folder)
        return run_practice(ready, options.out / folder, threads=threads)

    def walk() -> object:
        last = options.out / folder / "last"
        _evaluate(last if practises else _start_of(row, seed, options), folder, options, root)
        return None

    out = []
    if options.policy is None:
        leaves = (options.out / start / "run.json",)
        out.append(Step(name=start, needs=(), leaves=leaves, run=tune))
    if practises:
        leaves = (options.out / folder / "run.json",)
        needs = tuple(step.name for step in out)
        out.append(Step(name=folder, needs=needs, leaves=leaves, run=practise))
    leaves = (result_file(options, folder),)
    needs = tuple(step.name for step in out[-1:])
    return [*out, Step(name=f"{folder}/eval", needs=needs, leaves=leaves, run=walk)]


def result_file(options: Options, folder: str) -> Path:
    """Return where the scores of a run lie."""
    return options.out / folder / "eval" / f"result_{_split(options)}.json"


def _split(options: Options) -> str:
    return SPLIT if options.episodes is None else options.episodes.name.split(".json")[0]


def _lasting(run: Any, seed: int, iterations: int | None) -> Any:
    loop = replace(run.loop, seed=seed)
    if iterations is not None:
        loop = replace(loop, iterations=iterations, eval_every=max(1, iterations))
    return replace(run, loop=loop)


def _sft_run(row: Row, seed: int, options: Options) -> SftRun:
    run = _lasting(SFT[options.sft](), seed, options.iterations)
    walks = {"train": options.walks, "more": options.more, "held_out": options.held_out}
    start = replace(run.start, eyes=options.eyes)
    run = replace(run, walks=replace(run.walks, **walks, **row.walks), start=start)
    changed: SftRun = options.change(run)
    return changed


def _practice(row: Row, seed: int, options: Options, root: Path | None, out: Path) -> ReadyPractice:
    policy = _start_of(row, seed, options)
    if row.closed:
        rollouts: RolloutRun = _lasting(ROLLOUTS[options.rollouts](), seed, options.practice)
        env = replace(rollouts.env, episodes=options.practised)
        return prepare_rollouts(
            options.change(replace(rollouts, policy=policy, env=env)), root, out
        )
    run: OfflineRun = _lasting(OFFLINE[options.grpo](), seed, options.practice)
    samples = replace(
        run.samples, train=options.walks, more=options.more, held_out=options.held_out
    )
    run = replace(run, policy=policy, samples=samples)
    assert row.practice is not None
    return prepare_offline(options.change(row.practice(run)), out)


def _evaluate(agent: Path, folder: str, options: Options, root: Path | None) -> None:
    config = EvalConfig(
        env="house",
        agent=str(agent),
        split=SPLIT,
        episodes=options.episodes,
        about=options.about,
        execute=options.execute,
        slots=64,
    )
    run_eval_env(config, root, options.out / folder / "eval")


def run_study(
    name: str,
    options: Options,
    root: Path | None,
    *,
    threads: int | None = None,
    only: Sequence[str] = (),
) -> tuple[str, dict[str, Any]]:
    """Train what is not trained, walk what is not walked, and render the table.

    Returns it as Markdown and as numbers, and writes both to ``out`` (NAME.md, NAME.json). With
    `only` (patterns of step names) just those steps are taken; while others are missing the list of
    steps is returned.
    """
    transformers()
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
    write_text(options.out / f"{name}.md", text + "\n")
    return text, values


def table(name: str, options: Options) -> dict[str, Any]:
    """Return the numbers of a finished study."""
    rows = rows_of(name)
    found: dict[str, list[Found]] = {
        row.name: [
            {SPLIT: read_result(result_file(options, folder_of(row, seed, options)))}
            for seed in options.seeds
        ]
        for row in rows
    }
    # A navigator that stands was walked once.
    walked = {r.name: len({folder_of(r, seed, options) for seed in options.seeds}) for r in rows}
    first = found[rows[0].name][0][SPLIT]
    base = next(row.name for row in rows if row.folder == _START)
    return {
        "study": name,
        "protocol": first.protocol.to_dict(),
        "protocol_hash": first.protocol.hash,
        "version": first.version,
        "episodes": first.episodes,
        "rows": [
            {
                "name": row.name,
                "label": row.label,
                "seeds": walked[row.name],
                SPLIT: means_of([r[SPLIT] for r in found[row.name][: walked[row.name]]]),
            }
            for row in rows
        ],
        "paired_differences_val_unseen": {
            f"{row.name} - {base}": difference(found[row.name], found[base])
            for row in rows
            if row.name != base
        },
    }


def render(values: Mapping[str, Any]) -> str:
    """Render the numbers of a study as Markdown."""
    heads = ["navigator", "seeds", *(_TITLES.get(name, name) for name in _COLUMNS)]
    lines = [
        f"Protocol {values['protocol']['name']} (`{values['protocol_hash']}`), sterna "
        f"{values['version']}, {values['episodes']} episodes; last weights. ± is the standard "
        "error over seeds where there are several, else over episodes clustered by path.",
        "",
        f"| {' | '.join(heads)} |",
        "|---|" + "--:|" * (len(heads) - 1),
    ]
    for row in values["rows"]:
        cells = [row["label"], str(row["seeds"]), *(_cell(row[SPLIT], name) for name in _COLUMNS)]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Paired by episode (seeds averaged first):",
        "",
        "| difference | SR at 1 m | s.e. by path | by scan | over seeds |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, scores in values["paired_differences_val_unseen"].items():
        found = scores["SR_1m"]
        errors = (found["path_error"], found["scan_error"], found.get("seed_error"))
        told = " | ".join("-" if e is None else f"{100 * e:.2f}" for e in errors)
        lines.append(f"| {name} | {100 * found['mean']:+.2f} | {told} |")
    return "\n".join(lines)


def _cell(scores: Mapping[str, Any], name: str) -> str:
    score = scores[name]
    if name not in _RATES:
        return f"{score['mean']:.2f}"
    error = score["seed_error"] if score["seed_error"] is not None else score["path_error"]
    shown = f"{100 * score['mean']:.2f}"
    return shown if error is None else f"{shown} ± {100 * error:.2f}"
