"""Pictures of episodes: valid SVG, PNG with the paths where they belong, odd episodes too."""

import dataclasses
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image, ImageColor

from sterna.data.episodes import Episode
from sterna.errors import InputError
from sterna.files import read_json
from sterna.show import draw_episode, episode_scene
from sterna.show.episode import WIDTH, place_drawing
from sterna.show.layers import BACK, BAND, REFERENCE, WALKED, move_points
from sterna.show.scene import Disc, Line, Text, along
from sterna.world.graph import build_graph, connectivity_dir, load_graph

NAMES = ("a", "b", "c", "d", "e", "f")
POSITIONS = np.array([[0, 0, 0], [4, 0, 0], [8, 0, 0], [8, 5, 0], [4, 5, 0], [8, 0, 3]], np.float64)
LINKS = [(0, 1), (1, 2), (2, 3), (1, 4), (2, 5)]
HOPS = [["a"], ["b"], ["e"], ["b", "c"], ["d"]]


def toy(positions=POSITIONS, links=LINKS, names=NAMES):
    linked = np.zeros((len(names),) * 2, bool)
    for i, j in links:
        linked[i, j] = linked[j, i] = True
    return build_graph("toy", names, np.asarray(positions, np.float64), linked)


@pytest.fixture
def graph():
    return toy()


@pytest.fixture
def episode():
    return Episode(
        instr_id="7_1",
        scan="toy",
        path=("a", "b", "c", "d"),
        heading=np.pi / 2,
        instruction='Walk past the <red> sofa & the "blue" one.\nStop.',
        path_id=7,
        split="val_unseen",
    )


def layer(scene, name):
    return next(part for part in scene.layers if part.name == name).shapes


def words(shapes):
    return [shape.text for shape in shapes if isinstance(shape, Text)]


def test_svg_parses_and_names_its_parts(graph, episode, tmp_path):
    out = draw_episode(graph, episode, HOPS, tmp_path / "e.svg", {"NE": 0.0, "SR": 1, "SPL": 0.61})
    root = ET.parse(out).getroot()
    groups = {g.get("id"): [t.text for t in g if t.text] for g in root if g.get("id")}
    parts = {"title", "graph", "success", "reference", "walked", "looked-back", "start", "goal"}
    assert parts | {"stop", "labels", "legend", "scores", "scale"} <= set(groups)
    assert groups["title"][0] == 'Walk past the <red> sofa & the "blue" one. Stop.'
    assert {"start", "goal", "stop (4)", "1", "2", "3"} <= set(groups["labels"])
    assert groups["scores"][1:] == ["NE", "0.00 m", "SR", "1", "SPL", "0.61"]
    assert root.get("width") == str(WIDTH)
    assert "<red>" not in out.read_text()


