"""Many houses for environments: made when first walked, a few kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from sterna.envs.continuous import Camera
from sterna.envs.houses import HouseFrames, agent_of
from sterna.metrics.protocol import Protocol
from sterna.world.geometry import Floats
from sterna.world.houses.ground import ground_of
from sterna.world.houses.render import Renderer
from sterna.world.houses.scans import seed_of
from sterna.world.space import Space


class HouseWorlds(Mapping[str, Space]):
    """Grounds of houses by scan, and with `frames` what draws them; at most `keep` at a time.

    One thread may use it; others make their own.
    """

    def __init__(self, protocol: Protocol, *, threads: int = 1, keep: int = 8) -> None:
        self._agent, self._threads, self._keep = agent_of(protocol), threads, max(1, keep)
        self._open: OrderedDict[str, tuple[Space, HouseFrames]] = OrderedDict()

    def _world(self, scan: str) -> tuple[Space, HouseFrames]:
        if scan not in self._open:
            while len(self._open) >= self._keep:
                self._open.popitem(last=False)
            drawing = HouseFrames(threads=self._threads)
            house = drawing.renderer(scan).house
            self._open[scan] = ground_of(house, self._agent), drawing
        self._open.move_to_end(scan)
        return self._open[scan]

    def frames(
        self, scan: str, eye: Floats, heading: float, camera: Camera, sensor: str
    ) -> NDArray[Any]:
        """Draw what a camera sees (a `FrameSource`)."""
        return self._world(scan)[1](scan, eye, heading, camera, sensor)

    def renderer(self, scan: str) -> Renderer:
        """Return what draws a house."""
        return self._world(scan)[1].renderer(scan)

    def __getitem__(self, scan: str) -> Space:
        """Return the ground of a scan; `InputError` if no house has that name."""
        return self._world(scan)[0]

    def __contains__(self, scan: object) -> bool:
        """Whether a house has that name; makes none."""
        return isinstance(scan, str) and seed_of(scan) is not None

    def __iter__(self) -> Iterator[str]:
        """Go through the houses that are open."""
        return iter(self._open)

    def __len__(self) -> int:
        """Return how many houses are open."""
        return len(self._open)
