"""Demonstrations on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sterna.data.demos.store import ARRAYS, MANIFEST, DemoStore, finished_entry
from sterna.errors import InputError
from sterna.files import read_json, write_json
from toy_demos import TASKS, toy_demo, write_toy_demos


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_toy_demos(tmp_path / "demos")


def test_what_was_written_is_read(folder: Path) -> None:
    store = DemoStore(folder, check=True)
    assert store.tasks == tuple(TASKS) and len(store) == 2 * 40 * 6 and store.chunk == 3
    frames = np.array([241, 0, 300, 7])  # of both tasks, in no order
    places = [("door-close", 0, 1), ("door-open", 0, 0), ("door-close", 10, 0), ("door-open", 1, 1)]
    for name in ARRAYS:
        found = store.take(name, frames)
        for row, (task, seed, frame) in enumerate(places):
            expected = getattr(toy_demo(seed, TASKS[task]), name)[frame]
            assert np.array_equal(found[row], expected), (name, row)


def test_held_out_episodes_are_whole_and_of_both_kinds(folder: Path) -> None:
    store = DemoStore(folder)
    kinds = {True: set(), False: set()}
    for number, rows in enumerate(store.episodes):
        start = 240 * number
        for row in rows:
            held = store.held_out[start + row.first : start + row.first + row.frames]
            assert len(set(held.tolist())) == 1
            if held[0]:
                kinds[row.noisy].add(row.seed)
    assert kinds == {False: {0, 20}, True: {1, 21}}
    assert store.held_out.mean() == pytest.approx(0.1)


def test_the_chunk_before_is_of_the_same_episode(folder: Path) -> None:
    store = DemoStore(folder)
    frames = np.arange(len(store))
    before = store.before(frames)
    assert store.begins.sum() == 80 and not before[store.begins].any()
    later = frames[~store.begins]
    assert np.array_equal(before[later], store.take("actions", later - 1))


def test_broken_folders_are_named(folder: Path, tmp_path: Path) -> None:
    assert finished_entry(folder / "door-open") is not None
    assert finished_entry(tmp_path / "nowhere") is None
    with pytest.raises(InputError, match="no such file"):
        DemoStore(tmp_path / "nowhere")
    image = folder / "door-open" / "images.npy"
    content = bytearray(image.read_bytes())
    content[-1] ^= 1
    image.write_bytes(bytes(content))
    assert len(DemoStore(folder)) == 480
    with pytest.raises(InputError, match="checksum"):
        DemoStore(folder, check=True)
    image.write_bytes(bytes(content[: len(content) // 2]))
    with pytest.raises(InputError, match="cannot be read"):
        DemoStore(folder)
    manifest = read_json(folder / MANIFEST)
    manifest["tasks"]["door-close"]["frames"] = 7
    write_json(folder / MANIFEST, manifest)
    image.write_bytes(bytes(content))
    with pytest.raises(InputError, match="expected 7 frames, found 240"):
        DemoStore(folder)
    write_json(folder / MANIFEST, {"format": "other"})
    with pytest.raises(InputError, match="not a folder"):
        DemoStore(folder)
