"""Walks in continuous space as videos: what is recorded, and what stands where on the page."""

from __future__ import annotations

import math
import weakref
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageColor

import scenes
from sterna.data.episodes import Episode
from sterna.envs.houses import HouseFrames, draw_episodes
from sterna.errors import InputError
from sterna.metrics import R2R_CE, R2R_DUET
from sterna.show import Recording, draw_recording, record
from sterna.show.continuous import make_page
from sterna.show.layers import BAND, REFERENCE, START, WALKED
from sterna.show.layout import HEIGHT, WIDTH, make_layout, size_of
from sterna.show.page import Page
from sterna.world.frames import Action
from sterna.world.houses import make_house
from sterna.world.houses.ground import ground_of
from sterna.world.plane import OpenPlane
from sterna.world.space import Space

GO, LEFT, RIGHT, STOP = (int(a) for a in (Action.FORWARD, Action.LEFT, Action.RIGHT, Action.STOP))

PLAIN = Episode(
    instr_id="7", scan="plain", path=(), heading=math.pi / 2, instruction="Walk on.", path_id="7",
    position=(1.0, 1.5, 0.0), goal_positions=((3.0, 1.5, 0.0),),
    waypoints=((1.0, 1.5, 0.0), (3.0, 1.5, 0.0)),
)  # fmt: skip


@pytest.fixture(scope="module")
def walk() -> tuple[Recording, HouseFrames]:
    """A path over the stairs of a house, walked by the follower."""
    house = make_house(2)
    ground = ground_of(house)
    (episode,) = draw_episodes(house, ground, 1)
    assert abs(episode.position[2] - episode.goal_positions[0][2]) > 2
    return record(episode, ground, R2R_CE), HouseFrames([house])


def near(picture: Image.Image, colour: str, middle: tuple[float, float], reach: int = 14) -> int:
    """Count pixels of about a colour around a point."""
    x, y = (round(part) for part in middle)
    pixels = np.asarray(picture.crop((x - reach, y - reach, x + reach, y + reach)), int)
    return int((np.abs(pixels - ImageColor.getrgb(colour)).max(-1) < 24).sum())


def test_recorded_actions_are_played() -> None:
    space = Space(scenes.room())
    done = record(PLAIN, space, R2R_CE, [GO, GO, RIGHT, STOP, GO])
    assert done.actions.tolist() == [GO, GO, RIGHT, STOP], "nothing moves after STOP"
    assert done.positions[:, 0] == pytest.approx([1, 1.25, 1.5, 1.5, 1.5])
    assert done.to_goal == pytest.approx([2, 1.75, 1.5, 1.5, 1.5])
    assert done.stopped and done.success and not done.collided.any()
    assert math.degrees(done.headings[-1]) == pytest.approx(105)
    bumping = record(PLAIN, space, R2R_CE, [GO] * 14)
    assert bumping.collided[-1] and not bumping.stopped and bumping.success is False
    still = record(replace(PLAIN, goal_positions=()), space, R2R_CE, [])
    assert still.to_goal is None and still.success is None and len(still.positions) == 1
    short = replace(R2R_CE, name="short", max_steps=3)
    assert len(record(PLAIN, space, short, [GO] * 9).actions) == 3


def test_the_follower_is_recorded_and_refused_where_no_way_leads() -> None:
    done = record(PLAIN, Space(scenes.room()), R2R_CE)
    assert done.success and done.to_goal[-1] < 0.25
    apart = replace(PLAIN, position=(1.0, 1.0, 0.0), goal_positions=((3.0, 1.0, 0.0),))
    with pytest.raises(InputError, match="episode 7: no way leads"):
        record(apart, Space(scenes.shut_room()), R2R_CE)


