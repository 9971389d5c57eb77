"""The oracle: features of what views truly show, from the renderer's masks. An upper bound only."""

from __future__ import annotations

from sterna.world.houses.seen import Seen, cells_of
from sterna.world.houses.words import SIZE, Numbers, shown, view_features

CELLS = 6


class Oracle:
    """Features as `models.encoder.ViewEncoder` makes them, were it never wrong.

    It reads labels of pixels instead of colours, so no run may use it but under its name.
    """

    name = "oracle (reads masks)"
    digest = "oracle-1"

    def __init__(self, base: Numbers, *, side: int = 48, size: int = SIZE) -> None:
        """Take base rates [C] of concepts, as an encoder has them, and the side of pictures."""
        self.base, self.vector_size, self.size = base, size, 2 * size
        self.pixels = (side, side)

    def of_labels(self, labels: Seen) -> Numbers:
        """Encode labels of n pictures to float32 [n, F]."""
        seen = shown(cells_of(labels, CELLS)).astype("float32")
        return view_features(seen, self.base, self.vector_size)
