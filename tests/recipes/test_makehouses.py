"""Houses as a data folder: every reader reads it, runs resume, same settings give same bytes."""

from __future__ import annotations

import filecmp
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cli_tools import sterna
from sterna.data.boxes import read_boxes
from sterna.data.r2r import check_episodes, load_graphs, read_r2r
from sterna.data.reverie import read_reverie
from sterna.data.views import ViewStore
from sterna.data.vlnce import read_trajectories, read_vlnce
from sterna.errors import InputError
from sterna.files import read_json
from sterna.models.tokens import Tokenizer
from sterna.recipes import makehouses
from sterna.recipes.makehouses import HousesConfig, make_houses, make_part, tokenizer_words
from sterna.world.geometry import VIEWS
from sterna.world.houses import make_house, scan_of
from sterna.world.houses.ground import ground_of

Capture = pytest.CaptureFixture[str]
TINY = HousesConfig(
    train=1,
    val_unseen=1,
    seed=7,
    paths=4,
    seen_paths=2,
    unseen_paths=3,
    errands=3,
    seen_errands=1,
    unseen_errands=2,
    encoder="oracle",
)
SPLITS = ("train", "val_seen", "val_unseen")


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two houses in files; treat the folder as read-only."""
    return make_houses(TINY, tmp_path_factory.mktemp("houses") / "h", workers=1)


def test_every_reader_reads_them(houses: Path, capsys: Capture) -> None:
    boxes = read_boxes(houses / "reverie" / "BBoxes.json")
    for split, paths, errands in zip(SPLITS, (4, 2, 3), (3, 1, 2), strict=True):
        episodes = read_r2r(houses, split)
        graphs = load_graphs(houses / "connectivity", episodes)
        assert len(episodes) == 3 * paths and not check_episodes(episodes, graphs)
        for episode in episodes:
            length = graphs[episode.scan].length(
                [graphs[episode.scan].index(v) for v in episode.path]
            )
            assert 4 <= len(episode.path) - 1 <= 6 and length >= 5
            assert episode.distance == pytest.approx(length, abs=0.01)
        asked = read_reverie(houses, split, boxes=boxes)
        assert len(asked) == 3 * errands and not check_episodes(asked, graphs)
        assert all(e.path[-1] in e.goals and e.object_id is not None for e in asked)
    said = sterna(capsys, "data", "check", houses, "--full")
    assert said.code == 0 and "usable" in said.out
    assert "published" not in said.out and "missing" not in said.out
    ids = [
        e.path_id
        for split in SPLITS
        for e in (*read_r2r(houses, split), *read_reverie(houses, split))
    ]
    assert len(set(ids)) == len(ids) / 3


def test_views_cover_all_viewpoints(houses: Path) -> None:
    with ViewStore.open(houses / "features" / "houses.hdf5") as store:
        keys = [
            f"{scan}_{entry['image_id']}"
            for scan in (scan_of(7), scan_of(500_007))
            for entry in read_json(houses / "connectivity" / f"{scan}_connectivity.json")
        ]
        table = store.table(keys)
    assert (
        table.shape == (len(keys), VIEWS, 256) and 0.3 < np.linalg.norm(table[0], axis=1).max() < 2
    )


def test_continuous_episodes_walk_where_the_path_leads(houses: Path) -> None:
    episodes = read_vlnce(houses, "val_unseen")
    walks = read_trajectories(houses, "val_unseen")
    ground = ground_of(make_house(500_007))
    twins = {e.instruction: e for e in read_r2r(houses, "val_unseen")}
    for episode in episodes:
        walk = walks[episode.instr_id]
        assert ground.is_navigable(walk.positions).all() and walk.actions[-1] == 0
        assert np.allclose(walk.positions[0], episode.position)
        assert ground.geodesic(walk.positions[-1], episode.goal_positions[0]) < 0.5
        for point in episode.waypoints:
            assert np.linalg.norm(walk.positions - point, axis=1).min() < 0.8
        assert len(episode.waypoints) == len(twins[episode.instruction].path)


def test_all_words_are_known(houses: Path) -> None:
    tokenizer = Tokenizer(houses / "tokenizer.json")
    unknown = tokenizer.vocabulary().index("[UNK]")
    texts = [
        episode.instruction
        for split in SPLITS
        for episode in (*read_r2r(houses, split), *read_reverie(houses, split))
    ]
    assert not any(unknown in ids for ids in tokenizer.batch(texts))
    table = np.load(houses / "words.npy")
    assert table.shape == (len(tokenizer_words()), 128) and table.dtype == np.float32


def test_the_same_bytes_from_two_processes(houses: Path, tmp_path: Path) -> None:
    again = make_houses(TINY, tmp_path / "again", workers=2)
    files = sorted(p.relative_to(houses) for p in houses.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    same, different, odd = filecmp.cmpfiles(houses, again, list(map(str, files)), shallow=False)
    assert not different and not odd and len(same) == len(files)


def test_a_killed_run_keeps_what_is_finished(
    houses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, done = tmp_path / "out", []

    def killed(config: HousesConfig, folder: Path, seed: int) -> None:
        done.append(seed)
        if len(done) == 2:
            (folder / f"{scan_of(seed)}.tmp").mkdir()
            raise KeyboardInterrupt
        make_part(config, folder, seed)

    monkeypatch.setattr(makehouses, "make_part", killed)
    with pytest.raises(KeyboardInterrupt):
        make_houses(TINY, out, workers=1)
    assert not (out / "houses.json").exists()
    make_houses(TINY, out, workers=1)
    assert done == [7, 500_007, 500_007]  # the first house was not made again
    assert not (out / ".parts").exists()
    assert (out / "houses.json").read_bytes() == (houses / "houses.json").read_bytes()
    make_houses(TINY, out, workers=1)
    assert len(done) == 3


def test_other_settings_need_another_folder(houses: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="paths: 4 there, 5 now"):
        make_houses(replace(TINY, paths=5), houses)
    copy = tmp_path / "copy"
    shutil.copytree(houses, copy)
    (copy / "houses.json").write_text("[]")
    with pytest.raises(InputError, match=r"houses\.json"):
        make_houses(TINY, copy)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--train", "0"), "train is at least 1"),
        (("--seed", "-1"), "seed from 0 up"),
        (("--paths", "2000"), "at most 1000"),
    ],
)
def test_bad_settings_are_one_line(
    words: tuple[str, ...], said: str, capsys: Capture, tmp_path: Path
) -> None:
    sterna(capsys, "data", "make", "houses", "--out", tmp_path / "h", *words).refused(said)
    assert not (tmp_path / "h").exists()
