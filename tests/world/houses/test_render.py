"""The renderer against brute force, against itself in batches, and against what people see."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sterna.errors import InputError
from sterna.world.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS
from sterna.world.houses import CLASSES, STRUCTURE, House, make_house
from sterna.world.houses.render import Camera, Frames, Renderer


@pytest.fixture(scope="module")
def house() -> House:
    return make_house(13)  # two storeys


@pytest.fixture(scope="module")
def renderer(house: House) -> Renderer:
    return Renderer(house)


def spots(house: House, count: int, seed: int = 0) -> np.ndarray:
    """Draw points at eye height, clear of furniture, room after room."""
    rng, out = np.random.default_rng(seed), []
    while len(out) < count:
        room = house.rooms[len(out) % len(house.rooms)]
        x0, y0, x1, y1 = room.rectangles[0]
        p = np.array([rng.uniform(x0, x1), rng.uniform(y0, y1), house.floors[room.storey] + 1.5])
        if not ((house.boxes[:, :3] < p + 0.1) & (p - 0.1 < house.boxes[:, 3:])).all(1).any():
            out.append(p)
    return np.array(out)


def brute(boxes: np.ndarray, o: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Return t of every box for every ray [N, B], inf where it is missed or begun inside."""
    with np.errstate(divide="ignore", invalid="ignore"):
        a = (boxes[None, :, :3] - o[:, None]) / d[:, None]
        b = (boxes[None, :, 3:] - o[:, None]) / d[:, None]
    near, far = np.minimum(a, b).max(-1), np.maximum(a, b).min(-1)
    return np.where((near <= far) & (near > 0), near, np.inf)


def test_rays_meet_what_brute_force_meets(house: House, renderer: Renderer) -> None:
    o = spots(house, 300)
    d = np.random.default_rng(1).normal(size=o.shape)
    t, hits = renderer.cast(o, d)
    every = brute(house.boxes.astype(np.float64), o, d)
    np.testing.assert_allclose(t, every.min(1), atol=1e-4)
    met = np.isfinite(t)
    assert met.mean() > 0.95
    rows = np.arange(len(o))[met]
    np.testing.assert_allclose(every[rows, hits[met]], t[met], atol=1e-9)


def test_rays_along_the_axes(house: House, renderer: Renderer) -> None:
    o = np.repeat(spots(house, 20), 6, 0)
    d = np.tile(np.concatenate([np.eye(3), -np.eye(3)]), (20, 1))
    t, _ = renderer.cast(o, d)
    every = brute(house.boxes.astype(np.float64), o, np.where(d == 0, 1e-12, d))
    np.testing.assert_allclose(t, every.min(1), atol=1e-4)


def test_a_panorama_is_its_single_views(house: House, renderer: Renderer) -> None:
    place = spots(house, 1)[0]
    batch = renderer.panorama(place, 16)
    camera = Camera(width=16, height=16, hfov=60)
    for i in (0, 5, 12, 30, 35):
        one = renderer.render(camera, place, VIEW_HEADINGS[i], VIEW_ELEVATIONS[i])
        for name in ("rgb", "depth", "instance", "klass"):
            np.testing.assert_array_equal(getattr(one, name)[0], getattr(batch, name)[i])


def test_panoramas_of_several_viewpoints_and_other_sizes(house: House, renderer: Renderer) -> None:
    places = spots(house, 2)
    both = renderer.panorama(places, (16, 12))
    assert both.rgb.shape == (72, 12, 16, 3)
    np.testing.assert_array_equal(both.rgb[36:], renderer.panorama(places[1], (16, 12)).rgb)
    right = math.degrees(2 * math.atan(math.tan(math.radians(30)) * 16 / 12))
    one = renderer.render(
        Camera(width=16, height=12, hfov=right), places[0], VIEW_HEADINGS[14], 0.0
    )
    np.testing.assert_array_equal(one.klass[0], both.klass[14])


