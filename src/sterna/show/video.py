"""Pictures in a row as a file: GIF with Pillow, MP4 with PyAV (extra ``viz``), PNG of the last."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from sterna.errors import InputError
from sterna.files import write_bytes

SUFFIXES = (".mp4", ".gif", ".png")
GIF_WIDTH = 960  # pixels: larger ones become too heavy to send
_HOLD = 2.0  # seconds that the last picture stays


def check_name(path: str | Path) -> Path:
    """Return the path; `InputError` for a suffix that is no video's, or MP4 without its extra."""
    file = Path(path)
    if file.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{file}: expected a name ending in {', '.join(SUFFIXES)}, found {file.suffix!r}"
        )
    if file.suffix.lower() == ".mp4":
        _encoder(file)
    return file


def write_video(path: str | Path, frames: Iterable[Image.Image], fps: float = 4.0) -> Path:
    """Write RGB pictures of one size as ``.mp4``, ``.gif`` or ``.png`` (the last alone).

    `fps` pictures are shown a second; the last one stays for two seconds. `InputError` for another
    suffix, no picture, or MP4 without the extra that encodes it.
    """
    file = check_name(path)
    if fps <= 0:
        raise InputError(f"video: expected more than 0 pictures a second, found {fps}")
    kind = file.suffix.lower()
    content = {".mp4": _mp4, ".gif": _gif, ".png": _last}[kind](file, iter(frames), fps)
    write_bytes(file, content)
    return file


def _first(file: Path, frames: Iterator[Image.Image]) -> Image.Image:
    first = next(frames, None)
    if first is None:
        raise InputError(f"{file}: expected at least one picture, found none")
    return first


def _last(file: Path, frames: Iterator[Image.Image], fps: float) -> bytes:
    last = _first(file, frames)
    for frame in frames:
        last = frame
    buffer = io.BytesIO()
    last.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _gif(file: Path, frames: Iterator[Image.Image], fps: float) -> bytes:
    pictures = [_shrunk(frame) for frame in (_first(file, frames), *frames)]
    # One palette for all, from three moments side by side: no flicker, and much less work.
    moments = [pictures[0], pictures[len(pictures) // 2], pictures[-1]]
    sheet = Image.new("RGB", (pictures[0].width, 3 * pictures[0].height))
    for i, moment in enumerate(moments):
        sheet.paste(moment, (0, i * moment.height))
    palette = sheet.quantize(256, method=Image.Quantize.MEDIANCUT)
    plain = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    shown = [round(1000 / fps)] * (len(plain) - 1) + [round(1000 * _HOLD)]
    buffer = io.BytesIO()
    plain[0].save(
        buffer, format="GIF", save_all=True, append_images=plain[1:], duration=shown, loop=0
    )
    return buffer.getvalue()


def _shrunk(frame: Image.Image) -> Image.Image:
    if frame.width <= GIF_WIDTH:
        return frame
    size = (GIF_WIDTH, round(frame.height * GIF_WIDTH / frame.width))
    return frame.resize(size, Image.Resampling.LANCZOS)


def _encoder(file: Path) -> Any:
    try:
        import av
    except ImportError:
        raise InputError(
            f"{file}: MP4 needs the extra viz; pip install 'sterna[viz]', or name a .gif"
        ) from None
    return av


def _mp4(file: Path, frames: Iterator[Image.Image], fps: float) -> bytes:
    """Encode H.264 that every browser plays; sides become even numbers of pixels."""
    av, first = _encoder(file), _first(file, frames)
    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=round(fps))
        stream.width, stream.height = first.width // 2 * 2, first.height // 2 * 2
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "20"}

        def add(picture: Image.Image) -> None:
            even = picture.crop((0, 0, stream.width, stream.height))
            container.mux(stream.encode(av.VideoFrame.from_image(even)))

        last = first
        add(first)
        for frame in frames:
            add(last := frame)
        for _ in range(round(_HOLD * fps) - 1):
            add(last)
        container.mux(stream.encode())
    return buffer.getvalue()
