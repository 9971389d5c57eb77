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
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sterna.data.boxes import IMAGE_HEIGHT, IMAGE_WIDTH
from sterna.data.r2r import is_name
from sterna.errors import InputError
from sterna.world.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS, VIEWS

if TYPE_CHECKING:
    from torch import Tensor

Pictures = NDArray[np.uint8]
Place = tuple[str, str]
"""Scan and viewpoint."""

VFOV = 60.0
"""Vertical field of view of the 36 views in degrees."""
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
            if panorama.shape[1] != 2 * panorama.shape[0]:
                raise InputError(
                    f"{files[0]}: an equirectangular panorama is twice as wide as high, found "
                    f"{panorama.shape[1]}x{panorama.shape[0]}"
                )
            return cut_views(panorama, self.size, north=self.north)
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


def cut_views(
    panorama: Pictures, size: tuple[int, int] = SIZE, vfov: float = VFOV, *, north: float = 0.0
) -> Pictures:
    """Cut the simulator's 36 views from an equirectangular panorama [H, 2H, 3]: [36, h, w, 3].

    A view is a pinhole picture of `size` (width, height) and `vfov` degrees, at headings
    30 deg * (i mod 12) and elevations 30 deg * (i // 12 - 1). Column x of the panorama looks to
    heading `north` + 360 deg * ((x + 0.5) / 2H - 0.5), clockwise; its top row looks straight up.
    Sampling is bilinear; a panorama finer than the views is first reduced to their resolution.
    """
    import torch
    import torch.nn.functional as F

    width, height = size
    focal = height / 2 / math.tan(math.radians(vfov) / 2)
    wide = math.ceil(2 * math.pi * focal / 2) * 2
    if panorama.shape[1] > wide:
        smaller = Image.fromarray(panorama).resize((wide, wide // 2), Image.Resampling.LANCZOS)
        panorama = np.asarray(smaller)
    rows, columns = panorama.shape[:2]
    # One column more on either side, so that the seam is no seam.
    source = torch.from_numpy(np.pad(panorama, ((0, 0), (1, 1), (0, 0)), mode="wrap"))
    source = source.permute(2, 0, 1)[None].float()
    out = np.empty((VIEWS, height, width, 3), np.uint8)
    for view in range(VIEWS):
        aside, elevation = _directions(float(VIEW_ELEVATIONS[view]), size, focal)
        turned = VIEW_HEADINGS[view] / (2 * math.pi) - north / 360 + 0.5
        x = torch.remainder(aside + turned, 1.0) * columns + 0.5
        y = ((0.5 - elevation) * rows - 0.5).clamp(0, rows - 1)
        # grid_sample counts from -1 to 1 between the middles of the outermost pixels.
        grid = torch.stack([2 * x / (columns + 1) - 1, 2 * y / (rows - 1) - 1], -1)
        seen = F.grid_sample(source, grid[None], align_corners=True)[0]
        out[view] = seen.add_(0.5).clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return out


@lru_cache(maxsize=8)
def _directions(tilt: float, size: tuple[int, int], focal: float) -> tuple[Tensor, Tensor]:
    """Return how far aside of a camera (in turns) and how high (in half turns) pixels look."""
    import torch

    width, height = size
    right = ((np.arange(width) + 0.5 - width / 2) / focal)[None, :]
    up = ((height / 2 - np.arange(height) - 0.5) / focal)[:, None]
    ahead = math.cos(tilt) - up * math.sin(tilt)
    rise = math.sin(tilt) + up * math.cos(tilt)
    aside = np.arctan2(right, ahead) / (2 * math.pi)
    elevation = np.arctan2(rise, np.hypot(right, ahead)) / math.pi
    return torch.from_numpy(aside).float(), torch.from_numpy(elevation).float()


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
