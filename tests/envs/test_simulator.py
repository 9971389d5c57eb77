"""A simulator behind HTTP: the same world as in this process, clear errors, a script that is alone.

What habitat-sim itself answers is not tested here: it is not installed. `HabitatBackend` runs
against a stand-in made to its published interface (`fake_habitat`).
"""

from __future__ import annotations

import ast
import http.client
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

import fake_habitat
from serving_sim import served, url_of
from sterna.data.episodes import Episode
from sterna.envs import habitat_server as server
from sterna.envs import simulator as client
from sterna.envs.continuous import ContinuousNavEnv
from sterna.envs.habitat import HabitatEnv
from sterna.envs.house import HouseEnv
from sterna.envs.house_backend import HouseAnswers, HouseBackend
from sterna.envs.houses import HouseFrames, draw_episodes
from sterna.envs.simulator import Simulator, settings_of
from sterna.errors import InputError
from sterna.metrics import R2R_CE, RXR_CE
from sterna.world.frames import Action, Pose
from sterna.world.houses import make_house
from sterna.world.houses.ground import ground_of

SMALL = replace(
    R2R_CE, name="small", camera_width=24, camera_height=16, depth_width=24, depth_height=16,
    max_steps=40,
)  # fmt: skip
SCRIPT = Path(server.__file__)


@pytest.fixture(scope="module")
def house():
    return make_house(0)


@pytest.fixture(scope="module")
def near(house) -> HouseEnv:
    ground = ground_of(house)
    episodes = draw_episodes(house, ground, 2, longest=8)
    frames = HouseFrames([house])
    return HouseEnv(
        {episodes[0].scan: ground}, episodes, frames=frames, protocol=SMALL,
        sensors=("rgb", "depth", "pose"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def houses():
    with served(HouseAnswers(HouseBackend())) as running:
        yield running


def far_env(url: str, episodes, **changes) -> HabitatEnv:
    return HabitatEnv(Simulator(SMALL, url, **changes), episodes, pose=True)


def assert_same(a, b) -> None:
    assert a["instruction"] == b["instruction"]
    for name in ("rgb", "depth", "pose"):
        assert a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name]), name


@pytest.mark.parametrize("coding", ["raw", "png"])
def test_a_walk_is_the_same_bit_for_bit(near, houses, coding) -> None:
    far = far_env(url_of(houses), near.episodes, coding=coding)
    rng = np.random.default_rng(3)
    for episode in near.episodes:
        name = {"instr_id": episode.instr_id}
        here, there = near.reset(options=name), far.reset(options=name)
        assert_same(here[0], there[0])
        assert here[1] == there[1]
        over, count = False, 0
        while not over:
            action = near.expert_action() if count % 3 else int(rng.choice([1, 1, 2]))
            assert count % 8 or far.expert_action() == near.expert_action()
            here, there = near.step(action), far.step(action)
            assert_same(here[0], there[0])
            assert here[1:] == there[1:]  # reward, both endings, info with the scores at the end
            over, count = here[2] or here[3], count + 1
        assert "scores" in here[4]
    far.close()


def test_questions_get_the_same_answers(near, houses) -> None:
    far: ContinuousNavEnv = far_env(url_of(houses), near.episodes)
    near.reset(options={"instr_id": near.episodes[0].instr_id})
    far.reset(options={"instr_id": near.episodes[0].instr_id})
    a, b = (np.array(e.position) for e in near.episodes)
    assert far.geodesic(a, b) == near.geodesic(a, b)
    assert far.geodesic(a, [b, a]) == near.geodesic(a, [b, a]) == 0
    assert np.array_equal(far.shortest_path(a, b), near.shortest_path(a, b))
    outside = a + np.array([0, 0, 40])
    assert far.is_navigable(a) and not far.is_navigable(outside)
    assert np.array_equal(far.snap(outside), near.snap(outside))
    here, there = near.topdown(a[2], 0.1), far.topdown(a[2], 0.1)
    assert np.array_equal(here[0], there[0]) and here[1] == there[1]
    pose = Pose(b, 1.0)
    assert_same(near.observe_at(pose), far.observe_at(pose))
    crowd = np.array([a, b, a])
    ground = near.grounds[near.episodes[0].scan]
    moved = far.grounds[near.episodes[0].scan].move(crowd, [0.0, 1, 2], 0.25, sliding=False)
    stepped = ground.move(crowd, [0.0, 1, 2], 0.25, sliding=False)
    assert np.array_equal(moved.positions, stepped.positions)
    assert np.array_equal(moved.collided, stepped.collided)
    far.close()


