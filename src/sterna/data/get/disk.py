"""Room on the disk: asked for before anything is written, and minded while writing."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import BinaryIO

from sterna.errors import InputError

_MARGIN = 64 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NoRoomError(InputError):
    """The disk is full or will be; what was fetched so far is kept, the same command continues."""


def free(folder: Path) -> int:
    """Bytes free where `folder` is, or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def need(folder: Path, size: int, what: str) -> None:
    """`NoRoomError` unless `size` bytes, and a margin, are free where `folder` is."""
    there = free(folder)
    if size + _MARGIN > there:
        raise NoRoomError(
            f"{what} needs {human(size)}, and {human(there)} are free at {folder}; "
            "free some space or give another --data"
        )


def write(file: BinaryIO, data: bytes) -> None:
    """Write; a full disk is a `NoRoomError`, other failures are an `InputError`."""
    try:
        file.write(data)
    except OSError as error:
        raise failed(error, str(file.name)) from error


def flush(file: BinaryIO) -> None:
    """Bring what was written to the disk itself; a full disk is a `NoRoomError`."""
    try:
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        raise failed(error, str(file.name)) from error


def failed(error: OSError, name: str | Path) -> InputError:
    """Return what to raise for a file that cannot be written: `NoRoomError` if the disk is full."""
    if error.errno not in _FULL:
        return InputError(f"{error.filename or name}: {error.strerror or error}")
    return NoRoomError(
        f"{name}: cannot write ({error.strerror}); free some space, the same command continues"
    )


def human(size: int | None) -> str:
    """Return a number of bytes as people say it: 2.7 GB."""
    if size is None:
        return "size not known"
    value = float(size)
    for unit in ("bytes", "KB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return (
                f"{value:.0f} {unit}" if unit == "bytes" or value >= 100 else f"{value:.1f} {unit}"
            )
        value /= 1000
    raise AssertionError  # the loop ends with GB
