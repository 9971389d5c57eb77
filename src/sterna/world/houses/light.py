"""How bright points are: daylight from all around, and a lamp a room.

Kernels, compiled by numba when first called.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_LANES = {"nnan", "nsz", "contract"}
F = np.float32
BLOCK = 64  # points worked out at once
FAR = F(1e3)
# Metres off a face at which a point of a wall lies in the room it faces: more than half a patch
# of the plan, for rooms are noted to the nearest patch.
STEP = F(0.03)
# Daylight on faces by `face`: those of x, y, z that look along their axis, then against it.
AMBIENT = np.array([0.66, 0.57, 0.70, 0.66, 0.57, 0.60], np.float32)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_LANES, inline="always")
def edge(away: Any) -> Any:
    """Return how much darker a face is so many metres from where it meets another."""
    near = max(F(1.0) - F(2.0) * away, F(0.0))
    return F(0.26) * near * near


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_LANES)
def light(
    x: Any, y: Any, z: Any, hit: Any, face: Any, cover: Any, storeys: Any, left: Any, front: Any,
    patches: Any, rooms: Any, lamps: Any, day: Any, gain: Any, lamp: Any,
) -> None:  # fmt: skip
    """Fill daylight, lamplight before shadows, and the room's lamp (-1) of points (x, y, z) [n].

    The points lie on boxes `hit` [n], on faces `face` [n] (as from `tree.trace`); those without a
    box get anything. `cover` [storeys, nx, ny] names the part of a room over each patch of plan
    (-1 none), counted from (left, front), `patches` a metre; `rooms` holds (x0, y0, x1, y1, floor,
    ceiling, lamp) a part; `lamps` [L, 3] are points, of which there is at least one. Daylight comes
    from all around, and less where faces meet.
    """
    nx, ny = cover.shape[1], cover.shape[2]
    # Looked up one by one, then worked out many at once: the second loop becomes vector
    # instructions, for everything it touches lies in one array of known size.
    kept = np.empty((15, BLOCK), np.float32)
    for first in range(0, len(x), BLOCK):
        count = min(BLOCK, len(x) - first)
        for n in range(count):
            p = first + n
            back = face[p] >= 3
            axis = face[p] - 3 if back else face[p]
            step = -STEP if back else STEP
            qx, qy = (x[p] + step if axis == 0 else x[p]), (y[p] + step if axis == 1 else y[p])
            qz = z[p] + step if axis == 2 else z[p]
            i, j, part = np.int32((qx - left) * patches), np.int32((qy - front) * patches), -1
            if hit[p] >= 0 and i >= 0 and j >= 0 and i < nx and j < ny:
                part = cover[1 if qz >= storeys[1] else 0, i, j]
            r = max(part, 0)
            number = np.int32(rooms[r, 6])
            lamp[p] = number if part >= 0 else -1
            m = max(number, 0)
            # Across its own axis a face meets no other; far sides darken nothing.
            kept[0, n] = qx - rooms[r, 0] if axis != 0 else FAR
            kept[1, n] = rooms[r, 2] - qx if axis != 0 else FAR
            kept[2, n] = qy - rooms[r, 1] if axis != 1 else FAR
            kept[3, n] = rooms[r, 3] - qy if axis != 1 else FAR
            kept[4, n] = qz - rooms[r, 4] if axis != 2 else FAR
            kept[5, n] = rooms[r, 5] - qz if axis != 2 else FAR
            lx, ly, lz = lamps[m, 0] - x[p], lamps[m, 1] - y[p], lamps[m, 2] - z[p]
            kept[6, n], kept[7, n], kept[8, n] = lx, ly, lz
            ahead = lx if axis == 0 else (ly if axis == 1 else lz)
            kept[9, n] = -ahead if back else ahead
            kept[10, n] = AMBIENT[face[p]]
            kept[11, n] = F(-2.0) if part < 0 else F(-1.0) if number < 0 else F(1.0)
            kept[12, n] = F(1.0) if face[p] == 5 else F(0.0)
        for n in range(BLOCK):
            dark = edge(kept[0, n]) + edge(kept[1, n]) + edge(kept[2, n])
            dark += edge(kept[3, n]) + edge(kept[4, n]) + edge(kept[5, n])
            daylight = kept[10, n] * max(F(1.0) - dark, F(0.4))
            lx, ly, lz, ahead = kept[6, n], kept[7, n], kept[8, n], kept[9, n]
            square = lx * lx + ly * ly + lz * lz
            cosine = ahead / np.sqrt(square + F(1e-9))
            bright = F(10.5) * (F(0.25) + F(0.75) * cosine) / (F(14.0) + square)
            thrown = F(2.52) / (F(9.0) + square)  # on ceilings, by what floors throw back
            ceiling, place = kept[12, n], kept[11, n]
            room = daylight + ceiling * thrown if place > F(0.0) else daylight * F(1.15)
            kept[13, n] = room if place > F(-1.5) else kept[10, n] * F(1.25)
            direct = (place > F(0.0)) & (ahead > F(0.0)) & (ceiling == F(0.0))
            kept[14, n] = bright if direct else F(0.0)
        for n in range(count):
            day[first + n], gain[first + n] = kept[13, n], kept[14, n]
