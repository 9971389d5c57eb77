"""Unpacking an archive that nobody vouches for into a folder that holds nothing yet.

Every name is checked before anything is written (`sterna.data.get.names`), every file is made new
and as a plain file, and sizes are limited twice: those that headers declare, and those that come.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sterna.data.get import disk
from sterna.data.get.archives import CHUNK, Member, members
from sterna.data.get.names import Names, safe_parts
from sterna.data.get.receipt import RECEIPT
from sterna.errors import InputError

_RUBBISH = ("__MACOSX", ".DS_Store", RECEIPT)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much an archive may unpack to."""

    files: int = 1_000_000
    bytes: int = 1 << 40
    ratio: int = 120
    """Times its own size; published archives stay below 20, bombs reach 1,000."""
    floor: int = 64 << 20
    """Bytes that any archive may unpack to, whatever its own size."""

    def most(self, packed: int) -> int:
        """Bytes that an archive of `packed` bytes may unpack to."""
        return min(self.bytes, max(self.floor, self.ratio * packed))


def unpack(
    archive: Path,
    folder: Path,
    *,
    inside: str = "",
    limits: Limits | None = None,
    name: str | None = None,
) -> int:
    """Unpack into the empty `folder`; return the number of files.

    With `inside` (``a/b``) only what lies in a folder of that name, anywhere in the archive, is
    taken, from there on; else all of it, without a folder that holds everything. `InputError`,
    which names the archive (as `name`), for one that is damaged, holds anything but plain files
    and folders, has a name that is not plainly below it or that stands for two files, is a bomb,
    or holds nothing in `inside`; what was written stays.
    """
    limits, name = limits or Limits(), name or archive.name
    try:
        most = limits.most(archive.stat().st_size)
        size = _survey(archive, inside, limits, most)
        disk.need(folder, size, f"unpacking {name}")
        with members(archive) as entries:
            count = _write(_taken(entries, inside), folder, most)
        if not inside:
            _hoist(folder)
        if not count:
            raise InputError(f"it holds nothing in {inside!r}" if inside else "it holds no file")
    except disk.NoRoomError:
        raise
    except InputError as error:
        raise InputError(f"{name}: not unpacked: {error}") from error
    return count


def _survey(archive: Path, inside: str, limits: Limits, most: int) -> int:
    """Check all names and declared sizes before anything is written; return the bytes wanted."""
    names, declared, wanted = Names(), 0, 0
    with members(archive) as entries:
        for count, member in enumerate(entries, start=1):
            if count > limits.files:
                raise InputError(f"it holds more than {limits.files:,} entries")
            parts = safe_parts(member.name)
            if parts:
                names.add(parts, member.is_folder)
            declared += member.size
            if declared > most:
                raise InputError(f"it unpacks to more than {disk.human(most)}: a bomb")
            if _below(parts, inside) is not None:
                wanted += member.size
    return wanted


def _taken(entries: Iterator[Member], inside: str) -> Iterator[tuple[tuple[str, ...], Member]]:
    for member in entries:
        parts = _below(safe_parts(member.name), inside)
        if parts and not member.is_folder and not _rubbish(parts):
            yield parts, member


def _write(entries: Iterator[tuple[tuple[str, ...], Member]], folder: Path, most: int) -> int:
    names, came, count = Names(), 0, 0
    for parts, member in entries:
        names.add(parts, False)
        count += 1
        with _create(folder.joinpath(*parts)) as file:
            size = 0
            while data := member.content.read(CHUNK):
                size, came = size + len(data), came + len(data)
                if size > member.size or came > most:
                    raise InputError(f"{parts[-1]!r} is larger than declared")
                disk.write(file, data)
            if size != member.size:
                raise InputError(f"{parts[-1]!r} has {size:,} bytes, {member.size:,} were declared")
    return count


def _hoist(folder: Path) -> None:
    """Take everything out of a single folder that holds it all, as archives often have one."""
    while len(held := list(folder.iterdir())) == 1 and held[0].is_dir():
        outer = held[0].rename(folder / ".outer")  # what is in it may have its name
        for path in outer.iterdir():
            path.rename(folder / path.name)
        outer.rmdir()


def _create(target: Path) -> BinaryIO:
    """Make a new plain file, and the folders it lies in."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return target.open("xb")
    except OSError as error:
        raise disk.failed(error, target) from error


def _below(parts: tuple[str, ...], inside: str) -> tuple[str, ...] | None:
    """Return the path from the folder `inside` on; None for what is not in such a folder."""
    wanted = tuple(inside.split("/")) if inside else ()
    for start in range(len(parts) - len(wanted)):
        if parts[start : start + len(wanted)] == wanted:
            return parts[start + len(wanted) :]
        if not wanted:
            return parts
    return None


def _rubbish(parts: tuple[str, ...]) -> bool:
    return parts[0] in _RUBBISH or parts[-1] in _RUBBISH or parts[-1].startswith("._")
