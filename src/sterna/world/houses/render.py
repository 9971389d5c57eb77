"""Pictures of a house: colour, depth, instances and classes from any camera, on any CPU.

Metres and radians. Heading 0 looks along +y and grows clockwise, elevation grows upwards, as in
`world.geometry`. Depth is measured along the optical axis (z-depth), not along the ray.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sterna.errors import InputError
from sterna.world.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS
from sterna.world.houses.scene import House

CELL = 0.4  # metres a cell of the grid
PATCH = 0.05  # metres a patch of the plan that says which room lies there; see `light.STEP`
TILES = 256  # tiles of pixels taken through all steps at once, so that they stay in the cache


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole: field of view (degrees) and size in pixels.

    `vfov` None means square pixels: the vertical field follows from the horizontal one.
    """

    width: int = 224
    height: int = 224
    hfov: float = 90.0
    vfov: float | None = None

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise InputError(f"a picture has at least 1x1 pixels, found {self.width}x{self.height}")
        for name, angle in (("hfov", self.hfov), ("vfov", self.vfov)):
            if angle is not None and not 0 < angle < 180:
                raise InputError(f"{name} is between 0 and 180 degrees, found {angle}")

    @property
    def reach(self) -> tuple[float, float]:
        """Return how far right and up the picture reaches at distance 1."""
        right = math.tan(math.radians(self.hfov) / 2)
        if self.vfov is None:
            return right, right * self.height / self.width
        return right, math.tan(math.radians(self.vfov) / 2)


