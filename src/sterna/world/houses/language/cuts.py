"""Boxes of space as rectangles of pixels in the 36 views: compiled, in one order of operations.

The order makes the same numbers on every machine: no sum is contracted, nothing is reordered.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from sterna.world.geometry import Floats, Ints


@njit(cache=True, nogil=True, error_model="numpy")
def rectangles(
    boxes: Floats, first: Ints, turns: Floats, frame: Floats, edges: Ints, least: int, out: Ints
) -> None:
    """Fill `out` [V, T, 4] with (x, y, width, height); left zero where a thing is not shown.

    `boxes` [n, 6] are relative to the eye; thing t is ``boxes[first[t] : first[t + 1]]`` (`first`
    [T + 1]). `turns` [V, 4] hold sine and cosine of the heading, then of the elevation; `frame` is
    (width, height, focal length, nearest depth); `edges` [12, 2] are pairs of corners, corner k
    taking the upper bound of axis a where bit a of k is set. Rectangles of fewer than `least`
    pixels a side are left out.
    """
    width, height, focal, near = frame[0], frame[1], frame[2], frame[3]
    corner, pixel = np.empty((8, 3)), np.empty(2)
    low, high = np.empty(2), np.empty(2)
    for view in range(len(turns)):
        s, c, sin, cos = turns[view]
        for thing in range(len(first) - 1):
            low[:], high[:] = np.inf, -np.inf
            for box in range(first[thing], first[thing + 1]):
                for k in range(8):
                    x = boxes[box, 3 * (k & 1)]
                    y = boxes[box, 3 * (k >> 1 & 1) + 1]
                    z = boxes[box, 3 * (k >> 2 & 1) + 2]
                    flat = x * s + y * c
                    corner[k, 0] = x * c - y * s
                    corner[k, 1] = z * cos - flat * sin
                    corner[k, 2] = flat * cos + z * sin
                for edge in range(len(edges)):
                    a, b = corner[edges[edge, 0]], corner[edges[edge, 1]]
                    if a[2] < near and b[2] < near:
                        continue
                    deep = b[2] - a[2]
                    t = (near - a[2]) / (1.0 if deep == 0 else deep)
                    for end in (a, b):
                        before = end[2] >= near
                        right = end[0] if before else a[0] + (b[0] - a[0]) * t
                        up = end[1] if before else a[1] + (b[1] - a[1]) * t
                        ahead = max(end[2], near) if before else near
                        pixel[0] = width / 2 + focal * right / ahead
                        pixel[1] = height / 2 - focal * up / ahead
                        for axis in range(2):
                            low[axis] = min(low[axis], pixel[axis])
                            high[axis] = max(high[axis], pixel[axis])
            left = np.rint(min(max(low[0], 0.0), width))
            top = np.rint(min(max(low[1], 0.0), height))
            wide = np.rint(min(max(high[0], 0.0), width)) - left
            tall = np.rint(min(max(high[1], 0.0), height)) - top
            if wide >= least and tall >= least:
                out[view, thing] = left, top, wide, tall