def test_a_step_is_one_exchange(near, houses, monkeypatch) -> None:
    far = far_env(url_of(houses), near.episodes)
    far.reset(options={"instr_id": near.episodes[0].instr_id})
    asked, whole = [], Simulator.ask

    def counting(self, scene, questions):
        asked.append(len(questions))
        return whole(self, scene, questions)

    monkeypatch.setattr(Simulator, "ask", counting)
    for action in (Action.FORWARD, Action.LEFT, Action.FORWARD, Action.STOP):
        asked.clear()
        far.step(action)
        # STOP: scoring measures the whole walk once; the view is remembered
        assert asked == {Action.FORWARD: [4], Action.LEFT: [2], Action.STOP: [1]}[action]
    far.close()


def test_a_server_that_was_started_anew_goes_on(near) -> None:
    with served(HouseAnswers(HouseBackend())) as first:
        port = first.server_port
        far = far_env(url_of(first), near.episodes)
        far.reset(options={"instr_id": near.episodes[0].instr_id})
        far.step(1)
    with served(HouseAnswers(HouseBackend()), port=port):
        near.reset(options={"instr_id": near.episodes[0].instr_id})
        near.step(1)
        assert_same(near.step(1)[0], far.step(1)[0])
        far.close()


def test_a_server_that_is_not_there(near, monkeypatch) -> None:
    monkeypatch.setattr(client, "_PAUSES", (0.0, 0.01))
    with served(server.Answers(server.PlaneBackend())) as gone:
        url = url_of(gone)
    with pytest.raises(InputError, match=r"^simulator at http://127.0.0.1:\d+: not there .*start"):
        Simulator(SMALL, url).about()