@dataclass(frozen=True)
class Frames:
    """What cameras see, one a row.

    `rgb` uint8 [N, H, W, 3]; `depth` float32 [N, H, W], metres along the optical axis, inf where
    nothing is met; `instance` int32 [N, H, W], 0 for the building, thing id + 1; `klass` int16
    [N, H, W], an index into `House.classes`, -1 where nothing is met.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    instance: NDArray[np.int32]
    klass: NDArray[np.int16]


class _Rays(NamedTuple):
    """What is kept of rays between the steps, [n] each; see `tree.trace` and `light.light`.

    `hit`, `face` and `lamp` are int32, the rest float32.
    """

    t: Any
    hit: Any
    face: Any
    x: Any
    y: Any
    z: Any
    day: Any
    gain: Any
    lamp: Any

    @classmethod
    def empty(cls, count: int) -> _Rays:
        """Return room for so many rays."""
        whole = ("hit", "face", "lamp")
        kinds = (np.int32 if name in whole else np.float32 for name in cls._fields)
        return cls(*(np.empty(count, kind) for kind in kinds))

    def begin(self, count: int) -> _Rays:
        """Return the first so many."""
        return _Rays(*(array[:count] for array in self))


class Renderer:
    """Renders one house.

    `shadows` is the number of shadow rays a pixel (0: none, 1: hard edges, 4: soft ones); `threads`
    the number of threads, which changes speed and nothing else. The first call on a machine
    compiles for some seconds; later processes read the result from disk.
    """

    def __init__(self, house: House, *, shadows: int = 0, threads: int = 1) -> None:
        if shadows < 0 or threads < 1:
            raise InputError(f"need shadows >= 0 and threads >= 1, found {shadows} and {threads}")
        self.house, self.shadows, self.threads = house, shadows, threads
        self._boxes = house.boxes.astype(np.float64)
        self._table = house.materials.astype(np.float64)
        low, high = self._boxes[:, :3].min(0) - 0.01, self._boxes[:, 3:].max(0) + 0.01
        self._shape = tuple(int(n) for n in np.ceil((high - low) / CELL))
        from sterna.world.houses import grid, light, texture, tree  # numba takes a moment

        kernels: tuple[Any, ...] = (grid, light, texture, tree)
        self._grid, self._light, self._texture, self._tree = kernels
        self._cells = (*grid.fill_grid(self._boxes, low, CELL, self._shape), low, CELL, self._shape)
        self._parts = tree.grow(self._boxes)
        self._lay_light(low, high)

    def _lay_light(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
        """Note which part of which room lies over each patch of plan, and its lamp."""
        house = self.house
        size = np.ceil((high - low)[:2] / PATCH).astype(int)
        # Two storeys at most: a house of one has nothing above.
        self._storeys = (np.array([*house.floors, np.inf])[:2] - 0.05).astype(np.float32)
        self._cover = np.full((len(house.floors), *size), -1, np.int16)
        parts: list[tuple[float, ...]] = []
        lamp = {int(room): i for i, room in reversed(list(enumerate(house.lamp_room)))}
        for room in house.rooms:
            for x0, y0, x1, y1 in room.rectangles:
                i0, j0 = np.floor((np.array([x0, y0]) - low[:2]) / PATCH + 0.5).astype(int)
                i1, j1 = np.floor((np.array([x1, y1]) - low[:2]) / PATCH + 0.5).astype(int)
                self._cover[room.storey, i0:i1, j0:j1] = len(parts)
                floor, ceiling = house.floors[room.storey], house.ceilings[room.storey]
                parts.append((x0, y0, x1, y1, floor, ceiling, lamp.get(room.id, -1)))
        self._rooms = np.array(parts, np.float32)
        self._lamps = house.lamps.astype(np.float32).reshape(-1, 3)
        if not len(self._lamps):
            self._lamps = np.zeros((1, 3), np.float32)  # none is asked for, but one is read
        self._corner = np.float32(low[0]), np.float32(low[1]), np.float32(1 / PATCH)

    def render(
        self, camera: Camera, positions: ArrayLike, headings: ArrayLike, elevations: ArrayLike = 0.0
    ) -> Frames:
        """Render a batch: positions [N, 3], headings [N] and elevations [N] (scalars broadcast)."""
        place = np.atleast_2d(np.asarray(positions, np.float64))
        h, e = (np.asarray(a, np.float64).reshape(-1) for a in (headings, elevations))
        try:
            count = max(len(place), len(h), len(e))
            place = np.broadcast_to(place, (count, 3))
            h, e = np.broadcast_to(h, count), np.broadcast_to(e, count)
        except ValueError:
            raise InputError(
                "positions [N, 3], headings [N] and elevations [N] must agree in N; found "
                f"{place.shape}, {h.shape}, {e.shape}"
            ) from None
        right, up = camera.reach
        flat, zero = np.cos(e), np.zeros(count)
        forward = np.stack([np.sin(h) * flat, np.cos(h) * flat, np.sin(e)], 1)
        across = np.stack([np.cos(h), -np.sin(h), zero], 1) * right
        upward = np.stack([-np.sin(h) * np.sin(e), -np.cos(h) * np.sin(e), flat], 1) * up
        rows = np.concatenate([place, forward, across, upward], 1)
        if not np.isfinite(rows).all():
            raise InputError("positions, headings and elevations must be finite numbers")
        return self._run(rows, camera.height, camera.width, 0)

    def panorama(
        self,
        positions: ArrayLike,
        size: int | tuple[int, int] = 224,
        fov: float = 60.0,
        *,
        views: slice = slice(None),
    ) -> Frames:
        """Render the 36 views of viewpoints [3] or [N, 3], in the field's order, as one batch.

        `size` is the side of a square picture or (width, height); `fov` (degrees) is vertical, as
        in the field's simulator. Views of one viewpoint follow each other: row 36 * n + view; or
        as many as `views` selects of the 36.
        """
        width, height = size if isinstance(size, tuple) else (size, size)
        reach = math.tan(math.radians(fov) / 2) * width / max(1, height)
        camera = Camera(width=width, height=height, hfov=2 * math.degrees(math.atan(reach)))
        place = np.asarray(positions, np.float64).reshape(-1, 3)
        headings, elevations = VIEW_HEADINGS[views], VIEW_ELEVATIONS[views]
        heading, elevation = np.tile(headings, len(place)), np.tile(elevations, len(place))
        return self.render(camera, place.repeat(len(headings), 0), heading, elevation)

    def from_above(self, storey: int = 0, metre: int = 60, cut: float = 1.4) -> Frames:
        """Look straight down on a storey cut open `cut` metres over its floor, north up.

        `metre` pixels show one metre, and depth counts from the cut. What the cut runs through is
        drawn as it is seen from above; `topdown` marks the walls.
        """
        x0, y0 = self._boxes[:, :2].min(0)
        x1, y1 = self._boxes[:, 3:5].max(0)
        width, height = round((x1 - x0) * metre), round((y1 - y0) * metre)
        z = self.house.floors[storey] + cut
        row = [(x0 + x1) / 2, (y0 + y1) / 2, z, 0, 0, -1, (x1 - x0) / 2, 0, 0, 0, (y1 - y0) / 2, 0]
        return self._run(np.array([row], np.float64), height, width, 1)

    def cast(self, origins: ArrayLike, ways: ArrayLike) -> tuple[Any, Any]:
        """Return t [N] (inf) and box [N] (-1) where rays origins + t * ways first meet a box."""
        o, d = np.asarray(origins, np.float64), np.asarray(ways, np.float64)
        t, hits = self._grid.cast_rays(o, d, self._boxes, *self._cells)
        return t, hits

    def _run(self, rows: NDArray[np.float64], height: int, width: int, flat: int) -> Frames:
        size = (len(rows), height, width)
        frames = Frames(
            np.empty((*size, 3), np.uint8),
            np.empty(size, np.float32),
            np.empty(size, np.int32),
            np.empty(size, np.int16),
        )
        tile = self._tree.TILE
        down, over = -(-height // tile), -(-width // tile)
        most = max(1, TILES // over)

        def fill(first: int, last: int) -> None:
            kept = _Rays.empty(min(most, last - first) * over * tile * tile)
            for begin in range(first, last, most):
                end = min(begin + most, last)
                rays = kept.begin((end - begin) * over * tile * tile)
                self._fill(begin, end, rows, flat, rays, frames)

        _share(fill, len(rows) * down, self.threads)
        return frames

    def _fill(
        self, first: int, last: int, rows: NDArray[np.float64], flat: int, rays: _Rays, out: Frames
    ) -> None:
        """Fill rows of tiles: what the rays meet, how bright it is there, what it looks like."""
        house, (height, width) = self.house, out.depth.shape[1:]
        t, hit, face, x, y, z, day, gain, lamp = rays
        self._tree.trace(
            first, last, height, width, rows, flat, self._boxes, *self._parts, t, hit, face, x, y, z
        )
        self._light.light(
            x, y, z, hit, face, self._cover, self._storeys, *self._corner,
            self._rooms, self._lamps, day, gain, lamp,
        )  # fmt: skip
        if self.shadows and not flat:
            self._grid.cast_shadows(
                x, y, z, face, lamp, gain, self._lamps, self.shadows, self._boxes, *self._cells
            )
        pixel = 0.0 if flat else 2 * float(np.linalg.norm(rows[0, 6:9])) / width
        self._texture.picture(
            first, last, height, width, self._tree.TILE, rows, flat, pixel, t, hit, face, x, y, z,
            day, gain, self._boxes, house.box_class, house.box_instance, house.box_material,
            self._table, out.rgb.ravel(), out.depth.ravel(), out.instance.ravel(),
            out.klass.ravel(),
        )  # fmt: skip


def _share(work: Callable[[int, int], None], count: int, threads: int) -> None:
    """Run `work(first, last)` over a count of rows in so many threads; kernels hold no lock."""
    if threads == 1:
        work(0, count)
        return
    step = max(1, -(-count // (threads * 4)))
    with ThreadPoolExecutor(threads) as pool:
        jobs = [pool.submit(work, i, min(i + step, count)) for i in range(0, count, step)]
        for job in jobs:
            job.result()
