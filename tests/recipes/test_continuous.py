"""Evaluation in continuous space: each episode once, scores of no number of workers, files."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import scenes
from cli_tools import sterna
from serving_sim import served, url_of
from sharing import all_well, share
from sterna.data.actions import read_actions
from sterna.data.episodes import Episode
from sterna.data.tracks import TrackFile, read_tracks, track_line
from sterna.data.vlnce import Trajectory, read_vlnce, write_vlnce
from sterna.envs.house import HouseEnv
from sterna.envs.house_backend import HouseAnswers, HouseBackend
from sterna.envs.slots import Roster
from sterna.errors import InputError
from sterna.metrics import R2R_CE, RXR_CE, read_result
from sterna.metrics.leaderboards import check_board, write_board
from sterna.recipes.continuous import evaluate
from sterna.recipes.controls import CONTROLS, RandomAgent, control
from sterna.recipes.navigators import check_turns
from sterna.recipes.simulated import EvalConfig, run_eval_env
from sterna.recipes.trackfiles import score_track_file
from sterna.world.frames import heading_of, quaternion_of
from sterna.world.houses import make_house
from sterna.world.houses.ground import ground_of, room_points
from sterna.world.space import Space

SPACE = Space(scenes.flat())
GOALS = [(4.5, 4.0, 0.0), (2.0, 2.0, 0.0), (11.0, 7.0, 0.0)]


def episode(number: int, **changes: object) -> Episode:
    goal = GOALS[number % 3]
    base = Episode(
        instr_id=str(number), scan=f"flat{number % 2}", path=(), heading=float(number),
        instruction="Go.", path_id=number, position=(1.0 + number / 10, 4.0, 0.0),
        goal_positions=(goal,), waypoints=((1.0, 4.0, 0.0), goal), split="val",
    )  # fmt: skip
    return replace(base, **changes)


EPISODES = [episode(number) for number in range(7)]
SHORT = replace(R2R_CE, name="short", max_steps=90)


class Noting(HouseEnv):
    """Keeps the scores it told at each end."""

    told: dict[str, list[dict[str, float]]]

    def step(self, action):
        out = super().step(action)
        if "scores" in out[4]:
            self.told.setdefault(self.episode.instr_id, []).append(out[4]["scores"])
        return out


def make_envs(told: dict, episodes=EPISODES, slots: int = 2):
    grounds = {"flat0": SPACE, "flat1": SPACE}

    def make(worker: int) -> list[HouseEnv]:
        envs = [Noting(grounds, episodes, protocol=SHORT) for _ in range(slots)]
        for env in envs:
            env.told = told
        return envs

    return make


@pytest.mark.parametrize(("workers", "slots"), [(1, 1), (2, 2), (3, 1), (3, 4)])
def test_each_episode_once_and_no_score_depends_on_workers(workers, slots) -> None:
    told: dict[str, list[dict[str, float]]] = {}
    done: list[str] = []
    result = evaluate(
        RandomAgent(5), make_envs(told, slots=slots), EPISODES, SHORT, workers=workers,
        together=workers == 2, done=lambda track: done.append(track.instr_id),
    )  # fmt: skip
    assert Counter(done) == Counter(e.instr_id for e in EPISODES)
    assert {name: len(rows) for name, rows in told.items()} == dict.fromkeys(done, 1)
    table = result.per_episode
    assert table is not None and table["instr_id"] == [e.instr_id for e in EPISODES]
    for i, name in enumerate(table["instr_id"]):
        assert {key: table[key][i] for key in told[name][0]} == told[name][0]
    assert (result.episodes, result.expected, result.split) == (7, 7, "val")
    alone = evaluate(RandomAgent(5), make_envs({}, slots=1), EPISODES, SHORT)
    assert alone.per_episode == table


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_roster_gives_each_once_whatever_ends_first(workers, together) -> None:
    rng = np.random.default_rng(workers)
    many = [episode(n, scan=f"s{n * n % 5}") for n in range(23)]
    roster, given = Roster(many, together=together), []
    walking: dict[int, list[Episode]] = {worker: [] for worker in range(workers)}
    while True:
        for worker, own in walking.items():
            while len(own) < 3 and (new := roster.take(worker, len(own))) is not None:
                own.append(new)
                given.append(new.instr_id)
            assert not together or len({e.scan for e in own}) <= 1
        busy = [own for own in walking.values() if own]
        if not busy:
            break
        own = busy[rng.integers(len(busy))]
        own.pop(rng.integers(len(own)))
    assert sorted(given) == sorted(e.instr_id for e in many)


def test_controls_do_what_they_say() -> None:
    scores = {}
    for name in CONTROLS:
        agent = control(name, seed=1, forward_steps=4)
        result = evaluate(agent, make_envs({}), EPISODES, SHORT)
        scores[name] = {key: value.mean for key, value in result.scores.items()}
    assert scores["follower"]["SR_1m"] == 1 and scores["follower"]["SPL"] > 0.95
    assert scores["stay"]["steps"] == 1 and scores["stay"]["TL"] == 0
    assert scores["forward"]["steps"] == 5 and 0 < scores["forward"]["TL"] <= 1.0
    assert scores["random"]["steps"] > 5 and scores["random"]["SPL"] < scores["follower"]["SPL"]
    with pytest.raises(InputError, match="no control 'fly'"):
        control("fly")
    with pytest.raises(InputError, match="four frequencies"):
        RandomAgent(0, (1, 2, 3))


def test_frequencies_are_those_given() -> None:
    agent = RandomAgent(0, (1, 5, 2, 2))
    agent.reset([0], [{}], EPISODES[:1])
    drawn = np.bincount([agent.act([{}], np.array([True]))[0] for _ in range(4000)]) / 4000
    assert drawn == pytest.approx(np.array([0.1, 0.5, 0.2, 0.2]), abs=0.03)


def island() -> Episode:
    return episode(50, instr_id="lost", goal_positions=((1.0, 1.0, 40.0),), waypoints=())


def test_episodes_without_a_way_are_named_and_not_averaged() -> None:
    episodes = [*EPISODES, island()]
    stay = control("stay")
    with pytest.raises(InputError, match=r"1 of 8 episodes cannot be scored.*lost.*--skip"):
        evaluate(stay, make_envs({}, episodes), episodes, SHORT)
    result = evaluate(stay, make_envs({}, episodes), episodes, SHORT, skip=True)
    assert (result.episodes, result.expected) == (7, 8)
    assert "lost" in result.config["left_out"] and "lost" in result.config["left_out"]["lost"]
    assert result.scores["NE"].mean == evaluate(
        stay, make_envs({}), EPISODES, SHORT
    ).scores["NE"].mean  # fmt: skip


def test_a_distance_that_becomes_infinite_is_named(monkeypatch) -> None:
    whole = Space.geodesic
    monkeypatch.setattr(
        Space, "geodesic", lambda self, a, b: math.inf if a[0] > 2.5 else whole(self, a, b)
    )
    with pytest.raises(InputError, match=r"cannot be scored.*NE is inf"):
        evaluate(control("follower"), make_envs({}), EPISODES, SHORT)


def test_without_waypoints_the_shortest_path_is_the_reference() -> None:
    bare = [replace(e, waypoints=()) for e in EPISODES]
    told: dict[str, list[dict[str, float]]] = {}
    result = evaluate(control("follower"), make_envs(told, bare), bare, SHORT)
    assert result.scores["nDTW"].mean > 0.8
    table = result.per_episode
    assert table is not None
    assert table["nDTW"] == [told[name][0]["nDTW"] for name in table["instr_id"]]


def test_references_are_compared_with() -> None:
    still = {e.instr_id: Trajectory(actions=np.array([0]), positions=np.array([e.position]))
             for e in EPISODES}  # fmt: skip
    result = evaluate(control("stay"), make_envs({}), EPISODES, SHORT, references=still)
    assert result.scores["nDTW"].mean == 1


# ---- files and commands, in a house ----


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five short episodes in a house, and the same without answers."""
    made = tmp_path_factory.mktemp("house")
    house = make_house(4)
    places = room_points(house, ground_of(house)).round(4).tolist()
    rows = [
        episode(
            n, instr_id=str(100 + n), scan="house-000004", scene="houses/house-000004",
            position=tuple(places[n % len(places)]), waypoints=(), goal_radius=3.0,
            goal_positions=(tuple(places[(n + 1) % len(places)]),), instruction_id=str(900 + n),
        )
        for n in range(5)
    ]  # fmt: skip
    write_vlnce(made / "val.json.gz", rows)
    bare = [replace(row, goal_positions=(), goal_radius=None) for row in rows]
    write_vlnce(made / "test.json.gz", bare)
    return made


