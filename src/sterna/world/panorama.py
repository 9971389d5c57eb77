"""Panoramas as pictures: what a camera would see of an equirectangular image, and the way back.

An equirectangular image [H, W, 3] (W = 2 H) is level and shows all directions: columns are
headings, rows elevations, both evenly spaced. Its middle column looks to the heading of its pose
and headings grow to the right, as clockwise from above; its top edge is straight up. Pixel i covers
i to i + 1 and stands for i + 1/2. Views are those of `geometry`: 36 of them, 60 degrees high, as
the field's simulator shows them.

Legend: H, W panorama rows and columns, h, w rows and columns of a view, V views.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sterna.errors import InputError
from sterna.world.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS, Floats

Picture = NDArray[np.uint8]

VFOV = 60.0
"""Vertical field of view in degrees of R2R's simulator (640 x 480 pixels)."""
FACES = ((0.0, 0.0), (0.5, 0.0), (1.0, 0.0), (1.5, 0.0), (0.0, 0.5), (0.0, -0.5))
"""Heading and elevation of a cube's faces, in units of pi: ahead, right, behind, left, up, down."""


def check_panorama(picture: NDArray[np.generic], name: str = "panorama") -> None:
    """Refuse what is no equirectangular image: RGB bytes [H, W, 3], W = 2 H, 64 rows or more."""
    good = picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8
    if not good or picture.shape[1] != 2 * picture.shape[0] or picture.shape[0] < 64:
        raise InputError(
            f"{name}: expected an equirectangular RGB picture twice as wide as high, at least 64 "
            f"rows, found {picture.dtype} {'x'.join(map(str, picture.shape[:2][::-1]))}"
        )


def view_rays(
    size: tuple[int, int], heading: float, elevation: float, vfov: float = VFOV
) -> Floats:
    """Return where the pixels of a view look: unit vectors [h, w, 3] (x east, y north, z up).

    `size` is (width, height) in square pixels, `vfov` the vertical field of view in degrees, angles
    are radians.
    """
    width, height = size
    up = math.tan(math.radians(vfov) / 2)
    x = ((np.arange(width) + 0.5) / width * 2 - 1) * up * width / height
    y = (1 - (np.arange(height) + 0.5) / height * 2) * up
    h, e = heading, elevation
    forward = np.array([math.sin(h) * math.cos(e), math.cos(h) * math.cos(e), math.sin(e)])
    across = np.array([math.cos(h), -math.sin(h), 0.0])
    upward = np.array([-math.sin(h) * math.sin(e), -math.cos(h) * math.sin(e), math.cos(e)])
    rays: Floats = forward + x[None, :, None] * across + y[:, None, None] * upward
    unit: Floats = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    return unit


def places_of(rays: Floats, shape: tuple[int, int], heading: float = 0.0) -> tuple[Floats, Floats]:
    """Return where directions [..., 3] lie in a panorama of H x W pixels: row and column.

    `heading` (radians) is that of its middle column. Rows run from 0 to H, columns from 0 to W.
    """
    height, width = shape
    turn = np.arctan2(rays[..., 0], rays[..., 1]) - heading
    column = (turn / (2 * math.pi) + 0.5) % 1.0 * width
    flat = np.hypot(rays[..., 0], rays[..., 1])
    row = (0.5 - np.arctan2(rays[..., 2], flat) / math.pi) * height
    return row, column


def look_up(picture: NDArray[np.generic], row: Floats, column: Floats) -> Floats:
    """Return a picture's values at places [...], between pixels linearly; columns go round.

    Rows beyond the first and last pixel take those.
    """
    height, width = picture.shape[:2]
    y = np.clip(row - 0.5, 0.0, height - 1.0)
    x = column - 0.5
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    down, right = (y - top)[..., None], (x - left)[..., None]
    below = np.minimum(top + 1, height - 1)
    one, two = left % width, (left + 1) % width
    upper = picture[top, one] * (1 - right) + picture[top, two] * right
    lower = picture[below, one] * (1 - right) + picture[below, two] * right
    values: Floats = upper * (1 - down) + lower * down
    return values


def views_of(
    panorama: Picture,
    size: tuple[int, int],
    *,
    heading: float = 0.0,
    vfov: float = VFOV,
    headings: Floats = VIEW_HEADINGS,
    elevations: Floats = VIEW_ELEVATIONS,
) -> Picture:
    """Return the views of a panorama [H, W, 3]: bytes [V, h, w, 3], by default the field's 36.

    `heading` (radians) is that of the panorama's middle column, `size` (width, height) that of a
    view. A panorama finer than its views is first made as fine as they are, by means over areas,
    so that nothing flickers. Raises `InputError` for a picture that is no panorama.
    """
    check_panorama(panorama)
    if min(size) < 1 or not 0 < vfov < 180:
        raise InputError(f"views need pixels and an angle under 180, found {size} and {vfov}")
    picture = _as_fine(panorama, size[1], vfov)
    out = np.empty((len(headings), size[1], size[0], 3), np.uint8)
    for elevation in np.unique(elevations):
        # Views of one elevation differ by where they begin in the panorama alone.
        rays = view_rays(size, 0.0, float(elevation), vfov)
        row, column = places_of(rays, picture.shape[:2])
        mine = np.flatnonzero(elevations == elevation)
        turns = (headings[mine] - heading) / (2 * math.pi) * picture.shape[1]
        out[mine] = _sampled(picture, row, column, turns)
    return out


