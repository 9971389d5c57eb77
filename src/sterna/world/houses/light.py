"""How bright points are: daylight from all around, and a lamp a room.

Kernels, compiled by numba when first called.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_LANES = {"nnan", "nsz", "contract"}
F = np.float32
# Metres off a face at which a point of a wall lies in the room it faces: more than half a patch
# of the plan, for rooms are noted to the nearest patch.
STEP = F(0.03)
# Daylight on faces by `face`: those of x, y, z that look along their axis, then against it.
AMBIENT = np.array([0.66, 0.57, 0.70, 0.66, 0.57, 0.60], np.float32)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_LANES, inline="always")
def edges(q: Any, low: Any, high: Any) -> Any:
    """Return how much darker a face is at q, between two that it meets at low and high."""
    one, none = F(1.0), F(0.0)
    near, far = max(one - F(2.0) * (q - low), none), max(one - F(2.0) * (high - q), none)
    return F(0.26) * (near * near + far * far)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_LANES)
def light(
    x: Any, y: Any, z: Any, hit: Any, face: Any, cover: Any, storeys: Any, left: Any, front: Any,
    patches: Any, rooms: Any, lamps: Any, day: Any, gain: Any, lamp: Any,
) -> None:  # fmt: skip
    """Fill daylight, lamplight without shadows, and the lamp (-1) of points (x, y, z) [n].

    The points lie on boxes `hit` [n], on faces `face` [n] (as from `tree.trace`); those without a
    box get anything. `cover` [storeys, nx, ny] names the part of a room over each patch of plan
    (-1 none), counted from (left, front), `patches` a metre; `rooms` holds (x0, y0, x1, y1, floor,
    ceiling, lamp) a part; `lamps` [L, 3] are points, of which there is at least one. Daylight comes
    from all around, and less where faces meet.

    In single precision, and choices rather than branches, for neighbours often differ.
    """
    nx, ny = cover.shape[1], cover.shape[2]
    for p in range(len(x)):
        side = face[p]
        back = side >= 3
        axis = side - 3 if back else side
        sign = F(-1.0) if back else F(1.0)
        step = sign * STEP
        qx = x[p] + (step if axis == 0 else F(0.0))
        qy = y[p] + (step if axis == 1 else F(0.0))
        qz = z[p] + (step if axis == 2 else F(0.0))
        s = 1 if qz >= storeys[1] else 0
        a, b = (qx - left) * patches, (qy - front) * patches
        inside = (a >= F(0.0)) & (b >= F(0.0)) & (a < F(nx)) & (b < F(ny)) & (hit[p] >= 0)
        i, j = np.uint32(a if inside else F(0.0)), np.uint32(b if inside else F(0.0))
        part = cover[np.uint32(s), i, j]
        inside &= part >= 0
        r = np.uint32(part if inside else 0)
        dark = F(0.0) if axis == 0 else edges(qx, rooms[r, 0], rooms[r, 2])
        dark += F(0.0) if axis == 1 else edges(qy, rooms[r, 1], rooms[r, 3])
        dark += F(0.0) if axis == 2 else edges(qz, rooms[r, 4], rooms[r, 5])
        ambient = AMBIENT[np.uint32(side)]
        daylight = ambient * max(F(1.0) - dark, F(0.4))
        number = np.int32(rooms[r, 6])
        lit = inside & (number >= 0)
        n = np.uint32(number if lit else 0)
        lx, ly, lz = lamps[n, 0] - x[p], lamps[n, 1] - y[p], lamps[n, 2] - z[p]
        square = lx * lx + ly * ly + lz * lz
        ahead = (lx if axis == 0 else (ly if axis == 1 else lz)) * sign
        cosine = ahead / np.sqrt(square + F(1e-9))
        bright = F(10.5) * (F(0.25) + F(0.75) * cosine) / (F(14.0) + square)
        ceiling = side == 5  # lit by what floors throw back
        direct = lit & (ahead > F(0.0)) & (not ceiling)
        thrown = F(2.52) / (F(9.0) + square) if lit & ceiling else F(0.0)
        outdoors = ambient * F(1.25)
        room = daylight + thrown if lit else daylight * F(1.15)
        day[p] = room if inside else outdoors
        gain[p] = bright if direct else F(0.0)
        lamp[p] = number if direct else -1
