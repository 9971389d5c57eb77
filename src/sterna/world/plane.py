"""An empty world: a level floor without end, where an agent moves by kinematics alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sterna.world.frames import direction
from sterna.world.geometry import Floats
from sterna.world.space import Bools, MapTransform, Step


class OpenPlane:
    """Answers what `Space` answers, where nothing stands in the way.

    Every point is walkable and keeps its height, distances are straight lines. It replays
    recorded actions without a mesh; `extent` metres bounds its map only.
    """

    def __init__(self, extent: float = 20.0) -> None:
        self.extent = extent

    def is_navigable(self, points: ArrayLike) -> Bools:
        """All points [..., 3] are."""
        return np.ones(np.shape(points)[:-1], bool)

    def snap(self, points: ArrayLike) -> Floats:
        """Return the points as they are."""
        return np.array(points, np.float64)

    def move(
        self, positions: ArrayLike, headings: ArrayLike, distance: float, *, sliding: bool = True
    ) -> Step:
        """Walk `distance` metres along headings [n] from positions [n, 3]; nothing collides."""
        ends = np.array(positions, np.float64)
        ends[:, :2] += direction(headings) * distance
        return Step(ends, np.zeros(len(ends), bool))

    def distances(self, points: ArrayLike, goal: ArrayLike) -> Floats:
        """Straight metres from points [n, 3] to one goal [3], or each to its own [n, 3]."""
        offset = np.asarray(points, np.float64) - np.asarray(goal, np.float64)
        length: Floats = np.linalg.norm(offset, axis=-1)
        return length

    def geodesic(self, a: ArrayLike, b: ArrayLike) -> float:
        """Straight metres from a [3] to b [3], or to the nearest of b [k, 3]."""
        return float(self.distances(np.reshape(np.asarray(b, np.float64), (-1, 3)), a).min())

    def shortest_path(self, a: ArrayLike, b: ArrayLike) -> Floats:
        """Return the two ends, [2, 3]."""
        return np.array([a, b], np.float64)

    def topdown(self, height: float, metres_per_pixel: float = 0.05) -> tuple[Bools, MapTransform]:
        """Map of the square within `extent` of the origin: all walkable."""
        side = int(np.ceil(2 * self.extent / metres_per_pixel))
        transform = MapTransform(
            west=-self.extent, north=self.extent, metres_per_pixel=metres_per_pixel
        )
        return np.ones((side, side), bool), transform
