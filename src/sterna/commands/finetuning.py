"""`sterna sft`: fine-tune a vision-language navigator on egocentric walks."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sterna.commands.common import parse, say
from sterna.commands.training import recipe_first


def sft(argv: Sequence[str]) -> int:
    """Fine-tune a navigator."""
    from sterna.recipes.arguments import SftArguments, choices, configured
    from sterna.recipes.options import use_threads
    from sterna.recipes.sft import SFT, run_sft
    from sterna.recipes.sftplan import plan_sft

    about = (
        "Fine-tune a vision-language navigator on the expert's answers (VLN-R1, stage 1); walks "
        "come from `sterna ego make`. Choose a recipe:"
    )
    args = parse(choices(SftArguments, SFT), recipe_first(argv), "sft", about)
    use_threads(args.threads)
    config, out = configured(args), args.out
    if args.plan:
        say(*plan_sft(config), args.json)
        return 0
    run_sft(config, out, threads=args.threads)
    run = json.loads((out / "run.json").read_text("utf-8"))
    shown = ("iteration", "seconds", "scores")
    last = run["scores"][-1] if run["scores"] else {}
    scores = ", ".join(f"{k} {v:.3f}" for k, v in last.items() if k != "iteration")
    judged = f" ({scores} on held-out walks)" if scores else ""
    text = (
        f"{out}: {run['iteration']} iterations in {run['seconds']:.0f} s{judged}; the navigator is "
        f"in {out / 'last'}\n"
        f"next: sterna eval --env house --agent {out / 'last'}"
    )
    say(text, {"out": str(out), **{key: run[key] for key in shown}}, args.json)
    return 0