def config(folder: Path, **changes: object) -> EvalConfig:
    base = EvalConfig(env="house", agent="random", episodes=folder / "val.json.gz", slots=2)
    return replace(base, **changes)


def test_over_http_the_scores_are_those_of_this_process(folder, tmp_path) -> None:
    near = run_eval_env(config(folder), None, tmp_path / "near", progress=False)
    answers = [HouseAnswers(HouseBackend()) for _ in range(2)]
    with served(answers[0]) as one, served(answers[1]) as two:
        for servers in ([one], [one, two]):
            far = run_eval_env(
                config(folder, env="habitat", servers=tuple(map(url_of, servers))),
                None, tmp_path / f"far{len(servers)}", progress=False,
            )  # fmt: skip
            assert near is not None and far is not None
            assert far.per_episode == near.per_episode and far.scores == near.scores
            assert far.config["simulator"]["backend"] == "houses"
    assert read_result(tmp_path / "near/result_val.json").scores == near.scores


def test_stopped_runs_go_on_and_shares_join(folder, tmp_path) -> None:
    whole = run_eval_env(config(folder), None, tmp_path / "whole", progress=False)
    assert whole is not None
    lines = (tmp_path / "whole/tracks_val.jsonl").read_text().splitlines(keepends=True)
    cut = tmp_path / "cut/tracks_val.jsonl"
    cut.parent.mkdir()
    cut.write_text("".join(lines[:3]) + lines[3][:50])
    again = run_eval_env(config(folder), None, cut.parent, progress=False)
    assert again is not None and again.per_episode == whole.per_episode
    assert again.cost["episodes_walked"] == 3
    for i in (1, 2, 3):
        shared = config(folder, shard=(i, 3))
        assert run_eval_env(shared, None, tmp_path / "parts", progress=False) is None
    joined = run_eval_env(config(folder), None, tmp_path / "parts", progress=False)
    assert joined is not None and joined.per_episode == whole.per_episode
    assert joined.cost["episodes_walked"] == 0
    with pytest.raises(InputError, match="walked with seed 0, asked is 1"):
        run_eval_env(config(folder, seed=1), None, cut.parent, progress=False)


