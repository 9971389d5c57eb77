"""What surfaces look like: textures worked out from formulas, the sky, and pictures of it all.

Kernels, compiled by numba when first called.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

(PLAIN, PLANKS, TILES, CARPET, PLASTER, FABRIC, WOOD, SKY) = range(8)
(GLOW, PICTURE, BOOKS, BRICK, WICKER, SCREEN, MIRROR, METAL) = range(8, 16)
RED, GREEN, BLUE, TEXTURE, SCALE, ALONG, BASE, PATTERN = range(8)


@njit(cache=True, nogil=True, error_model="numpy")
def hash01(i: int, j: int, k: int) -> float:
    """Return a number in [0, 1) that depends on three whole numbers as if at random."""
    h = (i * 374761393 + j * 668265263 + k * 2147483647) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFFFF) / 16777216.0


@njit(cache=True, nogil=True, error_model="numpy")
def sky(dz: float) -> Any:
    """Return the colour of the sky, and of the lawn below the horizon, for a unit direction."""
    if dz > 0.0:
        s = min(1.0, dz * 1.6)
        return 0.72 - 0.42 * s, 0.84 - 0.30 * s, 1.0 - 0.08 * s
    s = min(1.0, -dz * 3.0)
    return 0.50 - 0.22 * s, 0.62 - 0.16 * s, 0.50 - 0.34 * s


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def floor_at(value: float) -> int:
    """Return the whole number below a value."""
    return int(np.floor(value))


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def shade(
    kind: int, table: Any, m: int, u: float, v: float, z: float, axis: int, blur: float
) -> Any:
    """Return the factor of brightness of a texture at (u, v) on a face, and a share of white.

    `u` and `v` are metres along the face, `blur` the size of a pixel there: patterns finer than
    it fade to their mean.
    """
    grey, white = 1.0, 0.0
    if kind == PLANKS:
        a, b = (u, v) if table[m, ALONG] == 0 else (v, u)
        plank = floor_at(b / table[m, SCALE])
        shift = hash01(plank, 7, 3) * 1.8
        board = floor_at((a + shift) / 1.8)
        grey = 0.84 + 0.26 * hash01(plank, board, 1)
        fine = 1.0 / (1.0 + (blur / 0.008) ** 2)
        seam = (b / table[m, SCALE] - plank) * table[m, SCALE] < 0.006
        butt = ((a + shift) / 1.8 - board) * 1.8 < 0.006
        if seam or butt:
            grey *= 1.0 - 0.5 * fine
        grain = hash01(floor_at(b / 0.009), floor_at(a / 0.25 + hash01(plank, 5, 5) * 9), 2)
        grey *= 1.0 + (grain - 0.5) * 0.10 * fine
    elif kind == TILES and axis == 2:
        i, j = floor_at(u / table[m, SCALE]), floor_at(v / table[m, SCALE])
        a, b = u - i * table[m, SCALE], v - j * table[m, SCALE]
        grey = 0.94 + 0.10 * hash01(i, j, 4)
        edge = min(min(a, b), min(table[m, SCALE] - a, table[m, SCALE] - b))
        if edge < 0.005:
            fine = 1.0 / (1.0 + (blur / 0.012) ** 2)
            lum = 0.3 * table[m, RED] + 0.6 * table[m, GREEN] + 0.1 * table[m, BLUE]
            if lum < 0.15:
                white = 0.25 * fine
            else:
                grey *= 1.0 - 0.4 * fine
    elif kind == CARPET:
        fine = 1.0 / (1.0 + (blur / 0.02) ** 2)
        grey = 1.0 + (hash01(floor_at(u / 0.02), floor_at(v / 0.02), axis) - 0.5) * 0.22 * fine
    elif kind == FABRIC:
        fine = 1.0 / (1.0 + (blur / 0.006) ** 2)
        grey = 1.0 + 0.07 * fine * (
            1.0 if (floor_at(u / 0.012) + floor_at(v / 0.012)) % 2 else -1.0
        )
    elif kind == WOOD:
        fine = 1.0 / (1.0 + (blur / 0.015) ** 2)
        a, b = (u, v) if axis == 2 else (v, u)
        grain = hash01(floor_at(b / 0.014), floor_at(a / 0.35), 6)
        grey = 1.0 + (grain - 0.5) * 0.14 * fine
    elif kind == WICKER:
        fine = 1.0 / (1.0 + (blur / 0.02) ** 2)
        grey = 1.0 + 0.25 * fine * (1.0 if (floor_at(u / 0.03) + floor_at(v / 0.03)) % 2 else -1.0)
    elif kind == BRICK:
        course = floor_at(v / 0.075)
        a = u / 0.22 + 0.5 * (course % 2)
        i = floor_at(a)
        grey = 0.85 + 0.3 * hash01(i, course, 8)
        if v / 0.075 - course < 0.14 or a - i < 0.05:
            white = 0.45 / (1.0 + (blur / 0.02) ** 2)
    elif kind == PLASTER and axis != 2:
        height = z - table[m, BASE]
        if table[m, BASE] > -0.5 and height < 0.08:
            white = 0.8
            if height > 0.07:
                grey = 0.8
    elif kind == METAL:
        grey = 0.97 + 0.06 * (floor_at(z / 0.02) % 2) / (1.0 + (blur / 0.01) ** 2)
    return grey, white


@njit(cache=True, nogil=True, error_model="numpy")
def painting(table: Any, m: int, u: float, v: float) -> Any:
    """Return what a picture shows at (u, v) in its frame (metres): bands, discs and a horizon."""
    r, g, b = table[m, RED], table[m, GREEN], table[m, BLUE]
    p = int(table[m, PATTERN])
    size = max(table[m, SCALE], 0.05)
    s, t = u / size, v / size
    style = p % 3
    if style == 0:
        wave = t - 0.35 - 0.12 * np.sin(6.0 * s + p)
        if wave < 0.0:
            return r * 0.55, g * 0.55, b * 0.55
        cx, cy = 0.2 + 0.02 * (p % 20), 0.75
        if (s - cx) ** 2 + (t - cy) ** 2 < 0.012:
            return 0.95, 0.85, 0.5
        return min(1.0, r * 1.1 + 0.06), min(1.0, g * 1.1 + 0.06), min(1.0, b * 1.1 + 0.06)
    if style == 1:
        i, j = floor_at(s * 4), floor_at(t * 4)
        k = 0.6 + 0.7 * hash01(i, j, p)
        if hash01(i, j, p + 1) > 0.8:
            return 0.85, 0.83, 0.78
        return min(1.0, r * k), min(1.0, g * k), min(1.0, b * k)
    for n in range(5):
        cx, cy = hash01(n, p, 1) * 1.2 - 0.1, hash01(n, p, 2)
        if (s - cx) ** 2 + (t - cy) ** 2 < 0.02 + 0.05 * hash01(n, p, 3):
            return (0.8, 0.75, 0.6) if n % 2 else (r * 0.4, g * 0.4, b * 0.4)
    return r, g, b


@njit(cache=True, nogil=True, error_model="numpy")
def book_colour(u: float, pattern: float) -> Any:
    """Return the colour of the back of a book at u metres along a shelf."""
    n = floor_at(u / 0.034)
    a = hash01(n, int(pattern), 11)
    k = 0.6 + 0.5 * hash01(n, int(pattern), 12)
    edge = u / 0.034 - n
    if edge < 0.12:
        k *= 0.5
    if a < 0.2:
        return 0.50 * k, 0.06 * k, 0.05 * k
    if a < 0.4:
        return 0.06 * k, 0.12 * k, 0.42 * k
    if a < 0.55:
        return 0.07 * k, 0.30 * k, 0.10 * k
    if a < 0.7:
        return 0.75 * k, 0.70 * k, 0.58 * k
    if a < 0.85:
        return 0.55 * k, 0.32 * k, 0.08 * k
    return 0.10 * k, 0.10 * k, 0.11 * k


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def colour_at(
    x: float, y: float, z: float, blur: float, b: int, kind: int, axis: int, boxes: Any,
    table: Any, m: int, bright: float,
) -> Any:  # fmt: skip
    """Return linear red, green and blue of a point on box b, which is neither sky nor a lamp."""
    u, v = (y if axis == 0 else x), (y if axis == 2 else z)
    r, g, blue = table[m, RED], table[m, GREEN], table[m, BLUE]
    if kind == PICTURE and axis != 2:
        r, g, blue = painting(table, m, u - boxes[b, 1 if axis == 0 else 0], v - boxes[b, 2])
    elif kind == BOOKS and axis != 2:
        r, g, blue = book_colour(u, table[m, PATTERN])
    elif kind in (MIRROR, SCREEN):
        span = v - boxes[b, 2] + 0.6 * (u - boxes[b, 1 if axis == 0 else 0])
        stripe = 0.10 if floor_at(span / 0.22) % 3 == 0 else 0.0
        if kind == MIRROR and table[m, RED] > 0.7:
            r, g, blue = 0.50 + stripe, 0.60 + stripe, 0.66 + stripe
        else:
            r, g, blue = r + stripe * 0.4, g + stripe * 0.45, blue + stripe * 0.5
        if kind == SCREEN:
            bright = max(bright, 0.9)
    grey, white = shade(kind, table, m, u, v, z, axis, blur)
    keep, white = grey * (1.0 - white) * bright, white * 0.85 * bright
    return r * keep + white, g * keep + white, blue * keep + white


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def rise(cameras: Any, n: int, flat: int, x: float, y: float, z: float) -> Any:
    """Return how steeply camera n looks at a point: the height of the unit direction."""
    if flat:
        return cameras[n, 5]
    dx, dy, dz = x - cameras[n, 0], y - cameras[n, 1], z - cameras[n, 2]
    return dz / np.sqrt(dx * dx + dy * dy + dz * dz)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"nnan", "nsz"})
def to_bytes(values: Any) -> None:
    """Turn linear light [n] into 0 to 255.5, by a square root, in place."""
    most, half, none = np.float32(255.0), np.float32(0.5), np.float32(0.0)
    for p in range(len(values)):
        values[p] = min(most, most * np.sqrt(max(none, values[p])) + half)


@njit(cache=True, nogil=True, error_model="numpy")
def picture(
    first: int, last: int, height: int, width: int, tile: int, cameras: Any, flat: int,
    pixel: float, t: Any, hit: Any, face: Any, xs: Any, ys: Any, zs: Any, day: Any, gain: Any,
    boxes: Any, box_class: Any, box_instance: Any, material: Any, table: Any, rgb: Any, depth: Any,
    instance: Any, klass: Any,
) -> None:  # fmt: skip
    """Fill rows of tiles first to last of four flat pictures with what their rays met.

    `t`, `hit`, `face`, the points and their light hold rays tile by tile, tile x tile rays each;
    `pixel` is the size of a pixel at depth 1. Colours take the place of the points.
    """
    down, over = -(-height // tile), -(-width // tile)
    for number in range((last - first) * over):
        row = first + number // over
        n, i, j = row // down, row % down * tile, number % over * tile
        for a in range(i, min(i + tile, height)):
            p, q = (number * tile + a - i) * tile, (n * height + a) * width + j
            for _ in range(min(tile, width - j)):
                x, y, z, box = xs[p], ys[p], zs[p], hit[p]
                kind, m = SKY, 0
                if box >= 0:
                    m = material[box]
                    kind = int(table[m, TEXTURE])
                    depth[q], instance[q], klass[q] = t[p], box_instance[box], box_class[box]
                else:
                    depth[q], instance[q], klass[q] = np.inf, 0, -1
                if kind == SKY:
                    xs[p], ys[p], zs[p] = sky(rise(cameras, n, flat, x, y, z))
                elif kind == GLOW:
                    xs[p], ys[p] = table[m, RED] * 1.1 + 0.1, table[m, GREEN] * 1.1 + 0.08
                    zs[p] = table[m, BLUE]
                else:
                    xs[p], ys[p], zs[p] = colour_at(
                        x, y, z, t[p] * pixel, box, kind, face[p] % 3, boxes, table, m,
                        day[p] + gain[p],
                    )  # fmt: skip
                p, q = p + 1, q + 1
    to_bytes(xs)
    to_bytes(ys)
    to_bytes(zs)
    for number in range((last - first) * over):
        row = first + number // over
        n, i, j = row // down, row % down * tile, number % over * tile
        for a in range(i, min(i + tile, height)):
            p, q = (number * tile + a - i) * tile, ((n * height + a) * width + j) * 3
            for _ in range(min(tile, width - j)):
                rgb[q] = np.int32(xs[p])
                rgb[q + 1] = np.int32(ys[p])
                rgb[q + 2] = np.int32(zs[p])
                p, q = p + 1, q + 3
