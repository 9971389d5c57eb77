"""R2R on the published files, and one clear line for each kind of bad input."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from sterna.data.layout import Layout
from sterna.data.r2r import check_episodes, load_graphs, read_r2r, write_r2r
from sterna.errors import InputError
from sterna.files import read_json

PUBLISHED = {
    "train": (61, 4675, 14039),
    "val_seen": (56, 340, 1021),
    "val_unseen": (11, 783, 2349),
    "test": (18, 1391, 4173),
}
NOT_SHORTEST = {601, 5476, 7053, 2847, 3108, 1404, 6939, 3090}


@pytest.mark.parametrize("split", PUBLISHED)
def test_published_counts_and_paths(data_dir: Path, split: str) -> None:
    episodes = read_r2r(data_dir, split)
    scans = {episode.scan for episode in episodes}
    paths = {episode.path_id for episode in episodes}
    assert (len(scans), len(paths), len(episodes)) == PUBLISHED[split]
    assert check_episodes(episodes, load_graphs(Layout(data_dir).connectivity, episodes)) == []
    lengths = {len(episode.path) - 1 for episode in episodes}
    assert lengths == ({0} if split == "test" else {3, 4, 5, 6})
    assert all((episode.distance is None) == (split == "test") for episode in episodes)
    assert episodes[0].instr_id == f"{episodes[0].path_id}_0"
    assert episodes[0].split == split


def test_the_paths_that_are_not_shortest(data_dir: Path) -> None:
    episodes = read_r2r(data_dir, "val_unseen")
    graphs = load_graphs(Layout(data_dir).connectivity, episodes)
    longer = set()
    for episode in episodes:
        graph = graphs[episode.scan]
        nodes = [graph.index(viewpoint) for viewpoint in episode.path]
        if graph.length(nodes) > graph.distances[nodes[0], nodes[-1]] + 1e-6:
            longer.add(episode.path_id)
    assert longer == NOT_SHORTEST


@pytest.mark.parametrize("split", PUBLISHED)
def test_writing_gives_back_the_publishers_value(
    data_dir: Path, tmp_path: Path, split: str
) -> None:
    write_r2r(tmp_path / "copy.json.gz", read_r2r(data_dir, split))
    assert read_json(tmp_path / "copy.json") == read_json(
        Layout(data_dir).annotations("r2r", split)
    )


def test_token_ids_survive_the_round_trip(toy_house: Path, tmp_path: Path) -> None:
    episodes = read_r2r(toy_house, "val_unseen")
    assert all(episode.token_ids for episode in episodes)
    write_r2r(tmp_path / "copy.json", episodes)
    assert read_r2r(tmp_path / "copy.json", "val_unseen") == episodes


def test_a_distance_that_does_not_fit_is_a_warning(toy_house: Path, tmp_path: Path) -> None:
    entries = read_json(toy_house / "r2r" / "R2R_val_unseen.json")
    entries[0]["distance"] += 0.02
    (tmp_path / "R2R.json").write_text(json.dumps(entries))
    episodes = read_r2r(tmp_path / "R2R.json")
    warnings = check_episodes(episodes, load_graphs(toy_house / "connectivity", episodes))
    assert len(warnings) == 1 and episodes[0].instr_id in warnings[0]


def _entries(toy_house: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = read_json(toy_house / "r2r" / "R2R_val_unseen.json")
    return entries


def _read_and_check(toy_house: Path, file: Path) -> None:
    episodes = read_r2r(file)
    check_episodes(episodes, load_graphs(toy_house / "connectivity", episodes))


FAULTS = {
    "scan": ("nowhere00001", "nowhere00001"),
    "path_id": (True, "path_id: expected an id, found bool True"),
    "heading": (float("nan"), "heading: expected finite radians, found float nan"),
    "path": ([], "path: expected a list of viewpoint ids"),
    "instructions": ([3], "instructions: expected a list of texts"),
    "distance": ("far", "distance: expected finite metres, found str 'far'"),
    "instr_encodings": ([[1]], "instr_encodings: expected ids per instruction"),
}


@pytest.mark.parametrize("field", FAULTS)
def test_a_wrong_field_is_named(toy_house: Path, tmp_path: Path, field: str) -> None:
    value, message = FAULTS[field]
    entries = _entries(toy_house)
    entries[3][field] = value
    file = tmp_path / "R2R.json"
    file.write_text(json.dumps(entries))
    with pytest.raises(InputError) as error:
        _read_and_check(toy_house, file)
    text = str(error.value)
    assert message in text and "\n" not in text
    assert field == "scan" or f"{file}: entry 3" in text


def test_a_path_over_no_edge(toy_house: Path, tmp_path: Path) -> None:
    entries = _entries(toy_house)
    entries[2]["path"][1:2] = []
    file = tmp_path / "R2R.json"
    file.write_text(json.dumps(entries))
    with pytest.raises(InputError, match=f"{entries[2]['path_id']}_0: the path steps .* no such"):
        _read_and_check(toy_house, file)


def test_an_unknown_viewpoint(toy_house: Path, tmp_path: Path) -> None:
    entries = _entries(toy_house)
    entries[2]["path"][1] = "0" * 32
    file = tmp_path / "R2R.json"
    file.write_text(json.dumps(entries))
    with pytest.raises(InputError, match=r"viewpoint '0{32}' is not in the graph"):
        _read_and_check(toy_house, file)


def test_a_scan_without_graph(toy_house: Path) -> None:
    with pytest.raises(InputError, match="no graph for scan"):
        check_episodes(read_r2r(toy_house, "val_unseen"), {})


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_cut_in_half(toy_house: Path, tmp_path: Path, packed: bool) -> None:
    content = (toy_house / "r2r" / "R2R_train.json").read_bytes()
    content = gzip.compress(content) if packed else content
    file = tmp_path / ("R2R.json.gz" if packed else "R2R.json")
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"R2R\.json.*fetch"):
        read_r2r(file)


def test_ids_must_differ(toy_house: Path, tmp_path: Path) -> None:
    entries = _entries(toy_house)
    file = tmp_path / "R2R.json"
    file.write_text(json.dumps([*entries, entries[0]]))
    with pytest.raises(InputError, match="occurs twice"):
        read_r2r(file)


def test_a_folder_needs_a_split(toy_house: Path) -> None:
    with pytest.raises(InputError, match="name the split"):
        read_r2r(toy_house)