@pytest.mark.parametrize(("count", "limit"), [(2, 5), (3, 5), (3, 2)])
def test_processes_share_a_split(folder, tmp_path, capsys, count, limit) -> None:
    """Each episode once, scores of one process, also behind shares that another run left."""
    words = ("eval", "--env", "house", "--episodes", folder / "val.json.gz", "--agent", "random")
    words = (*words, "--limit", limit, "--json", "--out")
    alone = sterna(capsys, *words, tmp_path / "one").json
    sterna(capsys, *words, tmp_path / "many", "--shard", "2/4")
    said = json.loads(all_well(share(count, tmp_path / "said", *words, tmp_path / "many")))
    assert said["scores"] == alone["scores"] and said["expected"] == alone["expected"] >= limit
    results = [read_result(tmp_path / name / "result_val.json") for name in ("one", "many")]
    assert results[0].per_episode == results[1].per_episode
    assert 0 < results[1].cost["episodes_walked"] < results[0].cost["episodes_walked"]
    assert len({p.name for p in (tmp_path / "many").glob("tracks*")}) == 1
    files = [tmp_path / name / "submit_val.json" for name in ("one", "many")]
    assert json.loads(files[0].read_text()) == json.loads(files[1].read_text())


def test_tracks_are_scored_again_and_forged_ones_found(folder, tmp_path, capsys) -> None:
    whole = run_eval_env(config(folder), None, tmp_path, progress=False)
    file = tmp_path / "tracks_val.jsonl"
    said = sterna(
        capsys, "score", file, "--task", "vlnce", "--episodes", folder / "val.json.gz",
        "--per-episode", "--json",
    ).json  # fmt: skip
    assert whole is not None and said["per_episode"] == whole.per_episode
    assert said["config"]["distances"] == "measured again"
    assert set(read_actions(file)) == {e.instr_id for e in read_vlnce(folder / "val.json.gz")}
    header, tracks = read_tracks(file)
    forged = tracks[0].positions.copy()
    forged[-1] += 0.3
    other = tmp_path / "forged.jsonl"
    rows = [json.dumps(header), *map(track_line, [replace(tracks[0], positions=forged)])]
    other.write_text("\n".join(rows) + "\n")
    with pytest.raises(InputError, match="actions do not lead where its file says"):
        score_track_file(other, config(folder), None, partial=True)
    rows = [json.dumps(header), *map(track_line, tracks[:2])]
    other.write_text("\n".join(rows) + "\n")
    with pytest.raises(InputError, match="3 of 5 episodes were not walked"):
        score_track_file(other, config(folder), None)


