"""Is a house sound? Each check returns what is wrong, one line a fault; nothing means sound."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from sterna.world.houses.plan import LEAST_AREA, LEAST_ROOMS, MOST_AREA, MOST_ROOMS
from sterna.world.houses.scene import House, Room

RADIUS = 0.2  # of the agent, metres
BODY = 1.5  # what begins lower than this over the floor is in its way
STEP = 0.02  # what is lower than this is walked over
RASTER = 0.05
TOUCH = 2e-5  # float32 corners of touching boxes may overlap by rounding
REQUIRED = ("living room", "kitchen", "bathroom", "bedroom", "hall", "corridor")
AREA, ROOMS = (LEAST_AREA, MOST_AREA), (LEAST_ROOMS, MOST_ROOMS)

Cells = NDArray[np.bool_]


def faults(house: House) -> list[str]:
    """Return everything that is wrong with a house."""
    return [
        *size_faults(house),
        *overlaps(house),
        *unsupported(house),
        *blocked_doors(house),
        *unreachable(house),
    ]


def size_faults(house: House) -> list[str]:
    """Return limits of area and number of rooms that are not kept, and rooms that are missing."""
    out = []
    if not AREA[0] <= house.area <= AREA[1]:
        out.append(f"area {house.area:.1f} m2 is not in {AREA[0]}-{AREA[1]}")
    if not ROOMS[0] <= len(house.rooms) <= ROOMS[1]:
        out.append(f"{len(house.rooms)} rooms, expected {ROOMS[0]}-{ROOMS[1]}")
    kinds = [room.kind for room in house.rooms]
    out += [f"no {kind}" for kind in REQUIRED if kind not in kinds]
    names = [room.name for room in house.rooms]
    out += [f"two rooms are named {n!r}" for n in sorted({n for n in names if names.count(n) > 1})]
    return out


def overlaps(house: House) -> list[str]:
    """Return pairs of things, and things and building, whose boxes share volume."""
    return [_pair(house, i, j) for i, j in _meeting(house.boxes, house.box_instance)]


def _meeting(boxes: NDArray[np.float32], owner: NDArray[np.int32]) -> Iterator[tuple[int, int]]:
    b = boxes.astype(np.float64)
    seen: set[tuple[int, int]] = set()
    for i in np.nonzero(owner > 0)[0]:
        common = np.minimum(b[i, 3:], b[:, 3:]) - np.maximum(b[i, :3], b[:, :3])
        for j in np.nonzero((common > TOUCH).all(1) & (owner != owner[i]))[0]:
            pair = (int(owner[i]), int(owner[j]))
            if pair[::-1] not in seen and pair not in seen:
                seen.add(pair)
                yield pair


def _pair(house: House, i: int, j: int) -> str:
    def name(owner: int) -> str:
        return "the building" if owner == 0 else f"{house.things[owner - 1].kind} {owner - 1}"

    return f"{name(i)} meets {name(j)}"


def unsupported(house: House) -> list[str]:
    """Return things that float: over the one they stand on, or off floor, walls and ceiling."""
    out, building = [], house.boxes[house.box_instance == 0].astype(np.float64)
    for thing in house.things:
        if thing.on is None:
            if not _held(house.boxes[thing.first : thing.last].astype(np.float64), building):
                out.append(f"{thing.kind} {thing.id} floats")
            continue
        below = house.things[thing.on]
        own = house.boxes[thing.first : thing.last].astype(np.float64)
        bottom, low, high = own[:, 2].min(), own[:, :2].min(0), own[:, 3:5].max(0)
        b = house.boxes[below.first : below.last].astype(np.float64)
        under = (
            (np.abs(b[:, 5] - bottom) < 1e-4) & (b[:, :2] < high).all(1) & (low < b[:, 3:5]).all(1)
        )
        if not under.any():
            out.append(f"{thing.kind} {thing.id} floats over {below.kind} {below.id}")
    return out


def _held(own: NDArray[np.float64], building: NDArray[np.float64]) -> bool:
    """Whether one of a thing's boxes touches a box of the building."""
    apart = np.maximum(building[:, :3] - own[:, None, 3:], own[:, None, :3] - building[:, 3:])
    return bool((apart < 1e-4).all(-1).any())


