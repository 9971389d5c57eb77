"""What a data set is made of, as its publisher offers it: files and archives, sizes, checksums."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, kw_only=True)
class Remote:
    """One thing to fetch: a file, or an archive that is unpacked."""

    path: str
    """Where it goes in its data set's folder: the file, or the folder for what an archive holds."""
    urls: tuple[str, ...] = ()
    """Who offers it, the publisher first; none: it has to be brought (``--from``)."""
    size: int | None = None
    """Bytes to fetch; None where nobody says."""
    sha256: str | None = None
    """SHA-256 of those bytes; None where nobody says."""
    inside: str | None = None
    """None for a file. For an archive the folder in it that is wanted, "" for all of it."""

    @property
    def name(self) -> str:
        """File name of what is fetched: that of the file, or of the archive."""
        if self.inside is None or not self.urls:
            return PurePosixPath(self.path).name
        return unquote(PurePosixPath(urlsplit(self.urls[0]).path).name)


@dataclass(frozen=True, kw_only=True)
class Tree:
    """What a folder must hold: number of files, and the SHA-256 of its sorted checksum list.

    The list has a line for each file: its SHA-256, two spaces, its path in the folder.
    """

    folder: str
    files: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set: who offers it, how big it is, on what terms, what for, and where it goes."""

    name: str
    where: str
    """The publisher's page."""
    size: str
    terms: str
    """The publishers' own words or files as found, nothing inferred."""
    needed_for: str
    folder: str
    """Where it lies in a data folder."""
    remotes: tuple[Remote, ...] = ()
    trees: tuple[Tree, ...] = ()
    holds: tuple[str, ...] = ()
    """Patterns that must each match a file of it, for archives whose content is not listed."""
    by_hand: str = ""
    """What to do where a page, a form or a signature stands before the files; "" if none does."""
    note: str = ""
    """What is not in it, and how to come by that."""
    checked_as: str = ""
    """The name `sterna data check` reports it under, where that is not its own."""

    @property
    def bytes(self) -> int | None:
        """Bytes to fetch, or None where the size of some part is not known."""
        sizes = [remote.size for remote in self.remotes]
        return None if not sizes or None in sizes else sum(size or 0 for size in sizes)

    @property
    def verified(self) -> str:
        """How much of it is compared with known checksums: "all", "some" or "none"."""
        known = [
            r.sha256 is not None or (r.inside is not None and bool(self.trees))
            for r in self.remotes
        ]
        return "all" if known and all(known) else "some" if any(known) else "none"


@cache
def checksums() -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of published files by their place in a data folder (``checksums.txt``)."""
    lines = (files("sterna.data") / "checksums.txt").read_text(encoding="utf-8").splitlines()
    rows = (line.split(maxsplit=2) for line in lines)
    return {path: (int(size), digest) for digest, size, path in rows}


def listed(folder: str, path: str, *urls: str) -> Remote:
    """Return the file `path` of a data set's folder, with its size and checksum if listed."""
    size, digest = checksums().get(f"{folder}/{path}", (None, None))
    return Remote(path=path, urls=urls, size=size, sha256=digest)
