"""`sterna show` on episodes in continuous space: in a house, on an empty plane, and refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli_tools import sterna
from sterna.data.episodes import Episode
from sterna.data.vlnce import Trajectory, write_trajectories, write_vlnce
from sterna.world.houses import make_house
from sterna.world.houses.ground import ground_of, room_points

PLAIN = Episode(
    instr_id="7", scan="17DRP5sb8fy", path=(), heading=math.pi / 2, instruction="Walk on.",
    path_id=7, position=(1.0, 1.5, 0.0), goal_positions=((3.0, 1.5, 0.0),), goal_radius=3.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An episode in a house and one elsewhere, with a walk for the latter."""
    folder = tmp_path_factory.mktemp("vlnce")
    house = make_house(4)
    hall, room = room_points(house, ground_of(house))[:2].tolist()
    ends = {"position": tuple(hall), "goal_positions": (tuple(room),)}
    near = replace(PLAIN, instr_id="8", scan="house-000004", **ends)
    write_vlnce(folder / "val.json.gz", [PLAIN, near])
    steps = np.array([[1, 1.5, 0], [1.25, 1.5, 0]])
    walk = Trajectory(actions=np.array([1, 0]), positions=steps)
    write_trajectories(folder / "val_gt.json.gz", {"7": walk})
    return folder / "val.json.gz", folder / "val_gt.json.gz"


def test_the_follower_in_a_house(files, tmp_path, capsys) -> None:
    out = tmp_path / "walk.png"
    words = ("--episodes", files[0], "--agent", "follower", "--threads", "1", "--out", out)
    said = sterna(capsys, "show", "8", *words, "--json")
    assert said.json == {"out": [str(out)], "note": ""} and said.err == ""
    with Image.open(out) as picture:
        assert picture.size == (1280, 720)
        # The view fills the left: hardly any of it is white page.
        view = np.asarray(picture.convert("RGB"))[200:500, 60:480]
        assert (view == 255).all(-1).mean() < 0.5


def test_a_scan_without_a_house_says_so(files, tmp_path, capsys) -> None:
    out = tmp_path / "walk.gif"
    said = sterna(capsys, "show", "7", "--episodes", files[0], "--walk", files[1], "--out", out)
    assert said.code == 0 and said.out == f"{out}\n"
    assert "17DRP5sb8fy cannot be rendered" in said.err and "empty plane" in said.err
    with Image.open(out) as gif:
        assert gif.n_frames == 3


def test_bad_input_is_one_line(files, tmp_path, capsys) -> None:
    given, out = ("show", "7", "--episodes", files[0]), ("--out", tmp_path / "walk.gif")
    walks = ("--walk", files[1])
    sterna(capsys, "show", "9", "--episodes", files[0]).refused("2 episodes such as 7", "'9'")
    sterna(capsys, *given, *walks, "--agent", "follower").refused("--walk or --agent, not both")
    sterna(capsys, *given, "--out", "walk.svg").refused("walk.svg", ".mp4, .gif, .png")
    sterna(capsys, *given, "--policy", "runs/student", *out).refused("--policy walks graphs")
    sterna(capsys, *given, "--protocol", "CE", *out).refused("unknown protocol 'CE'")
    sterna(capsys, "show", "8", *given[2:], *walks, *out).refused("none of episode 8")
    sterna(capsys, "show", "7", "--agent", "follower").refused("--agent walks continuous")
    assert not list(tmp_path.iterdir())
