"""The toy world: same bytes from the same seed, sound paths, and instructions that can be seen."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from sterna.data.episodes import Episode
from sterna.data.r2r import check_episodes, load_graphs, read_r2r
from sterna.data.views import ViewStore
from sterna.recipes.toyworld import COLOURS, OBJECTS, toy_tokenizer, word_vectors, write_toy_world
from sterna.world.graph import NavGraph

SPLITS = {"train": 240, "val_seen": 40, "val_unseen": 60}


def test_same_seed_same_bytes(toy_house: Path, tmp_path: Path) -> None:
    again, other = write_toy_world(tmp_path / "a", 0), write_toy_world(tmp_path / "b", 1)
    files = sorted(f.relative_to(toy_house) for f in toy_house.rglob("*") if f.is_file())
    assert all((toy_house / f).read_bytes() == (again / f).read_bytes() for f in files)
    assert not (set((other / "connectivity").iterdir()) & set((again / "connectivity").iterdir()))


@pytest.mark.parametrize("split", SPLITS)
def test_paths_and_splits(toy_house: Path, split: str) -> None:
    episodes = read_r2r(toy_house, split)
    assert len({episode.path_id for episode in episodes}) == SPLITS[split]
    assert check_episodes(episodes, load_graphs(toy_house / "connectivity", episodes)) == []
    assert all(3 <= len(episode.path) - 1 <= 6 for episode in episodes)
    train = read_r2r(toy_house, "train")
    scans, seen = {e.scan for e in episodes}, {e.scan for e in train}
    assert scans.isdisjoint(seen) if split == "val_unseen" else scans == seen
    if split != "train":
        assert {e.path for e in episodes}.isdisjoint({e.path for e in train})


def test_houses_have_two_floors_and_a_stair(toy_house: Path) -> None:
    episodes = read_r2r(toy_house, "train")
    for graph in load_graphs(toy_house / "connectivity", episodes).values():
        assert 20 <= len(graph) <= 30 and np.isfinite(graph.distances).all()
        heights = np.unique(graph.positions[:, 2].round(2))
        assert np.allclose(heights, [1.5, 2.9, 4.3])
    assert any("up the stairs" in episode.instruction for episode in episodes)


def test_token_ids_are_those_of_the_tokenizer(toy_house: Path) -> None:
    stored = Tokenizer.from_file(str(toy_house / "tokenizer.json"))
    unknown = toy_tokenizer().token_to_id("[UNK]")
    for episode in read_r2r(toy_house, "val_seen"):
        assert list(episode.token_ids or ()) == stored.encode(episode.instruction).ids
        assert unknown not in (episode.token_ids or ())


def _landmarks(text: str) -> list[tuple[str, str]]:
    words = text.split()
    return [pair for pair in pairwise(words) if pair[0] in COLOURS and pair[1] in OBJECTS]


def _follow(episode: Episode, graph: NavGraph, store: ViewStore) -> list[int]:
    """Go to the neighbour whose view looks most like the next landmark that is named."""
    vectors = word_vectors()
    node, walked = graph.index(episode.start), []
    for colour, thing in _landmarks(episode.instruction)[: len(episode.path) - 1]:
        views = store.views(episode.scan, graph.viewpoints[node])[graph.view[graph.edges(node)]]
        scores = views @ (vectors[colour] + vectors[thing])
        node = int(graph.neighbours(node)[scores.argmax()])
        walked.append(node)
    return walked


def test_landmarks_can_be_seen_and_followed(toy_house: Path) -> None:
    """Matching words to views, with no learning, reaches nearly every goal; blind, it does not."""
    episodes = [e for e in read_r2r(toy_house, "val_unseen") if "towards" in e.instruction]
    graphs = load_graphs(toy_house / "connectivity", episodes)
    with ViewStore.open(toy_house / "features" / "toy.hdf5") as store:
        rates = []
        for views in (store, store.blind()):
            ends = [_follow(e, graphs[e.scan], views)[-1] for e in episodes]
            goals = [graphs[e.scan].index(e.goal) for e in episodes]
            rates.append(np.mean([end == goal for end, goal in zip(ends, goals, strict=True)]))
    assert len(episodes) == 60
    assert rates[0] > 0.85 and rates[1] < 0.2
