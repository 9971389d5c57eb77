"""Archives and answers as an enemy or a broken disk would make them, from a seed."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any

NAMES = (
    *("data/a.json", "data/b/c.json", "x.txt", "data/", "data/A.json", "./data/d", "data/a.json/x"),
    *("../escaped", "data/../../escaped", "..", ".", "", "/", "//x", "data//x", "data/./x"),
    *("{base}/escaped", "C:\\escaped", "..\\escaped", "data/..\\escaped", "\\\\host\\share"),
    *("data/NUL", "com1.txt", "a:b", "a*", "a?", "a|b", "a\0b", "a\nb", "\x1b[2J", "a\u202eb"),
    *("data/" + "n" * 300, "/".join("d" * 50), "data/sterna-receipt.json", "~/x", "$HOME/x", "-rf"),
)
TYPES = (
    *(tarfile.REGTYPE,) * 12,
    *(tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE),
    *(tarfile.BLKTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, b"Z"),
)
LINKS = ("/etc/passwd", "..", "../..", "data/a.json", "{base}")


def archive(dice: Random, base: str) -> bytes:
    """A zip or tar of some good and some bad entries, packed somehow, often damaged."""
    good = dice.random() < 0.35
    names = [f"data/{i}.json" for i in range(dice.randint(1, 4))]
    if not good:
        names += [dice.choice(NAMES).format(base=base) for _ in range(dice.randint(1, 3))]
        dice.shuffle(names)
    content = _zip(dice, names, base) if dice.random() < 0.5 else _tar(dice, names, base, good)
    return content if dice.random() < 0.4 else damaged(dice, content)


def _body(dice: Random) -> bytes:
    kind = dice.random()
    if kind < 0.1:
        return bytes(dice.choice((1 << 16, 1 << 18)))  # compresses a thousandfold
    return dice.randbytes(dice.randint(0, 300)) * dice.randint(1, 5)


def _zip(dice: Random, names: list[str], base: str) -> bytes:
    out = io.BytesIO()
    kind = dice.choice(
        (zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_LZMA)
    )
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", kind) as made:
        warnings.simplefilter("ignore")  # names that are there twice
        for name in names:
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, kind
            if dice.random() < 0.1:
                info.external_attr = (
                    dice.choice((stat.S_IFLNK, stat.S_IFIFO, stat.S_IFDIR)) | 0o777
                ) << 16
            link = stat.S_ISLNK(info.external_attr >> 16)
            made.writestr(info, dice.choice(LINKS).format(base=base) if link else _body(dice))
    return out.getvalue()


def _tar(dice: Random, names: list[str], base: str, good: bool) -> bytes:
    out = io.BytesIO()
    form = dice.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))
    with tarfile.open(fileobj=out, mode="w", format=form, errors="surrogateescape") as made:
        for name in names:
            info = tarfile.TarInfo(name)
            body = _body(dice)
            info.type = tarfile.REGTYPE if good else dice.choice(TYPES)
            info.size = len(body) if info.type == tarfile.REGTYPE else 0
            info.linkname = dice.choice(LINKS).format(base=base) if info.issym() else ""
            if not good and dice.random() < 0.05:
                info.pax_headers = {
                    "path": "../escaped",
                    "size": str(dice.choice((-1, 7, 1 << 50))),
                }
            made.addfile(info, io.BytesIO(body))
    packed: bytes = dice.choice((bytes, gzip.compress, bz2.compress, lzma.compress))(out.getvalue())
    return packed


def damaged(dice: Random, content: bytes) -> bytes:
    """Flip, cut, double, overwrite or splice bytes, once or a few times."""
    data = bytearray(content)
    for _ in range(dice.randint(1, 3)):
        if not data:
            break
        at = dice.randrange(len(data))
        match dice.randrange(6):
            case 0:
                data[at] ^= 1 << dice.randrange(8)
            case 1:
                del data[at:]
            case 2:
                data[at : at + 4] = dice.choice((b"\xff" * 4, bytes(4), dice.randbytes(4)))
            case 3:
                data[at:at] = data[at : at + dice.randint(1, 600)]
            case 4:
                del data[at : at + dice.randint(1, 600)]
            case _:
                data += dice.randbytes(dice.randint(1, 600))
    return bytes(data)


STATUS = (
    *(b"HTTP/1.1 200 OK",) * 8,
    *(b"HTTP/1.1 206 Partial Content",) * 4,
    *(b"HTTP/1.0 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 404 Gone", b"HTTP/1.1 416 No", b"HTTP/2 200"),
    *(b"HTTP/1.1 503 Busy", b"HTTP/1.1 302 Found", b"HTTP/1.1 308 Moved", b"HTTP/1.1 999 ?"),
    *(b"HTTP/1.1 -1 x", b"HTTP/1.1 204 None", b"HTTP/1.1 304 Same", b"HTTP/1.1 100 Go on"),
    *(b"ICY 200 OK", b"garbage", b"", b"\x00\xff\x16\x03", b"HTTP/1.1 200 " + b"x" * 70_000),
)
PLACES = (
    *(b"/", b"file:///etc/passwd", b"//127.0.0.1:1/", b"http://[", b"http://127.0.0.1:99999/x"),
    *(
        b"http://a\x00b/",
        b"ftp://x/",
        b"data:,x",
        b"\xff\xfe",
        b"?" * 500,
        b"http://u:p@127.0.0.1:1/",
    ),
)


def answer(dice: Random, body: bytes) -> bytes:
    """What a server may send: a status, headers that may lie, a body that may be another."""
    if dice.random() < 0.25:
        head = b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\nETag: "1"\r\n\r\n' % len(body)
        return (head + body)[: None if dice.random() < 0.5 else dice.randint(0, len(head + body))]
    if dice.random() < 0.3:
        body = dice.choice((b"", b"<html>no</html>", damaged(dice, body), body[: len(body) // 2]))
    lines = [dice.choice(STATUS)]
    for _ in range(dice.randint(0, 6)):
        lines.append(_header(dice, len(body)))
    if dice.random() < 0.02:
        lines += [b"X-Many: %d" % i for i in range(150)]
    if dice.random() < 0.15:
        lines.append(b"Transfer-Encoding: chunked")
        body = _chunked(dice, body)
    return b"\r\n".join([*lines, b"", body])


def _header(dice: Random, length: int) -> bytes:
    n = dice.choice((length, length, length, 0, 1, length + 7, -3, 10**30))
    return dice.choice(
        (
            b"Content-Length: %d" % n,
            b"Content-Length: %d" % length,
            b"Content-Length: x",
            b"Content-Range: bytes %d-%d/%d" % (dice.randint(0, 50), length - 1, n),
            b"Content-Range: bytes */*",
            b'ETag: "%d"' % dice.randint(0, 1),
            b'ETag: W/"1"',
            b"ETag: \xff\x00 bad",
            b"Last-Modified: yesterday",
            b"Retry-After: " + dice.choice((b"0", b"-1", b"soon", b"9" * 40)),
            b"Location: " + dice.choice(PLACES),
            b"Content-Encoding: " + dice.choice((b"gzip", b"identity", b"br", b"")),
            b"Content-Type: "
            + dice.choice((b"text/html", b"application/zip", b"multipart/byteranges")),
            b"no colon here",
            b" folded: line",
            b"X: " + b"y" * dice.choice((10, 70_000)),
            b"Connection: close",
        )
    )


def _chunked(dice: Random, body: bytes) -> bytes:
    half = len(body) // 2
    pieces = [b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:half], body[half:]) if part]
    whole = b"".join(pieces) + b"0\r\n\r\n"
    return whole if dice.random() < 0.4 else damaged(dice, whole)


class Enemy:
    """A server that answers the next connections with given bytes, whatever it is asked."""

    url: str

    def __init__(self) -> None:
        self.script: list[bytes] = []


@contextmanager
def enemy() -> Iterator[Enemy]:
    """Run one until the block ends."""
    state = Enemy()

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(5)
            heard = b""
            while b"\r\n\r\n" not in heard and (data := self.request.recv(65536)):
                heard += data
            said = state.script.pop(0) if state.script else b""
            try:
                self.request.sendall(said)
            except OSError:
                return  # the client heard enough

    class Quiet(ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 50

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A connection that breaks is no fault of the test."""

    with Quiet(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
