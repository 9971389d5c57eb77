"""`sterna quickstart` and `study`: whole stories, whole tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from sterna.commands.common import find_data, parse, say
from sterna.errors import InputError
from sterna.recipes.options import Common


@dataclass(frozen=True, kw_only=True)
class Quickstart:
    """The whole story: make houses, train a teacher, distil its student, score both, write a page.

    Nothing is needed but this package. What is finished is not repeated, so a killed run goes on by
    the same command. Beside the page, report.html, stands the table, results.txt and results.json.
    """

    data: str = "houses"
    """What to learn from: houses (made from seeds), r2r (real R2R with text observations, found by
    STERNA_DATA or ./data), or a folder that holds it."""
    out: Path = Path("runs/quickstart")
    """Folder of the houses, the runs and the page."""
    minutes: float = 10.0
    """About how long it may take; scales houses and trainings. A machine too slow for the recipes'
    steps takes fewer."""
    seed: int = 0
    """Seed of weights, order, actions and dropout."""
    workers: int | None = None
    """Trainings side by side, one thread each (default: one a core)."""
    json: bool = False
    """Print one JSON object on standard output."""


def quickstart(argv: Sequence[str]) -> int:
    """Run the whole story."""
    from sterna.recipes.quickstart import quickstart

    args: Quickstart = parse(Quickstart, argv, "quickstart")
    if args.data == "houses":
        data = None
    else:
        data = find_data(None if args.data == "r2r" else Path(args.data))
    text, values = quickstart(
        data, args.out, minutes=args.minutes, seed=args.seed, workers=args.workers
    )
    say(text, values, args.json)
    return 0


@dataclass(frozen=True, kw_only=True)
class Study(Common):
    """A whole table over seeds, with controls; trains and evaluates what is not there yet.

    Processes that are given the same command share the work: each takes a step nobody is at.
    """

    name: tyro.conf.Positional[
        Literal[
            "minivln-stages",
            "minivln-losses",
            "minivln-kdweight",
            "minivln-beyond",
            "r2r-text",
            "toy",
            "vlnr1-reward",
            "vlnr1-memory",
            "vlnr1-actions",
            "vlnr1-group",
            "actdistill-graph",
            "actdistill-losses",
            "actdistill-router",
            "actdistill-budget",
        ]
    ]
    """minivln-stages, -losses, -kdweight: Tables III, IV, V of MiniVLN with controls; -beyond:
    switches that the paper does not have (all share the runs of one --out); r2r-text: a teacher and
    its student without pre-training; toy: the same on generated houses; vlnr1-...: VLN-R1's
    ablations, a navigator fine-tuned and practised on --walks, walked in houses; actdistill-...:
    graphs, losses, router and gates, budgets of students that --recipe distils from --teacher."""
    scale: Literal["text", "text-reverie", "houses", "toy", "toy-reverie"] = "text"
    """Recipes of the minivln tables: text observations of R2R or REVERIE, houses (`sterna data make
    houses`), or toy houses (written unless --data is given)."""
    out: Path | None = None
    """Folder of all runs (default runs/minivln-SCALE or runs/NAME); the same command continues a
    killed study."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the students."""
    views: str | None = None
    """View store, for example what `sterna data embed` made (default: the recipe's)."""
    iterations: int | None = None
    """Optimiser steps of every run (default: the recipes')."""
    precision: Literal["fp32", "bf16"] | None = None
    """Arithmetic of every training, frozen teachers included (default: the recipes'; bf16 is slow
    on processors that lack it); scores are always in float32."""
    teacher: Path | None = None
    """Saved policy in place of training a teacher."""
    pretrained: Path | None = None
    """Its pre-training (saved policy with text branches), in place of training one."""
    walks: Path | None = None
    """Egocentric walks that navigators learn from (vlnr1 studies, actdistill studies of
    navigator-s; `sterna ego make`)."""
    more: tuple[Path, ...] = ()
    """More such walks, learnt from beside them (vlnr1 studies, actdistill studies of
    navigator-s)."""
    held_out: Path | None = None
    """Walks in unseen houses, to follow fine-tuning by (vlnr1 studies), to find thresholds and
    selections on (actdistill studies of navigator-s)."""
    eyes: Path | None = None
    """A tower that has learnt to see (vlnr1 studies; `sterna ego sight`); default: every seed
    teaches its own."""
    episodes: Path | None = None
    """Episode file that navigators are scored on (vlnr1 studies, actdistill studies of navigator-s;
    `sterna ego episodes`); default: the data folder's val_unseen (vlnr1), held-out answers alone
    (actdistill)."""
    practised: Path | None = None
    """Episode file of practice in closed loop (vlnr1 studies); default: the data folder's train."""
    policy: Path | None = None
    """A navigator that all rows practise from, in place of fine-tuning one a seed (vlnr1-reward,
    vlnr1-group); --walks are then what it practises on."""
    execute: int | None = None
    """Actions of an answer that are carried out before looking again (studies of navigators)."""
    practice: int | None = None
    """Iterations of GRPO (vlnr1 studies; default: the recipes')."""
    limit: int | None = None
    """Walk every k-th episode, about this many (vlnr1 and actdistill studies)."""
    recipe: str = "toy-duet"
    """Recipe of `sterna actdistill` (actdistill studies)."""
    demos: Path | None = None
    """Demonstrations (actdistill studies of vla-s; `sterna metaworld demos`)."""
    probe_iterations: int | None = None
    """Optimiser steps of a probe (actdistill studies; default: the recipe's)."""
    rho: float = 0.5
    """Budget of the rows (actdistill studies, but for -budget)."""
    draws: int = 3
    """Random selections beside the first row (actdistill studies)."""
    beside: tuple[str, ...] = ()
    """Other policies to score beside the first row, such as 'runs/shallow-{seed}' (actdistill
    studies)."""
    split: str | None = None
    """Split to score (actdistill studies; default val_unseen, for vla-s goals)."""
    only: tuple[str, ...] = ()
    """Take only the steps whose names match one of these patterns, for example 'teacher*'."""
    plan: bool = False
    """List the steps, what each needs and which are done; run nothing."""


