"""Pictures of viewpoints on disk, and the 36 views of the field cut from a whole panorama.

Two layouts, which may be mixed: ``SCAN/VIEWPOINT/00.jpg`` .. ``35.jpg`` holds the 36 views in the
simulator's order (640 x 480 pixels, 60 degrees high), ``SCAN/VIEWPOINT.jpg`` one equirectangular
panorama (360 x 180 degrees, twice as wide as high). Pictures may be JPEG or PNG.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sterna.data.boxes import IMAGE_HEIGHT, IMAGE_WIDTH
from sterna.data.r2r import is_name
from sterna.errors import InputError
from sterna.world.geometry import VIEWS
from sterna.world.panorama import check_panorama, views_of

Pictures = NDArray[np.uint8]
Place = tuple[str, str]
"""Scan and viewpoint."""

SIZE = (IMAGE_WIDTH, IMAGE_HEIGHT)
"""Width and height of a view in pixels."""
_ENDINGS = (".jpg", ".jpeg", ".png")
_VIEW_NAME = re.compile(r"[0-9]{2}")


class PanoramaFolder:
    """The viewpoints of a folder of pictures; `places` names them all, sorted."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        size: tuple[int, int] = SIZE,
        north: float = 0.0,
        scans: Sequence[str] | None = None,
    ) -> None:
        """Look for viewpoints; `InputError` if there are none or a set of views is not whole.

        `size` (width, height) of the views that are cut from panoramas; `north` is the heading in
        degrees at the middle column of a panorama. `scans` limits the search to some.
        """
        self.root, self.size, self.north = Path(root), size, north
        if not self.root.is_dir():
            raise InputError(f"{self.root}: no such folder of pictures (SCAN/VIEWPOINT/00.jpg ...)")
        found = sorted(folder for folder in self.root.iterdir() if folder.is_dir())
        if scans is not None:
            lacking = sorted(set(scans) - {folder.name for folder in found})
            if lacking:
                raise InputError(f"{self.root}: no folder of scan {lacking[0]}; check --scans")
            found = [folder for folder in found if folder.name in set(scans)]
        self._files = {place: files for scan in found for place, files in _viewpoints(scan)}
        if not self._files:
            raise InputError(
                f"{self.root}: found no SCAN/VIEWPOINT/00.jpg .. 35.jpg (36 views) and no "
                "SCAN/VIEWPOINT.jpg (a panorama); see docs/features.md"
            )

    @property
    def places(self) -> tuple[Place, ...]:
        """Every (scan, viewpoint), sorted."""
        return tuple(sorted(self._files))

    def size_of(self, scan: str, viewpoint: str) -> tuple[int, int]:
        """Return width and height of a viewpoint's views."""
        files = self._files[scan, viewpoint]
        if len(files) == 1:
            return self.size
        height, width = read_picture(files[0]).shape[:2]
        return width, height

    def views(self, scan: str, viewpoint: str) -> Pictures:
        """Return the 36 views of a viewpoint, uint8 [36, H, W, 3]; `InputError` for a bad file."""
        files = self._files.get((scan, viewpoint))
        if files is None:
            raise InputError(f"{self.root}: no pictures of viewpoint {scan}/{viewpoint}")
        if len(files) == 1:
            panorama = read_picture(files[0])
            check_panorama(panorama, str(files[0]))
            return views_of(panorama, self.size, heading=math.radians(self.north))
        pictures = [read_picture(file) for file in files]
        for file, picture in zip(files, pictures, strict=True):
            _check_view(file, picture, pictures[0])
        return np.stack(pictures)


def read_picture(path: Path) -> Pictures:
    """Read a JPEG or PNG as RGB uint8 [H, W, 3]; a damaged or huge one is an `InputError`."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise InputError(f"{path}: not a whole picture ({reason}); fetch it again") from error


def _viewpoints(folder: Path) -> list[tuple[Place, list[Path]]]:
    """Return the viewpoints of a scan's folder and the pictures of each."""
    found: dict[Place, list[Path]] = {}
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or not is_name(entry.stem):
            continue
        if entry.is_dir():
            place, files = (folder.name, entry.name), _views_in(entry)
        elif entry.suffix.lower() in _ENDINGS:
            place, files = (folder.name, entry.stem), [entry]
        else:
            continue
        if place in found:
            raise InputError(f"{entry}: this viewpoint has pictures twice; remove one")
        if files:
            found[place] = files
    return list(found.items())


def _views_in(folder: Path) -> list[Path]:
    """Return the files 00 .. 35 of a viewpoint's folder; none at all is no viewpoint."""
    files = {
        entry.stem: entry
        for entry in sorted(folder.iterdir())
        if entry.suffix.lower() in _ENDINGS and _VIEW_NAME.fullmatch(entry.stem)
    }
    wanted = [f"{number:02d}" for number in range(VIEWS)]
    lacking = [name for name in wanted if name not in files]
    if files and (lacking or len(files) > VIEWS):
        what = f"{lacking[0]}.jpg is missing" if lacking else f"{max(files)} is one too many"
        raise InputError(f"{folder}: expected the 36 views 00.jpg .. 35.jpg, but {what}")
    return [files[name] for name in wanted] if files else []


def _check_view(file: Path, picture: Pictures, first: Pictures) -> None:
    height, width = picture.shape[:2]
    if picture.shape != first.shape or width * IMAGE_HEIGHT != height * IMAGE_WIDTH:
        raise InputError(
            f"{file}: views are 640x480 pixels (or all of another size, 4 to 3), found "
            f"{width}x{height}"
        )
