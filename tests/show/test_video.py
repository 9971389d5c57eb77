"""Pictures in a row as GIF, MP4 and PNG."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from sterna.errors import InputError
from sterna.show.video import GIF_WIDTH, write_video


def pictures(count: int = 6, width: int = 65, height: int = 48) -> list[Image.Image]:
    """A white column that wanders over blue."""
    out = []
    for i in range(count):
        pixels = np.full((height, width, 3), (20, 40, 160), np.uint8)
        pixels[:, 10 * i : 10 * i + 8] = 255
        out.append(Image.fromarray(pixels))
    return out


def column(picture: Image.Image) -> int:
    """Where the white column begins."""
    return int((np.asarray(picture.convert("L"))[20] > 150).argmax())


def test_gif_holds_every_picture_in_order(tmp_path) -> None:
    file = write_video(tmp_path / "walk.gif", pictures(), fps=4)
    with Image.open(file) as gif:
        assert gif.n_frames == 6 and gif.size == (65, 48) and gif.info["loop"] == 0
        for i in range(6):
            gif.seek(i)
            assert column(gif) == 10 * i
            assert gif.info["duration"] == (250 if i < 5 else 2000)


def test_a_wide_gif_is_shrunk(tmp_path) -> None:
    file = write_video(tmp_path / "walk.gif", pictures(2, 2 * GIF_WIDTH, 200))
    with Image.open(file) as gif:
        assert gif.size == (GIF_WIDTH, 100)


def test_mp4_holds_every_picture_in_order(tmp_path) -> None:
    av = pytest.importorskip("av", reason="MP4 needs the extra viz")
    file = write_video(tmp_path / "walk.mp4", pictures(), fps=4)
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.average_rate == 4
        shown = [frame.to_image() for frame in container.decode(video=0)]
    assert shown[0].size == (64, 48), "sides become even"
    assert len(shown) == 6 + 7, "the last picture stays for two seconds"
    for i, picture in enumerate(shown[:6]):
        assert abs(column(picture) - 10 * i) <= 1


def test_png_is_the_last_picture(tmp_path) -> None:
    file = write_video(tmp_path / "walk.png", iter(pictures()))
    with Image.open(file) as picture:
        assert column(picture) == 50


def test_what_cannot_be_written(tmp_path, monkeypatch) -> None:
    with pytest.raises(InputError, match=r"walk\.avi: expected a name ending in \.mp4"):
        write_video(tmp_path / "walk.avi", pictures())
    with pytest.raises(InputError, match="at least one picture"):
        write_video(tmp_path / "walk.gif", [])
    with pytest.raises(InputError, match="more than 0 pictures a second, found 0"):
        write_video(tmp_path / "walk.gif", pictures(), fps=0)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"walk\.mp4: MP4 needs the extra viz; pip install"):
        write_video(tmp_path / "walk.mp4", pictures())
    assert not list(tmp_path.iterdir())
