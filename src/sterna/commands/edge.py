"""`sterna export`: a saved policy for a small computer."""

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
class Export(Common):
    """Export a policy to ONNX, with a card that compares it with torch.

    Navigators that answer in words and policies of actions are compared on made-up frames: what is
    walked (--split, --episodes, --views) concerns navigators on graphs.
    """

    policy: tyro.conf.Positional[Path]
    """Run folder (its best weights) or saved policy."""
    to: Path
    """Folder to write; an earlier export there is replaced."""
    int8: bool = False
    """Also write graphs with 8-bit weights."""
    bits: Literal[7, 8] = 8
    """Bits of those weights: 7 for x86 processors with AVX2 but without VNNI (most before 2020),
    where sums of products of 8 bits saturate."""
    walk: bool = True
    """Walk episodes with torch and with the export, for the card; needs the policy's data."""
    split: str = "val_unseen"
    """Split to walk."""
    episodes: int = 100
    """Walk every k-th episode, about this many."""
    views: str | None = None
    """View store; default: the one of the policy's run."""
    objects: str | None = None
    """Objects (REVERIE): names, none or a file; default: those of the policy's run."""
    tokenizer: Path | None = None
    """A tokenizer.json; default: the one of the data, else of the run's encoder."""
    workers: int = 1
    """Processes that walk with the export."""
    rho: float | None = None
    """Usual budget of a routed policy, one that it is calibrated for (default: 0.5)."""
    keep: tuple[int, ...] = ()
    """Units of a routed policy's static graphs (default: those that most decisions run, as far as
    rho allows)."""
    static: bool = True
    """Write static graphs beside routed ones, for engines that refuse `If`."""


def export(argv: Sequence[str]) -> int:
    """Export a policy."""
    from sterna.edge.card import readme
    from sterna.recipes.asking import navigator_folder
    from sterna.recipes.exporting import Check, run_export
    from sterna.recipes.options import use_threads
    from sterna.recipes.subjects import routed_folder

    args: Export = parse(Export, argv, "export")
    use_threads(args.threads)
    if args.bits != 8 and not args.int8:
        raise InputError(f"--bits {args.bits}: concerns 8-bit graphs; give --int8 too")
    if routed_folder(str(args.policy)):
        return _routed(args)
    if navigator_folder(args.policy):
        return _navigator(args)
    check = Check(split=args.split, episodes=args.episodes, workers=args.workers)
    card = run_export(
        args.policy,
        args.to,
        find_data(args.data) if args.walk or args.data else None,
        int8=args.bits if args.int8 else 0,
        views=args.views,
        objects=args.objects,
        tokenizer=args.tokenizer,
        check=check if args.walk else None,
    )
    engine = card["engines"][-1]
    following = f"sterna eval {args.to} --engine {engine} --split {args.split}"
    text = f"{readme(card)}\nexported: {args.to}\nnext: {following}"
    say(text, card | {"out": str(args.to)}, args.json)
    return 0


def _navigator(args: Export) -> int:
    from sterna.edge.asked_folder import readme
    from sterna.recipes.asking import run_export_navigator

    card = run_export_navigator(args.policy, args.to, int8=args.bits if args.int8 else 0)
    text = f"{readme(card)}\nexported: {args.to}"
    following = f"sterna eval --env house --agent {args.to}"
    say(f"{text}\nnext: {following}", card | {"out": str(args.to)}, args.json)
    return 0


def _routed(args: Export) -> int:
    from sterna.edge.asked_folder import readme as navigator_readme
    from sterna.edge.routed_folder import readme as actor_readme
    from sterna.recipes.actdistill import DuetAct, NavigatorAct
    from sterna.recipes.routed import open_run
    from sterna.recipes.routed_export import is_student, readme, run_export_routed

    run = open_run(args.policy) if is_student(args.policy) else None
    walks = isinstance(run, DuetAct)
    card = run_export_routed(
        args.policy,
        args.to,
        find_data(args.data) if walks else None,
        int8=args.bits if args.int8 else 0,
        rho=args.rho,
        keep=args.keep or None,
        static=args.static,
        split=args.split,
        about=args.episodes,
    )
    told = navigator_readme if isinstance(run, NavigatorAct) else actor_readme
    text = f"{(readme if walks else told)(card)}\nexported: {args.to}"
    say(f"{text}\nnext: sterna bench latency {args.to}", card | {"out": str(args.to)}, args.json)
    return 0
