"""What a picture shows, pixel by pixel: kinds of things, their colours, and rooms.

Read from the renderer's masks and depth, so only for training and for the oracle: what walks a
house sees colours alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sterna.world.geometry import Floats
from sterna.world.houses.pack import CLASSES
from sterna.world.houses.paint import COLOURS
from sterna.world.houses.render import Camera, Frames
from sterna.world.houses.scene import STRUCTURE, House

ROOMS = (
    "living room",
    "dining room",
    "kitchen",
    "hall",
    "corridor",
    "bedroom",
    "bathroom",
    "office",
    "laundry room",
    "storage room",
    "playroom",
)
"""Kinds of rooms, numbered as in labels."""
COLOUR_NAMES = tuple(COLOURS)
NO_COLOUR, NO_ROOM = len(COLOUR_NAMES), len(ROOMS)
INSIDE = 0.05  # metres before a surface at which a point still lies in the room that it faces

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Labels of pixels, uint8 [N, H, W] each.

    `kind` indexes `CLASSES` (windows where nothing is met); `colour` the colours, of things alone
    (12 on the building); `room` the kinds of rooms (11 outdoors).
    """

    kind: Bytes
    colour: Bytes
    room: Bytes


def seen(house: House, camera: Camera, frames: Frames, poses: Floats) -> Seen:
    """Label the pixels of frames taken from `poses` [N, 5] (x, y, z, heading, elevation)."""
    kind = np.where(frames.klass < 0, CLASSES.index("window"), frames.klass).astype(np.uint8)
    owner = np.array(
        [NO_COLOUR, *(COLOUR_NAMES.index(thing.colour) for thing in house.things)], np.uint8
    )
    colour = owner[frames.instance]
    colour[kind < len(STRUCTURE)] = NO_COLOUR
    return Seen(kind=kind, colour=colour, room=_rooms(house, _points(camera, frames, poses)))


def _points(camera: Camera, frames: Frames, poses: Floats) -> NDArray[np.float32]:
    """Points [N, H, W, 3] in metres, just before what the pixels show."""
    right, up = camera.reach
    across = ((2 * np.arange(camera.width) + 1) / camera.width - 1) * right
    rise = (1 - (2 * np.arange(camera.height) + 1) / camera.height) * up
    place, heading, elevation = poses[:, :3], poses[:, 3], poses[:, 4]
    zero = np.zeros(len(poses))
    sin, cos, low, flat = np.sin(heading), np.cos(heading), np.sin(elevation), np.cos(elevation)
    forward = np.stack([sin * flat, cos * flat, low], 1)
    sideways = np.stack([cos, -sin, zero], 1)
    upward = np.stack([-sin * low, -cos * low, flat], 1)
    way = (
        forward[:, None, None]
        + across[:, None] * sideways[:, None, None]
        + rise[:, None, None] * upward[:, None, None]
    ).astype(np.float32)
    depth = np.where(np.isfinite(frames.depth), frames.depth, 100.0) - INSIDE
    out: NDArray[np.float32] = place[:, None, None].astype(np.float32) + depth[..., None] * way
    return out


def _rooms(house: House, points: NDArray[np.float32]) -> Bytes:
    """Kind of the room around each point; doorways count to the room beside them."""
    high = np.zeros(points.shape[:-1], np.int8)
    for floor in house.floors[1:]:
        high += points[..., 2] >= floor - INSIDE
    out = np.full(points.shape[:-1], NO_ROOM, np.uint8)
    x, y = points[..., 0], points[..., 1]
    for room in house.rooms:
        for x0, y0, x1, y1 in room.rectangles:
            inside = (x >= x0 - 0.1) & (x <= x1 + 0.1) & (y >= y0 - 0.1) & (y <= y1 + 0.1)
            out[inside & (high == room.storey)] = ROOMS.index(room.kind)
    return out


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Labels counted in parts of pictures, in hundredths of a part, uint8.

    `kinds` [N, A, kinds], `colours` [N, A, 12 + none], `rooms` [N, A, 11 + outdoors].
    """

    kinds: Bytes
    colours: Bytes
    rooms: Bytes


def cells_of(labels: Seen, cells: int) -> Cells:
    """Count the labels of pictures in cells x cells parts (A = cells * cells, row by row)."""
    return Cells(
        kinds=_counted(labels.kind, len(CLASSES), cells),
        colours=_counted(labels.colour, NO_COLOUR + 1, cells),
        rooms=_counted(labels.room, NO_ROOM + 1, cells),
    )


def _counted(labels: Bytes, count: int, cells: int) -> Bytes:
    n, height, width = labels.shape
    rows = np.arange(height) * cells // height
    columns = np.arange(width) * cells // width
    part = (rows[:, None] * cells + columns).ravel()
    slot = (np.arange(n)[:, None] * cells**2 + part) * count + labels.reshape(n, -1)
    found = np.bincount(slot.ravel(), minlength=n * cells**2 * count)
    share = found.reshape(n, cells**2, count) * 100 / np.bincount(part)[:, None]
    return np.rint(share).astype(np.uint8)


def centre_weights(cells: int) -> NDArray[np.float32]:
    """Weights [A] of cells, sum 1: a view speaks of its middle columns, neighbours of the rest."""
    across = (2 * np.arange(cells) + 1) / cells - 1
    column = 0.5 + 0.5 * np.cos(np.pi * across)
    return np.tile(column / column.sum() / cells, cells).astype(np.float32)
