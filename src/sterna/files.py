"""Reading and writing whole files: gzip understood, half-written files impossible."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sterna.errors import InputError


def find_file(path: str | os.PathLike[str]) -> Path:
    """Return `path`, or `path` + ``.gz`` where only that exists; `InputError` if neither does."""
    plain = Path(path)
    for candidate in (plain, plain.with_name(plain.name + ".gz")):
        if candidate.is_file():
            return candidate
    raise InputError(f"{plain}: no such file (nor {plain.name}.gz); check the path or --data")


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a file, decompressed when its name ends in ``.gz``."""
    file = find_file(path)
    try:
        raw = file.read_bytes()
        return gzip.decompress(raw) if file.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file}: cannot be read ({error}); fetch the file again") from error


def read_json(path: str | os.PathLike[str]) -> Any:
    """Parse a JSON file, plain or gzipped; a truncated or malformed one is an `InputError`."""
    content = read_bytes(path)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:200]
        raise InputError(
            f"{find_file(path)}: not valid JSON ({reason}); it may be cut short, fetch it again"
        ) from error


def read_jsonl(path: str | os.PathLike[str]) -> Iterator[tuple[int, Any]]:
    """Yield line number and value of each line of JSON in a file, plain or gzipped; blanks go.

    Lines are read as they are asked for. A malformed line, and a file cut short, are an
    `InputError` that names the line.
    """
    file, number = find_file(path), 0
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, _parsed(line, f"{file}: line {number}")
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{file}: cannot be read behind line {number} ({error}); fetch the file again"
        ) from error


def _parsed(line: bytes, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:200]
        raise InputError(
            f"{where}: not valid JSON ({reason}); the file may be cut short, fetch it again"
        ) from error


def write_jsonl(path: str | os.PathLike[str], values: Iterable[Any]) -> None:
    """Write values as lines of JSON, atomically; NaN and infinity are refused."""
    write_text(path, "".join(json.dumps(value, allow_nan=False) + "\n" for value in values))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file atomically: the name holds either the old content or all of the new."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically, gzipped (without a time stamp) when the name ends in ``.gz``."""
    content = text.encode("utf-8")
    if str(path).endswith(".gz"):
        content = gzip.compress(content, mtime=0)
    write_bytes(path, content)


def write_json(path: str | os.PathLike[str], value: Any, *, indent: int | None = 1) -> None:
    """Write JSON atomically; NaN and infinity are refused, they are errors and never results."""
    write_text(path, json.dumps(value, indent=indent, allow_nan=False) + "\n")


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
