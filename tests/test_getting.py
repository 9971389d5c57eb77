"""`sterna data get` from the shell: the catalogue, terms, a plan, and data from a local mirror."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_tools import Said, sterna
from file_server import Offer, Server, serve
from sterna.data.sources import SOURCES

Capture = pytest.CaptureFixture[str]
CVDN = {f"/cvdn/{split}.json": b"[]" for split in ("train", "val_seen", "val_unseen")}


@pytest.fixture
def mirror() -> Iterator[Server]:
    with serve() as server:
        server.offers = {path: Offer(content) for path, content in CVDN.items()}
        yield server


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, and no data by environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STERNA_DATA", raising=False)
    return tmp_path


def get(capsys: Capture, *words: object) -> Said:
    return sterna(capsys, "data", "get", *words)


def test_alone_it_lists_what_there_is(capsys: Capture, home: Path) -> None:
    said = get(capsys)
    assert said.code == 0 and all(name in said.out for name in SOURCES)
    assert "sterna data get r2r connectivity --accept" in said.out
    (home / "data" / "r2r").mkdir(parents=True)
    rows = {row["data"]: row for row in get(capsys, "--json").json["data"]}
    assert list(rows) == list(SOURCES) and rows["r2r"]["there"] and not rows["rxr"]["there"]
    assert rows["r2r"]["verified"] == "all" and rows["soon"]["how"] == "by hand"
    assert rows["connectivity"]["bytes"] == 23_848_184


def test_terms_come_first(capsys: Capture, home: Path) -> None:
    said = get(capsys, "r2r", "vlnce")
    assert said.code == 2 and "--accept" in said.out
    assert SOURCES["r2r"].terms in said.out and SOURCES["vlnce"].terms in said.out
    asked = get(capsys, "r2r", "--json")
    assert asked.code == 2 and json.loads(asked.out)["terms"] == {"r2r": SOURCES["r2r"].terms}
    assert not list(home.iterdir())


def test_a_plan_touches_nothing(capsys: Capture, home: Path) -> None:
    said = get(capsys, "r2r", "meshes", "--plan", "--data", "d")
    assert said.code == 0 and "5.8 MB to d/r2r" in said.out and "sign the agreement" in said.out
    steps = get(capsys, "r2r", "--plan", "--json", "--mirror", "http://127.0.0.1/m").json["plan"]
    assert steps[0]["does"] == "fetch" and steps[0]["from"][0].startswith("http://127.0.0.1/m/r2r/")
    assert not list(home.iterdir())


def test_from_a_mirror(capsys: Capture, home: Path, mirror: Server) -> None:
    said = get(capsys, "cvdn", "--accept", "--mirror", mirror.url, "--json")
    assert said.json["data"][0]["status"] == "installed" and "cvdn: installed" in said.err
    assert {p.name for p in (home / "data" / "cvdn").iterdir()} == {
        *("train.json", "val_seen.json", "val_unseen.json", "sterna-receipt.json")
    }
    again = get(capsys, "cvdn", "--accept", "--mirror", mirror.url, "--again")
    assert again.code == 0 and "cvdn: same" in again.out and "next: sterna data check" in again.out
    (home / "data" / "cvdn" / "train.json").write_bytes(b"[1]")
    spoilt = get(capsys, "cvdn", "--accept")
    assert spoilt.code == 1 and "train.json is not the file that was installed" in spoilt.out


def test_one_address_at_a_time(capsys: Capture, mirror: Server) -> None:
    urls = [f"{path[1:]}={mirror.url}{path}" for path in CVDN]
    assert get(capsys, "cvdn", "--accept", "--url", *urls, "--data", "d").code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["r3r"], "no data set 'r3r'; expected some of connectivity, r2r"),
        (["meshes", "--accept"], "sign the agreement"),
        (["cvdn", "features-duet", "--accept"], "features-duet: cannot be fetched by a command"),
        (["r2r", "--accept", "--mirror", "file:///etc"], "expected an address http(s)"),
        (["r2r", "--accept", "--url", "r2r"], "--url takes NAME=URL"),
        (["r2r", "--accept", "--from", "nowhere"], "no such file or folder; check --from"),
        (["r2r", "--accept", "--tries", "0"], "--tries must be at least 1"),
    ],
)
def test_what_makes_no_sense(capsys: Capture, home: Path, words: list[str], says: str) -> None:
    get(capsys, *words, "--data", home / "d").refused(says)
    assert not (home / "d").exists() or not list((home / "d").glob("*"))


def test_a_file_holds_one_data_set(capsys: Capture, home: Path) -> None:
    (home / "a.zip").write_bytes(b"PK")
    get(capsys, "r2r", "r4r", "--accept", "--from", "a.zip").refused("--from FILE holds one")
    get(capsys, "soon", "--accept", "--from", "a.zip").refused("a.zip: not unpacked: it is damaged")
    assert not (home / "data" / "soon").exists()
