"""Many neighbouring rays at once: what a tile of pixels sees, found in a tree of boxes.

A tile is a bundle of rays with a direction each and, but for pictures from above, one origin. The
tree is searched once for the whole bundle, nearest parts first: a part is left out if it lies
outside the four planes around the bundle, or behind what every ray has already met. A box that is
left is tried on all rays in one loop without branches, which becomes vector instructions, in single
precision: faces of one plane give one t, so that ties are exact. Kernels are compiled by numba
when first called.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

TILE = 8
RAYS = TILE * TILE
_COLUMN = (np.arange(RAYS) % TILE).astype(np.float32)
_ROW = (np.arange(RAYS) // TILE).astype(np.float32)
FAR = np.float32(1e30)
_SLACK = 1e-4  # metres by which parts of the tree are widened, for single precision
_DEEPEST = 256  # parts that wait at once


@njit(cache=True, nogil=True)
def _area(bounds: Any) -> Any:
    x, y, z = bounds[3] - bounds[0], bounds[4] - bounds[1], bounds[5] - bounds[2]
    return x * y + y * z + z * x


@njit(cache=True, nogil=True)
def _widen(bounds: Any, box: Any) -> None:
    for axis in range(3):
        bounds[axis] = min(bounds[axis], box[axis])
        bounds[axis + 3] = max(bounds[axis + 3], box[axis + 3])


@njit(cache=True, nogil=True)
def _empty() -> Any:
    return np.array([1e30, 1e30, 1e30, -1e30, -1e30, -1e30])


@njit(cache=True, nogil=True)
def _split(boxes: Any, members: Any) -> Any:
    """Return the members in the order and the count of them that make the cheapest two parts.

    Cheap means: little surface times boxes, on either side.
    """
    count = len(members)
    best, order, cut = 1e300, members, count // 2
    for axis in range(3):
        middles = boxes[members, axis] + boxes[members, axis + 3]
        ranked = members[np.argsort(middles, kind="mergesort")]
        after, bounds = np.empty(count), _empty()
        for n in range(count - 1, 0, -1):
            _widen(bounds, boxes[ranked[n]])
            after[n] = _area(bounds) * (count - n)
        bounds = _empty()
        for n in range(1, count):
            _widen(bounds, boxes[ranked[n - 1]])
            cost = _area(bounds) * n + after[n]
            if cost < best:
                best, order, cut = cost, ranked, n
    return order, cut


@njit(cache=True, nogil=True)
def grow(boxes: Any) -> Any:
    """Return a tree over boxes [N, 6]: parts [2N - 1, 6] (middle, half size) and links [2N - 1].

    The first child of a part follows it; its link is the number of the second. A leaf holds one
    box b and has the link -1 - b.
    """
    count = boxes.shape[0]
    parts = np.empty((2 * count - 1, 6), np.float32)
    links = np.zeros(2 * count - 1, np.int32)
    order = np.arange(count)
    waiting = [(0, count, -1)]
    number = 0
    while len(waiting) > 0:
        first, last, parent = waiting.pop()
        if parent >= 0:
            links[parent] = number
        bounds = _empty()
        for n in range(first, last):
            _widen(bounds, boxes[order[n]])
        for axis in range(3):
            parts[number, axis] = (bounds[axis] + bounds[axis + 3]) / 2
            parts[number, axis + 3] = (bounds[axis + 3] - bounds[axis]) / 2 + _SLACK
        if last - first == 1:
            links[number] = -1 - order[first]
        else:
            ranked, cut = _split(boxes, order[first:last])
            order[first:last] = ranked
            waiting.append((first + cut, last, number))
            waiting.append((first, first + cut, -1))
        number += 1
    return parts, links


_LANES = {"nnan", "nsz", "contract"}


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_LANES, inline="always")
def _try_box(
    b: int, x0: Any, y0: Any, z0: Any, x1: Any, y1: Any, z1: Any, rays: Any, best: Any,
    hit: Any, face: Any,
) -> Any:  # fmt: skip
    """Try one box (corners seen from the camera) on all rays; return the farthest t of any ray."""
    for p in range(RAYS):
        u0, v0 = x0 * rays[0, p] - rays[3, p], x1 * rays[0, p] - rays[3, p]
        u1, v1 = y0 * rays[1, p] - rays[4, p], y1 * rays[1, p] - rays[4, p]
        u2, v2 = z0 * rays[2, p] - rays[5, p], z1 * rays[2, p] - rays[5, p]
        u0, v0, u1, v1, u2, v2 = (
            min(u0, v0),
            max(u0, v0),
            min(u1, v1),
            max(u1, v1),
            min(u2, v2),
            max(u2, v2),
        )
        near, axis = max(u0, u1), 1 if u1 > u0 else 0
        axis = 2 if u2 > near else axis
        near = max(near, u2)
        far = min(min(v0, v1), v2)
        nearer = (near < best[p]) | ((near == best[p]) & (b < hit[p]))
        met = (near <= far) & (near > np.float32(0.0)) & nearer
        best[p] = near if met else best[p]
        hit[p] = b if met else hit[p]
        face[p] = axis if met else face[p]
    farthest = np.float32(0.0)
    for p in range(RAYS):
        farthest = max(farthest, best[p])
    return farthest


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_LANES)
def search(
    boxes: Any, parts: Any, links: Any, eye: Any, planes: Any, rays: Any, best: Any, hit: Any,
    face: Any, waiting: Any, start: Any,
) -> None:  # fmt: skip
    """Find the first box on each ray of a bundle: `best` [RAYS] holds t, `hit` [RAYS] the box.

    `planes` [5, 7] are (normal, its absolute values, offset): four that the bundle lies inside of,
    then depth, all seen from `eye`. `rays` [6, RAYS] are 1 / direction and origin / direction.
    """
    farthest, top = FAR, 1
    waiting[0], start[0] = 0, np.float32(0.0)
    while top > 0:
        top -= 1
        node, soonest = waiting[top], start[top]
        if soonest > farthest:
            continue
        link = links[node]
        if link < 0:
            b = -1 - link
            farthest = _try_box(
                b,
                np.float32(boxes[b, 0] - eye[0]), np.float32(boxes[b, 1] - eye[1]),
                np.float32(boxes[b, 2] - eye[2]), np.float32(boxes[b, 3] - eye[0]),
                np.float32(boxes[b, 4] - eye[1]), np.float32(boxes[b, 5] - eye[2]),
                rays, best, hit, face,
            )  # fmt: skip
            continue
        one, two = reach(parts, node + 1, planes), reach(parts, link, planes)
        first, second = node + 1, link
        if two < one:
            one, two, first, second = two, one, second, first
        if two <= farthest:
            waiting[top], start[top] = second, two
            top += 1
        if one <= farthest:
            waiting[top], start[top] = first, one
            top += 1


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_LANES, inline="always")
def reach(parts: Any, node: int, planes: Any) -> Any:
    """Return the least depth of a part of the tree, `FAR` twice over if the bundle passes it by."""
    x, y, z = parts[node, 0], parts[node, 1], parts[node, 2]
    hx, hy, hz = parts[node, 3], parts[node, 4], parts[node, 5]
    outside = False
    for n in range(4):
        inside = x * planes[n, 0] + y * planes[n, 1] + z * planes[n, 2] + planes[n, 6]
        inside += hx * planes[n, 3] + hy * planes[n, 4] + hz * planes[n, 5]
        outside |= inside < np.float32(0.0)
    middle = x * planes[4, 0] + y * planes[4, 1] + z * planes[4, 2] + planes[4, 6]
    deep = hx * planes[4, 3] + hy * planes[4, 4] + hz * planes[4, 5]
    outside |= middle + deep < np.float32(0.0)
    return np.float32(2e30) if outside else middle - deep


@njit(cache=True, nogil=True, error_model="numpy")
def _bundle(
    c: Any, flat: int, left: float, right: float, low: float, high: float, planes: Any
) -> None:
    """Fill the planes around camera `c`'s rays from left to right and low to high (-1 to 1)."""
    across, up = c[6] ** 2 + c[7] ** 2 + c[8] ** 2, c[9] ** 2 + c[10] ** 2 + c[11] ** 2
    for axis in range(3):
        x, y, z = c[6 + axis] / across, c[9 + axis] / up, c[3 + axis]
        deep = 0.0 if flat else z
        planes[0, axis], planes[1, axis] = x - left * deep, right * deep - x
        planes[2, axis], planes[3, axis] = y - low * deep, high * deep - y
        planes[4, axis] = z
    for n in range(5):
        offset = 0.0
        for axis in range(3):
            planes[n, 3 + axis] = abs(planes[n, axis])
            offset -= planes[n, axis] * c[axis]
        planes[n, 6] = offset
    if flat:
        planes[0, 6] -= left
        planes[1, 6] += right
        planes[2, 6] -= low
        planes[3, 6] += high


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_LANES)
def _aim(c: Any, flat: int, left: float, top: float, wide: float, high: float, rays: Any) -> None:
    """Lay rays a step `wide` and `high` apart, the first through (left, top) of the picture."""
    for axis in range(3):
        ahead, over = np.float32(c[3 + axis]), np.float32(wide * c[6 + axis])
        down = np.float32(-high * c[9 + axis])
        first = np.float32(left * c[6 + axis] + top * c[9 + axis])
        for p in range(RAYS):
            aside = first + over * _COLUMN[p] + down * _ROW[p]
            way = ahead if flat else ahead + aside
            # A component of zero would make 0 * inf in the slab test.
            safe = way if abs(way) > np.float32(1e-12) else np.float32(1e-12)
            inverse = np.float32(1.0) / safe
            rays[axis, p] = inverse
            rays[3 + axis, p] = aside * inverse if flat else np.float32(0.0)
            rays[6 + axis, p] = way
            rays[9 + axis, p] = aside if flat else np.float32(0.0)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_LANES)
