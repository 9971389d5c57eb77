"""Pictures on disk, and the 36 views cut from a panorama, against the simulator's geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sterna.data.objects import direction_of_pixel
from sterna.data.panoramas import PanoramaFolder, read_picture
from sterna.errors import InputError
from sterna.world.panorama import views_of
from toy_eyes import picture, write_pictures


def coded(rows: int, north: float = 0.0) -> np.ndarray:
    """A panorama whose colour says where it looks: (sin h, cos h, elevation) in 30 .. 225."""
    columns = 2 * rows
    heading = np.deg2rad(north) + 2 * np.pi * ((np.arange(columns) + 0.5) / columns - 0.5)
    elevation = np.pi * (0.5 - (np.arange(rows) + 0.5) / rows)
    h, e = np.meshgrid(heading, elevation)
    return code(h, e)


def code(h: np.ndarray, e: np.ndarray) -> np.ndarray:
    parts = np.stack([np.sin(h), np.cos(h), e / (np.pi / 2)], -1)
    return (127.5 + 97.5 * parts).round().astype(np.uint8)


@pytest.mark.parametrize("rows", [256, 1024])
def test_a_pixel_shows_what_lies_in_its_direction(rows: int) -> None:
    """Every 60th pixel of every view, by the pinhole formula that objects are placed with."""
    views = views_of(coded(rows), (64, 48))
    assert views.shape == (36, 48, 64, 3)
    for view in range(36):
        for x in range(2, 64, 12):
            for y in range(2, 48, 12):
                # That formula is of 640 x 480 pixels; the middle of ours lies ten times as far.
                h, e = direction_of_pixel(view, 10 * (x + 0.5), 10 * (y + 0.5))
                wanted = code(np.array(h), np.array(e)).astype(int)
                assert np.abs(views[view, y, x].astype(int) - wanted).max() <= 3, (view, x, y)


def test_the_seam_is_none() -> None:
    """The view across the panorama's edge is as smooth as any; half a turn moves the edge."""
    south, north = views_of(coded(256), (64, 48))[18], views_of(coded(256), (64, 48))[12]
    for view in (south, north):
        assert np.abs(np.diff(view.astype(int), axis=1)).max() <= 6
    turned = views_of(coded(256, north=180.0), (64, 48), heading=np.pi)
    assert np.abs(turned[18].astype(int) - south).max() <= 2


def test_north_turns_the_views() -> None:
    panorama = coded(128)
    np.testing.assert_array_equal(
        views_of(panorama, (32, 24), heading=np.pi / 6)[13], views_of(panorama, (32, 24))[12]
    )


def test_a_fine_panorama_is_reduced_first() -> None:
    """A pattern finer than a view's pixels becomes grey, not moire."""
    rows = 2048
    stripes = np.zeros((rows, 2 * rows, 3), np.uint8)
    stripes[:, ::2] = 255
    view = views_of(stripes, (64, 48))[12]
    assert np.abs(view.astype(int) - 127).max() <= 8


def test_both_layouts(tmp_path: Path) -> None:
    root = write_pictures(tmp_path, {"b": 1, "a": 2})
    Image.fromarray(coded(64)).save(root / "a" / "pano.png")
    (root / "a" / "notes.txt").write_text("not a picture")
    (root / "a" / ".hidden.jpg").write_text("")
    (root / "a" / "empty").mkdir()
    folder = PanoramaFolder(root, size=(32, 24))
    assert folder.places == (("a", "00"), ("a", "01"), ("a", "pano"), ("b", "00"))
    views = folder.views("a", "01")
    assert views.shape == (36, 48, 64, 3) and views.dtype == np.uint8
    np.testing.assert_array_equal(views[7], read_picture(root / "a" / "01" / "07.jpg"))
    np.testing.assert_array_equal(folder.views("a", "pano"), views_of(coded(64), (32, 24)))
    assert PanoramaFolder(root, scans=["b"]).places == (("b", "00"),)


def refused(root: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        folder = PanoramaFolder(root)
        for place in folder.places:
            folder.views(*place)
    assert "\n" not in str(caught.value)


def test_faults_are_named(tmp_path: Path) -> None:
    refused(tmp_path / "none", "no such folder")
    refused(tmp_path, "found no SCAN/VIEWPOINT")
    root = write_pictures(tmp_path, {"a": 1})
    with pytest.raises(InputError, match="no folder of scan zz"):
        PanoramaFolder(root, scans=["zz"])
    with pytest.raises(InputError, match="no pictures of viewpoint a/99"):
        PanoramaFolder(root).views("a", "99")
    views = root / "a" / "00"
    (views / "36.jpg").write_bytes((views / "35.jpg").read_bytes())
    refused(root, "36 is one too many")
    (views / "36.jpg").unlink()
    whole = (views / "20.jpg").read_bytes()
    (views / "20.jpg").write_bytes(whole[: len(whole) // 2])
    refused(root, r"20\.jpg: not a whole picture")
    Image.fromarray(picture(0, 64, 40)).save(views / "20.jpg")
    refused(root, r"20\.jpg.*found 64x40")
    (views / "20.jpg").unlink()
    refused(root, r"20\.jpg is missing")
    (views / "20.jpg").write_bytes(whole)
    Image.fromarray(picture(0, 64, 40)).save(root / "a" / "00.jpg")
    refused(root, "pictures twice")
    (root / "a" / "00.jpg").rename(root / "a" / "01.jpg")
    refused(root, r"01\.jpg.*twice as wide as high, .*found uint8 64x40")