def test_png_shows_the_paths_where_they_are(graph, episode, tmp_path):
    out = draw_episode(graph, episode, HOPS, tmp_path / "e.png")
    scene = episode_scene(graph, episode, HOPS)
    picture = Image.open(out)
    assert picture.size == (WIDTH, scene.height)
    drawing = place_drawing(graph, episode, HOPS, layer(scene, "frame")[0].points[0][1])
    move = drawing.walk.moves[1]
    (x, y), _ = along(move_points(drawing, move), 0.3)
    assert picture.getpixel((round(x), round(y))) == ImageColor.getrgb(WALKED)
    (x, y), _ = along([drawing.at(2), drawing.at(3)], 0.8)
    assert picture.getpixel((round(x) + 4, round(y))) == ImageColor.getrgb(BAND)
    dashes = [s for s in layer(scene, "looked-back") if isinstance(s, Line)]
    (x, y), _ = along(dashes[len(dashes) // 2].points, 0.5)
    assert picture.getpixel((round(x), round(y))) == ImageColor.getrgb(BACK)
    x, y = drawing.at(3)
    assert picture.getpixel((round(x), round(y))) == ImageColor.getrgb(REFERENCE)  # the star


def test_what_went_back_is_told_apart(graph, episode):
    scene = episode_scene(graph, episode, HOPS)
    assert {s.colour for s in layer(scene, "looked-back") if isinstance(s, Line)} == {BACK}
    assert {s.colour for s in layer(scene, "walked") if isinstance(s, Line)} == {WALKED}
    assert any("walked back" in text for text in words(layer(scene, "legend")))
    straight = episode_scene(graph, episode, ["a", "b", "c", "d"])
    assert layer(straight, "looked-back") == ()
    assert not any("walked back" in text for text in words(layer(straight, "legend")))


def test_success_circle_is_three_metres_to_scale(graph, episode):
    scene = episode_scene(graph, episode)
    drawing = place_drawing(graph, episode, None, 0.0)
    disc = next(s for s in layer(scene, "success") if isinstance(s, Disc))
    assert disc.radius == pytest.approx(3 * drawing.plan.scale)
    assert len(layer(scene, "successes")) == 1  # d alone: every other node is further by the graph


def test_other_storeys_are_faded_and_heights_shown_where_the_path_climbs(graph, episode):
    flat = episode_scene(graph, episode)
    assert "more than 1.5 m higher or lower" in " ".join(words(layer(flat, "legend")))
    assert not any(part.name == "heights" for part in flat.layers)
    climb = dataclasses.replace(episode, path=("a", "b", "c", "f"))
    assert {"0 m", "+3.0 m", "11.0 m along the path"} <= set(
        words(layer(episode_scene(graph, climb), "heights"))
    )


def test_test_split_has_no_goal(graph, episode):
    scene = episode_scene(graph, dataclasses.replace(episode, path=("a",)), ["a", "b"])
    assert layer(scene, "goal") == layer(scene, "reference") == ()
    assert "goal" not in words(layer(scene, "labels"))


def test_listed_goals_have_no_radius(graph, episode):
    scene = episode_scene(graph, dataclasses.replace(episode, goals=("c", "d")))
    assert layer(scene, "success") == layer(scene, "successes") == ()
    assert len(layer(scene, "goal")) == 2


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_degenerate_houses(episode, tmp_path, suffix):
    one = toy([[1, 2, 3]], [], ("a",))
    shaft = toy([[0, 0, 0], [0, 0, 3], [0, 0, 6]], [(0, 1), (1, 2)], ("a", "b", "c"))
    alone = dataclasses.replace(episode, path=("a", "a"), instruction="")
    lift = dataclasses.replace(episode, path=("a", "b", "c"), instruction="Up.")
    for graph, task, hops in ((one, alone, ["a"]), (shaft, lift, ["a", "b", "a", "b", "c"])):
        out = draw_episode(graph, task, hops, tmp_path / f"{graph.viewpoints[-1]}{suffix}")
        assert out.stat().st_size > 1000


def test_a_wandering_agent_with_a_long_instruction_stays_on_the_page(graph, episode):
    hops = ["a", *["b", "c"] * 15]
    scene = episode_scene(graph, dataclasses.replace(episode, instruction="turn " * 500), hops)
    assert words(layer(scene, "title"))[-2].endswith(" ...")
    for part in scene.layers:
        for shape in part.shapes:
            if isinstance(shape, Text):
                assert 0 < shape.at[0] < WIDTH and 0 < shape.at[1] < scene.height


def test_wrong_input_is_one_line(graph, episode, tmp_path):
    with pytest.raises(InputError, match=r"ending in \.svg or \.png"):
        draw_episode(graph, episode, HOPS, tmp_path / "e.pdf")
    with pytest.raises(InputError, match="unknown viewpoint 'zz'"):
        draw_episode(
            graph, dataclasses.replace(episode, path=("a", "zz")), None, tmp_path / "e.svg"
        )
    with pytest.raises(InputError, match="expected a path"):
        draw_episode(graph, dataclasses.replace(episode, path=()), None, tmp_path / "e.svg")
    assert not list(tmp_path.iterdir())


def test_the_same_picture_every_time(graph, episode, tmp_path):
    first = draw_episode(graph, episode, HOPS, tmp_path / "1.png").read_bytes()
    assert draw_episode(graph, episode, HOPS, tmp_path / "2.png").read_bytes() == first


def test_real_walks(data_dir):
    golden = read_json(data_dir / "golden" / "C_small_w1.json")["episodes"]
    items = read_json(data_dir / "r2r" / "R2R_val_unseen.json")
    folder = connectivity_dir(data_dir)
    drawn = 0
    for item in items:
        walked = golden.get(f"{item['path_id']}_0")
        if walked is None:
            continue
        task = Episode(
            instr_id=walked["instr_id"],
            scan=item["scan"],
            path=tuple(item["path"]),
            heading=item["heading"],
            instruction=item["instructions"][0],
            path_id=item["path_id"],
        )
        scene = episode_scene(load_graph(folder, item["scan"]), task, walked["trajectory"])
        back = any(len(hop) > 1 for hop in walked["trajectory"])
        assert bool(layer(scene, "looked-back")) >= back
        drawn += 1
    assert drawn >= 10
