"""Who can walk to whom in a building of one's own, and its graph as a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from sterna.data.building import Place, PosesConfig, distances, number, read_rows
from sterna.errors import InputError
from sterna.world.geometry import Floats


def edges(places: Sequence[Place], config: PosesConfig) -> NDArray[np.bool_]:
    """Return who can walk to whom, symmetric [N, N].

    Neighbours that a table names (an edge named at one end leads both ways); where it names none at
    all, places within reach, not too far up, with no wall between them. Raises `InputError` naming
    what is cut off unless all are connected.
    """
    if any(place.neighbours is not None for place in places):
        linked, hint = _named(places), "name the missing neighbours"
    else:
        linked, hint = _near(places, config), "raise --reach or --climb, or name neighbours"
    _check_connected(places, linked, hint)
    return linked


def _named(places: Sequence[Place]) -> NDArray[np.bool_]:
    order = {place.name: i for i, place in enumerate(places)}
    linked = np.zeros((len(places),) * 2, bool)
    for i, place in enumerate(places):
        linked[i, [order[name] for name in place.neighbours or ()]] = True
    return linked | linked.T


def _near(places: Sequence[Place], config: PosesConfig) -> NDArray[np.bool_]:
    where = np.array([place.position for place in places])
    climb = np.abs(where[:, None, 2] - where[None, :, 2])
    linked = np.empty(climb.shape, bool)
    np.logical_and(distances(places) <= config.reach, climb <= config.climb, out=linked)
    if config.walls is not None:
        linked &= ~_walled(where, _walls(config.walls, config.scale))
    return linked


def _check_connected(places: Sequence[Place], linked: NDArray[np.bool_], hint: str) -> None:
    count, part = connected_components(linked, directed=False)
    if count == 1:
        return
    small = np.flatnonzero(part == np.bincount(part).argmin())
    apart = distances(places)[small]
    apart[:, small] = np.inf
    i, j = divmod(int(apart.argmin()), len(places))
    raise InputError(
        f"graph: it falls into {count} parts; {len(small)} of {len(places)} panoramas "
        f"({places[small[0]].name}, ...) are cut off, nearest gap {apart[i, j]:.2f} m from "
        f"{places[small[i]].name} to {places[j].name}; {hint}"
    )


def _walls(file: Path, scale: float) -> Floats:
    """Read walls [W, 6] in metres: x1, y1, x2, y2, low, high."""
    out = []
    for where, row in read_rows(file):
        ends = [number(row, name, where) * scale for name in ("x1", "y1", "x2", "y2")]
        tall = [
            usual if row.get(name) in (None, "") else number(row, name, where) * scale
            for name, usual in (("low", -math.inf), ("high", math.inf))
        ]
        out.append([*ends, *tall])
    return np.array(out, np.float64).reshape(-1, 6)


def _walled(where: Floats, walls: Floats) -> NDArray[np.bool_]:
    """Return between which places [N, 3] a wall stands, [N, N]; touching counts.

    A line and a wall cross on the plan where each has its ends on both sides of the other, and the
    rectangles around them overlap (lines may be parallel); the wall stands in between where its
    heights overlap with those of the line's ends.
    """
    a, b = where[:, None, None], where[None, :, None]
    p, q = walls[None, None, :, 0:2], walls[None, None, :, 2:4]

    def side(one: Floats, two: Floats, point: Floats) -> Floats:
        ahead, to = two - one, point - one
        turn: Floats = np.sign(ahead[..., 0] * to[..., 1] - ahead[..., 1] * to[..., 0])
        return turn

    a2, b2 = a[..., :2], b[..., :2]
    crossed = (side(a2, b2, p) * side(a2, b2, q) <= 0) & (side(p, q, a2) * side(p, q, b2) <= 0)
    over = (np.minimum(a2, b2) <= np.maximum(p, q)) & (np.minimum(p, q) <= np.maximum(a2, b2))
    low, high = np.minimum(a[..., 2], b[..., 2]), np.maximum(a[..., 2], b[..., 2])
    tall = (walls[:, 4] <= high) & (walls[:, 5] >= low)
    between: NDArray[np.bool_] = np.any(crossed & over.all(-1) & tall, axis=-1)
    return between


def connectivity(
    places: Sequence[Place], linked: NDArray[np.bool_], camera_height: float
) -> list[dict[str, object]]:
    """Return the content of a Matterport connectivity file; linked places count as visible.

    The pose is a turn about z (the panorama's heading) and a position in metres.
    """
    rows: list[dict[str, object]] = []
    for place, links in zip(places, linked.tolist(), strict=True):
        (x, y, z), turn = (round(value, 6) for value in place.position), -place.heading
        c, s = round(math.cos(turn), 9), round(math.sin(turn), 9)
        rows.append(
            {
                "image_id": place.name,
                "pose": [c, -s, 0, x, s, c, 0, y, 0, 0, 1, z, 0, 0, 0, 1],
                "included": True,
                "visible": links,
                "unobstructed": links,
                "height": camera_height,
            }
        )
    return rows
