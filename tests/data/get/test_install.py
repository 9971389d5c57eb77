"""Data sets come to their place complete or not at all, and what is there is never touched."""

from __future__ import annotations

import errno
import fcntl
import gzip
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from file_server import Offer, Server, serve
from sterna.data.get import disk, install, receipt
from sterna.data.get.http import Net
from sterna.data.get.install import Wish, get
from sterna.data.remote import Remote, Source, Tree
from sterna.errors import InputError

TRAIN, VAL = b'[{"path_id": 1}]' * 500, b"[]"
BOXES = {"s_a.json": b"{}", "s_b.json": b'{"a": 1}'}


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


ARCHIVE = zipped({f"repo-1/data/BBox/{n}": c for n, c in BOXES.items()} | {"repo-1/x.py": b"x"})


def source(server: str = "http://127.0.0.1:9", **changes: Any) -> Source:
    """Two files, one with a known checksum, and an archive of which one folder is wanted."""
    listing = "".join(f"{sha(content)}  {name}\n" for name, content in BOXES.items())
    fields: dict[str, Any] = {
        "name": "Toy set",
        "where": "https://example.org",
        "size": "8 KB",
        "terms": "be kind",
        "needed_for": "tests",
        "folder": "sets/toy",
        "remotes": (
            Remote(path="train.json", urls=(f"{server}/t/train.json",), sha256=sha(TRAIN)),
            Remote(path="sub/val.json", urls=(f"{server}/t/val.json",)),
            Remote(path="BBox", urls=(f"{server}/t/repo.zip",), inside="data/BBox"),
        ),
        "trees": (Tree(folder="BBox", files=2, sha256=sha(listing.encode())),),
    }
    return Source(**(fields | changes))


EXPECTED = {"train.json": TRAIN, "sub/val.json": VAL} | {f"BBox/{n}": c for n, c in BOXES.items()}


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with serve() as server:
        yield server


@pytest.fixture
def server(running: Server) -> Server:
    running.asked.clear()
    running.offers = {
        "/t/train.json": Offer(TRAIN),
        "/t/val.json": Offer(VAL),
        "/t/repo.zip": Offer(ARCHIVE),
    }
    return running


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def wish() -> Wish:
    return Wish(net=Net(tries=2, timeout=5, progress=False, sleep=lambda _: None))


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != receipt.RECEIPT)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def nothing_installed(root: Path) -> bool:
    """No place is taken, and nothing half put together is left."""
    left = {path.name for path in root.rglob("*") if path.is_file()} if root.exists() else set()
    return not (root / "sets" / "toy").exists() and all(
        ".part" in n or n.endswith(".lock") for n in left
    )


def test_a_data_set_comes_whole_with_a_receipt(server: Server, root: Path, wish: Wish) -> None:
    done = get("toy", source(server.url), root, wish)
    assert done.status == "installed" and done.ok and done.files == 4
    assert files(root / "sets" / "toy") == EXPECTED
    kept = json.loads((root / "sets" / "toy" / receipt.RECEIPT).read_text())
    assert kept["files"]["sub/val.json"] == [2, sha(VAL)] and kept["terms"] == "be kind"
    assert [one["sha256"] for one in kept["fetched"]] == [sha(TRAIN), sha(VAL), sha(ARCHIVE)]
    assert {path.name for path in (root / install.WORK).iterdir()} == {"toy.lock"}


def test_a_second_time_nothing_is_fetched_and_all_is_compared(
    server: Server, root: Path, wish: Wish
) -> None:
    get("toy", source(server.url), root, wish)
    server.asked.clear()
    assert get("toy", source(server.url), root, wish).status == "there" and not server.asked
    (root / "sets" / "toy" / "sub" / "val.json").write_bytes(b"[1]")
    spoilt = get("toy", source(server.url), root, wish)
    assert spoilt.status == "changed" and not spoilt.ok and "sub/val.json" in spoilt.says
    assert (root / "sets" / "toy" / "sub" / "val.json").read_bytes() == b"[1]"


