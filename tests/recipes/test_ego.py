"""`sterna ego make` and `export`: killed and continued, replayed, read back."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sterna.cli import main
from sterna.data.ego import EgoSamples, EgoStore
from sterna.data.ego.store import decode
from sterna.data.layout import Layout
from sterna.data.vlnce import read_vlnce, write_trajectories, write_vlnce
from sterna.envs.expert import Expert, States
from sterna.envs.houses import agent_of
from sterna.envs.tasks import draw_tasks
from sterna.errors import InputError
from sterna.files import write_json
from sterna.metrics.protocol import HOUSES
from sterna.recipes import ego
from sterna.recipes.ego import EgoConfig, draw_episodes, make_ego
from sterna.recipes.housefiles import trajectories
from sterna.world.frames import Action
from sterna.world.houses import make_house
from sterna.world.houses.ground import ground_of

CONFIG = EgoConfig(seeds="4:6", walks=2, noise=0.2, camera="24x16@90")


def content(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ego") / "walks"
    make_ego(CONFIG, folder, workers=1)
    return folder


def test_a_killed_run_continues_to_the_same_bytes(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, walked = ego.make_piece, list[str]()

    def dies(config, writer, piece) -> None:
        if walked:
            # As a kill leaves it: half a shard under a name of its own.
            half = writer.folder / "shards" / f"{piece.name}.tmp"
            half.mkdir()
            (half / "frames.bin").write_bytes(b"half a file")
            raise KeyboardInterrupt
        walked.append(piece.name)
        real(config, writer, piece)

    monkeypatch.setattr(ego, "make_piece", dies)
    with pytest.raises(KeyboardInterrupt):
        make_ego(CONFIG, tmp_path / "w", workers=1)
    with pytest.raises(InputError, match="not all there yet"):
        EgoStore(tmp_path / "w")
    before = (tmp_path / "w/shards" / walked[0] / "frames.bin").stat().st_mtime_ns
    monkeypatch.setattr(ego, "make_piece", real)
    make_ego(CONFIG, tmp_path / "w", workers=1)
    assert (tmp_path / "w/shards" / walked[0] / "frames.bin").stat().st_mtime_ns == before
    assert content(tmp_path / "w") == content(made)
    with pytest.raises(InputError, match=r"\(noise: 0\.2 there, 0\.1 now\)"):
        make_ego(replace(CONFIG, noise=0.1), tmp_path / "w", workers=1)


def test_what_is_made_can_be_learnt_from(made: Path) -> None:
    store = EgoStore(made)
    assert len(store.episodes) == 4 and store.manifest["counts"]["left_out"] == 0
    assert store.frame(0).shape == (16, 24, 3) and store.protocol_hash == "456ce953f0f1"
    for episode in store.episodes:
        assert episode.taken[-1] == Action.STOP and (episode.expert[-1] == Action.STOP).all()
        assert 2 <= episode.distance <= 5 and episode.instruction.endswith(".")
        stands = store.frames(episode.first + np.arange(len(episode)))
        assert stands.std() > 5  # something is seen
    samples = EgoSamples(store, n=6)
    assert len(samples) == store.frame_count
    assert {int(s.actions[0]) for s in samples} == {0, 1, 2, 3}


def test_a_navigator_walks_and_the_expert_labels(tmp_path: Path) -> None:
    """DAgger: an agent's own steps, the expert's labels from them, whether it arrives or not."""
    from sterna.models.navigator.folder import save
    from toy_navigator import tiny

    save(tiny(), tmp_path / "agent")
    rules = replace(HOUSES, name="EIGHT", camera_width=32, camera_height=32, max_steps=8)
    write_json(tmp_path / "eight.json", rules.to_dict())
    config = EgoConfig(
        seeds="4:5", walks=2, n_max=3, protocol=str(tmp_path / "eight.json"),
        agent=tmp_path / "agent", execute=2, temperature=1.0, turn_cost=0.03, stop_within=0.6,
    )  # fmt: skip
    make_ego(config, tmp_path / "w", workers=1)
    store = EgoStore(tmp_path / "w")
    assert [e.source for e in store.episodes] == ["navigator"] * 2
    assert all(len(e) <= 8 for e in store.episodes)
    house = make_house(4)
    ground = ground_of(house, agent_of(rules))
    episodes = draw_tasks(house, ground, "easy", 2)
    grounds = {store.episodes[0].scan: ground}
    expert = Expert(grounds, rules, episodes, stop_within=0.6, turn_cost=0.03)
    for number, walk in enumerate(store.episodes):
        own, start = np.full(len(walk), number), np.zeros(len(walk), np.int64)
        states = States(own, walk.poses[:, :3], walk.poses[:, 3], start)
        assert expert.ahead(states, 3).tolist() == walk.expert.tolist()
    file = tmp_path / "drawn.json"
    assert draw_episodes(replace(config, agent=None), file) == 2
    told = [(e.instr_id, e.instruction, e.goal_radius) for e in read_vlnce(file)]
    assert told == [(e.instr_id, e.instruction, e.goal_radius) for e in episodes]


def test_reference_trajectories_are_replayed(tmp_path: Path) -> None:
    house = make_house(4)
    ground = ground_of(house)
    drawn = draw_tasks(house, ground, "r2r", 2, wordings=2)
    folder = tmp_path / "data/vlnce/R2R_VLNCE_v1-3/train"
    write_vlnce(folder / "train.json.gz", drawn)
    known = trajectories(ground, drawn)
    write_trajectories(folder / "train_gt.json.gz", known)
    assert Layout(tmp_path / "data").vlnce("train").is_file()
    config = EgoConfig(split="train", camera="24x16@90")
    manifest = make_ego(config, tmp_path / "w", data=tmp_path / "data", workers=1)
    counts = manifest["counts"]
    store = EgoStore(tmp_path / "w")
    # Two instructions of a path share its frames.
    assert (counts["episodes"], counts["walks"]) == (4, 2) and counts["samples"] == 2 * (
        counts["frames"]
    )
    for episode in store.episodes:
        walk = known[episode.instr_id]
        assert episode.taken.tolist() == walk.actions.tolist()
        assert episode.expert[:, 0].tolist() == walk.actions.tolist()
        ends = episode.poses[1:, :3][episode.taken[:-1] == Action.FORWARD]
        assert np.abs(ends - walk.positions[1:]).max() < 1e-5
    # The expert of perturbed walks goes the same way where nothing perturbs it.
    (tmp_path / "data/vlnce/R2R_VLNCE_v1-3/train/train_gt.json.gz").unlink()
    noisy = replace(config, noise=1e-6)
    make_ego(noisy, tmp_path / "n", data=tmp_path / "data", workers=1)
    for one, other in zip(EgoStore(tmp_path / "n").episodes, store.episodes, strict=True):
        assert one.taken.tolist() == other.taken.tolist()
        assert (one.expert == other.expert).all()
    # Trajectories of other turns do not end where they say.
    stiff = replace(config, protocol="RXR_CE")
    write_trajectories(folder / "train_gt.json.gz", known)
    with pytest.raises(InputError, match="made with other turns"):
        make_ego(stiff, tmp_path / "s", data=tmp_path / "data", workers=1)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, "give --seeds FIRST:END or --split"),
        ({"seeds": "4:4"}, "seeds are FIRST:END"),
        ({"seeds": "4:5", "camera": "0x9@90"}, "WIDTHxHEIGHT@DEGREES"),
        ({"seeds": "4:5", "noise": 2.0}, "noise is from 0 to 1"),
        ({"seeds": "4:5", "stop_within": 2.0}, "the expert stops within 1 m"),
        ({"seeds": "4:5", "protocol": "R2R_DUET"}, "cameras need them"),
    ],
)
def test_bad_options_are_one_line(options: dict, line: str) -> None:
    with pytest.raises(InputError, match=line) as refused:
        EgoConfig(**options)
    assert "\n" not in str(refused.value)


def test_sharegpt_export_read_back(made: Path, tmp_path: Path, capsys) -> None:
    pytest.importorskip("sterna.models.navigator")
    out = tmp_path / "sharegpt"
    assert main(["ego", "export", str(made), "--out", str(out), "--n", "4", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    store, entries = EgoStore(made), json.loads((out / "vln_ego.json").read_text())
    samples = EgoSamples(store, n=4)
    assert said["samples"] == len(entries) == len(samples)
    # One file a frame, however many samples show it.
    assert len(list(out.glob("images/*/*.jpg"))) == said["images"] == store.frame_count
    letters = {0: "D. Stop", 1: "A. Move forward 25 cm", 2: "B. Turn left 15 degrees",
               3: "C. Turn right 15 degrees"}  # fmt: skip
    for entry, sample in zip(entries, samples, strict=True):
        human, gpt = entry["conversations"]
        assert (human["from"], gpt["from"]) == ("human", "gpt")
        assert human["value"].count("<image>") == len(entry["images"]) == len(sample.history) + 1
        assert gpt["value"] == ", ".join(letters[int(a)] for a in sample.actions)
        assert sample.instruction in human["value"] and "15 degrees" in human["value"]
        assert (out / entry["images"][-1]).read_bytes() == store.jpeg(sample.current)
    info = json.loads((out / "dataset_info.json").read_text())["vln_ego"]
    assert info["file_name"] == "vln_ego.json" and info["formatting"] == "sharegpt"
    assert main(["ego", "export", str(made), "--out", str(out)]) == 2


def test_lerobot_export_read_back(made: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    from sterna.data.ego import lerobot
    from sterna.recipes.egoexport import export_lerobot

    out, store = tmp_path / "lerobot", EgoStore(made)
    found = export_lerobot(made, out)
    assert found["frames"] == store.frame_count and found["episodes"] == 4
    rows, at = list(lerobot.rows_of(out)), 0
    tasks = parquet.read_table(out / "meta/tasks.parquet").to_pydict()
    listed = parquet.read_table(out / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    for number, episode in enumerate(store.episodes):
        one = listed[number]
        assert (one["dataset_from_index"], one["dataset_to_index"]) == (at, at + len(episode))
        assert one["tasks"] == [episode.instruction] and one["length"] == len(episode)
        for step in range(len(episode)):
            row = rows[at]
            assert (row["index"], row["frame_index"], row["episode_index"]) == (at, step, number)
            assert row["action"] == episode.taken[step]
            assert row["action.expert"] == episode.expert[step].tolist()
            assert row["timestamp"] == step / 4
            assert tasks["task"][tasks["task_index"].index(row["task_index"])] == (
                episode.instruction
            )
            file = row["observation.images.front"]["bytes"]
            assert file == store.jpeg(episode.first + step)
            at += 1
    info = json.loads((out / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0" and info["total_frames"] == at == len(rows)
    assert info["features"]["observation.images.front"]["shape"] == [16, 24, 3]
    stats = json.loads((out / "meta/stats.json").read_text())
    states = np.array([row["observation.state"] for row in rows])
    assert np.allclose(stats["observation.state"]["mean"], states.mean(0), atol=1e-4)
    assert np.allclose(stats["observation.state"]["std"], states.std(0), atol=1e-4)
    pixels = np.stack([decode(store.jpeg(i)) for i in range(at)]) / 255
    mean = np.array(stats["observation.images.front"]["mean"])
    assert mean.shape == (3, 1, 1) and np.allclose(mean.ravel(), pixels.mean((0, 1, 2)), atol=1e-6)


def test_lerobot_without_pyarrow_names_the_extra(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    out = tmp_path / "lerobot"
    assert main(["ego", "export", str(made), "--format", "lerobot", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "sterna[lerobot]" in said and said.count("\n") == 1 and not out.exists()