class _Other(BaseHTTPRequestHandler):
    said = b'{"service": "something"}'

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.said)

    def log_message(self, *words: object) -> None:
        pass


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b'{"service": "something"}', "no simulator server"),
        (b"<html>", "no simulator server"),
        (b'{"service": "sterna-simulator", "wire": 99}', "speaks version 99, this sterna speaks 1"),
    ],
)
def test_something_else_that_answers(said, why) -> None:
    other = HTTPServer(("127.0.0.1", 0), type("Other", (_Other,), {"said": said}))
    thread = Thread(target=other.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        with pytest.raises(InputError, match=why):
            Simulator(SMALL, f"http://127.0.0.1:{other.server_port}").about()
    finally:
        other.shutdown()
        other.server_close()
        thread.join()


def test_a_server_that_simulates_something_else() -> None:
    fixed = server.check_settings(settings_of(RXR_CE, ("rgb",)))
    with served(server.Answers(server.PlaneBackend(), fixed)) as running:
        for protocol, sensors, why in (
            (R2R_CE, ("rgb",), "simulates camera_width 640, the protocol asks for 224"),
            (RXR_CE, ("depth",), "has no depth camera"),
        ):
            simulator = Simulator(protocol, url_of(running), sensors=sensors)
            with pytest.raises(InputError, match=why):
                simulator.ask("flat", [{"q": "snap", "points": [[0, 0, 0]]}])
            simulator.close()
        simulator = Simulator(replace(RXR_CE, name="x", turn_angle=15), url_of(running), sensors=())
        assert simulator.ask("flat", [{"q": "navigable", "points": [[0, 0, 0]]}])
        simulator.close()


def test_a_token() -> None:
    with served(server.Answers(server.PlaneBackend()), token="secret") as running:
        for token in (None, "wrong", "secré"):
            simulator = Simulator(SMALL, url_of(running), token=token)
            with pytest.raises((InputError, UnicodeEncodeError), match=r"token|latin|ascii"):
                simulator.about()
            simulator.close()
        simulator = Simulator(SMALL, url_of(running), token="secret")
        assert simulator.about()["backend"] == "plane"
        simulator.close()
    with pytest.raises(server.RefusedError, match="STERNA_TOKEN"):
        server.check_address("0.0.0.0", 80, None)


def post(running: server.Server, path: str, body: bytes, **head: str) -> tuple[int, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", running.server_port, timeout=10)
    connection.request("POST", path, body, {"Content-Type": "application/json", **head})
    response = connection.getresponse()
    raw = response.read()
    connection.close()
    return response.status, json.loads(raw) if response.status != 200 else {}


@pytest.fixture(scope="module")
def plane():
    with served(server.Answers(server.PlaneBackend())) as running:
        yield running


def test_bodies_are_bounded_and_browsers_refused(plane) -> None:
    length = str(server.MAX_BODY + 1)
    assert post(plane, "/ask", b"", **{"Content-Length": length})[0] == 413
    assert post(plane, "/ask", b"{}", Origin="http://evil.example")[0] in (400, 403)
    good = json.dumps({"wire": 1, "settings": "x"}).encode()
    assert post(plane, "/ask", good, Origin="http://evil.example")[0] == 403
    assert post(plane, "/else", good)[0] == 404
    assert post(plane, "/ask", good) == (409, {"error": ANY_SETTINGS, "kind": "settings"})
    for bad in (b"", b"[1]", b"{", b'{"wire": NaN}', b"[" * 5000, b"\xff"):
        assert post(plane, "/ask", bad)[0] == 400


ANY_SETTINGS = "these settings are not known here"


HERE = {"points": [[0, 1, 0]], "yaws": [0]}
STEP = {"q": "move", **HERE, "distance": 0.25, "sliding": True}
LOOK = {"q": "look", **HERE, "sensor": "rgb"}


@pytest.mark.parametrize(
    ("question", "why"),
    [
        ({"q": "fly"}, "a question is one of"),
        ({"q": "snap", "points": [[0, 0]]}, "points: expected finite numbers"),
        ({"q": "snap", "points": {"of": 0}}, "of must be the number of an earlier answer"),
        ({**STEP, "yaws": []}, "yaws"),
        ({**STEP, "distance": 99}, "10 m"),
        ({**STEP, "sliding": 1}, "sliding"),
        ({"q": "topdown", "height": 0, "metres_per_pixel": 1e-9}, "metres_per_pixel"),
        ({**LOOK, "sensor": "heat"}, "no sensor"),
        ({**LOOK, "coding": "gif"}, "expected raw"),
        ([], "a question is one of"),
    ],
)
def test_wrong_questions_are_named(plane, question, why) -> None:
    simulator = Simulator(SMALL, url_of(plane))
    simulator.ask("flat", [{"q": "navigable", "points": [[0, 0, 0]]}])
    body = {"wire": 1, "settings": simulator._agreed, "scene": "flat", "ask": [question]}
    status, told = post(plane, "/ask", json.dumps(body).encode())
    simulator.close()
    assert status == 400 and re.search(why, told["error"]), told


@pytest.mark.parametrize("scene", ["../../etc/passwd", "/etc/passwd", "a/../b", "", "x" * 400])
def test_scenes_lie_in_their_folder(plane, scene) -> None:
    simulator = Simulator(SMALL, url_of(plane))
    with pytest.raises(InputError, match="scene"):
        simulator.ask(scene, [{"q": "navigable", "points": [[0, 0, 0]]}])
    simulator.close()


def test_no_such_house(houses) -> None:
    episode = Episode(
        instr_id="1", scan="castle", path=(), heading=0.0, instruction="", path_id=1,
        position=(0.0, 0.0, 0.0), goal_positions=((1.0, 0.0, 0.0),),
    )  # fmt: skip
    far = far_env(url_of(houses), [episode])
    with pytest.raises(InputError, match="no house is named 'castle'"):
        far.reset()
    far.close()


def test_the_script_is_alone_and_old_enough() -> None:
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 6))
    names = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert names - set(sys.stdlib_module_names) == {"numpy", "PIL", "habitat_sim"}
    assert "pickle" not in names and "__future__" not in names


