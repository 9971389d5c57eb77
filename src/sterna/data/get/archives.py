"""What is in an archive: zip, and tar as it is or packed with gzip, bzip2 or xz.

Read as untrusted: only regular files and folders are understood; links, devices and whatever else
a format knows are refused, as is all that is damaged. Nothing is written here, and nothing is read
into memory whole, whatever sizes a header claims.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from sterna.data.get.names import told
from sterna.errors import InputError

CHUNK = 1 << 18
_BLOCK = 512
_LONG_NAME, _PAX, _MOST_HEADERS = 4096, 1 << 16, 8
_PADDING = 1 << 20
_XZ_MEMORY = 256 << 20
_GZIP, _BZIP2, _XZ = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
    IndexError,
    KeyError,
    ValueError,
)
"""What the standard library raises for archives that are damaged or made to do damage."""


class _Reader(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True)
class Member:
    """One entry: its name as written, its size in bytes, whether it is a folder, its content."""

    name: str
    size: int
    is_folder: bool
    content: _Reader


@contextmanager
def members(archive: Path) -> Iterator[Iterator[Member]]:
    """Open an archive; its members in order, each to be read before the next is asked for.

    `InputError` for a file that is no archive or a damaged one, or for an entry that is neither
    file nor folder. The kind is told by the content, not by the name.
    """
    try:
        with archive.open("rb") as file:
            head = file.read(6)
            file.seek(0)
            if head.startswith(_ZIP):
                with zipfile.ZipFile(file) as opened:
                    yield _zip(opened)
            else:
                with _decoded(file, head) as stream:
                    yield _tar(stream)
    except InputError:
        raise
    except BROKEN as error:
        raise InputError(f"it is damaged or no archive ({told(error)})") from error


def is_archive(file: Path) -> bool:
    """Whether a file is a zip or a tar, told by its content."""
    try:
        with members(file) as entries:
            next(entries, None)
    except InputError:
        return False
    return True


def _zip(opened: zipfile.ZipFile) -> Iterator[Member]:
    for info in opened.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        name = info.orig_filename  # `filename` is cut at a NUL
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise InputError(f"it holds {name[:80]!a}, neither a file nor a folder")
        if info.flag_bits & 0x1:
            raise InputError(f"it holds {name[:80]!a}, encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"it holds {name[:80]!a}, compressed in a way not understood")
        if info.is_dir() or kind == stat.S_IFDIR:
            yield Member(name, 0, True, _Nothing())
        else:
            yield Member(name, info.file_size, False, _Lazy(opened, info))


class _Nothing:
    def read(self, size: int = -1, /) -> bytes:
        return b""


class _Lazy:
    """A zip's member, opened when it is first read: what is not wanted is not unpacked."""

    def __init__(self, opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        self._opened, self._info = opened, info
        self._file: IO[bytes] | None = None

    def read(self, size: int = -1, /) -> bytes:
        if self._file is None:
            self._file = self._opened.open(self._info)
        data = self._file.read(size)
        if not data:
            self._file.close()
        return data


@contextmanager
def _decoded(file: IO[bytes], head: bytes) -> Iterator[_Reader]:
    if head.startswith(_GZIP):
        with gzip.GzipFile(fileobj=file) as stream:
            yield stream
    elif head.startswith(_BZIP2):
        with bz2.BZ2File(file) as packed:
            yield packed
    elif head.startswith(_XZ):
        yield _Xz(file)
    else:
        yield file


class _Xz:
    """An xz stream that may not ask for more memory than our own archives need."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def read(self, size: int = -1, /) -> bytes:
        while not self._decoder.eof:
            data = self._file.read(CHUNK) if self._decoder.needs_input else b""
            if self._decoder.needs_input and not data:
                raise EOFError("it ends in the middle of its xz stream")
            if out := self._decoder.decompress(data, size):
                return out
        return b""


def _exactly(stream: _Reader, size: int) -> bytes:
    """Read `size` bytes, or fewer at the end of the stream."""
    pieces = []
    while size and (piece := stream.read(min(size, CHUNK))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


class _Span:
    """The content of one member of a tar: the next `size` bytes of the stream."""

    def __init__(self, stream: _Reader, size: int) -> None:
        self._stream, self._left = stream, size

    def read(self, size: int = -1, /) -> bytes:
        if not self._left:
            return b""
        data = self._stream.read(min(self._left, CHUNK if size < 0 else size))
        if not data:
            raise EOFError("it ends in the middle of a file")
        self._left -= len(data)
        return data


def _tar(stream: _Reader) -> Iterator[Member]:
    """Walk a tar's headers. tarfile's own reader trusts sizes in headers; its parser is used."""
    long_name: str | None = None
    pax: dict[str, str] = {}
    headers = 0
    while True:
        block = _exactly(stream, _BLOCK)
        if len(block) < _BLOCK:
            raise EOFError("it ends before its end marker" if block else "it has no end marker")
        if not any(block):
            _end(stream)
            return
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if info.size < 0:
            raise InputError(f"it holds {info.name[:80]!a} of negative size")
        if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE):
            data = _small(stream, info)
            if info.type == tarfile.GNUTYPE_LONGNAME:
                long_name = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
            elif info.type == tarfile.XHDTYPE:
                pax = _pax(data)
            if (headers := headers + 1) > _MOST_HEADERS:
                raise InputError(f"it holds more than {_MOST_HEADERS} headers for one entry")
            continue
        name = pax.get("path", info.name if long_name is None else long_name)
        size = int(pax.get("size", info.size))
        long_name, pax, headers = None, {}, 0
        if info.type not in (*tarfile.REGULAR_TYPES[:2], tarfile.CONTTYPE, tarfile.DIRTYPE):
            raise InputError(f"it holds {name[:80]!a}, neither a file nor a folder")
        is_folder = info.type == tarfile.DIRTYPE or name.endswith("/")
        if size < 0 or (is_folder and size):
            raise InputError(f"it holds {name[:80]!a} of impossible size")
        span = _Span(stream, size)
        yield Member(name, size, is_folder, span)
        while span.read(CHUNK):
            pass
        _exactly(stream, -size % _BLOCK)


def _end(stream: _Reader) -> None:
    """Read on behind the end marker: the checksum of a packed tar is checked at its very end."""
    left = _PADDING
    while data := stream.read(CHUNK):
        left -= len(data)
        if left < 0:
            raise InputError("it goes on behind its end marker")


def _small(stream: _Reader, info: tarfile.TarInfo) -> bytes:
    """Read the body of a header's header: a long name, or extended attributes."""
    most = _LONG_NAME if info.type == tarfile.GNUTYPE_LONGNAME else _PAX
    if info.size > most:
        raise InputError(f"it holds a header of {info.size:,} bytes")
    data = _exactly(stream, info.size)
    _exactly(stream, -info.size % _BLOCK)
    return data


def _pax(data: bytes) -> dict[str, str]:
    """Parse extended attributes: records of "length key=value newline"."""
    found = {}
    while data:
        length, _, rest = data.partition(b" ")
        end = int(length)
        key, equals, value = data[len(length) + 1 : end - 1].partition(b"=")
        if not rest or not equals or end > len(data) or data[end - 1 : end] != b"\n":
            raise InputError("it holds extended attributes that cannot be read")
        if key.startswith(b"GNU.sparse"):
            raise InputError("it holds a sparse file")
        found[key.decode("utf-8")] = value.decode("utf-8", "surrogateescape")
        data = data[end:]
    return found
