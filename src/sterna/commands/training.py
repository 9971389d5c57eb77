"""`sterna pretrain`, `train` and `distil`: a recipe, its options, a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from sterna.commands.common import find_data, parse, say
from sterna.errors import InputError


def _run(
    kind: type[Any],
    recipes: Any,
    prog: str,
    description: str,
    argv: Sequence[str],
    prepare: Callable[..., Any],
    following: str = "sterna eval {out} --split val_unseen",
) -> int:
    from sterna.recipes.arguments import choices, configured
    from sterna.recipes.options import use_threads
    from sterna.recipes.plan import plan_run
    from sterna.recipes.runs import finish

    args = parse(choices(kind, recipes), recipe_first(argv), prog, description)
    use_threads(args.threads)
    config, root, out = configured(args), find_data(args.data), args.out
    if args.plan:
        say(*plan_run(prepare, config, root), args.json)
        return 0
    finish(prepare(config, root, out), out, threads=args.threads)
    run = json.loads((out / "run.json").read_text("utf-8"))
    text = (
        f"{out}: {run['iteration']} iterations in {run['seconds']:.0f} s, best weights of "
        f"iteration {run['best_iteration']} in {out / 'best'}\n"
        f"next: {following.format(out=out)}"
    )
    shown = ("iteration", "best_iteration", "seconds", "scores")
    say(text, {"out": str(out), **{key: run[key] for key in shown}}, args.json)
    return 0


def recipe_first(argv: Sequence[str]) -> list[str]:
    """Let `--recipe NAME` name the recipe as well as NAME in front."""
    words = list(argv)
    for place, word in enumerate(words):
        if word == "--recipe" or word.startswith("--recipe="):
            end = place + 1 + (word == "--recipe")
            name = word.removeprefix("--recipe").removeprefix("=") or "".join(
                words[place + 1 : end]
            )
            return [name, *words[:place], *words[end:]]
    return words


def train(argv: Sequence[str]) -> int:
    """Train a navigator."""
    from sterna.recipes.arguments import TrainArguments
    from sterna.recipes.runs import prepare
    from sterna.recipes.tables import TRAINING

    about = "Train a navigator in DUET's way (teacher forcing + DAgger). Choose a recipe:"
    return _run(TrainArguments, TRAINING, "train", about, argv, prepare)


_NEXT = "sterna train RECIPE --start.weights {out}/best"


def pretrain(argv: Sequence[str]) -> int:
    """Pre-train a navigator."""
    from sterna.recipes.arguments import PretrainArguments
    from sterna.recipes.pretraining import prepare
    from sterna.recipes.tables import PRETRAINING

    about = (
        "Pre-train a navigator in DUET's way; then: sterna train RECIPE --start.weights RUN/best. "
        "Choose a recipe:"
    )
    return _run(PretrainArguments, PRETRAINING, "pretrain", about, argv, prepare, _NEXT)


def distil(argv: Sequence[str]) -> int:
    """Distil a navigator, in stage 1 or 2."""
    from sterna.recipes.arguments import DistilArguments
    from sterna.recipes.runs import prepare
    from sterna.recipes.tables import DISTILLING

    stage, rest = _stage(list(argv))
    if stage == "1":
        return _distil_pretraining(rest)
    about = (
        "Train a student beside a teacher that walks its trajectory (MiniVLN stage 2). "
        "--distill.weight 0 trains the student alone. --stage 1: distil pre-training, block by "
        "block (--stage 1 --help teaches it). Choose a recipe:"
    )
    return _run(DistilArguments, DISTILLING, "distil", about, rest, prepare)


def _distil_pretraining(argv: Sequence[str]) -> int:
    from sterna.recipes.arguments import Stage1Arguments
    from sterna.recipes.pretraining import prepare
    from sterna.recipes.tables import STAGE1

    about = (
        "Pre-train a student beside a pre-trained teacher, block by block (MiniVLN stage 1). "
        "--distill.weight 0 trains the student alone. Choose a recipe:"
    )
    following = _NEXT.replace("train", "distil", 1)
    return _run(Stage1Arguments, STAGE1, "distil --stage 1", about, argv, prepare, following)


def _stage(argv: list[str]) -> tuple[str, list[str]]:
    """Take `--stage N` out of the arguments; the recipes to choose from depend on it."""
    for place, word in enumerate(argv):
        if word == "--stage" or word.startswith("--stage="):
            value = word.removeprefix("--stage").removeprefix("=") or "".join(argv[place + 1 :][:1])
            if value not in ("1", "2"):
                raise InputError(f"--stage must be 1 or 2, found {value or 'nothing'}")
            return value, argv[:place] + argv[place + 1 + (word == "--stage") :]
    return "2", argv