def test_the_command_and_what_it_refuses(folder, tmp_path, capsys) -> None:
    base = ("eval", "--env", "house", "--episodes", folder / "val.json.gz", "--agent")
    said = sterna(capsys, *base, "stay", "--out", tmp_path / "o", "--json").json
    assert said["scores"]["SR"]["mean"] <= 1 and said["protocol"]["name"] == "R2R_CE"
    text = sterna(capsys, *base, "stay", "--out", tmp_path / "o").out
    assert all(name in text for name in ("SR_1m", "collisions", "steps", "nDTW", "TL"))
    sterna(capsys, *base, "nobody").refused("no agent 'nobody'", "follower")
    sterna(capsys, *base, "stay", "--protocol", "mine").refused("unknown protocol 'mine'")
    sterna(capsys, *base, "stay", "--shard", "3/2").refused("--shard")
    (tmp_path / "empty").mkdir()
    sterna(capsys, *base, tmp_path / "empty").refused("holds no navigator")
    test = ("--episodes", folder / "test.json.gz", "--out", tmp_path / "t")
    assert sterna(capsys, "eval", "--env", "house", *test, "--json").code == 2  # no goal to follow
    said = sterna(capsys, "eval", "--env", "house", "--agent", "random", *test, "--json").json
    assert said["scores"] is None and (tmp_path / "t/submit_test.json").is_file()
    said = sterna(
        capsys, "score", tmp_path / "t/submit_test.json", "--task", "vlnce", "--validate",
        "--episodes", folder / "test.json.gz", "--json",
    ).json  # fmt: skip
    assert said["walks"] == 5


def test_the_script_is_written_out(tmp_path, capsys) -> None:
    said = sterna(capsys, "habitat", "serve", "--write-script", tmp_path / "s.py", "--json").json
    assert (tmp_path / "s.py").read_text().startswith('"""A simulator behind HTTP')
    assert said["script"] == str(tmp_path / "s.py")
    assert "--write-script" in sterna(capsys, "habitat", "serve").out
    sterna(capsys, "habitat", "serve", "--houses", "--host", "0.0.0.0").refused("STERNA_TOKEN")


# ---- submissions ----


def tracks_of(tmp_path: Path) -> list:
    file = TrackFile(tmp_path / "t.jsonl", {})
    evaluate(RandomAgent(2), make_envs({}), EPISODES, SHORT, done=file.add)
    return read_tracks(file.path)[1]


def test_submissions_are_what_the_boards_take(tmp_path) -> None:
    tracks = tracks_of(tmp_path)
    numbered = [replace(e, instruction_id=str(500 - i)) for i, e in enumerate(EPISODES)]
    ce, rxr = tmp_path / "s.json", tmp_path / "s.jsonl"
    write_board(ce, "r2r-ce", tracks, numbered)
    write_board(rxr, "rxr-ce", tracks, numbered)
    assert check_board(ce, "r2r-ce", numbered, SHORT) == 7
    assert check_board(rxr, "rxr-ce", numbered, RXR_CE) == 7
    poses = json.loads(ce.read_text())[tracks[0].instr_id]
    assert len(poses) == len(tracks[0].actions) + 1
    assert [p["stop"] for p in poses] == [False] * (len(poses) - 1) + [tracks[0].stopped]
    for pose, heading in zip(poses, tracks[0].headings, strict=True):
        assert -math.pi < pose["heading"] <= math.pi
        turned = quaternion_of(-pose["heading"])
        assert float(heading_of(turned)) == pytest.approx(heading % (2 * math.pi))
    lines = [json.loads(line) for line in rxr.read_text().splitlines()]
    assert [line["instruction_id"] for line in lines] == sorted(500 - i for i in range(7))
    assert all(a != b for line in lines for a, b in zip(line["path"], line["path"][1:]))  # noqa: B905


