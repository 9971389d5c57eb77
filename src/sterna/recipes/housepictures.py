"""What houses look like, for the report page: storeys from above, and all around a viewpoint."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from sterna.show.report import Floor
from sterna.show.report.parts import data_uri
from sterna.world.graph import NavGraph
from sterna.world.houses import House, make_house, seed_of
from sterna.world.houses.render import Camera, Renderer
from sterna.world.houses.topdown import draw_storey

METRE = 36  # pixels of a floor plan
COLUMNS, COLUMN, HEIGHT = 72, 12, 275  # a strip: narrow pictures side by side, 90 degrees high
EYES = 1.0  # metres that a viewpoint is at least above the floor of its storey


class HousePictures:
    """`report.Pictures` of houses that are made from the seeds in their scans' names."""

    def __init__(self, *, threads: int = 1) -> None:
        """`threads` changes speed alone."""
        self.threads = threads
        self._renderers: dict[str, Renderer] = {}

    def _renderer(self, scan: str) -> Renderer | None:
        seed = seed_of(scan)
        if seed is None:
            return None
        if scan not in self._renderers:
            self._renderers[scan] = Renderer(make_house(seed), shadows=4, threads=self.threads)
        return self._renderers[scan]

    def floors(self, scan: str) -> tuple[Floor, ...]:
        """Return the storeys from above, the lowest first; none for a scan that is no house."""
        renderer = self._renderer(scan)
        if renderer is None:
            return ()
        house = renderer.house
        return tuple(_floor(house, storey, renderer) for storey in range(len(house.floors)))

    def storey(self, scan: str, graph: NavGraph) -> Sequence[int]:
        """Return the storey of each node: the highest floor well below its camera."""
        renderer = self._renderer(scan)
        floors = np.array([0.0] if renderer is None else renderer.house.floors)
        above = graph.positions[:, 2, None] - EYES >= floors
        storeys: Sequence[int] = np.maximum(above.sum(1) - 1, 0).tolist()
        return storeys

    def strip(self, scan: str, graph: NavGraph, node: int) -> str | None:
        """Return what is seen all around a node, north in the middle."""
        renderer = self._renderer(scan)
        if renderer is None:
            return None
        camera = Camera(width=COLUMN, height=HEIGHT, hfov=360 / COLUMNS, vfov=90)
        headings = (np.arange(COLUMNS) + 0.5) * 2 * math.pi / COLUMNS - math.pi
        frames = renderer.render(camera, graph.positions[node], headings)
        return data_uri(Image.fromarray(np.concatenate(frames.rgb, axis=1)))


def _floor(house: House, storey: int, renderer: Renderer) -> Floor:
    image = draw_storey(house, storey, metre=METRE, renderer=renderer)
    return Floor(
        image=data_uri(image),
        west=float(house.boxes[:, 0].min()),
        north=float(house.boxes[:, 4].max()),
        width=float(np.ptp(house.boxes[:, [0, 3]])),
        height=float(np.ptp(house.boxes[:, [1, 4]])),
    )
