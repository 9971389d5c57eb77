"""One file over HTTP into a partial file: resumed when cut, compared when complete.

A partial file has a note beside it (``.json``): from where it comes and in which version (ETag or
Last-Modified). It is continued with Range and If-Range, so a file that changed in between begins
again; where there is neither a version nor a checksum, it always begins again. Only http and https,
also in redirects, never from https to http, certificates checked.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from email.message import Message
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from tqdm import tqdm

from sterna import __version__
from sterna.data.get import disk
from sterna.data.get.names import told
from sterna.errors import InputError
from sterna.files import sha256, write_json

_CHUNK = 1 << 18
_PROGRESS = 1 << 20
_MOST_WAIT = 60.0
_MOVED = (301, 302, 303, 307, 308)
_MOST_HOPS = 10
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)$")
_ETAG = re.compile(r'(W/)?"[!#-~]{0,500}"')
_DATE = re.compile(r"[ -~]{1,100}")
_PAGE = (b"<!doctype html", b"<html", b"<?xml")


@dataclass(frozen=True, kw_only=True)
class Net:
    """How patient fetching is."""

    tries: int = 5
    """Attempts in a row that bring less than a megabyte before it gives up."""
    timeout: float = 60.0
    """Seconds without a byte after which a connection counts as cut."""
    pause: float = 1.0
    """Seconds before the second attempt; doubled each time, a minute at most."""
    most: int = 1 << 40
    """Bytes that no file may exceed, for files whose size nobody says."""
    progress: bool = True
    """Draw a bar on standard error."""
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is known of a file before it comes."""

    name: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Note:
    """What is known of a partial file: address, version, and the length that was announced."""

    url: str
    etag: str = ""
    modified: str = ""
    total: int | None = None

    @property
    def version(self) -> str:
        """What If-Range takes: a strong ETag, else the date of change, else nothing."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


class _CutError(Exception):
    """An attempt failed in a way that another one may not."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def check_url(url: str) -> str:
    """Return an address that may be fetched; `InputError` for file: and the like, or a password."""
    try:
        parts = urlsplit(url)
        allowed = parts.scheme in ("http", "https") and bool(parts.hostname)
        allowed = allowed and parts.port != 0 and parts.username is None
    except ValueError:
        allowed = False
    if not allowed or re.search(r"[\x00-\x20\x7f]", url):
        raise InputError(f"expected an address http(s)://..., found {url!r}")
    return url


def download(url: str, part: Path, wanted: Wanted, net: Net) -> dict[str, Any]:
    """Fetch `url` into `part`; continue what is there. Return address, bytes, SHA-256 and ETag.

    `InputError` when it cannot be had or is not what is known of it; `NoRoomError` on a full disk.
    What came so far stays in `part` unless it turned out to be wrong.
    """
    check_url(url)
    task = _Download(url, part, wanted, net)
    note = task.run()
    wrong = _wrong(part, wanted)
    if wrong and task.continued:  # it may have been put together from two versions
        forget(part)
        note = task.run()
        wrong = _wrong(part, wanted)
    if wrong:
        forget(part)
        raise InputError(
            f"{url}: {wrong}; it changed at its publisher or on its way here, nothing was installed"
        )
    return {"url": url, "bytes": _size(part), "sha256": sha256(part), "etag": note.etag}


def begun(part: Path) -> str:
    """Return the address that a partial file comes from, "" if there is none."""
    note = _read_note(part) if _size(part) else None
    return note.url if note else ""


def forget(part: Path) -> None:
    """Remove a partial file and its note."""
    part.unlink(missing_ok=True)
    _note_file(part).unlink(missing_ok=True)


