"""`sterna grpo`: improve a trained navigator by rewards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Union

from sterna.commands.common import find_data, parse, say
from sterna.commands.training import recipe_first
from sterna.errors import InputError


def grpo(argv: Sequence[str]) -> int:
    """Improve a navigator; the recipe says which kind, and what is rewarded."""
    from sterna.recipes import arguments as a
    from sterna.recipes.options import use_threads
    from sterna.recipes.practice import OFFLINE, ROLLOUTS
    from sterna.recipes.tables import CLOSED_LOOP

    kinds = (
        a.choices(a.ClosedLoopArguments, CLOSED_LOOP),
        a.choices(a.OfflineArguments, OFFLINE),
        a.choices(a.RolloutArguments, ROLLOUTS),
    )
    about = (
        "Improve a trained navigator by rewards, compared in groups (GRPO): a graph policy by "
        "walks of its own (...-student, minivln-...), a vision-language one by its answers to "
        "recorded samples (navigator-s, vlm-...) or by walks of its own (...-walks). Name it with "
        "--policy. Choose a recipe:"
    )
    args: Any = parse(Union[kinds], recipe_first(argv), "grpo", about)  # noqa: UP007
    use_threads(args.threads)
    config = a.configured(args)
    if isinstance(args, a.ClosedLoopArguments):
        return _graphs(config, args)
    if args.plan:
        raise InputError("grpo: --plan measures graph policies alone; see `sterna sft --plan`")
    from sterna.recipes.practice import prepare_offline, prepare_rollouts, run_practice

    if isinstance(args, a.OfflineArguments):
        ready = prepare_offline(config, args.out)
    else:
        root = None if config.env.episodes is not None else find_data(args.data)
        ready = prepare_rollouts(config, root, args.out)
    run_practice(ready, args.out, threads=args.threads)
    following = f"sterna eval --env house --agent {args.out / 'last'}"
    _tell(args.out, "last", following, as_json=args.json)
    return 0


def _graphs(config: Any, args: Any) -> int:
    from sterna.recipes.grpo import prepare
    from sterna.recipes.plan import plan_run
    from sterna.recipes.runs import finish

    root = find_data(args.data)
    if args.plan:
        say(*plan_run(prepare, config, root), args.json)
        return 0
    finish(prepare(config, root, args.out), args.out, threads=args.threads)
    _tell(args.out, "best", f"sterna eval {args.out} --split val_unseen", as_json=args.json)
    return 0


def _tell(out: Path, weights: str, following: str, *, as_json: bool) -> None:
    run = json.loads((out / "run.json").read_text("utf-8"))
    text = (
        f"{out}: {run['iteration']} iterations in {run['seconds']:.0f} s, weights in "
        f"{out / weights}\nnext: {following}"
    )
    shown = ("iteration", "best_iteration", "seconds", "scores")
    say(text, {"out": str(out), **{key: run[key] for key in shown}}, as_json)
