"""What the teacher says, kept on disk: the same bits, no wrong hit, no damaged file."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sterna.data.episodes import Episode
from sterna.data.views import InMemoryViews
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.minivln import remembered as module
from sterna.minivln.remembered import Remembered
from sterna.minivln.stage2 import DistillConfig, DistillTask
from sterna.models.agent import look, token_batch
from sterna.models.duet import DUET
from sterna.train.imitation import ImitationConfig
from sterna.train.schedule import uniform_draws
from toy import TINY, episode_on, panoramas_of, random_graph, random_objects, tiny_model

WIDE = replace(TINY, hidden_size=36, heads=6, language_layers=2, cross_layers=2)


@pytest.fixture
def some(episodes: list[Episode]) -> list[Episode]:
    return episodes[::20]


def teacher(seed: int = 1) -> DUET:
    return tiny_model(seed, WIDE).eval().requires_grad_(False)


def forbid(monkeypatch: pytest.MonkeyPatch, store: Remembered) -> None:
    """Let nothing be computed any more."""

    def never(*_: object) -> None:
        raise AssertionError("computed although it is on disk")

    monkeypatch.setattr(store, "_read", never)
    monkeypatch.setattr(store, "_look", never)


def ten_steps(
    panoramas: Panoramas, episodes: Sequence[Episode], folder: Path | None, precision: bool
) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses and last weights of ten optimiser steps."""
    wise = teacher()
    store = Remembered(wise, panoramas, folder=folder, episodes=episodes)
    torch.manual_seed(7)
    config = DistillConfig(teacher_precision="bf16" if precision else "run")
    task = DistillTask(
        tiny_model(0), wise, panoramas, ImitationConfig(), config, remembered=store
    ).train()
    task.warm()
    optimizer = torch.optim.SGD(task.parameters(), lr=0.02)
    losses = []
    for iteration in range(10):
        torch.manual_seed(iteration)
        shown = [episodes[(iteration + i) % len(episodes)] for i in (0, 3)]
        tried = [episodes[(iteration * 3 + i) % len(episodes)] for i in (0, 2, 5)]
        loss = task(task.collect(shown, tried, uniform_draws(0, 2, iteration, (15, 3)))).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, {name: value.clone() for name, value in task.state_dict().items()}