def test_the_script_serves_by_itself(tmp_path) -> None:
    copy = tmp_path / "server.py"
    copy.write_bytes(SCRIPT.read_bytes())
    bare = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    process = subprocess.Popen(
        [sys.executable, "-I", str(copy), "--backend", "plane", "--port", "0"],
        stdout=subprocess.PIPE, text=True, env=bare, cwd=tmp_path,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split(" on ")[1].split(";")[0]
        episode = Episode(
            instr_id="1", scan="flat", path=(), heading=1.0, instruction="Go.", path_id=1,
            position=(0.0, 0.0, 0.0), goal_positions=((2.0, 3.0, 0.0),), scene="flat",
        )  # fmt: skip
        env = far_env(url, [episode])
        seen, info = env.reset()
        assert info["distance_to_goal"] == pytest.approx(math.hypot(2, 3))
        assert np.isinf(seen["depth"]).sum() == 0 and seen["depth"].max() == 10
        env.step(Action.FORWARD)
        assert env.pose().position == pytest.approx(
            np.array([0.25 * math.sin(1), 0.25 * math.cos(1), 0])
        )
        env.close()
    finally:
        process.terminate()
        assert process.wait(20) == 0
        process.stdout.close()


@pytest.fixture(params=["0.1.7", "0.3.1"])
def habitat(request, monkeypatch, tmp_path) -> server.HabitatBackend:
    monkeypatch.setitem(sys.modules, "habitat_sim", fake_habitat.module(request.param))
    (tmp_path / "mp3d/abc").mkdir(parents=True)
    (tmp_path / "mp3d/abc/abc.glb").write_bytes(b"")
    return server.HabitatBackend(str(tmp_path))


def walker(**changes) -> Episode:
    base = Episode(
        instr_id="1", scan="abc", path=(), heading=math.pi / 2, instruction="Go.", path_id=1,
        position=(1.8, 0.5, 0.0), goal_positions=((1.0, 3.0, 0.0),),
    )  # fmt: skip
    return replace(base, **changes)


def test_calls_of_habitat_fit_its_interface(habitat) -> None:
    with served(server.Answers(habitat)) as running:
        env = far_env(url_of(running), [walker()])
        assert env.simulator.about()["versions"]["habitat-sim"] in ("0.1.7", "0.3.1")
        seen, info = env.reset()
        assert info["distance_to_goal"] == pytest.approx(math.hypot(0.8, 2.5))
        assert seen["rgb"][0, 0, 0] == 12 and seen["rgb"].shape == (16, 24, 3)  # 1.25 m high
        assert seen["rgb"][0, 0, 1] == int(100 * (1 - math.sin(math.pi / 4)))  # yaw -90 degrees
        assert seen["depth"][0, 0, 0] == pytest.approx(1.8)
        env.step(Action.FORWARD)  # east, into the wall at x = 2
        assert env.collided() and env.pose().position == pytest.approx(np.array([2, 0.5, 0]))
        for _ in range(6):
            env.step(Action.RIGHT)  # south
        env.step(Action.FORWARD)
        assert not env.collided()
        assert env.pose().position == pytest.approx(np.array([2, 0.25, 0]))
        assert env.expert_action() == Action.RIGHT
        area, where = env.topdown(0.0, 0.5)
        assert area.shape == (8, 12) and (where.west, where.north) == (-3, 1)
        assert env.shortest_path((0, 0, 0), (1, 0, 0)).tolist() == [[0, 0, 0], [1, 0, 0]]
        assert len(env.shortest_path((0, 0, 0), (3, 0, 0))) == 0
        env.close()


def test_another_body_needs_another_navmesh(habitat) -> None:
    thick = {**settings_of(SMALL, ("rgb",)), "agent_radius": 0.18}
    if habitat.versions()["habitat-sim"].startswith("0.3"):
        with pytest.raises(server.RefusedError, match=r"made for agent_radius 0\.100 m, asked"):
            habitat.open("mp3d/abc/abc.glb", thick)
        habitat.navmesh = "file"
        habitat.open("mp3d/abc/abc.glb", thick)
    habitat.navmesh = "recompute"
    world = habitat.open("mp3d/abc/abc.glb", thick)
    assert world.finder.nav_mesh_settings.agent_radius == 0.18
    with pytest.raises(server.RefusedError, match="no scene"):
        habitat.open("mp3d/abd/abd.glb", thick)
