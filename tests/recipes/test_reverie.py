"""REVERIE from the command line in the toy houses: train, distil, pre-train, eval, submit, show."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from cli_tools import TINY_RUN, Said, killed_at, sterna, train_tiny
from sharing import EVEN, all_well, same_training, share
from sterna.data.boxes import read_boxes
from sterna.data.objects import read_objects
from sterna.data.reverie import read_reverie
from sterna.files import read_json
from sterna.models.pretrained import from_pretrained
from sterna.recipes.config import DataConfig
from sterna.recipes.reverie import toy_student
from sterna.recipes.runs import protocol_of
from sterna.recipes.tables import DISTILLING, PRETRAINING, STAGE1, TRAINING
from sterna.recipes.toyreverie import OBJECTS_FILE, write_toy_reverie
from sterna.recipes.world import World
from sterna.train.pretrain.task import TaskMix

Capture = pytest.CaptureFixture[str]
LAST = Path("last") / "model.safetensors"
KIND = "toy-reverie"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_reverie(tmp_path_factory.mktemp("world") / "data", paths=60)


@pytest.fixture(scope="module")
def run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sterna.cli import main

    out = tmp_path_factory.mktemp("runs") / "teacher"
    words = ["train", f"{KIND}-teacher", "--data", str(world), "--out", str(out), *TINY_RUN]
    assert main(words) == 0
    return out


def broken(world: Path, tmp_path: Path, *leave: str) -> Path:
    """The world without some of its entries (their folders may be put there anew)."""
    out = tmp_path / "broken"
    for file in world.rglob("*"):
        name = file.relative_to(world)
        if file.is_file() and not any(str(name).startswith(word) for word in leave):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).symlink_to(file)
    return out


def test_two_processes_are_one(capsys: Capture, world: Path, run: Path, tmp_path: Path) -> None:
    """Goals drawn by episode, objects that one process may meet none of; who is chosen by both."""
    words = ("train", f"{KIND}-teacher", "--data", world, *EVEN, "--model.heads", "2")
    words = (*words, "--loop.demonstrations", "4", "--loop.warm-start", "1")
    assert sterna(capsys, *words, "--out", tmp_path / "one").code == 0
    all_well(share(2, tmp_path / "said", *words, "--out", tmp_path / "many"))
    same_training(tmp_path / "one", tmp_path / "many")
    words = ("eval", run, "--data", world, "--batch-size", 7, "--episodes", 20)
    alone = sterna(capsys, *words, "--out", tmp_path / "one", "--json").json
    said = json.loads(
        all_well(share(3, tmp_path / "said", *words, "--out", tmp_path / "many", "--json"))
    )
    assert said["scores"] == alone["scores"] and "RGS" in said["scores"]
    files = [tmp_path / name / "submit_val_unseen.json" for name in ("one", "many")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_same_seed_gives_the_same_world(world: Path, tmp_path: Path) -> None:
    again = write_toy_reverie(tmp_path / "again", paths=60)
    for file in (f for f in world.rglob("*") if f.is_file() and f.suffix != ".hdf5"):
        assert (again / file.relative_to(world)).read_bytes() == file.read_bytes()
    boxes = read_boxes(world / "reverie" / "BBoxes.json")
    for split in ("train", "val_seen", "val_unseen"):
        for episode in read_reverie(world, split, boxes=boxes):
            assert episode.goal in episode.goals and len(episode.goals) <= 3
    assert any(not t.views for place in boxes.viewpoints for t in boxes.objects(*place))


def test_a_run_keeps_the_scores_of_objects(run: Path) -> None:
    scores = read_json(run / "run.json")["scores"][-1]
    assert {"SR", "SPL", "RGS", "RGSPL"} <= scores.keys()
    config = from_pretrained(run / "best").config
    assert (config.feature_size, config.object_size) == (32, 32)
    log = (run / "log.jsonl").read_text("utf-8")
    assert '"grounding"' in log


def test_killed_and_continued_equals_unbroken(
    capsys: Capture, world: Path, run: Path, tmp_path: Path
) -> None:
    with killed_at(3):
        assert train_tiny(capsys, world, tmp_path, kind=KIND).code == 130
    assert train_tiny(capsys, world, tmp_path, kind=KIND).code == 0
    assert (tmp_path / LAST).read_bytes() == (run / LAST).read_bytes()


def test_eval_score_and_submission_agree(
    capsys: Capture, world: Path, run: Path, tmp_path: Path
) -> None:
    words = ("eval", run, "--data", world, "--out", tmp_path, "--json")
    said = sterna(capsys, *words).json
    assert said["protocol"]["name"] == "REVERIE_DUET" and "RGSPL_at_goal" in said["scores"]
    file = tmp_path / "submit_val_unseen.json"
    assert all(type(item["predObjId"]) is int for item in read_json(file))
    assert any(item["predObjId"] >= 0 for item in read_json(file))
    scored = sterna(capsys, "score", file, "--task", "reverie", "--data", world, "--json").json
    for name in ("SR", "SPL", "RGS", "RGSPL"):
        assert scored["scores"][name] == said["scores"][name]
    table = sterna(capsys, "eval", run, "--data", world, "--episodes", "9").out
    assert "RGS" in table and "RGSPL" in table


def test_a_test_split_is_submitted_with_objects(
    capsys: Capture, world: Path, run: Path, tmp_path: Path
) -> None:
    words = ("eval", run, "--data", world, "--split", "test", "--out", tmp_path)
    sterna(capsys, *words).refused("no answers", "--submit")
    file = sterna(capsys, *words, "--submit", "--json").json["submission"]
    check = ("score", file, "--data", world, "--task", "reverie", "--split", "test", "--validate")
    assert sterna(capsys, *check).code == 0


def test_without_objects_none_is_named(capsys: Capture, world: Path, tmp_path: Path) -> None:
    assert train_tiny(capsys, world, tmp_path, "--data.objects", "none", kind=KIND).code == 0
    assert from_pretrained(tmp_path / "last").config.object_size is None
    said = sterna(capsys, "eval", tmp_path, "--data", world, "--episodes", "9", "--json").json
    assert said["scores"]["RGS"]["mean"] == 0.0
    items = read_json(Path(said["out"]) / "submit_val_unseen.json")
    assert {item["predObjId"] for item in items} == {-1}


def test_training_shows_the_first_objects_and_evaluation_all(world: Path) -> None:
    config = DataConfig(task="reverie", views="toy", objects=OBJECTS_FILE, max_objects=1)
    seen = World(world, config)
    few, every = seen.training_panoramas(seen.episodes("train"))
    counts = [p.lengths - p.view_lengths for p in (few, every)]
    assert np.array_equal(counts[0], np.minimum(counts[1], 1)) and counts[1].max() > 1
    assert few.features is every.features  # views are not held twice
    blind = World(world, DataConfig(**vars(config) | {"blind": True}))
    both = blind.panoramas(blind.episodes("val_seen"))
    assert not both.features.any() and not both.object_features.any()


def test_names_are_embedded_once(world: Path, tmp_path: Path) -> None:
    """The sentence encoder is asked once; directions and sizes come from the boxes."""
    config = DataConfig(task="reverie", views="toy", cache=tmp_path)
    episodes = World(world, config).episodes("val_seen")
    first = World(world, config).panoramas(episodes)
    (file,) = tmp_path.glob("names-*.npz")
    stamp = file.stat().st_mtime_ns
    again = World(world, config).panoramas(episodes)
    assert file.stat().st_mtime_ns == stamp and first.object_size == 384
    assert np.array_equal(first.object_features, again.object_features)
    assert np.allclose(np.linalg.norm(first.object_features, axis=1), 1.0, atol=1e-3)
    stored = read_objects(world / "features" / f"{OBJECTS_FILE}.hdf5", first.atlas.keys)
    key = stored.keys[0]
    node = first.atlas.keys.index(key)
    assert [i for i in first.object_ids[node] if i >= 0] == stored.at(key).ids.tolist()


def test_distil_with_the_teachers_objects(
    capsys: Capture, world: Path, run: Path, tmp_path: Path
) -> None:
    more = ("--distill.objects", "--loop.log-every", "1", "--loop.replay", "1")
    said = train_tiny(capsys, world, tmp_path, "--teacher", run, *more, name="distil", kind=KIND)
    assert said.code == 0, said.err
    log = (tmp_path / "log.jsonl").read_text("utf-8")
    assert '"objects"' in log and '"grounding"' in log and not toy_student().distill.objects


def pretrain(capsys: Capture, world: Path, out: Path, *words: object) -> Said:
    tiny = [w for w in TINY_RUN if w not in ("--loop.warm-start",)]
    place = TINY_RUN.index("--loop.warm-start")
    tiny = [*TINY_RUN[:place], *TINY_RUN[place + 2 :]]
    return sterna(capsys, *words, "--data", world, "--out", out, *tiny, "--loop.log-every", "1")


def test_pretrain_stage_1_and_fine_tune(capsys: Capture, world: Path, tmp_path: Path) -> None:
    mix = ("--pretrain.mix.mlm", "0.2", "--pretrain.mix.sap", "0.2", "--pretrain.mix.og", "9")
    said = pretrain(capsys, world, tmp_path / "pre", "pretrain", f"{KIND}-teacher", *mix)
    assert said.code == 0, said.err
    assert '"og"' in (tmp_path / "pre" / "log.jsonl").read_text("utf-8")
    assert "RGSPL" in read_json(tmp_path / "pre" / "run.json")["scores"][-1]
    words = ("distil", f"{KIND}-student", "--stage", "1", "--teacher", tmp_path / "pre", *mix)
    said = pretrain(capsys, world, tmp_path / "one", *words)
    assert said.code == 0, said.err
    assert '"local_hidden"' in (tmp_path / "one" / "log.jsonl").read_text("utf-8")
    tuned = ("--start.weights", tmp_path / "pre" / "best")
    assert train_tiny(capsys, world, tmp_path / "tuned", *tuned, kind=KIND).code == 0


def test_an_r2r_policy_learns_objects(capsys: Capture, world: Path, tmp_path: Path) -> None:
    """Weights of R2R begin a REVERIE run; what reads and names objects is new."""
    assert train_tiny(capsys, world, tmp_path / "r2r").code == 0
    words = ("--start.weights", tmp_path / "r2r" / "last", "--data.objects", OBJECTS_FILE)
    assert train_tiny(capsys, world, tmp_path / "out", *words, kind=KIND).code == 0
    assert from_pretrained(tmp_path / "out" / "last").config.object_size == 32


def test_an_episode_is_drawn(capsys: Capture, world: Path, run: Path, tmp_path: Path) -> None:
    name = read_reverie(world, "val_unseen")[0].instr_id
    file = tmp_path / "walk.svg"
    words = ("show", name, "--task", "reverie", "--data", world, "--policy", run, "--out", file)
    assert sterna(capsys, *words).code == 0
    assert "RGS" in file.read_text("utf-8")


def test_bad_input_is_one_clear_line(
    capsys: Capture, world: Path, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    bare = broken(world, tmp_path, "reverie/BBoxes")
    train_tiny(capsys, bare, out, kind=KIND).refused("BBox.tar.gz", "sterna data get")
    sterna(capsys, "eval", run, "--data", bare).refused("BBox.tar.gz")
    r2r = broken(world, tmp_path / "a", "reverie")
    sterna(capsys, "eval", run, "--data", r2r).refused("REVERIE_val_unseen")
    train_tiny(capsys, world, out, "--data.objects", "nothing", kind=KIND).refused("nothing")
    train_tiny(capsys, world, out, "--data.max-objects", "0", kind=KIND).refused("max_objects")
    train_tiny(capsys, world, out, "--loop.select-by", "RGSPL").refused("RGSPL", "reverie")
    wide = tmp_path / "wide.hdf5"
    with h5py.File(world / "features" / f"{OBJECTS_FILE}.hdf5") as old, h5py.File(wide, "w") as new:
        for key, item in old.items():
            new.create_dataset(key, data=np.zeros((len(item), 512), np.float32))
            new[key].attrs.update(item.attrs)
    words = ("eval", run, "--data", world, "--objects", wide)
    sterna(capsys, *words).refused("objects of width 32", "objects of width 512")
    assert not out.exists()


def test_policies_of_other_tasks_are_refused(
    capsys: Capture, world: Path, run: Path, toy_run: Path, tmp_path: Path
) -> None:
    """An R2R teacher for REVERIE and a REVERIE policy on R2R: neither reads what the other sees."""
    words = ("--teacher", toy_run)
    said = train_tiny(capsys, world, tmp_path / "a", *words, name="distil", kind=KIND)
    said.refused("reads no objects", "objects of width 32")
    start = ("--start.weights", run / "last")
    train_tiny(capsys, world, tmp_path / "b", *start).refused("reads objects of width 32")
    said = train_tiny(capsys, world, tmp_path / "c", "--teacher", run, name="distil")
    said.refused("reads objects of width 32", "shows no objects")


def test_published_settings() -> None:
    """Sizes and numbers of the papers, and every recipe a whole configuration."""
    assert protocol_of(DataConfig(task="reverie-v2")).name == "REVERIE_V2_DUET"
    for recipes in (PRETRAINING, STAGE1):
        for name, recipe in recipes.items():
            config = recipe()
            grounded = "reverie" in name
            assert config.data.grounded == grounded and recipe.__doc__
            assert ("og" in config.pretrain.mix.tasks()) == grounded
            assert (config.pretrain.ends.rule == "goals") == grounded
    duet, mini = TRAINING["duet-reverie"](), DISTILLING["minivln-reverie-autovln"]()
    assert (duet.model.feature_size, duet.model.object_size) == (768, 768)
    assert (mini.model.hidden_size, mini.model.object_size) == (312, 768)
    assert (duet.loop.batch_size, duet.loop.iterations, duet.data.max_objects) == (8, 200_000, 20)
    assert (mini.loop.batch_size, mini.loop.iterations, mini.data.max_objects) == (32, 20_000, 50)
    assert (duet.data.max_words, mini.data.max_words, mini.distill.weight) == (200, 100, 0.1)
    for config in (duet, mini):
        assert config.imitation.demonstrate == "expert" and config.imitation.multi_endpoints
        assert (config.imitation.ml_weight, config.optimizer.learning_rate) == (0.2, 1e-5)
    assert PRETRAINING["duet-reverie"]().pretrain.mix == TaskMix(mlm=1, mrc=1, sap=1, og=1)
