"""R4R derived from R2R equals the published file; counts of the other splits."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sterna.data.layout import Layout
from sterna.data.r2r import check_episodes, load_graphs, read_r2r
from sterna.data.r4r import derive_r4r, publication_order, read_r4r
from sterna.errors import InputError
from sterna.files import read_json, write_json

COUNTS = {"val_unseen": (5026, 45234), "train": (25921, 233532)}


def test_val_seen_is_the_published_file_value_for_value(data_dir: Path) -> None:
    episodes = read_r2r(data_dir, "val_seen")
    graphs = load_graphs(Layout(data_dir).connectivity, episodes)
    published = read_json(Layout(data_dir).annotations("r4r", "val_seen"))
    derived = derive_r4r(episodes, graphs)
    assert derived == published  # order, ids, headings, distances to the last bit
    assert (len(derived), sum(len(e["instructions"]) for e in derived)) == (115, 1035)
    entries = read_json(Layout(data_dir).annotations("r2r", "val_seen"))
    assert derive_r4r(entries, graphs) == published


@pytest.mark.parametrize("split", COUNTS)
def test_counts_of_the_other_splits(data_dir: Path, split: str) -> None:
    episodes = read_r2r(data_dir, split)
    graphs = load_graphs(Layout(data_dir).connectivity, episodes)
    begin = time.perf_counter()
    derived = derive_r4r(episodes, graphs)
    assert time.perf_counter() - begin < 10
    assert (len(derived), sum(len(e["instructions"]) for e in derived)) == COUNTS[split]


def test_reading_the_published_file(data_dir: Path) -> None:
    episodes = read_r4r(data_dir, "val_seen")
    assert len(episodes) == 1035
    graphs = load_graphs(Layout(data_dir).connectivity, episodes)
    assert check_episodes(episodes, graphs) == []  # all within 0.01 m (0.0098 m at worst)


def test_derived_toy_paths_are_valid_and_readable(toy_house: Path, tmp_path: Path) -> None:
    episodes = read_r2r(toy_house, "val_unseen")
    graphs = load_graphs(toy_house / "connectivity", episodes)
    derived = derive_r4r(episodes, graphs)
    assert derived
    for entry in derived:
        graph = graphs[entry["scan"]]
        assert entry["shortest_path_distance"] <= entry["distance"] + 0.02
        assert graph.index(entry["path"][0]) == graph.index(entry["shortest_path"][0])
    write_json(tmp_path / "R4R_val_unseen.json", derived)
    again = read_r4r(tmp_path / "R4R_val_unseen.json", "val_unseen")
    assert len(again) == sum(len(entry["instructions"]) for entry in derived)
    check_episodes(again, graphs)


def test_a_test_split_cannot_be_joined(toy_house: Path) -> None:
    entries = read_json(toy_house / "r2r" / "R2R_val_unseen.json")
    graphs = load_graphs(toy_house / "connectivity", read_r2r(toy_house, "val_unseen"))
    del entries[0]["distance"]
    with pytest.raises(InputError, match="has no distance"):
        derive_r4r(entries, graphs)


def test_publication_order_is_a_permutation_that_grows_well() -> None:
    names = [f"scan{i}" for i in range(200)]
    assert sorted(publication_order(names)) == sorted(names)
    assert publication_order([]) == []