def broken(poses: dict) -> list[tuple[object, str]]:
    first = next(iter(poses))
    moved = json.loads(json.dumps(poses))
    moved[first][0]["position"][1] += 5
    jump = json.loads(json.dumps(poses))
    jump[first][-1]["position"][0] += 1
    late = json.loads(json.dumps(poses))
    late[first][0]["stop"] = True
    flat = json.loads(json.dumps(poses))
    flat[first][0]["heading"] = "north"
    long = {**poses, first: poses[first][:1] * 120}
    return [
        ({k: v for k, v in poses.items() if k != first}, "1 of 7 episodes have no walk"),
        ({**poses, "x": poses[first]}, "'x' is no episode"),
        (moved, "begins 5.00 m"),
        (jump, "a step is"),
        (late, "goes on after a stop"),
        (flat, "position, heading, stop"),
        (long, "119 actions, allowed 90"),
        ([], "an object of walks"),
    ]


def test_faults_of_submissions_are_named(tmp_path) -> None:
    file = tmp_path / "s.json"
    write_board(file, "r2r-ce", tracks_of(tmp_path), EPISODES)
    whole = file.read_text()
    for content, why in broken(json.loads(whole)):
        file.write_text(json.dumps(content))
        with pytest.raises(InputError, match=why):
            check_board(file, "r2r-ce", EPISODES, SHORT)
    first = json.loads(whole)["0"]
    file.write_text(f'{{"0": {json.dumps(first)}, "0": {json.dumps(first)}}}')
    with pytest.raises(InputError, match="a key twice"):
        check_board(file, "r2r-ce", EPISODES, SHORT, partial=True)
    with pytest.raises(InputError, match="instruction_id is None"):
        write_board(file, "rxr-ce", tracks_of(tmp_path / "again"), EPISODES)


def test_an_rxr_episode_keeps_what_its_board_asks_for(tmp_path) -> None:
    """Made to the schema of RxR_VLNCE_v0; the files themselves are not at hand."""
    instruction = {
        "instruction_id": "4711", "instruction_text": "Walk.", "language": "en-US",
        "annotator_id": "9", "edit_distance": 0.1, "timed_instruction": [], "split": "val",
    }  # fmt: skip
    entry = {
        "episode_id": "3", "trajectory_id": "8", "scene_id": "mp3d/abc/abc.glb",
        "start_position": [1.0, 0.0, -4.0], "start_rotation": [0.0, 0.0, 0.0, 1.0],
        "goals": [{"position": [2.0, 0.0, -4.0], "radius": 3.0}], "instruction": instruction,
        "info": {"geodesic_distance": 1.0}, "reference_path": [[1.0, 0.0, -4.0]],
    }  # fmt: skip
    target = tmp_path / "RxR_VLNCE_v0/val_unseen/val_unseen_guide.json"
    target.parent.mkdir(parents=True)
    target.write_text(json.dumps({"episodes": [entry]}))
    from sterna.data.layout import Layout

    (read,) = read_vlnce(Layout(tmp_path).rxrce("val_unseen"))
    assert (read.instruction_id, read.language) == ("4711", "en-US")
    write_vlnce(tmp_path / "back.json", [read])
    assert read_vlnce(tmp_path / "back.json") == [read]


def test_turns_of_navigator_and_protocol_agree() -> None:
    class Wording:
        turn_angle = 30.0

    class Agent:
        navigator = type("Navigator", (), {"wording": Wording})

    check_turns(Agent(), RXR_CE)
    with pytest.raises(InputError, match=r"turns of 30 degrees, protocol R2R_CE makes.*15"):
        check_turns(Agent(), R2R_CE)
