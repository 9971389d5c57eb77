"""Data that the user has already: archives, files or unpacked folders, put into the layout."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

from sterna.data.get import disk
from sterna.data.get.archives import CHUNK, is_archive
from sterna.data.get.names import Names, safe_parts, told
from sterna.data.get.receipt import RECEIPT
from sterna.data.get.unpack import Limits, unpack
from sterna.data.remote import Remote, Source
from sterna.errors import InputError
from sterna.files import sha256

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


def bring(source: Source, offered: Path, new: Path, scratch: Path, limits: Limits) -> list[Any]:
    """Fill the folder `new` with a data set from `offered`, a file or a folder, which stays as is.

    `scratch` holds what an archive of single files unpacks to meanwhile. Returns what was taken,
    for the receipt. `InputError` where something is missing or stands there twice.
    """
    used: dict[Path, None] = {}
    packed = [remote for remote in source.remotes if remote.inside is not None]
    plain = [remote for remote in source.remotes if remote.inside is None]
    for remote in packed:
        used[_unpacked(remote, offered, new / remote.path, limits)] = None
    if plain:
        base = offered
        if offered.is_file() and is_archive(offered):
            scratch.mkdir()
            unpack(offered, scratch, limits=limits)
            base = scratch
            used[offered] = None
        for remote in plain:
            file = _find(source, remote, base, alone=len(plain) == 1)
            copy(file, new / remote.path, remote.size)
            if base == offered:
                used[file] = None
    return [_taken(path) for path in used]


def _taken(path: Path) -> dict[str, Any]:
    if path.is_dir():
        return {"folder": path.name}
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}


def _unpacked(remote: Remote, offered: Path, new: Path, limits: Limits) -> Path:
    """Unpack the archive of a remote, or copy the folder that it holds; return which it was."""
    new.mkdir(parents=True, exist_ok=True)
    inside = remote.inside or ""
    if offered.is_dir() and (folder := _folder(inside, offered)):
        _copy_tree(folder, new)
        return folder
    archive = offered if offered.is_file() else _archive(remote, offered)
    try:
        unpack(archive, new, inside=inside, limits=limits)
    except disk.NoRoomError:
        raise
    except InputError:
        if "/" not in inside or any(new.iterdir()):
            raise
        unpack(archive, new, inside=inside.rsplit("/", 1)[-1], limits=limits)
    return archive


def _archive(remote: Remote, folder: Path) -> Path:
    """Find the archive of a remote: by its own name, by what it holds, or the only one there."""
    named = folder / remote.name
    if remote.name and named.is_file():
        return named
    held = Path(remote.inside or "").name
    below = [p for p in sorted(folder.rglob(f"{held}.*")) if held and _is_named_archive(p)]
    found = below or [path for path in sorted(folder.iterdir()) if _is_named_archive(path)]
    if len(found) != 1:
        what = remote.name or "an archive"
        raise InputError(
            f"{folder}: expected {what}, found {len(found)} archives; give --from the file itself"
        )
    return found[0]


def _is_named_archive(path: Path) -> bool:
    return path.name.lower().endswith(_ARCHIVES)


def _folder(inside: str, offered: Path) -> Path | None:
    """The unpacked folder that an archive would hold; the offered one if all of it is wanted."""
    if not inside:
        holds_archive = any(_is_named_archive(path) for path in offered.iterdir())
        return None if holds_archive else offered
    wanted = Path(inside).name
    if offered.name == wanted:
        return offered
    found = [path for path in sorted(offered.rglob(wanted)) if path.is_dir()]
    return found[0] if len(found) == 1 else None


def _copy_tree(folder: Path, new: Path) -> None:
    names = Names()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != RECEIPT and not path.name.startswith("."):
            parts = safe_parts(path.relative_to(folder).as_posix())
            names.add(parts, False)
            copy(path, new.joinpath(*parts), None)


def _find(source: Source, remote: Remote, base: Path, *, alone: bool) -> Path:
    """Find one file in what was offered: at its place, by its name, or anywhere below."""
    if base.is_file():
        if alone or base.name.removesuffix(".gz") == remote.name.removesuffix(".gz"):
            return base
        raise InputError(f"{base}: expected a folder or an archive that holds {remote.name}")
    for place in (base / source.folder / remote.path, base / remote.path, base / remote.name):
        for path in (place, place.with_name(place.name + ".gz")):
            if path.is_file():
                return path
    found = [p for n in (remote.name, remote.name + ".gz") for p in sorted(base.rglob(n))]
    ending = "/" + remote.path.removesuffix(".gz")
    found = [p for p in found if p.as_posix().removesuffix(".gz").endswith(ending)] or found
    if len(found) != 1:
        where = "is not in it" if not found else f"is in it {len(found)} times"
        raise InputError(f"--from {base.name}: {remote.name} {where}")
    return found[0]


def copy(file: Path, target: Path, size: int | None) -> None:
    """Copy a file to a new one; a ``.gz`` of what has no such ending is unpacked on the way."""
    unpacked = file.name.endswith(".gz") and not target.name.endswith(".gz")
    packed = file.stat().st_size
    most = Limits().most(packed) if unpacked else packed
    disk.need(target.parent, size or packed, f"copying {file.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with file.open("rb") as raw, target.open("xb") as out:
            stream = cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if unpacked else raw
            came = 0
            while data := stream.read(CHUNK):
                came += len(data)
                if came > most:
                    raise InputError(f"{file}: unpacks to more than {disk.human(most)}: a bomb")
                disk.write(out, data)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{file}: cannot be unpacked ({told(error)})") from error
    except OSError as error:
        raise disk.failed(error, target) from error