@pytest.mark.parametrize("narrow", [False, True], ids=["fp32", "bf16"])
def test_warm_cold_and_off_are_equal_bit_for_bit(
    panoramas: Panoramas, some: list[Episode], tmp_path: Path, narrow: bool
) -> None:
    off = ten_steps(panoramas, some, None, narrow)
    cold = ten_steps(panoramas, some, tmp_path, narrow)
    files = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.safetensors")}
    warm = ten_steps(panoramas, some, tmp_path, narrow)
    assert len(files) == len({e.scan for e in some})
    assert files == {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.safetensors")}
    for other in (cold, warm):
        assert other[0] == off[0]
        assert all(torch.equal(value, off[1][name]) for name, value in other[1].items())


def test_everything_that_training_meets_is_on_disk(
    panoramas: Panoramas, some: list[Episode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wise = teacher()
    Remembered(wise, panoramas, folder=tmp_path, episodes=some).fill()
    store = Remembered(wise, panoramas, folder=tmp_path, episodes=some)
    store.fill()
    forbid(monkeypatch, store)
    task = DistillTask(
        tiny_model(0), wise, panoramas, ImitationConfig(), DistillConfig(), remembered=store
    )
    for iteration in range(4):
        draws = uniform_draws(0, 2, iteration, (15, len(some)))
        assert torch.isfinite(task(task.collect(some, some, draws)).loss)


def test_equals_the_teacher_read_and_looked_at_in_a_batch(
    panoramas: Panoramas, some: list[Episode], tmp_path: Path
) -> None:
    wise = teacher()
    store = Remembered(wise, panoramas, folder=tmp_path, episodes=some)
    ids, mask = token_batch(some)
    words, found = store.words(some)
    assert torch.equal(found, mask)
    wanted = wise.encode_text(ids, mask).embeds
    torch.testing.assert_close(words[mask], wanted[mask], atol=1e-5, rtol=0)
    node = panoramas.atlas.candidates[:6, 0]
    pose = panoramas.atlas.candidate_view[:6, 0]
    seen = look(wise, panoramas, torch.from_numpy(panoramas.features), node, pose)
    tokens, mask, means = store.looks(node, pose)
    assert torch.equal(mask, seen.mask)
    torch.testing.assert_close(tokens[mask], seen.embeds[mask], atol=1e-5, rtol=0)
    torch.testing.assert_close(means, seen.mean, atol=1e-5, rtol=0)
    assert torch.equal(store.means(node, pose), means)


def test_no_bit_depends_on_the_order(panoramas: Panoramas) -> None:
    """Arrivals are looked at in blocks of viewpoints that the world decides, others alone."""
    atlas = panoramas.atlas
    first = np.concatenate([atlas.candidates[:, 0], atlas.candidates[:9, 0]])
    pose = np.concatenate([atlas.candidate_view[:, 0], np.full(9, 35)])
    calls: list[int] = []
    found = []
    for order in (slice(None), slice(None, None, -1)):
        store = Remembered(teacher(), panoramas)
        plain = store._look
        store._look = lambda pairs, plain=plain: (calls.append(len(pairs)), plain(pairs))[1]  # type: ignore[method-assign]
        for node, at in zip(first[order], pose[order], strict=True):
            store.looks(np.array([node]), np.array([at]))
        found.append(store.looks(first, pose))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert max(calls) > 8 and len(calls) < len(first)


def test_another_teacher_type_or_world_does_not_hit(
    panoramas: Panoramas, some: list[Episode], tmp_path: Path
) -> None:
    def names(store: Remembered) -> set[str]:
        store.fill()
        return {str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*.safetensors")}

    first = names(Remembered(teacher(), panoramas, folder=tmp_path, episodes=some))
    again = names(Remembered(teacher(), panoramas, folder=tmp_path, episodes=some))
    assert first == again
    with torch.autocast("cpu", torch.bfloat16):
        narrow = names(Remembered(teacher(), panoramas, folder=tmp_path, episodes=some))
    other = names(Remembered(teacher(2), panoramas, folder=tmp_path, episodes=some))
    few = names(Remembered(teacher(), panoramas, folder=tmp_path, episodes=some[:1]))
    sizes = [len(first), len(narrow), len(other), len(few)]
    assert sizes == [2, 4, 6, 7], "each writes files of its own"


def test_other_features_do_not_hit(tmp_path: Path) -> None:
    graph = random_graph(np.random.default_rng(0), 6)
    episode = episode_on(graph, [0])
    for count, seed in enumerate((0, 0, 1)):
        store = Remembered(
            teacher(), panoramas_of([graph], seed=seed), folder=tmp_path, episodes=[episode]
        )
        store.fill()
        assert len(list(tmp_path.rglob("*.safetensors"))) == (2 if count == 2 else 1)


def test_objects_are_kept_too_and_other_objects_do_not_hit(tmp_path: Path) -> None:
    graph = random_graph(np.random.default_rng(0), 6)
    episode = episode_on(graph, [0])
    bare = panoramas_of([graph])
    views = InMemoryViews(
        {k: bare.features[36 * i : 36 * i + 36] for i, k in enumerate(bare.atlas.keys)}
    )
    wise = tiny_model(1, replace(WIDE, object_size=5)).eval().requires_grad_(False)
    pose = np.array([12, 12])
    for count, seed in enumerate((0, 0, 1)):
        world = Panoramas(bare.atlas, views, random_objects(bare.atlas, seed=seed))
        store = Remembered(wise, world, folder=tmp_path, episodes=[episode])
        store.fill()
        assert len(list(tmp_path.rglob("*.safetensors"))) == (2 if count == 2 else 1)
        node = np.array([1, 2])
        seen = look(wise, world, torch.from_numpy(world.features), node, pose)
        tokens, mask, _ = store.looks(node, pose)
        assert torch.equal(mask, seen.mask)
        torch.testing.assert_close(tokens[mask], seen.embeds[mask], atol=1e-5, rtol=0)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_file_is_refused(
    panoramas: Panoramas, some: list[Episode], tmp_path: Path, damage: str
) -> None:
    Remembered(teacher(), panoramas, folder=tmp_path, episodes=some).fill()
    file = next(tmp_path.rglob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    whole = {"cut": content[: len(content) // 2], "flip": content, "empty": b""}[damage]
    file.write_bytes(bytes(whole))
    store = Remembered(teacher(), panoramas, folder=tmp_path, episodes=some)
    with pytest.raises(InputError, match=r"delete it, it is made anew") as caught:
        store.words(some)
    assert str(file) in str(caught.value)
    file.unlink()
    Remembered(teacher(), panoramas, folder=tmp_path, episodes=some).words(some)


def test_two_writers_and_what_a_killed_one_leaves(
    panoramas: Panoramas, some: list[Episode], tmp_path: Path
) -> None:
    """Both finish, no file is torn, and an old half-written file is swept away."""
    wise = teacher()

    def fill(_: int) -> torch.Tensor:
        store = Remembered(wise, panoramas, folder=tmp_path, episodes=some)
        for scan in sorted({e.scan for e in some}):  # without looking first: both write all
            store._begin()
            store._write(store._file(scan), scan)
        return store.words(some)[0]

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(fill, range(2))
    assert torch.equal(first, second)
    folder = next(tmp_path.iterdir())
    assert {f.suffix for f in folder.iterdir()} == {".safetensors"}
    old, new = folder / ".scan.old", folder / ".scan.new"
    for file in (old, new):
        file.write_bytes(b"half")
    module.os.utime(old, (1, 1))
    Remembered(teacher(), panoramas, folder=tmp_path, episodes=some).fill()
    assert not old.exists() and new.exists(), "a young one may belong to a run beside this one"


def test_a_full_disk_is_told_before_writing(
    panoramas: Panoramas, some: list[Episode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 10

    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(InputError, match=r"--data.cache, or --distill.no-cache"):
        Remembered(teacher(), panoramas, folder=tmp_path, episodes=some).fill()
    assert not list(tmp_path.rglob("*.safetensors"))


def test_size_said_is_the_size_written(
    panoramas: Panoramas, some: list[Episode], tmp_path: Path
) -> None:
    store = Remembered(teacher(), panoramas, folder=tmp_path, episodes=some)
    said = sum(store._size(scan) for scan in {e.scan for e in some})
    store.fill()
    written = sum(file.stat().st_size for file in tmp_path.rglob("*.safetensors"))
    assert said < written < 1.2 * said


def test_memory_is_bounded_without_a_folder(panoramas: Panoramas) -> None:
    store = Remembered(teacher(), panoramas, limit=5)
    before = store.looks(np.array([0]), np.array([12]))[0]
    for node in range(20):
        store.looks(np.array([node]), np.array([3]))
        assert len(store._looks) <= 6
    goal, view = panoramas.atlas.candidates[:, 0], panoramas.atlas.candidate_view[:, 0]
    most = max(len(store._company(int(p))) for p in goal * 36 + view)
    for node, pose in zip(goal, view, strict=True):
        store.looks(np.array([node]), np.array([pose]))
        assert len(store._looks) <= 5 + most
    assert torch.equal(store.looks(np.array([0]), np.array([12]))[0], before)
