"""Views of panoramas: the geometry exact, seams and poles whole, and houses seen the same way."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sterna.errors import InputError
from sterna.world.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS
from sterna.world.houses import make_house
from sterna.world.houses.ground import ground_of
from sterna.world.houses.render import Camera, Renderer
from sterna.world.houses.viewpoints import place_viewpoints
from sterna.world.panorama import (
    FACES,
    check_panorama,
    from_faces,
    look_up,
    places_of,
    view_rays,
    views_of,
)


def directions_as_colours(height: int, heading: float) -> np.ndarray:
    """A panorama [H, 2 H, 3] whose colours are where its pixels look, by its own definition."""
    turn = ((np.arange(2 * height) + 0.5) / (2 * height) - 0.5) * 2 * math.pi + heading
    up = (0.5 - (np.arange(height) + 0.5) / height) * math.pi
    flat = np.cos(up)[:, None]
    tall = np.broadcast_to(np.sin(up)[:, None], (height, 2 * height))
    return np.stack([flat * np.sin(turn), flat * np.cos(turn), tall], -1)


@pytest.mark.parametrize("heading", [0.0, 1.0, -2.9, 6.1])
def test_pixels_look_where_they_should(heading: float) -> None:
    """All 36 views of 640 x 480: the colour found is the direction asked for, seams included."""
    panorama = directions_as_colours(512, heading)
    for view in range(0, 36, 5):
        rays = view_rays((64, 48), VIEW_HEADINGS[view], VIEW_ELEVATIONS[view])
        found = look_up(panorama, *places_of(rays, (512, 1024), heading))
        assert np.abs(found - rays).max() < 2e-5  # linear between pixels of 6 milliradians


def test_rays_are_those_of_the_simulator() -> None:
    """R2R's camera: 60 degrees high, 640 x 480, the middle ahead, edges where tangents are."""
    rays = view_rays((640, 480), 0.0, 0.0)
    assert rays.shape == (480, 640, 3)
    assert np.allclose(np.linalg.norm(rays, axis=-1), 1.0)
    assert rays[239:241, 319:321].mean((0, 1)) == pytest.approx([0, 1, 0], abs=1e-5)
    up = np.arctan2(rays[..., 2], np.hypot(rays[..., 0], rays[..., 1]))
    edge = math.degrees(math.atan(math.tan(math.radians(30)) * 479 / 480))
    assert math.degrees(up[0, 320]) == pytest.approx(edge, abs=1e-3)
    right = math.degrees(math.atan2(rays[240, 639, 0], rays[240, 639, 1]))
    wide = math.atan(math.tan(math.radians(30)) * 640 / 480 * 639 / 640)
    assert right == pytest.approx(math.degrees(wide), abs=1e-3)
    turned = view_rays((640, 480), math.pi / 2, 0.0)[240, 320]
    assert turned == pytest.approx([1, 0, 0], abs=0.01)  # heading grows clockwise: east
    assert view_rays((3, 3), 0.0, math.pi / 6)[1, 1, 2] == pytest.approx(0.5)  # and up is up


def test_a_panorama_of_a_house_holds_the_views_of_the_house() -> None:
    """Rendered as a cube, laid out flat, looked at again: what the renderer itself shows."""
    house = make_house(4)
    place = place_viewpoints(house, ground_of(house)).graph.positions[0]
    renderer = Renderer(house)
    angles = np.array(FACES) * math.pi
    faces = renderer.render(Camera(width=512, height=512), place, angles[:, 0], angles[:, 1]).rgb
    panorama = from_faces(faces, 512)
    fine = renderer.panorama(place, 192).rgb.astype(float)
    wanted = fine.reshape(36, 48, 4, 48, 4, 3).mean((2, 4))
    found = views_of(panorama, (48, 48)).astype(float)
    apart = np.abs(found - wanted).mean()
    # A view beside it, and one turned by two pixels, are much further away.
    assert apart < 3.0
    for other in (np.roll(found, 1, 0), np.roll(found, 2, 2), np.roll(found, 2, 1)):
        assert np.abs(other - wanted).mean() > 2 * apart
    rolled = np.roll(panorama, 256, 1)  # a quarter turn to the left
    again = views_of(rolled, (48, 48), heading=-math.pi / 2).astype(float)
    assert np.abs(again - found).mean() < 0.01


def test_fine_panoramas_are_averaged() -> None:
    """A chessboard finer than a view's pixels is grey, not stripes."""
    fine = np.indices((1024, 2048)).sum(0) % 2 * 255
    views = views_of(np.repeat(fine[..., None], 3, 2).astype(np.uint8), (24, 24))
    assert np.abs(views[12:24].astype(int) - 127).max() <= 2


def test_what_is_no_panorama_is_refused() -> None:
    with pytest.raises(InputError, match=r"yard.jpg: expected an equirectangular .* 300x200"):
        check_panorama(np.zeros((200, 300, 3), np.uint8), "yard.jpg")
    with pytest.raises(InputError, match="at least 64 rows"):
        views_of(np.zeros((32, 64, 3), np.uint8), (8, 8))
    with pytest.raises(InputError, match="six square faces"):
        from_faces(np.zeros((5, 8, 8, 3), np.uint8), 64)
