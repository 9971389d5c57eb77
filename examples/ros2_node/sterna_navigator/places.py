"""The robot's own graph: places get their names as the robot comes by them or sees them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Places:
    """Names of places in the map's frame (metres, z up). Points that are near are one place."""

    def __init__(self, radius: float = 0.5) -> None:
        """Take points within `radius` metres of a place to be that place."""
        self.radius = radius
        self._points: NDArray[np.float64] = np.zeros((0, 3))

    def __len__(self) -> int:
        """Return how many places are known."""
        return len(self._points)

    def name(self, position: ArrayLike) -> str:
        """Return the name of the place at a position, a new one where none is near."""
        point = np.asarray(position, np.float64).reshape(3)
        apart = np.linalg.norm(self._points - point, axis=1)
        if len(self) and apart.min() <= self.radius:
            return f"place-{int(apart.argmin())}"
        self._points = np.vstack([self._points, point])
        return f"place-{len(self) - 1}"

    def position(self, name: str) -> NDArray[np.float64]:
        """Return where a place is, [3]."""
        point: NDArray[np.float64] = self._points[int(name.rpartition("-")[2])]
        return point