def test_the_page_shows_view_path_and_agent(walk: tuple[Recording, HouseFrames]) -> None:
    done, frames = walk
    scan = done.episode.scan
    page, layout = make_page(done, frames, frames.renderer(scan), "follower")
    assert [floor.name for floor in page.floors] == ["ground floor", "upper floor"]
    assert len(page.tiles) == 2, "this house is narrow: storeys stand side by side"
    view = Image.new("RGB", size_of(layout.view), "#123456")
    last = len(done.actions)
    first, final = page.frame(0, view), page.frame(last, view)
    assert first.size == (WIDTH, HEIGHT)
    assert first.getpixel((round(layout.view[0]) + 5, round(layout.view[1]) + 5)) == (18, 52, 86)

    def spot(point: np.ndarray) -> tuple[int, tuple[float, float]]:
        number = int(point[2] > 1.4)
        x, y = page.floors[number].plan.pixel(point)
        return number, (page.tiles[number][0] + x, page.tiles[number][1] + y)

    start, agent = spot(done.positions[0]), spot(done.positions[-1])
    goal = spot(done.goals[0])
    assert start[0] == 1 and goal[0] == 0, "from upstairs to downstairs"
    assert near(first, WALKED, start[1]) > 60 and near(first, REFERENCE, goal[1]) > 60
    assert near(final, WALKED, agent[1]) > 60 and near(final, START, start[1]) > 20
    middle = spot(done.positions[last // 2])[1]
    assert near(final, WALKED, middle) > near(first, WALKED, middle) + 10
    assert near(first, BAND, middle) > 10, "the reference path is there from the beginning"


def test_the_path_on_stairs_is_on_both_floors(walk: tuple[Recording, HouseFrames]) -> None:
    done, frames = walk
    page, _ = make_page(done, frames, frames.renderer(done.episode.scan))
    below, above = (floor.shows(done.positions) for floor in page.floors)
    height = done.positions[:, 2]
    assert (below | above).all() and (below & above).any()
    assert (below & above == (height > 0.3) & (height < 2.58)).all()


def test_views_are_what_the_agent_saw(walk: tuple[Recording, HouseFrames], tmp_path) -> None:
    done, frames = walk
    scan, t = done.episode.scan, 4
    short = replace(
        done, actions=done.actions[:t], positions=done.positions[: t + 1],
        collided=done.collided[:t],
    )  # fmt: skip
    gif, png = draw_recording(
        short, [tmp_path / "w.gif", tmp_path / "w.png"], frames=frames,
        renderer=frames.renderer(scan), agent="follower",
    )  # fmt: skip
    with Image.open(gif) as shown, Image.open(png) as last:
        assert shown.n_frames == t + 1 and last.size == (WIDTH, HEIGHT)
        layout = make_layout(done.episode.instruction, 1.0)
        box = [round(part) for part in layout.view]
        seen = np.asarray(last.convert("RGB"))[box[1] : box[3], box[0] : box[2]]
    from sterna.envs.continuous import Camera

    camera = Camera(width=seen.shape[1], height=seen.shape[0], hfov=90, elevation=1.25)
    eye = done.positions[t] + [0, 0, 1.25]
    assert (seen == frames(scan, eye, float(done.headings[t]), camera, "rgb")).all()


def test_without_a_house_the_path_stands_on_a_plane(tmp_path) -> None:
    done = record(PLAIN, OpenPlane(), R2R_CE, [GO, GO, GO, STOP])
    page, layout = make_page(done, None, None)
    assert layout.view is None and "nothing can be rendered" in page.note and not page.judged
    picture = page.frame(4, None)
    x, y = page.floors[0].plan.pixel(done.positions[-1])
    assert near(picture, WALKED, (layout.map[0] + x, layout.map[1] + y)) > 60
    (file,) = draw_recording(done, [tmp_path / "walk.gif"])
    with Image.open(file) as gif:
        assert gif.n_frames == 5
    with pytest.raises(InputError, match=r"expected a name ending in \.mp4, \.gif, \.png"):
        draw_recording(done, [tmp_path / "walk.svg"])
    with pytest.raises(InputError, match="R2R_DUET: no camera"):
        make_page(replace(done, protocol=R2R_DUET), lambda *a: np.zeros(1), None)


@pytest.mark.parametrize("words", [1, 30, 90, 160, 400])
def test_long_instructions_keep_clear_of_the_view(words: int) -> None:
    layout = make_layout("corridor " * words, 1.0)
    size, rows = layout.title
    assert 24 + len(rows) * 1.32 * size + 20 < layout.view[1]
    assert layout.view[3] <= layout.tape[1] and layout.map[3] <= layout.chart[1]
    assert layout.view[2] < layout.map[0] and layout.map[2] <= WIDTH - 24
    assert size_of(layout.view)[0] == size_of(layout.view)[1] >= 400
    if words < 160:
        assert not rows[-1].endswith("..."), "all of it can be read"


def test_a_long_walk_is_written_as_it_comes(
    walk: tuple[Recording, HouseFrames], tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One MP4 never holds more than a few of its pictures."""
    pytest.importorskip("av", reason="MP4 needs the extra viz")
    alive: list[weakref.ref[Image.Image]] = []
    most, draw = [0], Page.frame

    def counted(page: Page, t: int, view: Image.Image | None) -> Image.Image:
        most[0] = max(most[0], sum(one() is not None for one in alive))
        picture = draw(page, t, view)
        alive.append(weakref.ref(picture))
        return picture

    monkeypatch.setattr(Page, "frame", counted)
    done = record(PLAIN, OpenPlane(), R2R_CE, [GO] * 8)
    draw_recording(done, [tmp_path / "walk.mp4"])
    assert len(alive) == 9 and most[0] <= 3
