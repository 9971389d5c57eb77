"""Any image model of the transformers library as a view encoder of houses (extra `vlm`).

Its features share no space with word vectors of ours, so a policy has to learn the connection.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sterna.errors import InputError
from sterna.models.vision import open_transformers, weights_digest

BATCH = 32


class TransformersEncoder:
    """An image model by name or folder; what is read of it: `models.vision`.

    Pictures are rendered at the size the model was made for, and normalised as its own
    configuration says; nothing is cropped. Raises `InputError` if transformers is missing or the
    name is no image model.
    """

    def __init__(self, name: str) -> None:
        """Load the model (safetensors alone) for inference."""
        opened = open_transformers(name)
        opened.net.eval().requires_grad_(False)
        self.name, self._read = name, opened.read
        self._mean, self._deviation = (
            torch.tensor(getattr(opened.settings, key, default), dtype=torch.float32)[:, None, None]
            for key, default in (("image_mean", [0.5] * 3), ("image_std", [0.5] * 3))
        )
        self.pixels = _pixels(opened.settings)
        self.size = self(np.zeros((1, *self.pixels[::-1], 3), np.uint8)).shape[1]
        self.digest = weights_digest(opened.net)

    def __call__(self, images: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """Encode pictures uint8 [n, H, W, 3] to float32 [n, F]."""
        width, height = self.pixels
        if images.ndim != 4 or images.shape[1:] != (height, width, 3) or images.dtype != np.uint8:
            raise InputError(
                f"encoder {self.name!r}: expected uint8 pictures [n, {height}, {width}, 3], found "
                f"{images.dtype} {images.shape}"
            )
        with torch.inference_mode():
            parts = [self._encode(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
        return torch.cat(parts).float().numpy()

    def _encode(self, images: NDArray[np.uint8]) -> Tensor:
        x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
        features, _ = self._read((x - self._mean) / self._deviation)
        return features.flatten(1)


def _pixels(settings: Any) -> tuple[int, int]:
    """Return width and height that an image processor brings pictures to."""
    crop = settings.crop_size if getattr(settings, "do_center_crop", False) else None
    size = crop or getattr(settings, "size", None) or {}
    side = size.get("shortest_edge", 224)
    return int(size.get("width", side)), int(size.get("height", side))