def test_threads_and_repeats_change_nothing(house: House, renderer: Renderer) -> None:
    place = spots(house, 1)[0]
    one, again = renderer.panorama(place, 16), renderer.panorama(place, 16)
    two = Renderer(house, threads=2).panorama(place, 16)
    for name in ("rgb", "depth", "instance", "klass"):
        np.testing.assert_array_equal(getattr(one, name), getattr(again, name))
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_depth_and_masks_agree_with_rays(house: House, renderer: Renderer) -> None:
    camera = Camera(width=24, height=16, hfov=80)
    place, heading, elevation = spots(house, 1, 3)[0], 0.7, -0.3
    frames = renderer.render(camera, place, heading, elevation)
    right, up = camera.reach
    x = (2 * (np.arange(24) + 0.5) / 24 - 1) * right
    y = (1 - 2 * (np.arange(16) + 0.5) / 16) * up
    sin, cos = math.sin, math.cos
    forward = np.array(
        [sin(heading) * cos(elevation), cos(heading) * cos(elevation), sin(elevation)]
    )
    across = np.array([cos(heading), -sin(heading), 0])
    upward = np.cross(across, forward)
    ways = (forward + x[None, :, None] * across + y[:, None, None] * upward).reshape(-1, 3)
    t, hits = renderer.cast(np.tile(place, (len(ways), 1)), ways)
    # z-depth: t counts along the optical axis because `forward` has length 1 there.
    np.testing.assert_allclose(frames.depth[0].ravel(), t, atol=1e-4)
    np.testing.assert_array_equal(frames.instance[0].ravel(), house.box_instance[hits])
    np.testing.assert_array_equal(frames.klass[0].ravel(), house.box_class[hits])
    things = frames.instance > 0
    assert (frames.klass[things] >= len(STRUCTURE)).all()
    assert (frames.klass[~things] < len(STRUCTURE)).all()


def test_walls_stand_still_on_the_level(house: House, renderer: Renderer) -> None:
    """Looking north, the depth of a wall that runs east-west is the same in all its pixels."""
    frames = renderer.render(Camera(width=32, height=32, hfov=90), spots(house, 6)[5], 0.0)
    wall = frames.klass[0] == CLASSES.index("wall")
    values, counts = np.unique(frames.depth[0][wall].round(4), return_counts=True)
    assert counts.max() > 40 and values[counts.argmax()] > 0


def hue(rgb: np.ndarray) -> str:
    """Name a colour as people do, for the few colours asked of here."""
    r, g, b = rgb.astype(float)
    if max(r, g, b) - min(r, g, b) < 30:
        return "grey"
    if r > 1.6 * g and r > 1.6 * b:
        return "red"
    if b > 1.25 * r and b > 1.15 * g:
        return "blue"
    return "green" if g > 1.2 * r and g > 1.1 * b else "other"


@pytest.mark.parametrize("colour", ["red", "blue", "green"])
def test_colours_look_like_their_names(colour: str) -> None:
    seen = 0
    for seed in range(8):
        house = make_house(seed)
        renderer = Renderer(house, shadows=1)
        for thing in house.things:
            if thing.kind in ("sofa", "bed", "armchair", "fridge") and thing.colour == colour:
                named, pixels = look_at(house, renderer, thing.id)
                if pixels > 60:
                    seen += 1
                    assert named == colour, (seed, thing)
    assert seen >= 1


def look_at(house: House, renderer: Renderer, number: int) -> tuple[str, int]:
    """Look down on a thing from in front and name the colour of its painted pixels."""
    thing = house.things[number]
    x, y, z = thing.centre
    camera = Camera(width=40, height=40, hfov=70)
    ahead = [(0, 1), (1, 0), (0, -1), (-1, 0)][thing.heading]
    place = [x + 1.2 * ahead[0], y + 1.2 * ahead[1], z + 1.0]
    heading = math.atan2(-ahead[0], -ahead[1])
    frames: Frames = renderer.render(camera, place, heading, -0.6)
    mine = frames.instance[0] == number + 1
    if not mine.any():
        return "", 0
    return hue(np.median(frames.rgb[0][mine], axis=0)), int(mine.sum())


def test_shadows_darken_and_leave_shapes_alone(house: House) -> None:
    place = spots(house, 4)
    camera = Camera(width=32, height=24, hfov=90)
    plain = Renderer(house).render(camera, place, 1.0, -0.4)
    soft = Renderer(house, shadows=4).render(camera, place, 1.0, -0.4)
    np.testing.assert_array_equal(plain.depth, soft.depth)
    assert (soft.rgb <= plain.rgb).all() and (soft.rgb < plain.rgb).any()


def test_from_above_shows_floors_and_furniture(house: House, renderer: Renderer) -> None:
    for storey in range(2):
        frames = renderer.from_above(storey, 20)
        kinds = {CLASSES[k] for k in np.unique(frames.klass) if k >= 0}
        assert {"floor", "bed"} <= kinds or storey == 0
        floor = frames.klass == CLASSES.index("floor")
        nearest = frames.depth[floor].min()
        assert nearest == pytest.approx(1.4, abs=1e-4)


def test_bad_cameras_are_refused(renderer: Renderer, house: House) -> None:
    with pytest.raises(InputError, match="hfov"):
        Camera(hfov=180)
    with pytest.raises(InputError, match="pixel"):
        Camera(width=0)
    with pytest.raises(InputError, match="agree in N"):
        renderer.render(Camera(), np.zeros((2, 3)), np.zeros(3))
    with pytest.raises(InputError, match="finite"):
        renderer.render(Camera(width=4, height=4), [0, 0, np.nan], 0.0)
    with pytest.raises(InputError, match="threads"):
        Renderer(house, threads=0)