class _Download:
    """One file on its way, over as many connections as it takes."""

    def __init__(self, url: str, part: Path, wanted: Wanted, net: Net) -> None:
        self.url, self.part, self.wanted, self.net = url, part, wanted, net
        self.continued = False
        self.bar: Any = None

    def run(self) -> _Note:
        """Try until the file is complete, or until `net.tries` attempts in a row brought little."""
        failures, mark = 0, _size(self.part)
        with tqdm(total=self.wanted.size, desc=self.wanted.name, disable=not self.net.progress,
                  unit="B", unit_scale=True, leave=False, delay=1) as self.bar:  # fmt: skip
            while True:
                try:
                    return self._attempt()
                except _CutError as cut:
                    here = _size(self.part)
                    failures = 1 if here - mark >= _PROGRESS else failures + 1
                    mark = here
                    if failures >= self.net.tries:
                        raise InputError(
                            f"{self.url}: gave up after {failures} tries ({cut}); "
                            "the same command continues where it stopped"
                        ) from None
                    wait = self.net.pause * 2 ** (failures - 1) if cut.wait is None else cut.wait
                    self.net.sleep(min(wait, _MOST_WAIT))

    def _attempt(self) -> _Note:
        """Connect once and take what comes; return the note when the file is complete."""
        note = _read_note(self.part)
        note = note if note and note.url == self.url else None
        have = _size(self.part) if note and (note.version or self.wanted.sha256) else 0
        self.continued |= have > 0
        expected = self.wanted.size or (note.total if note else None)
        if note and have and have == expected:
            return note
        try:
            with _open(self.url, _headers(note, have), self.net.timeout) as answer:
                said, have = self._begin(answer, note, have)
                self.bar.total, self.bar.n = said.total or self.wanted.size, have
                self._take(answer, have, said.total)
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error, self.url, self.part) from None
        except InputError:
            raise
        except (http.client.HTTPException, OSError) as error:
            raise _failed(error, self.url) from error
        except (ValueError, OverflowError) as error:
            raise InputError(f"{self.url}: leads to an address that makes no sense") from error
        expected = self.wanted.size if said.total is None else said.total
        if expected is not None and _size(self.part) < expected:
            raise _CutError(f"cut at {_size(self.part):,} of {expected:,} bytes")
        return said

    def _begin(self, answer: Any, note: _Note | None, have: int) -> tuple[_Note, int]:
        """Read the headers: continue at `have`, or begin at 0 with a new note."""
        headers = answer.headers
        said = _Note(
            url=self.url,
            etag=_plain(headers, "ETag", _ETAG),
            modified=_plain(headers, "Last-Modified", _DATE),
        )
        _check_encoding(headers, self.url, self.wanted)
        if answer.status == 206:
            said = replace(said, total=_resumed(headers, self.part, note, said, have))
        elif answer.status == 200:
            have, said = 0, replace(said, total=_length(headers))
            _restart(self.part, said)
        else:
            raise InputError(f"{self.url}: expected 200 or 206, found {answer.status}")
        self._check_size(said.total, have)
        return said, have

    def _check_size(self, total: int | None, have: int) -> None:
        """Refuse a file of the wrong size, or one for which there is no room, before it comes."""
        known = self.wanted.size
        if total is not None and known is not None and total != known:
            forget(self.part)
            raise InputError(
                f"{self.url}: expected {known:,} bytes, the server offers {total:,}; the file "
                "changed at its publisher, or this is a page in its place"
            )
        if total is not None and total > self.net.most:
            forget(self.part)
            most = disk.human(self.net.most)
            raise InputError(f"{self.url}: offers {disk.human(total)}, more than {most}")
        size = (total or known or 0) - have
        disk.need(self.part.parent, size, f"fetching {self.wanted.name}")

    def _take(self, answer: Any, have: int, total: int | None) -> None:
        """Append the body to the partial file."""
        most = self.wanted.size or total or self.net.most
        with self.part.open("ab") as file:
            while data := answer.read1(_CHUNK):
                if have == 0:
                    _check_page(data, answer.headers, self.url, self.part)
                have += len(data)
                if have > most:
                    forget(self.part)
                    raise InputError(f"{self.url}: sends more than the {most:,} bytes expected")
                disk.write(file, data)
                self.bar.update(len(data))
            disk.flush(file)


def _headers(note: _Note | None, have: int) -> dict[str, str]:
    headers = {"User-Agent": f"sterna/{__version__}", "Accept-Encoding": "identity"}
    if note and have:
        headers["Range"] = f"bytes={have}-"
        if note.version:
            headers["If-Range"] = note.version
    return headers


def _open(url: str, headers: Mapping[str, str], timeout: float) -> Any:
    """Ask for an address; follow redirects to http and https, never from https to http."""
    opener, start = _opener(), url
    for _ in range(_MOST_HOPS):
        try:
            return opener.open(urllib.request.Request(url, headers=dict(headers)), timeout=timeout)
        except urllib.error.HTTPError as error:
            target = error.headers.get("Location")
            if error.code not in _MOVED or not target:
                raise
            error.close()
            url = _next(url, target)
    raise InputError(f"{start}: redirected more than {_MOST_HOPS} times, perhaps in a circle")


