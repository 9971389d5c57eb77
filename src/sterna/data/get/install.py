"""One data set from its publisher into a data folder: complete, or not at all.

Everything is put together in ``.sterna-get`` of the data folder and moved to its place by one
rename at the end. A folder that is already at that place is read and never written to.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tqdm import tqdm

from sterna.data.get import disk, receipt
from sterna.data.get.bring import bring
from sterna.data.get.http import Net, Wanted, begun, check_url, download, forget
from sterna.data.get.unpack import Limits, unpack
from sterna.data.remote import Remote, Source
from sterna.errors import InputError
from sterna.files import read_bytes, sha256

WORK = ".sterna-get"


@dataclass(frozen=True, kw_only=True)
class Wish:
    """How to come by data."""

    offered: Path | None = None
    """File or folder that holds it already."""
    mirror: str = ""
    """Address under which all files lie as in the layout, in place of their publishers'."""
    urls: Mapping[str, str] = field(default_factory=dict)
    """Addresses in place of the publishers', by name of a data set or place of a file."""
    again: bool = False
    """Fetch what is there a second time and compare."""
    net: Net = field(default_factory=Net)
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one data set. `status`: installed, there, kept, same, changed."""

    data: str
    folder: str
    status: str
    says: str
    files: int = 0
    bytes: int = 0

    @property
    def ok(self) -> bool:
        """Whether what lies there is what was asked for, as far as that can be known."""
        return self.status != "changed"


def get(name: str, source: Source, root: Path, wish: Wish) -> Outcome:
    """Bring a data set to its place in the data folder `root`, or say that it is there.

    `InputError` when it cannot be had, or is not what it should be; the place is then empty as
    before, and the same command continues.
    """
    place = root / source.folder
    try:
        if os.path.lexists(place) and not wish.again:
            return _there(name, source, place)
        reachable(name, source, wish)
        with _workplace(root, name) as work:
            if os.path.lexists(place):
                return _compare(name, source, place, work, wish)
            return _install(name, source, place, work, wish)
    except OSError as error:
        raise disk.failed(error, root) from error


def reachable(name: str, source: Source, wish: Wish) -> None:
    """`InputError` that says what to do if a data set can neither be fetched nor is offered."""
    if wish.offered is not None and not wish.offered.exists():
        raise InputError(f"{wish.offered}: no such file or folder; check --from")
    offered = not wish.again and (wish.offered is not None or name in wish.urls)
    have = all(addresses(name, source, remote, wish) for remote in source.remotes)
    if not source.remotes or not (offered or have):
        raise InputError(f"{name}: cannot be fetched by a command: {source.by_hand}")


def _install(name: str, source: Source, place: Path, work: Path, wish: Wish) -> Outcome:
    disk.need(work, source.bytes or 0, name)
    new = work / "new"
    new.mkdir()
    fetched = _fill(name, source, new, work, wish)
    found = receipt.survey(new)
    _check(source, found, work)
    receipt.write(new, name, source, receipt.Receipt(name=name, fetched=fetched, files=found))
    _move(new, place)
    _forget_all(work)
    size = sum(size for size, _ in found.values())
    says = f"{_count(found)}, {disk.human(size)}"
    return Outcome(
        data=name, folder=str(place), status="installed", says=says, files=len(found), bytes=size
    )


def _check(source: Source, found: Mapping[str, tuple[int, str]], work: Path) -> None:
    try:
        receipt.check(source, found)
    except InputError:
        for remote in source.remotes:  # fetched whole and yet not it: begin again next time
            forget(_part(work, source, remote))
        raise


def addresses(name: str, source: Source, remote: Remote, wish: Wish) -> tuple[str, ...]:
    """Where a remote is fetched from: what the user says, the mirror, or who offers it."""
    below = f"{source.folder}/{remote.path if remote.inside is None else remote.name}"
    for key in (below, name):
        if key in wish.urls:
            return (check_url(wish.urls[key]),)
    if wish.mirror:
        return (check_url(f"{wish.mirror.rstrip('/')}/{quote(below)}"),)
    return remote.urls


def _there(name: str, source: Source, place: Path) -> Outcome:
    """Say what lies at the place of a data set, without changing it."""
    kept = receipt.read(place) if place.is_dir() else None
    if kept is None:
        status, says = _known(source, place)
    elif bad := receipt.changed(place, kept):
        status, says = "changed", f"{bad[0]} is not the file that was installed"
        says += f" (nor are {len(bad) - 1} others)" if len(bad) > 1 else ""
        says += "; move the folder away to install it anew"
    else:
        status, says = "there", f"{_count(kept.files)}, as installed"
    return Outcome(data=name, folder=str(place), status=status, says=says)


def _count(files: Collection[str]) -> str:
    return f"{len(files):,} file{'' if len(files) == 1 else 's'}"


def _known(source: Source, place: Path) -> tuple[str, str]:
    """Compare what somebody else put there with the published checksums."""
    known = [r for r in source.remotes if r.inside is None and r.sha256 is not None]
    digests = {remote.path: _digest(place / remote.path) for remote in known}
    present = [remote for remote in known if digests[remote.path]]
    other = [remote for remote in present if digests[remote.path] != remote.sha256]
    if other:
        return "changed", f"{other[0].path} is not as published; left as it is"
    compared = f"{len(present)} of {len(known)} files as published" if known else "not compared"
    return "kept", f"not from this command, left as it is ({compared})"


def _digest(file: Path) -> str:
    """SHA-256 of a file, or of what is in its ``.gz``; "" where there is neither."""
    packed = file.with_name(file.name + ".gz")
    if not file.is_file() and not packed.is_file():
        return ""
    return hashlib.sha256(read_bytes(packed)).hexdigest() if not file.is_file() else sha256(file)


def _compare(name: str, source: Source, place: Path, work: Path, wish: Wish) -> Outcome:
    """Fetch again and compare with the receipt; what lies there stays."""
    kept = receipt.read(place) if place.is_dir() else None
    if kept is None:
        raise InputError(f"{place}: has no receipt to compare with; --again is for installed data")
    now = [one["sha256"] for one in _fetch(name, source, work, wish)]
    archives = [one.get("sha256") for one in kept.fetched]
    same = [
        digest in archives if remote.inside is not None else kept.files[remote.path][1] == digest
        for remote, digest in zip(source.remotes, now, strict=True)
    ]
    _forget_all(work)
    if all(same):
        status, says = "same", "its publisher offers the same bytes"
    else:
        status = "changed"
        says = "its publisher offers other bytes now; to take them, move the folder away"
    return Outcome(data=name, folder=str(place), status=status, says=says)


def _fill(name: str, source: Source, new: Path, work: Path, wish: Wish) -> list[Any]:
    """Put all files of a data set into the empty folder `new`; return what they came from."""
    if wish.offered is not None:
        return bring(source, wish.offered, new, work / "scratch", wish.limits)
    if name in wish.urls and len(source.remotes) > 1:
        return _whole(name, source, new, work, wish)
    fetched = _fetch(name, source, work, wish)
    for remote in sorted(source.remotes, key=lambda r: r.inside is None):  # archives may fail
        part, target = _part(work, source, remote), new / remote.path
        if remote.inside is None:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(part, target)
            continue
        target.mkdir(parents=True, exist_ok=True)
        try:
            unpack(part, target, inside=remote.inside, limits=wish.limits, name=remote.name)
        except disk.NoRoomError:
            raise
        except InputError:
            forget(part)  # fetched whole and yet useless: begin again next time
            raise
    return fetched


def _fetch(name: str, source: Source, work: Path, wish: Wish) -> list[dict[str, Any]]:
    """Fetch all remotes into the workplace."""
    fetched = []
    several = len(source.remotes) > 1 and wish.net.progress
    with tqdm(total=len(source.remotes), desc=name, unit="file", disable=not several) as bar:
        for remote in source.remotes:
            wanted = Wanted(name=remote.name, size=remote.size, sha256=remote.sha256)
            urls = addresses(name, source, remote, wish)
            fetched.append(_one(urls, _part(work, source, remote), wanted, wish.net))
            bar.update()
    return fetched


def _whole(name: str, source: Source, new: Path, work: Path, wish: Wish) -> list[Any]:
    """Fetch one archive that holds all of a data set of several files."""
    part = work / "whole.part"
    fetched = _one((check_url(wish.urls[name]),), part, Wanted(name=name), wish.net)
    try:
        bring(source, part, new, work / "scratch", wish.limits)
    except disk.NoRoomError:
        raise
    except InputError:
        forget(part)
        raise
    return [fetched]


def _one(urls: tuple[str, ...], part: Path, wanted: Wanted, net: Net) -> dict[str, Any]:
    """Fetch from the first address that has it, beginning with one that was begun with."""
    refused = []
    for url in sorted(urls, key=lambda url: url != begun(part)):
        try:
            return download(url, part, wanted, net)
        except disk.NoRoomError:
            raise
        except InputError as error:
            refused.append(str(error))
    raise InputError("; and then ".join(refused))


def _part(work: Path, source: Source, remote: Remote) -> Path:
    return work / f"{source.remotes.index(remote)}.part"


def _move(new: Path, place: Path) -> None:
    """Put the finished folder at its place, where nothing may be."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(new, place)
    except OSError as error:
        raise InputError(f"{place}: cannot be put there ({error.strerror})") from error


@contextmanager
def _workplace(root: Path, name: str) -> Iterator[Path]:
    """The folder where a data set is put together, for one process at a time."""
    work = root / WORK / name
    work.parent.mkdir(parents=True, exist_ok=True)
    lock = (root / WORK / f"{name}.lock").open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{root}: another process is fetching {name} there") from None
        try:
            _clear(work)
            work.mkdir(exist_ok=True)
            yield work
        finally:
            _clear(work)


def _forget_all(work: Path) -> None:
    for path in work.glob("*.part*"):
        path.unlink()


def _clear(work: Path) -> None:
    """Remove what is put together anew each time; partial files stay."""
    for name in ("new", "scratch"):
        shutil.rmtree(work / name, ignore_errors=True)
    with suppress(OSError):
        work.rmdir()  # unless partial files are in it
