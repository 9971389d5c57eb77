"""Files over HTTP: cut ones go on, changed ones begin again, other things are not taken."""

from __future__ import annotations

import errno
import hashlib
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from file_server import Offer, Server, serve
from sterna.data.get import disk
from sterna.data.get.http import Net, Wanted, check_url, download
from sterna.errors import InputError

CONTENT = bytes(range(256)) * 40
OTHER = CONTENT[::-1]
WANTED = Wanted(name="a.bin")


def sure(content: bytes = CONTENT) -> Wanted:
    return Wanted(name="a.bin", size=len(content), sha256=hashlib.sha256(content).hexdigest())


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with serve() as server:
        yield server


@pytest.fixture
def server(running: Server) -> Server:
    running.offers.clear()
    running.asked.clear()
    return running


@pytest.fixture
def net() -> Net:
    return Net(tries=4, timeout=5, progress=False, sleep=lambda _: None)


def take(server: Server, folder: Path, offer: Offer, wanted: Wanted, net: Net) -> dict[str, Any]:
    server.offers["/a.bin"] = offer
    return download(f"{server.url}/a.bin", folder / "a.part", wanted, net)


def ranges(server: Server) -> list[str | None]:
    return [span for _, span, _ in server.asked]


@pytest.mark.parametrize("wanted", [WANTED, sure()])
def test_a_file_comes_whole(server: Server, tmp_path: Path, wanted: Wanted, net: Net) -> None:
    got = take(server, tmp_path, Offer(CONTENT), wanted, net)
    assert (tmp_path / "a.part").read_bytes() == CONTENT
    assert got["bytes"] == len(CONTENT) and got["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert got["etag"].strip('"') == hashlib.md5(CONTENT).hexdigest()
    assert server.asked == [("/a.bin", None, None)]


def test_cut_connections_go_on_where_they_stopped(server: Server, tmp_path: Path, net: Net) -> None:
    take(server, tmp_path, Offer(CONTENT, cut=[1000, 2000, 0]), WANTED, net)
    assert (tmp_path / "a.part").read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=1000-", "bytes=3000-", "bytes=3000-"]
    assert all(version and version.startswith('"') for _, _, version in server.asked[1:])


def test_a_later_run_goes_on_where_the_first_was_cut(
    server: Server, tmp_path: Path, net: Net
) -> None:
    with pytest.raises(InputError, match=r"gave up after 4 tries \(cut at 5,000 of 10,240 bytes\)"):
        take(server, tmp_path, Offer(CONTENT, cut=[5000, 0, 0, 0, 0]), WANTED, net)
    take(server, tmp_path, Offer(CONTENT), WANTED, net)
    assert (tmp_path / "a.part").read_bytes() == CONTENT
    assert ranges(server)[-1] == "bytes=5000-"


def test_a_complete_file_is_not_asked_for_again(server: Server, tmp_path: Path, net: Net) -> None:
    first = take(server, tmp_path, Offer(CONTENT), WANTED, net)
    assert take(server, tmp_path, Offer(OTHER), WANTED, net) == first
    assert len(server.asked) == 1


def test_a_server_without_ranges_is_asked_from_the_beginning(
    server: Server, tmp_path: Path, net: Net
) -> None:
    take(server, tmp_path, Offer(CONTENT, ranges=False, cut=[1000, 2000]), WANTED, net)
    assert (tmp_path / "a.part").read_bytes() == CONTENT


@pytest.mark.parametrize("careless", [False, True])
def test_a_file_that_changed_in_between_is_taken_anew(
    server: Server, tmp_path: Path, net: Net, careless: bool
) -> None:
    """By the server, which minds If-Range, or by us, where it does not but tells its ETag."""
    then = Offer(OTHER, if_range=not careless)
    take(server, tmp_path, Offer(CONTENT, cut=[3000], then=then), WANTED, net)
    assert (tmp_path / "a.part").read_bytes() == OTHER


def test_the_date_of_change_serves_where_the_etag_is_weak(
    server: Server, tmp_path: Path, net: Net
) -> None:
    date = "Tue, 01 Dec 2026 08:00:00 GMT"
    take(server, tmp_path, Offer(CONTENT, etag='W/"1"', modified=date, cut=[10]), WANTED, net)
    assert server.asked[1] == ("/a.bin", "bytes=10-", date)
    assert (tmp_path / "a.part").read_bytes() == CONTENT


def test_without_version_and_checksum_nothing_is_continued(
    server: Server, tmp_path: Path, net: Net
) -> None:
    take(server, tmp_path, Offer(CONTENT, etag="", cut=[3000]), WANTED, net)
    assert ranges(server) == [None, None] and (tmp_path / "a.part").read_bytes() == CONTENT


def test_two_versions_put_together_are_told_by_the_checksum_and_fetched_anew(
    server: Server, tmp_path: Path, net: Net
) -> None:
    old = bytes(len(CONTENT))
    take(
        server, tmp_path, Offer(old, etag="", cut=[3000], then=Offer(CONTENT, etag="")), sure(), net
    )
    assert ranges(server) == [None, "bytes=3000-", None]
    assert (tmp_path / "a.part").read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_not_kept(server: Server, tmp_path: Path, net: Net) -> None:
    with pytest.raises(
        InputError, match=r"expected SHA-256 [0-9a-f]{64}, found [0-9a-f]{64}; it ch"
    ):
        take(server, tmp_path, Offer(OTHER), sure(), net)
    assert not list(tmp_path.iterdir()) and len(server.asked) == 1


@pytest.mark.parametrize("length", ["99999", "1", "-5", "many", None])
def test_a_content_length_that_is_not_true(
    server: Server, tmp_path: Path, net: Net, length: str | None
) -> None:
    """A known file is never taken short or long; a length that says nothing is passed over."""
    offer = Offer(CONTENT, headers={"Content-Length": length})
    if length in ("99999", "1"):
        with pytest.raises(InputError, match="expected 10,240 bytes, the server offers"):
            take(server, tmp_path, offer, sure(), net)
        assert not list(tmp_path.iterdir())
    else:
        take(server, tmp_path, offer, sure(), net)


def test_a_length_that_promises_too_much_is_a_cut(server: Server, tmp_path: Path, net: Net) -> None:
    offer = Offer(CONTENT, headers={"Content-Length": "99999"}, ranges=False)
    with pytest.raises(InputError, match="cut at 10,240 of 99,999 bytes"):
        take(server, tmp_path, offer, WANTED, net)


@pytest.mark.parametrize(
    "answer",
    [
        {"Content-Range": "bytes 0-10239/10240"},
        {"Content-Range": "bytes 3000-10239/5"},
        {"Content-Range": "pages 3-4"},
        {"Content-Range": None},
    ],
)
def test_ranges_that_were_not_asked_for(
    server: Server, tmp_path: Path, net: Net, answer: dict[str, str | None]
) -> None:
    good = Offer(CONTENT)
    bad = Offer(CONTENT, headers=answer, then=good)
    take(server, tmp_path, Offer(CONTENT, cut=[3000], then=bad), WANTED, net)
    assert (tmp_path / "a.part").read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=3000-", None]


def test_a_range_nobody_asked_for_is_not_taken_for_the_file(
    server: Server, tmp_path: Path, net: Net
) -> None:
    with pytest.raises(InputError, match="another file than the one begun"):
        take(server, tmp_path, Offer(CONTENT, status=206), WANTED, net)


@pytest.mark.parametrize(
    "offer",
    [
        Offer(CONTENT, headers={"Content-Type": "text/html; charset=utf-8"}),
        Offer(b"\n <!DOCTYPE html><html><body>Please sign in</body></html>"),
        Offer(b"<html>quota exceeded</html>"),
        Offer(b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'),
    ],
)
def test_a_page_in_place_of_the_file(
    server: Server, tmp_path: Path, net: Net, offer: Offer
) -> None:
    with pytest.raises(InputError, match=r"a web page came in place of the file.*--from"):
        take(server, tmp_path, offer, WANTED, net)
    assert not list(tmp_path.iterdir())


def test_redirects_are_followed_within_reason(server: Server, tmp_path: Path, net: Net) -> None:
    server.offers["/b.bin"] = Offer(CONTENT)
    take(server, tmp_path, Offer(status=302, headers={"Location": "/b.bin"}), WANTED, net)
    assert (tmp_path / "a.part").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("/a.bin", "redirected more than 10 times"),
        ("file:///etc/passwd", "expected an address"),
        ("ftp://127.0.0.1/a", "expected an address"),
        ("data:text/plain,hello", "expected an address"),
        ("http://[::1", "makes no sense"),
        ("http://127.0.0.1:99999999/", "expected an address"),
        ("http:///nowhere", "answers 404"),
        ("http://" + "a" * 300 + ".invalid/", "makes no sense|gave up"),
        (None, "not to where"),
    ],
)
def test_redirects_to_where_nobody_should_go(
    server: Server, tmp_path: Path, net: Net, target: str | None, says: str
) -> None:
    with pytest.raises(InputError, match=says) as caught:
        take(server, tmp_path, Offer(status=302, headers={"Location": target}), WANTED, net)
    assert "\n" not in str(caught.value) and not (tmp_path / "a.part").exists()


