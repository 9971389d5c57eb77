"""RxR, SOON and NDH from the command line: a policy of R2R walks them, others learn on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from cli_tools import Said, sterna, train_tiny
from sterna.data.ndh import read_ndh
from sterna.data.rxr import Role
from sterna.files import read_json, read_jsonl
from sterna.recipes.config import DataConfig
from sterna.recipes.simulated import EvalConfig, protocol_of, read_episodes
from sterna.recipes.toyreverie import OBJECTS_FILE
from sterna.recipes.world import World
from sterna.world.graph import load_graph
from toy_reverie import write_toy_reverie
from toy_tasks import write, write_toy_tasks

CONTINUOUS = {
    "trajectory_id": 4,
    "scene_id": "mp3d/house/house.glb",
    "start_position": [0.0, 0.0, 0.0],
    "start_rotation": [0.0, 0.0, 0.0, 1.0],
}

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def world(toy_house: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_tasks(toy_house, tmp_path_factory.mktemp("tasks") / "data", paths=8)


def evaluate(capsys: Capture, run: Path, world: Path, out: Path, *words: object) -> Said:
    return sterna(capsys, "eval", run, "--data", world, "--out", out, "--json", *words)


@pytest.mark.parametrize(
    ("words", "protocol", "score", "file"),
    [
        (("rxr",), "RXR_OFFICIAL", "SDTW", "submit_val_unseen.jsonl"),
        (("rxr", "--protocol", "RXR_DUET"), "RXR_DUET", "nDTW", "submit_val_unseen.jsonl"),
        (("ndh",), "NDH_TRUSTED", "GP", "submit_val_unseen.json"),
        (("ndh", "--protocol", "NDH_PLANNER"), "NDH_PLANNER", "OPSR", "submit_val_unseen.json"),
        (
            ("soon", "--split", "val_unseen_house"),
            "SOON_OFFICIAL",
            "FSPL",
            "submit_val_unseen_house.json",
        ),
    ],
)
def test_a_policy_of_r2r_walks_them(
    capsys: Capture,
    world: Path,
    toy_run: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    protocol: str,
    score: str,
    file: str,
) -> None:
    """What eval says is what score says of the submission that it wrote, which is valid."""
    task, *more = words
    said = evaluate(capsys, toy_run, world, tmp_path, "--task", task, *more).json
    assert said["protocol"]["name"] == protocol and score in said["scores"]
    again = ("score", tmp_path / file, "--data", world, "--data-set", task, *more)
    scored = sterna(capsys, *again, "--json").json
    assert {k: v["mean"] for k, v in scored["scores"].items() if k != "action_steps"} == {
        k: v["mean"] for k, v in said["scores"].items() if k != "action_steps"
    }
    checked = sterna(capsys, *again, "--validate", "--json").json
    assert checked["valid"] and checked["walks"] == said["episodes"]
    assert score in sterna(capsys, *again).out


def test_languages_and_roles(capsys: Capture, world: Path, toy_run: Path, tmp_path: Path) -> None:
    words = ("--task", "rxr", "--language", "hi", "te")
    said = evaluate(capsys, toy_run, world, tmp_path, *words).json
    assert said["episodes"] == 12, "half of them"
    file = tmp_path / "submit_val_unseen.jsonl"
    check = ("score", file, "--data", world, "--task", "rxr", "--validate")
    assert "12 walks" in sterna(capsys, *check, "--language", "hi", "te").out
    sterna(capsys, *check).refused("12 of 24 episodes have no trajectory")
    sterna(capsys, *check, "--language", "fr").refused("no episode in fr", "it holds en-IN")
    followers = evaluate(
        capsys, toy_run, world, tmp_path / "f", "--task", "rxr", "--role", "follower"
    )
    assert followers.json["episodes"] == 24
    assert followers.json["config"]["data"]["task"] == "r2r", "the run that it comes from"


@pytest.mark.parametrize(
    ("task", "split", "walks"),
    [("rxr", "test_standard", 24), ("ndh", "test", 8), ("soon", "test", 16)],
)
def test_test_splits_are_submitted(
    capsys: Capture, world: Path, toy_run: Path, tmp_path: Path, task: str, split: str, walks: int
) -> None:
    words = ("--task", task, "--split", split)
    evaluate(capsys, toy_run, world, tmp_path, *words).refused("no answers", "--submit")
    file = Path(evaluate(capsys, toy_run, world, tmp_path, *words, "--submit").json["submission"])
    check = ("score", file, "--data", world, *words)
    said = sterna(capsys, *check, "--validate", "--json").json
    assert said == {"file": str(file), "valid": True, "walks": walks}
    sterna(capsys, *check).refused("scored by its leaderboard")
    lines = (
        file.read_text("utf-8")
        .replace('"path": [', '"path": [7, ')
        .replace('"trajectory": [', '"trajectory": [7, ')
    )
    file.write_text(lines, "utf-8")
    sterna(capsys, *check, "--validate").refused(str(file))


@pytest.mark.parametrize(
    "words",
    [
        ("rxr", "--data.languages", "en"),
        ("ndh", "--imitation.demonstrate", "expert", "--imitation.multi-endpoints"),
        ("ndh", "--data.path-type", "planner_path"),
    ],
)
def test_imitation_learns_on_rxr_and_ndh(
    capsys: Capture, world: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    said = train_tiny(capsys, world, tmp_path, "--data.task", *words)
    assert said.code == 0, said.err
    scores = read_json(tmp_path / "run.json")["scores"][-1]
    assert ("GP" in scores) == (words[0] == "ndh") and {"SR", "SPL", "nDTW"} <= scores.keys()
    walked = sterna(capsys, "eval", tmp_path, "--data", world, "--json").json
    expected = {"rxr": "RXR_OFFICIAL", "ndh": "NDH_TRUSTED"}[words[0]]
    expected = "NDH_PLANNER" if "planner_path" in words else expected
    assert walked["protocol"]["name"] == expected
    assert walked["episodes"] == (12 if words[0] == "rxr" else 8)


def test_a_policy_with_objects_points_at_them(
    capsys: Capture, toy_house: Path, tmp_path: Path
) -> None:
    """A policy of REVERIE on SOON, outlines everywhere: right wherever it sees an object."""
    world = write_toy_tasks(write_toy_reverie(toy_house, tmp_path / "a"), tmp_path / "b", paths=8)
    run = tmp_path / "run"
    assert train_tiny(capsys, world, run, kind="toy-reverie").code == 0
    file = world / "soon" / "val_unseen_house.json"
    entries = read_json(file)
    graph = load_graph(world / "connectivity", entries[0]["bboxes"][0]["scan"])
    wide = {"left_top": (-9, 2), "right_top": (9, 2), "right_bottom": (9, -2)}
    corners = wide | {"left_bottom": (-9, -2), "center": (0, 0)}
    target = {name: {"heading": h, "elevation": e} for name, (h, e) in corners.items()}
    for entry in entries:
        entry["bboxes"] = [
            {"scan": graph.scan, "image_id": name, "target": target} for name in graph.viewpoints
        ]
    write(file, entries)
    words = ("--task", "soon", "--split", "val_unseen_house")
    said = evaluate(capsys, run, world, tmp_path / "out", *words, "--objects", OBJECTS_FILE).json
    walks = read_json(tmp_path / "out" / "submit_val_unseen_house.json")
    nowhere = [0.0], [0.5]
    pointed = [
        (w["obj_heading"], w["obj_elevation"]) != nowhere for i in walks for w in i["trajectory"]
    ]
    assert sum(pointed) > 0 and said["scores"]["FSR"]["mean"] == sum(pointed) / len(pointed)
    assert said["scores"]["SR"]["mean"] == 1.0, "every viewpoint sees the target"
    evaluate(capsys, run, world, tmp_path, *words, "--objects", "none").refused("shows none")


def test_paths_that_come_back_are_not_demonstrated(
    capsys: Capture, world: Path, tmp_path: Path
) -> None:
    words = ("--data.task", "rxr", "--data.role", "follower")
    train_tiny(capsys, world, tmp_path, *words).refused(
        "24 of 24 paths visit a viewpoint twice", "--imitation.demonstrate expert"
    )
    said = train_tiny(capsys, world, tmp_path, *words, "--imitation.demonstrate", "expert")
    assert said.code == 0, said.err


def test_of_a_long_dialog_the_end_stays(world: Path) -> None:
    """The latest answer says the way; of other instructions the beginning stays."""
    short = World(world, DataConfig(task="ndh", views="toy", max_words=8))
    whole = World(world, DataConfig(task="ndh", views="toy"))
    pairs = list(zip(short.episodes("train"), whole.episodes("train"), strict=True))
    assert any(len(long.token_ids or ()) > 8 for _, long in pairs)
    for cut, long in pairs:
        ids = long.token_ids or ()
        assert cut.token_ids == (ids if len(ids) <= 8 else (ids[0], *ids[-7:]))
    cut_rxr = World(world, DataConfig(task="rxr", views="toy", max_words=8))
    assert all((e.token_ids or ())[0] == 2 for e in cut_rxr.episodes("train"))


def test_the_data_check_knows_them(capsys: Capture, world: Path, tmp_path: Path) -> None:
    said = sterna(capsys, "data", "check", world, "--json").json
    rows = {row["what"]: row for row in said["rows"]}
    for what in ("ndh val_unseen", "soon train", "soon test", "rxr train follower"):
        assert rows[what]["status"] == "ok", rows[what]
    assert "6 te-IN" in rows["rxr val_seen guide"]["found"]
    assert {"rxr-ce", "r4r"} <= said["missing"].keys()
    file = world / "ndh" / "val_seen.json"
    entries: list[Any] = read_json(file)
    broken = tmp_path / "data"
    for part in ("connectivity", "ndh"):
        (broken / part).mkdir(parents=True)
        for found in (world / part).iterdir():
            (broken / part / found.name).write_bytes(found.read_bytes())
    entries[0]["end_panos"] = ["nowhere"]
    write(broken / "ndh" / "val_seen.json", entries)
    found = sterna(capsys, "data", "check", broken)
    assert found.code == 1 and "its goal 'nowhere' is not in the graph" in found.out


def test_show_draws_them(capsys: Capture, world: Path, toy_run: Path, tmp_path: Path) -> None:
    name = read_ndh(world, "val_unseen")[1].instr_id
    words = ("show", name, "--data", world, "--task", "ndh", "--out", tmp_path / "a.svg")
    assert sterna(capsys, *words, "--policy", toy_run).code == 0
    evaluate(capsys, toy_run, world, tmp_path, "--task", "rxr")
    file = tmp_path / "submit_val_unseen.jsonl"
    (_, first), *_ = read_jsonl(file)
    guide = world / "rxr" / "rxr_val_unseen_guide.jsonl.gz"
    (path_id,) = [
        g["path_id"] for _, g in read_jsonl(guide) if g["instruction_id"] == first["instruction_id"]
    ]
    name = f"{path_id}_{first['instruction_id']}"
    words = ("show", name, "--data", world, "--task", "rxr", "--out", tmp_path / "b.svg")
    assert sterna(capsys, *words, "--walk", file).code == 0


def test_files_of_continuous_tasks_by_role_and_release(tmp_path: Path) -> None:
    """The guide's or the follower's file with the trajectories beside it; v1-2 has its protocol."""
    folder = tmp_path / "vlnce" / "RxR_VLNCE_v0" / "val_unseen"
    text = {"instruction_text": "go", "language": "te-IN", "instruction_id": "26"}
    walk = {"actions": [1, 0], "locations": [[0.0, 0.0, 0.0], [0.0, 0.0, -0.25]]}
    for number, role in enumerate(("guide", "follower")):
        entry = CONTINUOUS | {"episode_id": number, "instruction": text}
        write(folder / f"val_unseen_{role}.json", {"episodes": [entry]})
        found = {str(number): walk | {"forward_steps": 1}}
        write(folder / f"val_unseen_{role}_gt.json", found)
    for number, role in enumerate(get_args(Role)):
        config = EvalConfig(env="house", agent="stay", task="rxr-ce", role=role)
        ((episode,), references) = read_episodes(config, tmp_path)
        assert (episode.instr_id, episode.role, list(references)) == (
            f"{number}",
            role,
            [f"{number}"],
        )
        assert protocol_of(config).name == "RXR_CE"
    for release in ("v1-2", "v1-3"):
        file = tmp_path / "vlnce" / f"R2R_VLNCE_{release}" / "val_unseen" / "val_unseen.json"
        entry = CONTINUOUS | {"episode_id": release, "instruction": {"instruction_text": "go"}}
        write(file, {"episodes": [entry]})
    for asked, name, protocol in (("v1-2", "v1-2", "R2R_CE_V1_2"), (None, "v1-3", "R2R_CE")):
        config = EvalConfig(env="house", agent="stay", release=asked)
        assert read_episodes(config, tmp_path)[0][0].instr_id == name
        assert protocol_of(config).name == protocol
