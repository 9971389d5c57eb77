"""`sterna models convert` and `sterna push`: weights from and to the code and places of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from sterna.commands.common import parse, say
from sterna.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Turn a published checkpoint into a policy folder, or a policy folder into such a checkpoint.

    A file (DUET, ScaleVLN, AutoVLN: best_val_unseen, model_step_*.pt) becomes a folder that every
    command takes, with a report of what was taken, renamed, unused. A folder becomes a file that
    the original code loads; one that came from a file gives that file back, name by name. Nothing
    in a file is executed.
    """

    source: tyro.conf.Positional[Path]
    """A checkpoint file, or a policy folder (or run: its best weights)."""
    target: tyro.conf.Positional[Path]
    """The folder, or the file, to write."""
    kind: Literal["auto", "navigation", "pretraining"] = "auto"
    """auto keeps the text branches of a pre-training checkpoint; navigation leaves them out of the
    model."""
    heads: int | None = None
    """Attention heads, for unusual widths (default: 12 at 768, else width / 64)."""
    into: str | None = None
    """For HAMT, LXMERT and BERT files: the preset (`sterna models`) that takes over what is built
    alike; the rest is drawn at random."""
    seed: int = 0
    """With --into: the seed of what is drawn."""
    json: bool = False
    """Print one JSON object on standard output."""


def convert(argv: Sequence[str]) -> int:
    """Run the command."""
    from sterna.models.original import convert_checkpoint, restore_checkpoint
    from sterna.models.presets import preset
    from sterna.models.relatives import save_relative
    from sterna.recipes.policies import policy_folder

    args: Convert = parse(Convert, argv, "models convert")
    if args.source.is_dir():
        if args.target.is_dir():
            raise InputError(f"{args.target}: is a folder; name the checkpoint file to write")
        report = restore_checkpoint(policy_folder(args.source), args.target)
        following = "load it with the original code (docs/weights.md)"
    else:
        if args.target.is_file():
            raise InputError(f"{args.target}: is a file; name the policy folder to write")
        if args.into is not None:
            config = preset(args.into)
            report = save_relative(args.source, config, args.target, seed=args.seed)
            following = f"sterna train RECIPE --start.weights {args.target}"
        else:
            report = convert_checkpoint(args.source, args.target, kind=args.kind, heads=args.heads)
            following = f"sterna eval {args.target} --views FEATURES"
    say(f"{report.text()}\nnext: {following}", report.as_dict(), args.json)
    return 0


@dataclass(frozen=True, kw_only=True)
class Push:
    """Put a policy on the Hub, with a card: scores, protocol, seeds, selection, terms, latency.

    Everything goes in one commit. What the card says is read from files: result files of `sterna
    eval` (those beside the policy unless --results names others), the run's configuration, and a
    table of `sterna bench latency --json`. Log in first: hf auth login.
    """

    policy: tyro.conf.Positional[Path]
    """Policy folder, or run (its best weights)."""
    name: tyro.conf.Positional[str]
    """owner/name on the Hub."""
    results: tuple[Path, ...] = ()
    """Result files, of one policy or of its seeds (default: those in eval/ beside it)."""
    latency: Path | None = None
    """A table of `sterna bench latency --json`."""
    terms: str = ""
    """Terms of further data it was trained on."""
    license: str | None = None
    """Licence identifier of the weights, as the Hub writes it (such as cc-by-nc-sa-4.0)."""
    public: bool = False
    """Make the repository public (default: private, until you have read its card there)."""
    message: str = "Policy of sterna"
    """Message of the commit."""
    card: Path | None = None
    """Only write the card to this file, and push nothing."""
    json: bool = False
    """Print one JSON object on standard output."""


def push(argv: Sequence[str]) -> int:
    """Run the command."""
    from sterna.files import write_text
    from sterna.models.hub import PREFIX, push_folder
    from sterna.recipes.hubcard import build_card, find_results, run_files
    from sterna.recipes.policies import policy_folder

    args: Push = parse(Push, argv, "push")
    whole = any(args.policy.glob("*.safetensors")) if args.policy.is_dir() else False
    folder = args.policy if whole else policy_folder(args.policy)
    results = list(args.results) or find_results(folder)
    card = build_card(
        folder,
        args.name,
        results=results,
        latency=args.latency,
        terms=args.terms,
        licence=args.license,
    )
    found = {"policy": str(folder), "name": args.name, "results": [str(path) for path in results]}
    if args.card is not None:
        write_text(args.card, card)
        say(
            f"{args.card}: the card; nothing was pushed",
            found | {"card": str(args.card)},
            args.json,
        )
        return 0
    url = push_folder(
        folder,
        args.name,
        card,
        more=run_files(folder),
        private=not args.public,
        message=args.message,
    )
    text = f"{url}\nnext: sterna eval {PREFIX}{args.name}"
    say(text, found | {"url": url}, args.json)
    return 0
