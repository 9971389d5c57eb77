"""Folders of three makes are understood; the report says what is whole, odd, wrong and missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sterna.data.check import check_data
from sterna.data.layout import Layout, MissingDataError
from sterna.data.sources import PUBLISHED, SOURCES
from sterna.data.views import ViewStore, write_views
from sterna.errors import InputError
from sterna.files import read_json


@pytest.fixture
def duet_folder(toy_house: Path, tmp_path: Path) -> Path:
    """The toy world laid out as the DUET release: datasets/R2R/{annotations,connectivity,...}."""
    base = tmp_path / "datasets" / "R2R"
    shutil.copytree(toy_house / "connectivity", base / "connectivity")
    shutil.copytree(toy_house / "features", base / "features")
    (base / "annotations").mkdir()
    for file in (toy_house / "r2r").iterdir():
        shutil.copy(file, base / "annotations" / f"{file.stem}_enc.json")
    return tmp_path


@pytest.fixture
def flat_folder(toy_house: Path, tmp_path: Path) -> Path:
    for file in toy_house.rglob("*"):
        if file.is_file():
            shutil.copy(file, tmp_path / file.name)
    return tmp_path


@pytest.mark.parametrize("make", ["toy_house", "duet_folder", "flat_folder"])
def test_all_layouts(make: str, request: pytest.FixtureRequest) -> None:
    root: Path = request.getfixturevalue(make)
    layout = Layout(root)
    assert len(layout.scans) == 3
    assert layout.annotations("r2r", "val_unseen").is_file()
    assert layout.features("toy").is_file() and layout.feature_files() == [layout.features("toy")]
    report = check_data(root)
    assert report.ok, report.text()


def test_missing_things_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such data folder"):
        Layout(tmp_path / "nowhere")
    layout = Layout(tmp_path)
    for ask in (
        lambda: layout.connectivity,
        lambda: layout.textobs,
        lambda: layout.annotations("r2r", "train"),
        lambda: layout.features("vit"),
        lambda: layout.vlnce("train"),
    ):
        with pytest.raises(MissingDataError, match=r"found no .* \(looked in .*"):
            ask()
    with pytest.raises(InputError, match="unknown task 'soup'"):
        layout.annotations("soup", "train")


def test_an_empty_folder_is_not_usable_and_says_where_to_go(tmp_path: Path) -> None:
    report = check_data(tmp_path)
    assert not report.ok and report.missing == list(SOURCES)
    for source in SOURCES.values():
        assert source.where in report.text() and source.terms in report.text()
    assert json.loads(json.dumps(report.as_dict()))["ok"] is False


def test_own_data_differ_but_are_usable(toy_house: Path) -> None:
    report = check_data(toy_house, full=True)
    assert report.ok
    status = {row.what: row.status for row in report.rows}
    assert status["graphs"] == status["r2r train"] == "differs"
    assert status["features toy.hdf5"] == "ok" and status["r2r test"] == "missing"


def test_faults_are_reported_not_raised(toy_house: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(toy_house, root)
    file = root / "r2r" / "R2R_val_seen.json"
    entries = read_json(file)
    entries[0]["path"][1:2] = []
    file.write_text(json.dumps(entries))
    with ViewStore.open(root / "features" / "toy.hdf5") as store:
        some = {key: store.views(*key.split("_")) for key in store.keys[1:]}
        lost, angles = store.keys[0], (store.headings, store.elevations)
    write_views(root / "features" / "toy.hdf5", some, *angles)
    (root / "features" / "bad.hdf5").write_text("no")
    report = check_data(root)
    rows = {row.what: row for row in report.rows}
    assert not report.ok and "NOT usable" in report.text()
    assert rows["r2r val_seen"].status == "wrong" and "no such edge" in rows["r2r val_seen"].found
    assert "no entry for 1 of 75" in rows["features toy.hdf5"].found
    assert lost in rows["features toy.hdf5"].found
    assert rows["features bad.hdf5"].status == "wrong"
    assert rows["r2r train"].status == "differs"


def test_real_data_have_the_published_counts(data_dir: Path) -> None:
    report = check_data(data_dir)
    rows = {row.what: row for row in report.rows}
    assert report.ok
    assert rows["graphs"].status == rows["text observations"].status == "ok"
    for task, splits in PUBLISHED.items():
        for split in splits:
            assert rows[f"{task} {split}"].status in ("ok", "missing")
    absent = {"r4r train", "r4r val_unseen", "fgr2r train"}
    elsewhere = ("rxr", "rxr-ce", "soon", "ndh")
    missing = {n for n, r in rows.items() if r.status == "missing" and r.source not in elsewhere}
    assert missing == absent