def _place(c: Any, rays: Any, best: Any, hit: Any, face: Any, x: Any, y: Any, z: Any) -> None:
    """Fill where rays end, and which side they met: 3 more for faces that look against the axis."""
    ox, oy, oz = np.float32(c[0]), np.float32(c[1]), np.float32(c[2])
    for p in range(RAYS):
        x[p] = ox + rays[9, p] + best[p] * rays[6, p]
        y[p] = oy + rays[10, p] + best[p] * rays[7, p]
        z[p] = oz + rays[11, p] + best[p] * rays[8, p]
        way = rays[8, p]
        way = rays[7, p] if face[p] == 1 else way
        way = rays[6, p] if face[p] == 0 else way
        face[p] = face[p] + 3 if way > np.float32(0.0) else face[p]
        hit[p] = hit[p] if best[p] < FAR else -1


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_LANES)
def trace(
    first: int, last: int, height: int, width: int, cameras: Any, flat: int, boxes: Any, parts: Any,
    links: Any, t: Any, hit: Any, face: Any, x: Any, y: Any, z: Any,
) -> None:  # fmt: skip
    """Find what the rows of tiles first to last see, counted through the pictures of all cameras.

    A camera is (x, y, z, forward xyz, right xyz, up xyz); right and up reach from the middle of
    the picture to its edge. `flat` cameras look along parallel rays instead. Fills, tile by tile
    and ray by ray: `t` (`FAR` where nothing is met), `hit` (the box, or -1), `face` (axis of the
    face's normal, and 3 more where it points against the axis) and the points (x, y, z).
    """
    rays, planes = np.empty((12, RAYS), np.float32), np.empty((5, 7), np.float32)
    waiting, start = np.empty(_DEEPEST, np.int32), np.empty(_DEEPEST, np.float32)
    down, over = -(-height // TILE), -(-width // TILE)
    t[:], hit[:], face[:] = FAR, 2**30, 0
    for number in range((last - first) * over):
        row, p = first + number // over, number * RAYS
        c, i, j = cameras[row // down], row % down * TILE, number % over * TILE
        low, top = 1.0 - 2.0 * min(i + TILE, height) / height, 1.0 - 2.0 * i / height
        left, right = 2.0 * j / width - 1.0, 2.0 * min(j + TILE, width) / width - 1.0
        _bundle(c, flat, left, right, low, top, planes)
        _aim(c, flat, left + 1.0 / width, top - 1.0 / height, 2.0 / width, 2.0 / height, rays)
        q = p + RAYS
        near, box, side = t[p:q], hit[p:q], face[p:q]
        search(boxes, parts, links, c, planes, rays, near, box, side, waiting, start)
        _place(c, rays, near, box, side, x[p:q], y[p:q], z[p:q])
