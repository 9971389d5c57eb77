"""Ray casting over boxes in a uniform grid, compiled by numba when first called.

A ray is o + t d. Cameras give d with length 1 along the optical axis, so that t is the depth
measured along that axis. Cells are walked in the order in which the ray meets them; the search
ends with the first hit that lies inside the cell at hand.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

FAR = 1e30
(PLAIN, PLANKS, TILES, CARPET, PLASTER, FABRIC, WOOD, SKY) = range(8)
(GLOW, PICTURE, BOOKS, BRICK, WICKER, SCREEN, MIRROR, METAL) = range(8, 16)
RED, GREEN, BLUE, TEXTURE, SCALE, ALONG, BASE, PATTERN = range(8)


@njit(cache=True, nogil=True)
def fill_grid(boxes: Any, low: Any, cell: float, shape: Any) -> Any:
    """Return CSR lists of the boxes in each cell: starts [cells + 1] and box numbers."""
    nx, ny, nz = shape
    counts = np.zeros(nx * ny * nz + 1, np.int32)
    starts, place, lists = counts, counts, np.zeros(0, np.int32)
    for sweep in range(2):
        for b in range(boxes.shape[0]):
            i0 = max(0, int(np.floor((boxes[b, 0] - low[0]) / cell - 1e-6)))
            j0 = max(0, int(np.floor((boxes[b, 1] - low[1]) / cell - 1e-6)))
            k0 = max(0, int(np.floor((boxes[b, 2] - low[2]) / cell - 1e-6)))
            i1 = min(nx - 1, int(np.floor((boxes[b, 3] - low[0]) / cell + 1e-6)))
            j1 = min(ny - 1, int(np.floor((boxes[b, 4] - low[1]) / cell + 1e-6)))
            k1 = min(nz - 1, int(np.floor((boxes[b, 5] - low[2]) / cell + 1e-6)))
            for i in range(i0, i1 + 1):
                for j in range(j0, j1 + 1):
                    for k in range(k0, k1 + 1):
                        c = (i * ny + j) * nz + k
                        if sweep == 0:
                            counts[c + 1] += 1
                        else:
                            lists[place[c]] = b
                            place[c] += 1
        if sweep == 0:
            starts = np.cumsum(counts).astype(np.int32)
            place = starts.copy()
            lists = np.zeros(starts[-1], np.int32)
    return starts, lists


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def first_hit(
    ox: float,
    oy: float,
    oz: float,
    dx: float,
    dy: float,
    dz: float,
    limit: float,
    boxes: Any,
    starts: Any,
    lists: Any,
    low: Any,
    cell: float,
    shape: Any,
) -> Any:
    """Return (t, box, axis) of the first box met before `limit`, box -1 if none.

    Boxes that hold the origin are not met from inside; axis is that of the face's normal.
    """
    nx, ny, nz = shape
    # A component of zero would make 0 * inf in the slab test.
    if abs(dx) < 1e-12:
        dx = 1e-12
    if abs(dy) < 1e-12:
        dy = 1e-12
    if abs(dz) < 1e-12:
        dz = 1e-12
    ix, iy, iz = 1.0 / dx, 1.0 / dy, 1.0 / dz
    # Clip to the grid.
    ax, bx = (low[0] - ox) * ix, (low[0] + nx * cell - ox) * ix
    ay, by = (low[1] - oy) * iy, (low[1] + ny * cell - oy) * iy
    az, bz = (low[2] - oz) * iz, (low[2] + nz * cell - oz) * iz
    enter = max(max(min(ax, bx), min(ay, by)), max(min(az, bz), 0.0))
    leave = min(min(max(ax, bx), max(ay, by)), min(max(az, bz), limit))
    if enter >= leave:
        return FAR, -1, 0
    px, py, pz = ox + enter * dx - low[0], oy + enter * dy - low[1], oz + enter * dz - low[2]
    i = min(max(int(px / cell), 0), nx - 1)
    j = min(max(int(py / cell), 0), ny - 1)
    k = min(max(int(pz / cell), 0), nz - 1)
    si, sj, sk = (1 if dx > 0 else -1), (1 if dy > 0 else -1), (1 if dz > 0 else -1)
    # Which coordinate of a box the ray meets first on each axis.
    ni, nj, nk = (0 if dx > 0 else 3), (1 if dy > 0 else 4), (2 if dz > 0 else 5)
    tx = (low[0] + (i + (si > 0)) * cell - ox) * ix
    ty = (low[1] + (j + (sj > 0)) * cell - oy) * iy
    tz = (low[2] + (k + (sk > 0)) * cell - oz) * iz
    wx, wy, wz = abs(cell * ix), abs(cell * iy), abs(cell * iz)
    best, hit, face = limit, -1, 0
    while True:
        c = (i * ny + j) * nz + k
        for n in range(starts[c], starts[c + 1]):
            b = lists[n]
            n0, f0 = (boxes[b, ni] - ox) * ix, (boxes[b, 3 - ni] - ox) * ix
            n1, f1 = (boxes[b, nj] - oy) * iy, (boxes[b, 5 - nj] - oy) * iy
            if n0 > f1 or n1 > f0:
                continue
            n2, f2 = (boxes[b, nk] - oz) * iz, (boxes[b, 7 - nk] - oz) * iz
            near, axis = n0, 0
            if n1 > near:
                near, axis = n1, 1
            if n2 > near:
                near, axis = n2, 2
            far = min(min(f0, f1), f2)
            if near <= far and near > 0.0 and (near < best or (near == best and hit > b)):
                best, hit, face = near, b, axis
        step = min(min(tx, ty), tz)
        if best <= step or step >= leave:
            break
        if tx <= ty and tx <= tz:
            i += si
            tx += wx
            if i < 0 or i >= nx:
                break
        elif ty <= tz:
            j += sj
            ty += wy
            if j < 0 or j >= ny:
                break
        else:
            k += sk
            tz += wz
            if k < 0 or k >= nz:
                break
    if hit < 0:
        return FAR, -1, 0
    return best, hit, face


@njit(cache=True, nogil=True)
def hash01(i: int, j: int, k: int) -> float:
    """Return a number in [0, 1) that depends on three whole numbers as if at random."""
    h = (i * 374761393 + j * 668265263 + k * 2147483647) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFFFF) / 16777216.0


@njit(cache=True, nogil=True)
def sky(dz: float) -> Any:
    """Return the colour of the sky, and of the lawn below the horizon, for a unit direction."""
    if dz > 0.0:
        s = min(1.0, dz * 1.6)
        return 0.72 - 0.42 * s, 0.84 - 0.30 * s, 1.0 - 0.08 * s
    s = min(1.0, -dz * 3.0)
    return 0.50 - 0.22 * s, 0.62 - 0.16 * s, 0.50 - 0.34 * s


@njit(cache=True, nogil=True, inline="always")
def floor_at(value: float) -> int:
    """Return the whole number below a value."""
    return int(np.floor(value))


@njit(cache=True, nogil=True, inline="always")
def shade(row: Any, u: float, v: float, z: float, axis: int, blur: float) -> Any:
    """Return the factor of brightness of a texture at (u, v) on a face, and a share of white.

    `u` and `v` are metres along the face, `blur` the size of a pixel there: patterns finer than
    it fade to their mean.
    """
    kind = int(row[TEXTURE])
    grey, white = 1.0, 0.0
    if kind == PLANKS:
        a, b = (u, v) if row[ALONG] == 0 else (v, u)
        plank = floor_at(b / row[SCALE])
        shift = hash01(plank, 7, 3) * 1.8
        board = floor_at((a + shift) / 1.8)
        grey = 0.84 + 0.26 * hash01(plank, board, 1)
        fine = 1.0 / (1.0 + (blur / 0.008) ** 2)
        seam = (b / row[SCALE] - plank) * row[SCALE] < 0.006
        butt = ((a + shift) / 1.8 - board) * 1.8 < 0.006
        if seam or butt:
            grey *= 1.0 - 0.5 * fine
        grain = hash01(floor_at(b / 0.009), floor_at(a / 0.25 + hash01(plank, 5, 5) * 9), 2)
        grey *= 1.0 + (grain - 0.5) * 0.10 * fine
    elif kind == TILES and axis == 2:
        i, j = floor_at(u / row[SCALE]), floor_at(v / row[SCALE])
        a, b = u - i * row[SCALE], v - j * row[SCALE]
        grey = 0.94 + 0.10 * hash01(i, j, 4)
        edge = min(min(a, b), min(row[SCALE] - a, row[SCALE] - b))
        if edge < 0.005:
            fine = 1.0 / (1.0 + (blur / 0.012) ** 2)
            lum = 0.3 * row[RED] + 0.6 * row[GREEN] + 0.1 * row[BLUE]
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
        height = z - row[BASE]
        if row[BASE] > -0.5 and height < 0.08:
            white = 0.8
            if height > 0.07:
                grey = 0.8
    elif kind == METAL:
        grey = 0.97 + 0.06 * (floor_at(z / 0.02) % 2) / (1.0 + (blur / 0.01) ** 2)
    return grey, white


@njit(cache=True, nogil=True)
def painting(row: Any, u: float, v: float) -> Any:
    """Return what a picture shows at (u, v) in its frame (metres): bands, discs and a horizon."""
    r, g, b = row[RED], row[GREEN], row[BLUE]
    p = int(row[PATTERN])
    size = max(row[SCALE], 0.05)
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


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True, inline="always")
def edge_dark(room: float) -> float:
    """Return how much darker a face is so many metres from where it meets another."""
    return 0.26 * (1.0 - 2.0 * room) ** 2 if room < 0.5 else 0.0


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def light_at(
    x: float, y: float, z: float, axis: int, sign: float, cover: Any, storeys: Any, left: float,
    front: float, patches: float, rooms: Any, lamps: Any,
) -> Any:  # fmt: skip
    """Return daylight on a point of a face, lamplight unless it is in shadow, and the lamp (-1).

    `cover` [storeys, nx, ny] names the part of a room over each patch of plan (-1 none), counted
    from (left, front), `patches` a metre; `rooms` holds (x0, y0, x1, y1, floor, ceiling, lamp) a
    part. Daylight comes from all around, and less where faces meet.
    """
    ambient = 0.66 if axis == 0 else 0.57  # so that corners show
    if axis == 2:
        ambient = 0.70 if sign > 0 else 0.60
    # A step off the face, so that a point on a wall belongs to the room it faces.
    step = sign * 0.03
    qx, qy = (x + step if axis == 0 else x), (y + step if axis == 1 else y)
    qz = z + step if axis == 2 else z
    s = 0
    for n in range(1, storeys.shape[0]):
        if qz >= storeys[n]:
            s = n
    i, j = int((qx - left) * patches), int((qy - front) * patches)
    if i < 0 or j < 0 or i >= cover.shape[1] or j >= cover.shape[2]:
        return 1.25 * ambient, 0.0, -1
    part = cover[s, i, j]
    if part < 0:
        return 1.25 * ambient, 0.0, -1
    dark = 1.0
    if axis != 0:
        dark -= edge_dark(qx - rooms[part, 0]) + edge_dark(rooms[part, 2] - qx)
    if axis != 1:
        dark -= edge_dark(qy - rooms[part, 1]) + edge_dark(rooms[part, 3] - qy)
    if axis != 2:
        dark -= edge_dark(qz - rooms[part, 4]) + edge_dark(rooms[part, 5] - qz)
    daylight = ambient * max(dark, 0.4)
    lamp = int(rooms[part, 6])
    if lamp < 0:
        return daylight * 1.15, 0.0, -1
    lx, ly, lz = lamps[lamp, 0] - x, lamps[lamp, 1] - y, lamps[lamp, 2] - z
    square = lx * lx + ly * ly + lz * lz
    if axis == 2 and sign < 0:  # ceilings are lit by what floors throw back
        return daylight + 2.52 / (9.0 + square), 0.0, -1
    ahead = (lx if axis == 0 else ly if axis == 1 else lz) * sign
    if ahead <= 0.0:
        return daylight, 0.0, -1
    cosine = ahead / np.sqrt(square + 1e-9)
    return daylight, 10.5 * (0.25 + 0.75 * cosine) / (14.0 + square), lamp


@njit(cache=True, nogil=True, error_model="numpy")
def unshaded(
    x: float, y: float, z: float, axis: int, sign: float, lx: float, ly: float, lz: float,
    shadows: int, boxes: Any, starts: Any, lists: Any, low: Any, cell: float, shape: Any,
) -> float:  # fmt: skip
    """Return the share of a lamp at (lx, ly, lz) that a point sees, by so many shadow rays."""
    step = sign * 0.003
    ox, oy = (x + step if axis == 0 else x), (y + step if axis == 1 else y)
    oz = z + step if axis == 2 else z
    seen = 0.0
    for n in range(shadows):
        # Points on a disc as wide as a lamp shade make the edges of shadows soft.
        turn = 2.399963 * n + 0.6
        out = 0.22 * np.sqrt((n + 0.5) / shadows) if shadows > 1 else 0.0
        tx, ty, tz = lx + out * np.cos(turn) - x, ly + out * np.sin(turn) - y, lz - 0.02 - z
        hit = first_hit(
            ox, oy, oz, tx, ty, tz, 0.98, boxes, starts, lists, low, cell, shape
        )[1]  # fmt: skip
        if hit < 0:
            seen += 1.0
    return seen / shadows


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def colour_at(
    x: float, y: float, z: float, dz: float, t: float, pixel: float, b: int, axis: int,
    sign: float, boxes: Any, material: Any, table: Any, cover: Any, storeys: Any, low: Any,
    patches: float, rooms: Any, lamps: Any, shadows: int, starts: Any, lists: Any, cell: float,
    shape: Any,
) -> Any:  # fmt: skip
    """Return linear red, green and blue of a point on a box; dz is of the unit direction."""
    row = table[material[b]]
    kind = int(row[TEXTURE])
    if kind == SKY:
        return sky(dz)
    if kind == GLOW:
        return min(1.0, row[RED] * 1.1 + 0.1), min(1.0, row[GREEN] * 1.1 + 0.08), row[BLUE]
    if axis == 2:
        u, v = x, y
    elif axis == 0:
        u, v = y, z
    else:
        u, v = x, z
    r, g, blue = row[RED], row[GREEN], row[BLUE]
    if kind == PICTURE and axis != 2:
        r, g, blue = painting(row, u - boxes[b, 1 if axis == 0 else 0], v - boxes[b, 2])
    elif kind == BOOKS and axis != 2:
        r, g, blue = book_colour(u, row[PATTERN])
    elif kind in (MIRROR, SCREEN):
        span = v - boxes[b, 2] + 0.6 * (u - boxes[b, 1 if axis == 0 else 0])
        stripe = 0.10 if floor_at(span / 0.22) % 3 == 0 else 0.0
        if kind == MIRROR and row[RED] > 0.7:
            r, g, blue = 0.50 + stripe, 0.60 + stripe, 0.66 + stripe
        else:
            r, g, blue = r + stripe * 0.4, g + stripe * 0.45, blue + stripe * 0.5
    grey, white = shade(row, u, v, z, axis, t * pixel)
    bright, gain, lamp = light_at(
        x, y, z, axis, sign, cover, storeys, low[0], low[1], patches, rooms, lamps
    )
    if gain > 0.0 and shadows > 0:
        gain *= unshaded(
            x, y, z, axis, sign, lamps[lamp, 0], lamps[lamp, 1], lamps[lamp, 2], shadows, boxes,
            starts, lists, low, cell, shape,
        )  # fmt: skip
    bright += gain
    if kind == SCREEN:
        bright = max(bright, 0.9)
    keep = grey * (1.0 - white)
    return (
        (r * keep + white * 0.85) * bright,
        (g * keep + white * 0.85) * bright,
        (blue * keep + white * 0.85) * bright,
    )


@njit(cache=True, nogil=True, error_model="numpy")
def render_rows(
    first: int, last: int, cameras: Any, flat: int, rgb: Any, depth: Any, instance: Any,
    klass: Any, boxes: Any, box_class: Any, box_instance: Any, material: Any, table: Any,
    cover: Any, storeys: Any, low: Any, patches: float, rooms: Any, lamps: Any, shadows: int,
    starts: Any, lists: Any, cell: float, shape: Any,
) -> None:  # fmt: skip
    """Fill rows first to last (counted through all cameras) of the four pictures.

    A camera is (x, y, z, forward xyz, right xyz, up xyz); right and up reach from the middle of
    the picture to its edge. `flat` cameras look along parallel rays instead.
    """
    height, width = depth.shape[1], depth.shape[2]
    for line in range(first, last):
        n, i = line // height, line % height
        c = cameras[n]
        ry = 1.0 - 2.0 * (i + 0.5) / height
        pixel = 2.0 * np.sqrt(c[6] ** 2 + c[7] ** 2 + c[8] ** 2) / width
        for j in range(width):
            rx = 2.0 * (j + 0.5) / width - 1.0
            sx, sy, sz = rx * c[6] + ry * c[9], rx * c[7] + ry * c[10], rx * c[8] + ry * c[11]
            if flat:
                ox, oy, oz, dx, dy, dz = c[0] + sx, c[1] + sy, c[2] + sz, c[3], c[4], c[5]
            else:
                ox, oy, oz, dx, dy, dz = c[0], c[1], c[2], c[3] + sx, c[4] + sy, c[5] + sz
            t, b, axis = first_hit(
                ox, oy, oz, dx, dy, dz, 1e4, boxes, starts, lists, low, cell, shape
            )
            unit = dz / np.sqrt(dx * dx + dy * dy + dz * dz)
            if b < 0:
                red, green, blue = sky(unit)
                depth[n, i, j], instance[n, i, j], klass[n, i, j] = np.inf, 0, -1
            else:
                way = dx if axis == 0 else dy if axis == 1 else dz
                red, green, blue = colour_at(
                    ox + t * dx, oy + t * dy, oz + t * dz, unit, 0.0 if flat else t, pixel, b,
                    axis, -1.0 if way > 0 else 1.0, boxes, material, table, cover, storeys, low,
                    patches, rooms, lamps, shadows, starts, lists, cell, shape,
                )  # fmt: skip
                depth[n, i, j] = t
                instance[n, i, j] = box_instance[b]
                klass[n, i, j] = box_class[b]
            rgb[n, i, j, 0] = int(min(255.0, 255.0 * np.sqrt(max(0.0, red)) + 0.5))
            rgb[n, i, j, 1] = int(min(255.0, 255.0 * np.sqrt(max(0.0, green)) + 0.5))
            rgb[n, i, j, 2] = int(min(255.0, 255.0 * np.sqrt(max(0.0, blue)) + 0.5))


@njit(cache=True, nogil=True, error_model="numpy")
def cast_rays(
    origins: Any, ways: Any, boxes: Any, starts: Any, lists: Any, low: Any, cell: float, shape: Any
) -> Any:
    """Return t [N] (inf where nothing is met) and box [N] (-1) of rays origins + t * ways."""
    count = origins.shape[0]
    t, hits = np.empty(count), np.empty(count, np.int32)
    for n in range(count):
        o, d = origins[n], ways[n]
        t[n], hits[n], _ = first_hit(
            o[0], o[1], o[2], d[0], d[1], d[2], 1e4, boxes, starts, lists, low, cell, shape
        )
        if hits[n] < 0:
            t[n] = np.inf
    return t, hits