def test_a_killed_run_goes_on(
    server: Server, root: Path, wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the moment: after one file, amid another, while unpacking, before the last move."""

    def stop(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    server.offers["/t/val.json"] = Offer(VAL, cut=[1, 0, 0])
    with pytest.raises(InputError, match="gave up after 2 tries"):
        get("toy", source(server.url), root, wish)
    assert nothing_installed(root)
    for module, name in ((install, "unpack"), (receipt, "write"), (os, "rename")):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(module, name, stop)
            get("toy", source(server.url), root, wish)
        assert nothing_installed(root)
    server.asked.clear()
    get("toy", source(server.url), root, wish)
    assert files(root / "sets" / "toy") == EXPECTED


def test_what_was_fetched_is_not_fetched_again(server: Server, root: Path, wish: Wish) -> None:
    server.offers["/t/repo.zip"] = Offer(ARCHIVE, cut=[100, 0])
    with pytest.raises(InputError, match="cut at 100 of"):
        get("toy", source(server.url), root, wish)
    server.asked.clear()
    get("toy", source(server.url), root, wish)
    assert [path for path, _, _ in server.asked] == ["/t/repo.zip"]
    assert server.asked[0][1] == "bytes=100-"


@pytest.mark.parametrize(
    ("path", "offer", "says"),
    [
        ("/t/train.json", Offer(b"[]"), "expected SHA-256"),
        ("/t/train.json", Offer(status=404), "answers 404"),
        ("/t/val.json", Offer(b"<html>sign in</html>"), "a web page came"),
        ("/t/repo.zip", Offer(ARCHIVE[:-30]), r"^repo\.zip: not unpacked: it is damaged"),
        ("/t/repo.zip", Offer(zipped({"data/BBox/../../x": b"1"})), "climbs out"),
        ("/t/repo.zip", Offer(zipped({"data/BBox/s_a.json": b"1"})), "expected 2 files in BBox"),
        (
            "/t/repo.zip",
            Offer(zipped({f"data/BBox/{name}": b"1" for name in BOXES})),
            "the files in BBox are not those published",
        ),
        ("/t/repo.zip", Offer(zipped({"data/Box/a": b"1"})), "holds nothing in 'data/BBox'"),
    ],
)
def test_what_is_not_it_is_not_installed_and_next_time_it_is(
    server: Server, root: Path, wish: Wish, path: str, offer: Offer, says: str
) -> None:
    good = server.offers[path]
    server.offers[path] = offer
    with pytest.raises(InputError, match=says) as caught:
        get("toy", source(server.url), root, wish)
    assert "\n" not in str(caught.value) and nothing_installed(root)
    server.offers[path] = good
    assert get("toy", source(server.url), root, wish).status == "installed"


def test_the_next_address_is_tried_where_the_first_fails(
    server: Server, root: Path, wish: Wish
) -> None:
    urls = (f"{server.url}/gone", f"{server.url}/t/val.json")
    one = source(remotes=(Remote(path="val.json", urls=urls),), trees=())
    get("toy", one, root, wish)
    assert files(root / "sets" / "toy") == {"val.json": VAL}
    server.offers["/t/val.json"] = Offer(VAL * 50, cut=[10, 0])
    with pytest.raises(InputError, match="cut at 10 of 100"):
        get("toy", one, root / "slow", wish)
    server.asked.clear()
    get("toy", one, root / "slow", wish)  # goes on where it was begun, not at the first address
    assert server.asked[0][:2] == ("/t/val.json", "bytes=10-")
    server.offers.clear()
    with pytest.raises(InputError, match=r"/gone: .*404.*; and then .*/t/val.json: .*404"):
        get("toy", one, root / "other", wish)


def test_a_mirror_and_other_addresses_take_the_place_of_publishers(
    server: Server, root: Path, wish: Wish
) -> None:
    mirror = {"/m/sets/toy/train.json": TRAIN, "/m/sets/toy/sub/val.json": VAL}
    mirror["/m/sets/toy/repo.zip"] = ARCHIVE
    server.offers = {path: Offer(content) for path, content in mirror.items()}
    server.offers["/other"] = Offer(b"[7]")
    urls = {"sets/toy/sub/val.json": f"{server.url}/other"}
    given = Wish(mirror=f"{server.url}/m/", urls=urls, net=wish.net)
    get("toy", source(), root, given)
    assert files(root / "sets" / "toy") == EXPECTED | {"sub/val.json": b"[7]"}


def test_one_archive_of_everything_may_be_fetched_in_place_of_the_files(
    server: Server, root: Path, wish: Wish
) -> None:
    whole = zipped({f"mine/{path}": content for path, content in EXPECTED.items()})
    server.offers = {"/whole.zip": Offer(whole)}
    get("toy", source(), root, Wish(urls={"toy": f"{server.url}/whole.zip"}, net=wish.net))
    assert files(root / "sets" / "toy") == EXPECTED


@pytest.mark.parametrize("shape", ["as it was fetched", "unpacked", "gzipped", "one archive"])
def test_what_is_at_hand_is_taken_from_there(
    tmp_path: Path, root: Path, wish: Wish, shape: str
) -> None:
    mine = tmp_path / "mine"
    (mine / "deep").mkdir(parents=True)
    offered = mine
    if shape == "as it was fetched":
        (mine / "repo.zip").write_bytes(ARCHIVE)
        (mine / "deep" / "train.json").write_bytes(TRAIN)
        (mine / "val.json").write_bytes(VAL)
    elif shape == "unpacked":
        for path, content in EXPECTED.items():
            (mine / "deep" / path).parent.mkdir(parents=True, exist_ok=True)
            (mine / "deep" / path).write_bytes(content)
    elif shape == "gzipped":
        (mine / "BBox.zip").write_bytes(ARCHIVE)
        for name, content in (("train", TRAIN), ("val", VAL)):
            (mine / f"{name}.json.gz").write_bytes(gzip.compress(content))
    else:
        offered = tmp_path / "all.zip"
        offered.write_bytes(zipped({f"x/{path}": content for path, content in EXPECTED.items()}))
    before = files(mine)
    done = get("toy", source(), root, Wish(offered=offered))
    assert done.status == "installed" and files(root / "sets" / "toy") == EXPECTED
    assert files(mine) == before


def test_what_is_at_hand_is_checked_like_anything_else(tmp_path: Path, root: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    with pytest.raises(InputError, match=r"no such file or folder; check --from"):
        get("toy", source(), root, Wish(offered=tmp_path / "nothing"))
    with pytest.raises(InputError, match=r"expected repo.zip, found 0 archives"):
        get("toy", source(), root, Wish(offered=mine))
    (mine / "repo.zip").write_bytes(ARCHIVE)
    with pytest.raises(InputError, match=r"--from mine: train.json is not in it"):
        get("toy", source(), root, Wish(offered=mine))
    for place in ("a", "b"):
        (mine / place).mkdir()
        (mine / place / "train.json").write_bytes(TRAIN)
    with pytest.raises(InputError, match=r"train.json is in it 2 times"):
        get("toy", source(), root, Wish(offered=mine))
    (mine / "train.json").write_bytes(b"[]")
    (mine / "val.json").write_bytes(VAL)
    with pytest.raises(InputError, match=r"Toy set: train.json: expected SHA-256"):
        get("toy", source(), root, Wish(offered=mine))
    (mine / "train.json").unlink()
    (mine / "train.json.gz").write_bytes(gzip.compress(TRAIN)[:-9])
    with pytest.raises(InputError, match=r"train.json.gz: cannot be unpacked"):
        get("toy", source(), root, Wish(offered=mine))
    assert nothing_installed(root)


def test_data_behind_a_form_says_what_to_do(tmp_path: Path, root: Path, wish: Wish) -> None:
    form = source(remotes=(Remote(path="", inside=""),), trees=(), holds=("*.json",),
                  by_hand="fill in the form")  # fmt: skip
    with pytest.raises(InputError, match="toy: cannot be fetched by a command: fill in the form"):
        get("toy", form, root, wish)
    with pytest.raises(InputError, match="sign it"):
        get("toy", source(remotes=(), trees=(), by_hand="sign it"), root, Wish(offered=tmp_path))
    (tmp_path / "came.zip").write_bytes(zipped({"x/train.json": TRAIN}))
    get("toy", form, root, Wish(offered=tmp_path / "came.zip"))
    assert files(root / "sets" / "toy") == {"train.json": TRAIN}
    with pytest.raises(InputError, match="cannot be fetched by a command: fill in"):
        get("toy", form, root, Wish(again=True, offered=tmp_path / "came.zip"))
    (tmp_path / "came.zip").write_bytes(zipped({"x/train.txt": TRAIN}))
    with pytest.raises(InputError, match=r"expected a file like \*.json, found none"):
        get("toy", form, root / "b", Wish(offered=tmp_path / "came.zip"))


def test_what_others_put_there_is_left_as_it_is(server: Server, root: Path, wish: Wish) -> None:
    place = root / "sets" / "toy"
    place.mkdir(parents=True)
    (place / "train.json").write_bytes(TRAIN)
    kept = get("toy", source(server.url), root, wish)
    assert kept.status == "kept" and kept.ok and "1 of 1 files as published" in kept.says
    (place / "train.json").rename(place / "train.json.gz")
    (place / "train.json.gz").write_bytes(gzip.compress(TRAIN))
    assert "1 of 1 files" in get("toy", source(server.url), root, wish).says
    (place / "train.json.gz").unlink()
    (place / "train.json").write_bytes(b"mine")
    other = get("toy", source(server.url), root, wish)
    assert other.status == "changed" and "train.json is not as published" in other.says
    with pytest.raises(InputError, match="has no receipt to compare with"):
        get("toy", source(server.url), root, Wish(again=True, net=wish.net))
    assert files(place) == {"train.json": b"mine"} and not server.asked
    (root / "elsewhere").mkdir()
    (place / "train.json").rename(root / "elsewhere" / "x")
    place.rmdir()
    place.symlink_to(root / "nowhere")
    assert get("toy", source(server.url), root, wish).status == "kept"


def test_a_folder_that_appears_meanwhile_is_not_replaced(
    server: Server, root: Path, wish: Wish, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = receipt.write

    def slow(*args: Any) -> None:
        (root / "sets" / "toy").mkdir(parents=True)
        (root / "sets" / "toy" / "mine").write_bytes(b"1")
        whole(*args)

    monkeypatch.setattr(receipt, "write", slow)
    with pytest.raises(InputError, match="cannot be put there"):
        get("toy", source(server.url), root, wish)
    assert files(root / "sets" / "toy") == {"mine": b"1"}


def test_a_second_fetch_is_compared_with_the_first(server: Server, root: Path, wish: Wish) -> None:
    get("toy", source(server.url), root, wish)
    again = Wish(again=True, net=wish.net)
    assert get("toy", source(server.url), root, again).status == "same"
    get("toy", source(server.url), root / "mine", Wish(offered=root / "sets" / "toy"))
    assert get("toy", source(server.url), root / "mine", again).status == "changed"
    server.offers["/t/val.json"] = Offer(b"[2]")
    other = get("toy", source(server.url), root, again)
    assert other.status == "changed" and "other bytes" in other.says
    assert files(root / "sets" / "toy") == EXPECTED
    assert {path.name for path in (root / install.WORK).iterdir()} == {"toy.lock"}


def test_two_processes_do_not_fetch_the_same(server: Server, root: Path, wish: Wish) -> None:
    (root / install.WORK).mkdir(parents=True)
    with (root / install.WORK / "toy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is fetching toy there"):
            get("toy", source(server.url), root, wish)
    assert get("toy", source(server.url), root, wish).status == "installed"


@pytest.mark.parametrize("room", [0, 1, 4000, 7900, 8100, 8400])
def test_a_disk_that_fills_up_at_any_moment(
    server: Server, root: Path, wish: Wish, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    left = [room]
    whole = disk.write

    def quota(file: Any, data: bytes) -> None:
        whole(file, data[: max(left[0], 0)])
        left[0] -= len(data)
        if left[0] < 0:
            raise disk.failed(OSError(errno.ENOSPC, "No space left on device"), file.name)

    with monkeypatch.context() as patch:
        patch.setattr(disk, "write", quota)
        with pytest.raises(disk.NoRoomError, match=r"No space left on device"):
            get("toy", source(server.url), root, wish)
    assert nothing_installed(root)
    get("toy", source(server.url), root, wish)
    assert files(root / "sets" / "toy") == EXPECTED


def test_a_data_folder_that_cannot_be_one(server: Server, tmp_path: Path, wish: Wish) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="file"):
        get("toy", source(server.url), tmp_path / "file", wish)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"files": 3}', '{"data": "x", "files": {"a": 1}}']
)
def test_a_receipt_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / receipt.RECEIPT).write_text(text)
    assert receipt.read(tmp_path) is None