def study(argv: Sequence[str]) -> int:
    """Run a study."""
    from sterna.recipes.options import use_threads
    from sterna.recipes.studies import make_study
    from sterna.recipes.study import Options, plan_text, plan_values, run_study, steps
    from sterna.recipes.toyreverie import toy_data

    args: Study = parse(Study, argv, "study")
    use_threads(args.threads)
    if args.name.startswith("vlnr1-"):
        return _navigators(args)
    if args.name.startswith("actdistill-"):
        return _routed(args)
    family = f"minivln-{args.scale}" if args.name.startswith("minivln-") else args.name
    out = args.out or Path("runs") / family
    toy = args.name == "toy" or (family != args.name and args.scale.startswith("toy"))
    root = (args.data or toy_data(out)) if toy else find_data(args.data)
    given = {"teacher": args.teacher, "teacher-pretrained": args.pretrained}
    options = Options(
        out=out,
        seeds=args.seeds,
        views=args.views,
        iterations=args.iterations,
        precision=args.precision,
        scale=args.scale,
        given={name: path for name, path in given.items() if path is not None},
    )
    study = make_study(args.name, options)
    if args.plan:
        every = steps(study, root, out, threads=args.threads)
        text, values = plan_text(every), plan_values(every)
    else:
        text, values = run_study(study, root, out, threads=args.threads, only=args.only)
    say(text, values, args.json)
    return 0


def _navigators(args: Study) -> int:
    from sterna.recipes.study import plan_text, plan_values
    from sterna.recipes.vlnr1 import Options, run_study, steps

    if args.walks is None:
        raise InputError("study: no walks; give --walks FOLDER (`sterna ego make` writes one)")
    options = Options(
        out=args.out or Path("runs/vlnr1"),
        walks=args.walks,
        more=args.more,
        held_out=args.held_out,
        seeds=args.seeds,
        iterations=args.iterations,
        practice=args.practice,
        about=args.limit,
        eyes=args.eyes,
        episodes=args.episodes,
        practised=args.practised,
        policy=args.policy,
        execute=args.execute,
    )
    drawn = args.episodes is not None and args.practised is not None
    root = None if drawn else find_data(args.data)
    if args.plan:
        every = steps(args.name, options, root, args.threads)
        text, values = plan_text(every), plan_values(every)
    else:
        text, values = run_study(args.name, options, root, threads=args.threads, only=args.only)
    say(text, values, args.json)
    return 0


def _routed(args: Study) -> int:
    from sterna.recipes.actdistill import ACTDISTILL, DuetAct
    from sterna.recipes.actstudy import Options, run_study, steps
    from sterna.recipes.study import plan_text, plan_values

    if args.recipe not in ACTDISTILL:
        raise InputError(f"--recipe {args.recipe}: choose one of {', '.join(ACTDISTILL)}")
    graph = isinstance(ACTDISTILL[args.recipe](), DuetAct)
    goals = "demos" in vars(ACTDISTILL[args.recipe]())
    options = Options(
        out=args.out or Path("runs") / f"actdistill-{args.recipe}",
        recipe=args.recipe,
        teacher=args.teacher,
        demos=args.demos,
        walks=(*([] if args.walks is None else [args.walks]), *args.more),
        held_out=args.held_out,
        episodes=args.episodes,
        execute=args.execute,
        seeds=args.seeds,
        iterations=args.iterations,
        probe_iterations=args.probe_iterations,
        rho=args.rho,
        split=args.split or ("goals" if goals else "val_unseen"),
        about=args.limit,
        draws=args.draws,
        beside=args.beside,
    )
    root = find_data(args.data) if graph or args.data else None
    if args.plan:
        every = steps(args.name, options, root, args.threads)
        text, values = plan_text(every), plan_values(every)
    else:
        text, values = run_study(args.name, options, root, threads=args.threads, only=args.only)
    say(text, values, args.json)
    return 0
