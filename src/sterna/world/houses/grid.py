"""Single rays over boxes in a uniform grid, in double precision: lines of sight and shadows.

A ray is o + t d. Cells are walked in the order in which the ray meets them; the search ends with
the first hit that lies inside the cell at hand. Kernels are compiled by numba when first called.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

FAR = 1e30


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


@njit(cache=True, nogil=True, error_model="numpy")
def cast_shadows(
    x: Any, y: Any, z: Any, face: Any, lamp: Any, gain: Any, lamps: Any, shadows: int, boxes: Any,
    starts: Any, lists: Any, low: Any, cell: float, shape: Any,
) -> None:  # fmt: skip
    """Reduce lamplight `gain` [n] on points (x, y, z) [n] to the share that so many rays see."""
    for p in range(len(x)):
        if gain[p] > 0.0:
            n = lamp[p]
            gain[p] *= unshaded(
                x[p], y[p], z[p], face[p] % 3, -1.0 if face[p] >= 3 else 1.0, lamps[n, 0],
                lamps[n, 1], lamps[n, 2], shadows, boxes, starts, lists, low, cell, shape,
            )  # fmt: skip
