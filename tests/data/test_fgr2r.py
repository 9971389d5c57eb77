"""FGR2R: every step has its stretch, nothing in the file is ever evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sterna.data.fgr2r import parse_word_lists, read_fgr2r
from sterna.data.r2r import read_r2r
from sterna.errors import InputError


@pytest.mark.parametrize(
    ("split", "count", "uncut"), [("val_seen", 1021, 1), ("val_unseen", 2349, 0)]
)
def test_published_files(data_dir: Path, split: str, count: int, uncut: int) -> None:
    episodes = read_fgr2r(data_dir, split)
    assert len(episodes) == count
    assert sum(not episode.sub_instructions for episode in episodes) == uncut
    for episode, plain in zip(episodes, read_r2r(data_dir, split), strict=True):
        assert (episode.instr_id, episode.path) == (plain.instr_id, plain.path)
        assert len(episode.sub_paths) == len(episode.sub_instructions)
        for first, last in episode.sub_paths:
            assert 0 <= first <= last < len(episode.path)


def test_first_published_instruction(data_dir: Path) -> None:
    first = read_fgr2r(data_dir, "val_seen")[0]
    assert first.sub_instructions[:2] == ("exit the bedroom", "cross the room to the left")
    assert first.sub_paths == ((0, 2), (2, 3), (3, 4))


def test_the_test_split_has_steps_but_no_stretches(data_dir: Path) -> None:
    episodes = read_fgr2r(data_dir, "test")
    assert len(episodes) == 4173
    assert all(episode.sub_instructions and not episode.sub_paths for episode in episodes)


HOSTILE = [
    "__import__('os').system('true')",
    "[[['a']]] + [[['b']]]",
    "[" * 5000 + "]" * 5000,
    "[[['a'" + ",'a'" * 60_000 + "]]]",
    "[[[1]]]",
    "{'a': 1}",
    "[[['a'",
    "",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_anything_but_word_lists_is_refused(text: str) -> None:
    with pytest.raises(InputError) as error:
        parse_word_lists(text, "file: entry 0")
    assert "file: entry 0: new_instructions" in str(error.value)
    assert "\n" not in str(error.value)


def _entry(**changes: Any) -> dict[str, Any]:
    entry = {
        "scan": "house",
        "path_id": 7,
        "path": ["a", "b", "c"],
        "heading": 0.0,
        "distance": 4.0,
        "instructions": ["go on then stop", "walk"],
        "new_instructions": "[[['go', 'on'], ['then', \"don't\"]], [['walk']]]",
        "chunk_view": [[[1, 2], [2, 3]], [[1, 3]]],
    }
    return entry | changes


def test_steps_and_zero_based_stretches(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text(json.dumps([_entry()]))
    first, second = read_fgr2r(tmp_path / "f.json", "train")
    assert first.sub_instructions == ("go on", "then don't")
    assert first.sub_paths == ((0, 1), (1, 2))
    assert second.sub_paths == ((0, 2),)


@pytest.mark.parametrize(
    "chunks",
    [
        [[[1, 2]], [[1, 3]]],
        [[[0, 2], [2, 3]], [[1, 3]]],
        [[[1, 4], [2, 3]], [[1, 3]]],
        [[[2, 1], [2, 3]], [[1, 3]]],
        [[[1, 2], [2, 3]]],
        None,
    ],
)
def test_stretches_off_the_path(tmp_path: Path, chunks: Any) -> None:
    (tmp_path / "f.json").write_text(json.dumps([_entry(chunk_view=chunks)]))
    with pytest.raises(InputError, match="entry 0: chunk_view: expected"):
        read_fgr2r(tmp_path / "f.json")