@pytest.mark.parametrize(
    ("status", "says"),
    [(404, "answers 404; look for its new place"), (401, "a licence stands"), (403, "a licence")],
)
def test_refusals_are_final(
    server: Server, tmp_path: Path, net: Net, status: int, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        take(server, tmp_path, Offer(status=status), WANTED, net)
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again_after_the_time_it_names(
    server: Server, tmp_path: Path
) -> None:
    waits: list[float] = []
    net = Net(tries=4, progress=False, sleep=waits.append, pause=2)
    busy = Offer(status=503, headers={"Retry-After": "7"})
    busy.then = Offer(CONTENT, first=[500, 429])
    take(server, tmp_path, busy, WANTED, net)
    assert waits == [7, 4, 8] and (tmp_path / "a.part").read_bytes() == CONTENT


def test_a_range_past_the_end_begins_again(server: Server, tmp_path: Path, net: Net) -> None:
    shorter = Offer(CONTENT[:100], if_range=False)
    take(server, tmp_path, Offer(CONTENT, cut=[3000], then=shorter), WANTED, net)
    assert (tmp_path / "a.part").read_bytes() == CONTENT[:100]


def test_a_body_without_end_is_not_taken(server: Server, tmp_path: Path) -> None:
    net = Net(most=5000, progress=False)
    with pytest.raises(InputError, match="sends more than the 5,000 bytes"):
        take(server, tmp_path, Offer(CONTENT, headers={"Content-Length": None}), WANTED, net)
    with pytest.raises(InputError, match=r"offers 10\.2 KB, more than 5\.0 KB"):
        take(server, tmp_path, Offer(CONTENT), WANTED, net)
    assert not (tmp_path / "a.part").exists()


def test_encodings_are_taken_as_they_are_or_refused(
    server: Server, tmp_path: Path, net: Net
) -> None:
    gz = Offer(CONTENT, headers={"Content-Encoding": "x-gzip"})
    take(server, tmp_path, gz, Wanted(name="a.jsonl.gz"), net)
    assert (tmp_path / "a.part").read_bytes() == CONTENT
    (tmp_path / "a.part").unlink()
    with pytest.raises(InputError, match="in an encoding not asked for"):
        take(server, tmp_path, gz, WANTED, net)


def test_a_full_disk_keeps_what_came_and_goes_on(
    server: Server, tmp_path: Path, net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(file: Any, data: bytes) -> None:
        file.write(data[:4000])
        raise disk.failed(OSError(errno.ENOSPC, "No space left on device"), file.name)

    with monkeypatch.context() as patch:
        patch.setattr(disk, "write", small)
        with pytest.raises(disk.NoRoomError, match=r"No space left.*the same command continues"):
            take(server, tmp_path, Offer(CONTENT), WANTED, net)
    assert (tmp_path / "a.part").stat().st_size == 4000
    take(server, tmp_path, Offer(CONTENT), WANTED, net)
    assert (tmp_path / "a.part").read_bytes() == CONTENT and ranges(server)[-1] == "bytes=4000-"


def test_room_is_asked_for_before_anything_comes(
    server: Server, tmp_path: Path, net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "free", lambda folder: 5000)
    with pytest.raises(disk.NoRoomError, match=r"needs 10\.2 KB, and 5\.0 KB are free"):
        take(server, tmp_path, Offer(CONTENT), WANTED, net)
    assert not (tmp_path / "a.part").read_bytes()


@pytest.mark.parametrize("note", ["", "{", "[]", '{"url": 3}', '{"url": "http://elsewhere/"}'])
def test_a_part_with_a_note_that_does_not_fit_is_begun_again(
    server: Server, tmp_path: Path, net: Net, note: str
) -> None:
    (tmp_path / "a.part").write_bytes(b"rubbish")
    (tmp_path / "a.part.json").write_text(note)
    take(server, tmp_path, Offer(CONTENT), WANTED, net)
    assert (tmp_path / "a.part").read_bytes() == CONTENT and ranges(server) == [None]


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "ftp://a/b",
        "http://",
        "http://a/\r\nX: y",
        "http://a b",
        "http://me:pass@a/",
    ],
)
def test_only_the_web_is_asked(tmp_path: Path, net: Net, url: str) -> None:
    with pytest.raises(InputError, match="expected an address http"):
        download(url, tmp_path / "a.part", WANTED, net)
    assert check_url("https://example.org/a?b=c") == "https://example.org/a?b=c"


def test_nobody_there_is_tried_again_and_then_said(tmp_path: Path) -> None:
    waits: list[float] = []
    net = Net(tries=3, timeout=1, progress=False, sleep=waits.append)
    with pytest.raises(InputError, match="gave up after 3 tries"):
        download("http://127.0.0.1:9/a.bin", tmp_path / "a.part", WANTED, net)
    assert waits == [1, 2]


def test_a_certificate_nobody_vouches_for_is_not_trusted(tmp_path: Path, net: Net) -> None:
    if not (openssl := shutil.which("openssl")):
        pytest.skip("no openssl here: certificates are not checked by this test")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    order = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    order += " -addext subjectAltName=IP:127.0.0.1"
    command = [openssl, *order.split(), "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    from http.server import BaseHTTPRequestHandler, HTTPServer

    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        thread = Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(InputError, match="its certificate cannot be trusted"):
            download(f"https://127.0.0.1:{server.server_port}/a", tmp_path / "a.part", WANTED, net)
        thread.join()