def blocked_doors(house: House) -> list[str]:
    """Return doors in whose opening something stands (half a metre either way)."""
    b, out = house.boxes.astype(np.float64), []
    for door in house.doors:
        if door.rooms[1] is None:
            continue
        z = house.floors[door.storey]
        x, y = door.centre
        along, across = (0.4, 0.5) if door.axis == "x" else (0.5, 0.4)
        low, high = (x - along, y - across, z + STEP), (x + along, y + across, z + 1.9)
        inside = (b[:, :3] < np.array(high)).all(1) & (b[:, 3:] > np.array(low)).all(1)
        for i in np.nonzero(inside & (house.box_instance > 0))[0]:
            thing = house.things[house.box_instance[i] - 1]
            out.append(f"{thing.kind} {thing.id} stands in door {door.id}")
    return out


def walkable(
    house: House, storey: int, radius: float = RADIUS
) -> tuple[Cells, NDArray[np.float64]]:
    """Return where the middle of an agent can be, [y, x] on a raster, and the raster's corner.

    Floors carry it; a box in its way keeps it `radius` away. Stairs are left out.
    """
    b, floor = house.boxes.astype(np.float64), house.floors[storey]
    corner, far = b[:, :2].min(0), b[:, 3:5].max(0)
    nx, ny = (int(n) for n in np.ceil((far - corner) / RASTER))
    x = corner[0] + (np.arange(nx) + 0.5) * RASTER
    y = corner[1] + (np.arange(ny) + 0.5) * RASTER
    cells = np.zeros((ny, nx), bool)
    carries = (np.abs(b[:, 5] - floor) < 1e-3) & (house.box_class == house.classes.index("floor"))
    for x0, y0, _, x1, y1, _ in b[carries]:
        cells[np.ix_((y0 <= y) & (y <= y1), (x0 <= x) & (x <= x1))] = True
    stands = (b[:, 5] > floor + STEP) & (b[:, 2] < floor + BODY)
    for x0, y0, _, x1, y1, _ in b[stands]:
        dx = np.maximum(np.maximum(x0 - x, x - x1), 0)
        dy = np.maximum(np.maximum(y0 - y, y - y1), 0)
        rows, columns = np.nonzero(dy < radius)[0], np.nonzero(dx < radius)[0]
        near = dy[rows, None] ** 2 + dx[columns] ** 2 < radius**2
        cells[np.ix_(rows, columns)] &= ~near
    return cells, corner


def unreachable(house: House, radius: float = RADIUS) -> list[str]:
    """Return rooms that an agent cannot walk to from the hall, by floors, doors and stairs."""
    reached: dict[int, tuple[NDArray[np.int32], NDArray[np.float64], list[int]]] = {}
    hall = next((room for room in house.rooms if room.kind == "hall"), house.rooms[0])
    for storey in range(len(house.floors)):
        cells, corner = walkable(house, storey, radius)
        reached[storey] = (label(cells)[0].astype(np.int32), corner, [])
    marks, corner, areas = reached[hall.storey]
    areas.append(_largest(marks, corner, hall))
    for stairs in house.stairs:  # lower storeys come first
        below, above = reached[stairs.storey], reached[stairs.storey + 1]
        foot, top = _mark(*below[:2], *stairs.foot[:2]), _mark(*above[:2], *stairs.top[:2])
        if foot == 0 or foot not in below[2]:
            return [f"stairs {stairs.id} cannot be reached"]
        if top == 0:
            return [f"stairs {stairs.id} lead nowhere"]
        above[2].append(top)
    out = []
    for room in house.rooms:
        marks, corner, areas = reached[room.storey]
        if not any((_cut(marks, corner, room) == area).any() for area in areas if area):
            out.append(f"{room.name} cannot be reached")
    return out


def _cut(marks: NDArray[np.int32], corner: NDArray[np.float64], room: Room) -> NDArray[np.int32]:
    x0, y0, x1, y1 = room.rectangles[0]
    i, j = int((y0 - corner[1]) / RASTER), int((x0 - corner[0]) / RASTER)
    return marks[i : int((y1 - corner[1]) / RASTER), j : int((x1 - corner[0]) / RASTER)]


def _mark(marks: NDArray[np.int32], corner: NDArray[np.float64], x: float, y: float) -> int:
    return int(marks[int((y - corner[1]) / RASTER), int((x - corner[0]) / RASTER)])


def _largest(marks: NDArray[np.int32], corner: NDArray[np.float64], room: Room) -> int:
    sizes = np.bincount(_cut(marks, corner, room).ravel(), minlength=2)
    return int(sizes[1:].argmax()) + 1
