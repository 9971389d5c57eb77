"""The catalogue is one, agrees with itself, and says the same in the terminal and in the docs."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sterna.data.check import check_data
from sterna.data.get.http import check_url
from sterna.data.get.install import Wish, addresses, get
from sterna.data.get.names import safe_parts
from sterna.data.get.table import markdown
from sterna.data.layout import Layout
from sterna.data.remote import checksums
from sterna.data.sources import SOURCES
from sterna.errors import InputError

DOCS = Path(__file__).parents[3] / "docs" / "data.md"


def test_the_page_has_the_tables_of_the_catalogue() -> None:
    """To write them anew: python -c 'from sterna.data import sources; from sterna.data.get import
    table; print(table.markdown(sources.SOURCES))'."""
    assert markdown(SOURCES) in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SOURCES)
def test_every_data_set_says_all_that_is_asked(name: str) -> None:
    source = SOURCES[name]
    for text in (source.name, source.where, source.size, source.terms, source.needed_for):
        assert text and "\n" not in text
    assert "https://" in source.where and safe_parts(source.folder)
    assert source.remotes or source.by_hand
    for remote in source.remotes:
        assert remote.path == "" or safe_parts(remote.path)
        assert remote.urls or source.by_hand
        for url in remote.urls:
            assert check_url(url).startswith("https://")
        assert remote.sha256 is None or re.fullmatch("[0-9a-f]{64}", remote.sha256)
    assert all(r.inside is None or source.trees or source.holds for r in source.remotes)


def test_no_two_data_sets_lie_in_each_other() -> None:
    folders = [source.folder + "/" for source in SOURCES.values()]
    inside = [(a, b) for a in folders for b in folders if a != b and b.startswith(a)]
    assert not inside and len(set(folders)) == len(folders)


def test_every_listed_checksum_is_used_and_every_file_name_is_its_address() -> None:
    used = set()
    for source in SOURCES.values():
        for remote in source.remotes:
            if remote.inside is None and remote.sha256:
                used.add(f"{source.folder}/{remote.path}")
                for url in remote.urls:
                    assert urlsplit(url).path.endswith(remote.name)
    assert used == set(checksums()) and len(used) == 385


def test_a_mirror_has_every_file_at_a_place_of_its_own() -> None:
    wish = Wish(mirror="http://127.0.0.1/m")
    places = [
        url
        for name, source in SOURCES.items()
        for remote in source.remotes
        for url in addresses(name, source, remote, wish)
        if remote.urls
    ]
    assert len(set(places)) == len(places) and all(" " not in url for url in places)


AT_HAND = ("connectivity", "r2r", "r4r", "reverie", "reverie-v2", "textobs", "vlnce")


def test_real_files_are_those_of_the_catalogue_and_every_reader_finds_them(
    data_dir: Path, tmp_path: Path
) -> None:
    """What STERNA_DATA holds, in whatever packing, comes out with the published checksums."""
    for name in AT_HAND:
        done = get(name, SOURCES[name], tmp_path, Wish(offered=data_dir))
        assert done.status == "installed", done.says
    layout = Layout(tmp_path)
    assert len(layout.scans) == 90 and layout.textobs == tmp_path / "textobs"
    assert layout.boxes == tmp_path / "reverie" / "v1" / "BBox"
    assert layout.vlnce("val_unseen").is_relative_to(tmp_path / "vlnce")
    for task, split in (("r2r", "test"), ("r4r", "val_seen"), ("reverie-v2", "train")):
        assert layout.annotations(task, split).is_relative_to(tmp_path)


def test_data_set_folders_are_found_by_the_layout(tmp_path: Path) -> None:
    """Those that no real file is here for: features below features/, RxR and RxR-CE."""
    for name in ("features-duet", "objects-reverie", "features-scalevln"):
        folder = tmp_path / SOURCES[name].folder
        folder.mkdir(parents=True)
        (folder / f"{name}.hdf5").write_bytes(b"")
    layout = Layout(tmp_path)
    assert len(layout.feature_files()) == 3
    assert layout.features("features-duet").parent == tmp_path / "features" / "duet"
    rxr = tmp_path / SOURCES["rxr"].folder
    rxr.mkdir()
    for remote in SOURCES["rxr"].remotes:
        (rxr / remote.path).write_bytes(b"")
    assert layout.rxr("val_unseen") == rxr / "rxr_val_unseen_guide.jsonl.gz"
    held = SOURCES["rxr-ce"].holds[0]
    file = tmp_path / SOURCES["rxr-ce"].folder / held
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    assert layout.rxrce("train") == file
    missing = check_data(tmp_path).missing
    assert "r2r" in missing and not {"rxr", "rxr-ce", "features-duet"} & set(missing)


def test_what_needs_hands_says_whose() -> None:
    for name, source in SOURCES.items():
        if source.by_hand:
            with pytest.raises(InputError, match=f"^{name}: cannot be fetched by a command: "):
                get(name, source, Path("nowhere"), Wish())
    assert not Path("nowhere").exists()
