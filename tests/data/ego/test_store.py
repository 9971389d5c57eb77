"""The store: what is written is read; frames once; samples; what is broken is named."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from sterna.data.ego import EgoCamera, EgoSamples, EgoStore, EgoWriter, Walk, history
from sterna.data.ego.store import decode, encode
from sterna.data.episodes import Episode
from sterna.errors import InputError
from sterna.world.frames import Action

CAMERA = EgoCamera(width=12, height=8, hfov=90.0, elevation=1.25)
PROTOCOL = {"turn_angle": 15.0, "forward_step": 0.25}


def begin(folder: Path, **settings: int) -> EgoWriter:
    return EgoWriter(
        folder, settings=settings, protocol=PROTOCOL, protocol_hash="0123", camera=CAMERA
    )


def make_walk(name: str, steps: int, rng: np.random.Generator, told: int = 1) -> Walk:
    taken = rng.integers(1, 4, steps)
    taken[-1] = Action.STOP
    padded = np.append(taken, np.zeros(8, int))
    return Walk(
        episodes=tuple(
            Episode(
                instr_id=f"{name}_{k}", scan="scan", path=(), heading=0.0, path_id=name,
                instruction=f"Go to {name}, please ({k}).", goal_positions=((1.0, 2.0, 0.5),),
                goal_radius=1.0, distance=4.5, split="train",
            )
            for k in range(told)
        ),
        taken=taken,
        expert=np.stack([padded[t : t + 8] for t in range(steps)]),
        poses=rng.random((steps, 4)),
        collided=rng.random(steps) < 0.3,
        source="reference",
    )  # fmt: skip


@pytest.fixture()
def made(tmp_path: Path) -> tuple[EgoStore, list[Walk], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    writer, walks, frames = begin(tmp_path / "walks"), [], []
    for name in ("b", "a"):  # read in the order of names
        with writer.shard(name) as shard:
            for k, steps in enumerate((5, 40)):
                walk = make_walk(f"{name}{k}", steps, rng, told=3)
                shots = rng.integers(0, 256, (steps, 8, 12, 3)).astype(np.uint8)
                files = [encode(shot, 90) for shot in shots]
                shard.add(walk, files)
                walks.append(walk)
                frames.append(np.stack([decode(file) for file in files]))
    writer.finish()
    return EgoStore(tmp_path / "walks"), walks[2:] + walks[:2], frames[2:] + frames[:2]


def test_what_is_written_is_read(made) -> None:
    store, walks, frames = made
    assert [e.instr_id for e in store.episodes[:4]] == ["a0_0", "a0_1", "a0_2", "a1_0"]
    for number, episode in enumerate(store.episodes):
        walk, shots = walks[number // 3], frames[number // 3]
        assert (episode.taken == walk.taken).all() and (episode.expert == walk.expert).all()
        assert (episode.poses == walk.poses).all() and (episode.collided == walk.collided).all()
        assert episode.goal_positions == ((1.0, 2.0, 0.5),) and episode.distance == 4.5
        assert episode.instruction == walk.episodes[number % 3].instruction
        ids = episode.first + np.arange(len(episode))
        assert (store.frames(ids) == shots).all()
    assert store.camera == CAMERA and store.turn_angle == 15 and store.protocol == PROTOCOL


def test_a_frame_is_stored_once(made) -> None:
    store, _, _ = made
    counts = store.manifest["counts"]
    assert counts["frames"] == store.frame_count == 90 and counts["samples"] == 270
    assert counts["walks"] == 4 and counts["episodes"] == 12
    size = sum(f.stat().st_size for f in store.folder.glob("shards/*/frames.bin"))
    assert size == counts["bytes"] == sum(len(store.jpeg(i)) for i in range(90))
    # Samples are made on the fly: reading them writes and copies nothing.
    assert len(EgoSamples(store)) == 270
    assert len(list(store.folder.glob("shards/*/*"))) == 8


def test_samples_are_those_of_the_walk(made) -> None:
    store, walks, _ = made
    samples = EgoSamples(store, n=6)
    assert len(samples) == sum(3 * len(walk.taken) for walk in walks)
    at = 0
    for number, episode in enumerate(store.episodes):
        taken = walks[number // 3].taken
        for step in range(len(taken)):
            sample = samples[at]
            at += 1
            assert (sample.instr_id, sample.step) == (episode.instr_id, step)
            assert sample.current == episode.first + step
            assert (sample.history == episode.first + history(step)).all()
            # Trap 21: the first action of the target is the one taken from the current frame, and
            # an action that is told as done is not asked for.
            assert sample.actions[0] == taken[step]
            ahead = taken[step : step + 6]
            assert (sample.actions[: len(ahead)] == ahead).all()
            assert (sample.actions[len(ahead) :] == Action.STOP).all()
            assert (sample.previous == taken[max(0, step - 8) : step]).all()
    assert samples[-1].actions.tolist() == [0] * 6
    with pytest.raises(IndexError):
        samples[len(samples)]


def test_stride_choice_and_slices(made) -> None:
    store, _, _ = made
    samples = EgoSamples(store, n=1, stride=4, keep=lambda e: e.instr_id.endswith("_0"))
    steps = [(s.instr_id, s.step) for s in samples]
    assert steps[:3] == [("a0_0", 0), ("a0_0", 4), ("a1_0", 0)] and len(steps) == 2 * (2 + 10)
    assert [s.step for s in samples[2:4]] == [0, 4]
    assert [len(s.history) for s in EgoSamples(store, budget=4, memory="recent")[40:43]] == [
        4,
        4,
        4,
    ]


def test_loader_processes_open_it_anew(made) -> None:
    store, _, _ = made
    other = pickle.loads(pickle.dumps(EgoSamples(store)))
    assert (other.store.frame(17) == store.frame(17)).all() and len(other) == len(EgoSamples(store))


def test_a_broken_shard_leaves_nothing(tmp_path: Path) -> None:
    writer, rng = begin(tmp_path), np.random.default_rng(1)
    walk = make_walk("a", 3, rng)
    with pytest.raises(InputError, match="3 steps need as many frames"), writer.shard("x") as shard:
        shard.add(walk, [b"", b""])
    assert not writer.has("x") and not list(tmp_path.glob("shards/*"))
    with pytest.raises(InputError, match="not all there yet"):
        EgoStore(tmp_path)
    assert EgoStore(tmp_path, partial=True).episodes == []


def test_other_settings_are_refused_in_one_line(tmp_path: Path) -> None:
    begin(tmp_path / "walks", seed=1)
    begin(tmp_path / "walks", seed=1)
    with pytest.raises(InputError, match=r"\(seed: 1 there, 2 now\)") as refused:
        begin(tmp_path / "walks", seed=2)
    assert "\n" not in str(refused.value)
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "file").touch()
    with pytest.raises(InputError, match="holds something else"):
        begin(tmp_path / "else")


def test_bad_folders_are_named(made, tmp_path: Path) -> None:
    store, _, _ = made
    with pytest.raises(InputError, match=r"no ego\.json there"):
        EgoStore(tmp_path / "nowhere")
    with pytest.raises(InputError, match="samples have 1 to 8 actions, not 9"):
        EgoSamples(store, n=9)
    with pytest.raises(InputError, match="frames are 0 to 89, not 90"):
        store.jpeg(90)
    with (store.folder / "shards/a/frames.bin").open("ab") as file:
        file.write(b"more")
    with pytest.raises(InputError, match="its files disagree"):
        EgoStore(store.folder)
    (store.folder / "ego.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(InputError, match="expected format sterna-ego-1, found other"):
        EgoStore(store.folder)
