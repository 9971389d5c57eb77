"""A contact sheet of houses: the ground floor of each from above, and four of its rooms.

Usage: python benchmarks/sheet.py [--seeds 20 21 ...] [--out houses.jpg] [--quality 80]
Rooms are seen at eye height towards their middle, from where most of their things are in sight.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sterna.world.houses import House, make_house
from sterna.world.houses.ground import ground_of, room_cells
from sterna.world.houses.render import Camera, Renderer
from sterna.world.houses.topdown import draw_storey

CELL, VIEW, PLAN = (1000, 372), (300, 166), (360, 340)  # pixels
EYE = 1.5  # metres
TILT = -0.15  # radians
TRIED = 24  # places in a room
TURN = (  # the rooms of one house, those of the next
    ("living room", "kitchen", "bedroom", "bathroom"),
    ("dining room", "office", "laundry room", "playroom", "storage room", "hall", "corridor"),
)
INK, PAPER = (30, 32, 36), (255, 255, 255)


def chosen(house: House, number: int) -> list[int]:
    """Return four rooms of different kinds."""
    wanted = [*TURN[number % 2], *TURN[1 - number % 2]]
    first = {room.kind: room.id for room in reversed(house.rooms)}
    return [first[kind] for kind in wanted if kind in first][:4]


def views(house: House, renderer: Renderer, rooms: list[int]) -> list[Image.Image]:
    """Return a picture of each room, named in its corner."""
    ground = ground_of(house)
    cells, camera = room_cells(house, ground), Camera(width=VIEW[0], height=VIEW[1], hfov=85)
    out = []
    for number in rooms:
        points = ground.surface.centres[cells[number]]
        eye, heading = best_place(house, renderer, number, points)
        picture = Image.fromarray(renderer.render(camera, eye, heading, TILT).rgb[0])
        named(picture, house.rooms[number].name)
        out.append(picture)
    return out


def best_place(
    house: House, renderer: Renderer, room: int, points: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return the place (x, y, z) and heading from which most of a room's things are seen."""
    x0, y0, x1, y1 = house.rooms[room].rectangles[0]
    way = np.array([(x0 + x1) / 2, (y0 + y1) / 2]) - points[:, :2]
    edge = np.argsort(-np.square(way).sum(1), kind="stable")[: max(1, len(way) // 2)]
    edge = edge[:: max(1, len(edge) // TRIED)]
    eyes = points[edge] + (0, 0, EYE)
    headings = np.arctan2(way[edge, 0], way[edge, 1])
    small = Camera(width=VIEW[0] // 6, height=VIEW[1] // 6, hfov=85)
    seen = renderer.render(small, eyes, headings, np.full(len(eyes), TILT)).instance
    own = [thing.id + 1 for thing in house.things if thing.room == room]
    found = [sum(np.count_nonzero(picture == one) >= 8 for one in own) for picture in seen]
    best = int(np.argmax(found))
    return eyes[best], float(headings[best])


def named(picture: Image.Image, text: str) -> None:
    """Write a text into the lower left corner."""
    ImageDraw.Draw(picture).text(
        (6, picture.height - 6), text, INK, ImageFont.load_default(14), "ls",
        stroke_width=2, stroke_fill=PAPER,
    )  # fmt: skip


def cell(seed: int, number: int) -> Image.Image:
    """Return one house: its plan on the left, four rooms on the right."""
    house = make_house(seed)
    renderer = Renderer(house, shadows=8)
    sheet = Image.new("RGB", CELL, PAPER)
    plan = draw_storey(house, 0, metre=50, renderer=renderer)
    plan.thumbnail(PLAN, Image.Resampling.LANCZOS)
    sheet.paste(plan, (14 + (PLAN[0] - plan.width) // 2, 22 + (PLAN[1] - plan.height) // 2))
    storeys = "one storey" if len(house.floors) == 1 else "two storeys"
    named_at = f"seed {seed}: {house.area:.0f} m2, {len(house.rooms)} rooms, {storeys}"
    ImageDraw.Draw(sheet).text((14, 16), named_at, INK, ImageFont.load_default(14), "ls")
    for i, picture in enumerate(views(house, renderer, chosen(house, number))):
        sheet.paste(picture, (384 + (VIEW[0] + 4) * (i % 2), 22 + (VIEW[1] + 4) * (i // 2)))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(20, 30)))
    parser.add_argument("--out", type=Path, default=Path("houses.jpg"))
    parser.add_argument("--quality", type=int, default=80)
    args = parser.parse_args()
    cells = [cell(seed, number) for number, seed in enumerate(args.seeds)]
    rows = -(-len(cells) // 2)
    sheet = Image.new("RGB", (2 * CELL[0], rows * CELL[1]), PAPER)
    for i, picture in enumerate(cells):
        sheet.paste(picture, (CELL[0] * (i % 2), CELL[1] * (i // 2)))
    sheet.save(args.out, quality=args.quality, optimize=True)


if __name__ == "__main__":
    main()
