"""A thousand hostile or broken archives and answers: whole and inside, or refused in one line."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from hostile import answer, archive, damaged, enemy
from sterna.data.get import receipt
from sterna.data.get.http import Net
from sterna.data.get.install import WORK, Wish, get
from sterna.data.get.names import safe_parts
from sterna.data.get.unpack import Limits
from sterna.data.remote import Remote, Source
from sterna.errors import InputError

LIMITS = Limits(files=100, bytes=1 << 20, ratio=40, floor=1 << 14)
NET = Net(tries=3, timeout=3, most=1 << 20, progress=False, sleep=lambda _: None)
JSON = b'[{"path_id": 7}]' * 20


def source(*remotes: Remote) -> Source:
    return Source(
        name="Toy", where="-", size="-", terms="-", needed_for="-", folder="toy", remotes=remotes
    )


def attempt(base: Path, wanted: Source, wish: Wish) -> str:
    """Try to install into `base`/data, check that nothing else changed, return what happened."""
    before = _listing(base)
    place = base / "data" / "toy"
    try:
        get("toy", wanted, base / "data", wish)
    except InputError as error:
        assert len(str(error).splitlines()) == 1 and str(error).isprintable(), repr(str(error))
        assert not os.path.lexists(place)
        happened = "refused"
    else:
        kept = receipt.read(place)
        assert kept is not None and kept.files and not receipt.changed(place, kept)
        for path in place.rglob("*"):
            assert not path.is_symlink() and (path.is_file() or path.is_dir())
            assert safe_parts(path.relative_to(place).as_posix())
        assert {p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file()} == {
            *kept.files,
            receipt.RECEIPT,
        }
        happened = "installed"
    assert _listing(base) == before
    inside = {path.name for path in (base / "data").iterdir()}
    assert inside <= {WORK, "toy"}
    work = base / "data" / WORK / "toy"
    assert not work.exists() or all(".part" in path.name for path in work.iterdir())
    return happened


def _listing(base: Path) -> dict[str, bytes | None]:
    """Everything beside the data folder, with content."""
    beside = [p for p in base.rglob("*") if "data" not in p.relative_to(base).parts]
    return {str(path): path.read_bytes() if path.is_file() else None for path in beside}


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with something in it that must stay as it is, beside the data folder to be."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # thousands of them take minutes
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "guard").write_bytes(b"stay")
    return folder


def test_five_hundred_archives_at_hand(base: Path, tmp_path: Path) -> None:
    happened: Counter[str] = Counter()
    for seed in range(500):
        dice = Random(seed)
        file = tmp_path / "offered"
        file.write_bytes(archive(dice, str(base)))
        inside = dice.choice(("", "", "data"))
        wish = Wish(offered=file, limits=LIMITS)
        happened[attempt(base, source(Remote(path="", inside=inside)), wish)] += 1
        shutil.rmtree(base / "data")
    assert min(happened["installed"], happened["refused"]) > 50, happened


def test_one_hundred_packed_files_at_hand(base: Path, tmp_path: Path) -> None:
    happened: Counter[str] = Counter()
    digest = hashlib.sha256(JSON).hexdigest()
    for seed in range(100):
        dice = Random(f"gz {seed}")
        packed = gzip.compress(JSON)
        (tmp_path / "a.json.gz").write_bytes(packed if seed % 5 == 0 else damaged(dice, packed))
        known = Remote(path="a.json", sha256=digest)
        happened[attempt(base, source(known), Wish(offered=tmp_path / "a.json.gz"))] += 1
        place = base / "data" / "toy" / "a.json"
        assert not place.exists() or place.read_bytes() == JSON
        shutil.rmtree(base / "data")
    assert min(happened["installed"], happened["refused"]) > 10, happened


@pytest.mark.parametrize("kind", ["archive", "file"])
def test_two_hundred_servers(base: Path, kind: str) -> None:
    """Each answers up to nine connections; a known file comes right or not at all."""
    happened: Counter[str] = Counter()
    digest = hashlib.sha256(JSON).hexdigest()
    good = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(JSON), JSON)
    with enemy() as server:
        for seed in range(200):
            dice = Random(f"{kind} {seed}")
            body = archive(dice, str(base)) if kind == "archive" else JSON
            server.script = [answer(dice, body) for _ in range(9)]
            urls = (f"{server.url}/a.zip", f"{server.url}/b.zip")[: dice.randint(1, 2)]
            remote = (
                Remote(path="", urls=urls, inside="")
                if kind == "archive"
                else Remote(path="a.json", urls=urls, sha256=dice.choice((digest, digest, None)))
            )
            wish = Wish(net=NET, limits=LIMITS)
            happened[last := attempt(base, source(remote), wish)] += 1
            if kind == "file" and last == "refused":  # whatever it left, a good server mends it
                server.script = [good] * 4
                assert attempt(base, source(remote), wish) == "installed"
            place = base / "data" / "toy" / "a.json"
            if kind == "file" and remote.sha256 and place.exists():
                assert place.read_bytes() == JSON
            shutil.rmtree(base / "data", ignore_errors=True)
    assert min(happened["installed"], happened["refused"]) > 10, happened