def _next(url: str, target: str) -> str:
    new = urljoin(url, quote(target.strip(), safe="/:?#[]@!$&'()*+,;=%~"))
    if url.startswith("https:") and not new.startswith("https:"):
        raise InputError(f"{url}: redirected to {new!r}; from https only https is followed")
    try:
        return check_url(new)
    except InputError as error:
        raise InputError(f"{url}: redirected elsewhere: {error}") from None


@cache
def _opener() -> urllib.request.OpenerDirector:
    """An opener that knows http and https and nothing else (build_opener also opens file:)."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _resumed(
    headers: Message, part: Path, note: _Note | None, said: _Note, have: int
) -> int | None:
    """Check that a 206 continues this very file; return its whole length."""
    span = _RANGE.match((headers.get("Content-Range") or "").strip())
    if note is not None and span is not None and int(span[1]) == have:
        total = note.total if span[3] == "*" else int(span[3])
        same = not said.etag or not note.etag or said.etag == note.etag
        if same and note.total in (None, total):
            return total
    forget(part)
    raise _CutError("the server continues another file than the one begun")


def _restart(part: Path, note: _Note) -> None:
    forget(part)
    try:
        write_json(_note_file(part), asdict(note))
        part.touch()
    except OSError as error:
        raise disk.failed(error, part) from error


def _wrong(part: Path, wanted: Wanted) -> str:
    """What is wrong with a complete file: its size, its checksum, or "" if nothing is."""
    size = _size(part)
    if wanted.size is not None and size != wanted.size:
        return f"expected {wanted.size:,} bytes, {size:,} came"
    if wanted.sha256 is not None and (digest := sha256(part)) != wanted.sha256:
        return f"expected SHA-256 {wanted.sha256}, found {digest}"
    return ""


def _check_encoding(headers: Message, url: str, wanted: Wanted) -> None:
    """Bytes are taken as they are: a server may call a .gz file gzip-encoded, nothing else."""
    encoding = (headers.get("Content-Encoding") or "identity").strip().lower()
    gz = encoding in ("gzip", "x-gzip") and wanted.name.endswith((".gz", ".tgz"))
    if encoding != "identity" and not gz:
        raise InputError(f"{url}: the server sends it in an encoding not asked for ({encoding!r})")


def _check_page(data: bytes, headers: Message, url: str, part: Path) -> None:
    kind = (headers.get("Content-Type") or "").lower()
    if kind.startswith("text/html") or data.lstrip()[:64].lower().startswith(_PAGE):
        forget(part)
        raise InputError(
            f"{url}: a web page came in place of the file (a form, a sign-in or a notice stands "
            "before it); open the address in a browser, save the file, and give it with --from"
        )


def _plain(headers: Message, name: str, shape: re.Pattern[str]) -> str:
    """Return a header that will be sent back, "" unless it is of the shape it should be."""
    text = (headers.get(name) or "").strip()
    return text if shape.fullmatch(text) else ""


def _length(headers: Message) -> int | None:
    text = (headers.get("Content-Length") or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _refused(error: urllib.error.HTTPError, url: str, part: Path) -> Exception:
    """Return what to raise for an answer that is no file: `_CutError` if another try may help."""
    code = error.code
    if code == 416:
        forget(part)
        return _CutError("the server no longer has the part that is missing")
    if code in _PASSING:
        return _CutError(f"the server answers {code}", _retry_after(error.headers))
    if code in (401, 403, 407):
        return InputError(
            f"{url}: the server refuses it ({code}): a sign-in, a form or a licence stands before "
            "it; fetch it as its publisher says, and give it with --from"
        )
    if 300 <= code < 400:
        return InputError(f"{url}: redirected, but not to where ({code})")
    return InputError(f"{url}: the server answers {code}; look for its new place, then give --url")


def _retry_after(headers: Message) -> float | None:
    text = (headers.get("Retry-After") or "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


def _failed(error: Exception, url: str) -> Exception:
    """Return what to raise for a connection that failed: `_CutError` if another try may help."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return InputError(
            f"{url}: its certificate cannot be trusted ({reason.verify_message}); nothing was taken"
        )
    if isinstance(reason, http.client.InvalidURL):
        return InputError(f"{url}: not an address that can be asked for")
    return _CutError(told(reason))


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _note_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_note(part: Path) -> _Note | None:
    """Return the note beside a partial file, None if there is none that makes sense."""
    try:
        value = json.loads(_note_file(part).read_bytes())
        note = _Note(**value)
        typed = all(isinstance(text, str) for text in (note.url, note.etag, note.modified))
        counted = note.total is None or isinstance(note.total, int)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return note if typed and counted else None