def _sampled(picture: NDArray[np.generic], row: Floats, column: Floats, turns: Floats) -> Picture:
    """Return what `look_up` says, rounded, with columns shifted by each turn: [V, h, w, 3]."""
    import torch  # the fastest bilinear sampler that is at hand
    from torch.nn.functional import grid_sample

    height, width = picture.shape[:2]
    # One column more on either side, so that the seam is no seam.
    wide = np.pad(picture, ((0, 0), (1, 1), (0, 0)), mode="wrap").astype(np.float32)
    source = torch.from_numpy(wide).permute(2, 0, 1)[None]
    # grid_sample counts from -1 to 1 between the middles of the outermost pixels.
    y = torch.from_numpy(np.clip(row - 0.5, 0.0, height - 1.0) * 2 / (height - 1) - 1).float()
    out = np.empty((len(turns), *row.shape, 3), np.uint8)
    for view, turn in enumerate(turns):
        x = torch.from_numpy(((column + turn) % width + 0.5) * 2 / (width + 1) - 1).float()
        grid = torch.stack([x, y], dim=-1)[None]
        seen = grid_sample(source, grid, padding_mode="border", align_corners=True)[0]
        out[view] = seen.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return out


def _as_fine(panorama: Picture, height: int, vfov: float) -> NDArray[np.generic]:
    """Take means over squares of pixels, as long as the middle of a view stays as fine as it is.

    Squares fill the panorama exactly, so that every heading is treated alike.
    """
    middle = height / (2 * math.tan(math.radians(vfov) / 2))  # pixels a radian
    rows = panorama.shape[0]
    most = max(1, int(rows / (middle * math.pi)))
    side = next(size for size in range(most, 0, -1) if rows % size == 0)
    if side == 1:
        return panorama
    squares = panorama.reshape(rows // side, side, 2 * rows // side, side, 3)
    means: NDArray[np.float32] = squares.mean((1, 3), dtype=np.float32)
    return means


def from_faces(faces: Picture, height: int) -> Picture:
    """Return a panorama [H, 2 H, 3] of heading 0 from the faces of a cube [6, S, S, 3] (`FACES`).

    Faces are square views of 90 degrees.
    """
    if faces.ndim != 4 or len(faces) != 6 or faces.shape[1] != faces.shape[2]:
        raise InputError(f"a cube has six square faces [6, S, S, 3], found {faces.shape}")
    elevation = (0.5 - (np.arange(height) + 0.5) / height) * math.pi
    turn = ((np.arange(2 * height) + 0.5) / (2 * height) - 0.5) * 2 * math.pi
    flat, up = np.cos(elevation)[:, None], np.sin(elevation)[:, None] + 0 * turn
    rays = np.stack([flat * np.sin(turn), flat * np.cos(turn), up], axis=-1)
    across, forward, upward = (np.stack(axis) for axis in zip(*map(_axes, FACES), strict=True))
    ahead = rays @ forward.T
    face = ahead.argmax(-1)
    reach = np.take_along_axis(ahead, face[..., None], -1)[..., 0]
    x = (rays * across[face]).sum(-1) / reach
    y = (rays * upward[face]).sum(-1) / reach
    side = faces.shape[1]
    column = np.clip((x + 1) / 2 * side, 0.5, side - 0.5)
    row = np.clip((1 - y) / 2 * side, 0.5, side - 0.5)
    out = np.empty((height, 2 * height, 3), np.uint8)
    for number, picture in enumerate(faces):
        mine = face == number
        out[mine] = np.rint(look_up(picture, row[mine], column[mine])).astype(np.uint8)
    return out


def _axes(face: tuple[float, float]) -> tuple[Floats, Floats, Floats]:
    """Return a face's directions to the right, ahead and up."""
    h, e = face[0] * math.pi, face[1] * math.pi
    return (
        np.array([math.cos(h), -math.sin(h), 0.0]),
        np.array([math.sin(h) * math.cos(e), math.cos(h) * math.cos(e), math.sin(e)]),
        np.array([-math.sin(h) * math.sin(e), -math.cos(h) * math.sin(e), math.cos(e)]),
    )
