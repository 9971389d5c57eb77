"""`sterna data get`: the catalogue of the field's data, and how it comes into a data folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from sterna.commands.common import parse, say
from sterna.errors import InputError

if TYPE_CHECKING:
    from sterna.data.get.install import Outcome, Wish
    from sterna.data.remote import Source


@dataclass(frozen=True, kw_only=True)
class Get:
    """Fetch data sets of the field into one layout, or list what there is.

    Alone it prints the catalogue. With names it fetches: resumed where it was cut, compared with
    the published checksums, unpacked safely, and put in place complete or not at all; what is
    there already is left as it is. Their terms must be accepted once per command.
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Data sets to fetch, as in the catalogue: r2r connectivity ..."""
    data: Path | None = None
    """Data folder, made if it is not there (default: STERNA_DATA, else ./data)."""
    accept: bool = False
    """Accept the terms of what is fetched (without it they are printed)."""
    plan: bool = False
    """Say what would be fetched, from where and how much, and fetch nothing."""
    offered: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Archive, file or folder that holds the data already; it is copied from, never changed."""
    mirror: str = ""
    """Address under which the files lie as in the layout: MIRROR/r2r/R2R_train.json."""
    url: tuple[str, ...] = ()
    """Other addresses, as NAME=URL or PLACE=URL: rxr-ce=http://... r2r/R2R_train.json=http://..."""
    again: bool = False
    """Fetch what is there a second time and compare it with the receipt of the first."""
    tries: int = 5
    """Attempts in a row that may fail."""
    timeout: float = 60.0
    """Seconds without a byte after which a connection counts as cut."""
    json: bool = False
    """Print one JSON object on standard output."""


def get(argv: Sequence[str]) -> int:
    """List the catalogue, or fetch data sets."""
    args: Get = parse(Get, argv, "data get")
    from sterna.data.get import table
    from sterna.data.sources import SOURCES

    root = args.data or Path(os.environ.get("STERNA_DATA") or "data")
    if not args.names:
        text = table.catalogue(SOURCES, root)
        hint = "\nnext: sterna data get r2r connectivity --accept --data DIR   (docs/data.md)"
        rows = [table.row(name, source, root) for name, source in SOURCES.items()]
        say(text + hint, {"root": str(root), "data": rows}, args.json)
        return 0
    chosen, wish = _chosen(SOURCES, args.names), _wish(args)
    if args.plan:
        steps = table.plan(chosen, root, wish)
        say(table.plan_text(steps), {"root": str(root), "plan": steps}, args.json)
        return 0
    if not args.accept:
        asked = {name: source.terms for name, source in chosen.items()}
        say(table.terms(chosen), {"accepted": False, "terms": asked}, args.json)
        return 2
    return _fetch(chosen, root, wish, args.json)


def _fetch(chosen: Mapping[str, Source], root: Path, wish: Wish, as_json: bool) -> int:
    from sterna.data.get.install import get as install
    from sterna.data.get.install import reachable

    for name, source in chosen.items():  # what needs hands is said before anything is fetched
        if not os.path.lexists(root / source.folder):
            reachable(name, source, wish)
    outcomes: list[Outcome] = []
    for name, source in chosen.items():
        outcomes.append(install(name, source, root, wish))
        done = outcomes[-1]
        line = f"{name}: {done.status}: {done.says} ({done.folder})"
        print(line, file=sys.stderr if as_json else sys.stdout, flush=True)
    text = f"next: sterna data check {root}"
    say(text, {"root": str(root), "data": [asdict(one) for one in outcomes]}, as_json)
    return 0 if all(one.ok for one in outcomes) else 1


def _chosen(sources: Mapping[str, Source], names: Sequence[str]) -> dict[str, Source]:
    unknown = [name for name in names if name not in sources]
    if unknown:
        raise InputError(f"no data set {unknown[0]!r}; expected some of {', '.join(sources)}")
    return {name: sources[name] for name in names}


def _wish(args: Get) -> Wish:
    from sterna.data.get.http import Net, check_url
    from sterna.data.get.install import Wish

    if args.tries < 1 or args.timeout <= 0:
        raise InputError("--tries must be at least 1, and --timeout above 0 seconds")
    if args.offered is not None and len(args.names) > 1 and args.offered.is_file():
        raise InputError("--from FILE holds one data set; name one, or give a folder")
    urls = {}
    for text in args.url:
        name, equals, url = text.partition("=")
        if not equals:
            raise InputError(f"--url takes NAME=URL, found {text!r}")
        urls[name] = check_url(url)
    return Wish(
        offered=args.offered,
        mirror=check_url(args.mirror) if args.mirror else "",
        urls=urls,
        again=args.again,
        net=Net(tries=args.tries, timeout=args.timeout),
    )
