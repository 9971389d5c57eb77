"""Any image model of the transformers library as a view encoder (extra `vlm`).

Its features share no space with word vectors of ours, so a policy has to learn the connection.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sterna.errors import InputError

BATCH = 32


def library(name: str) -> Any:
    """Import transformers for the encoder `name`; `InputError` says how to install it."""
    try:
        import transformers
    except ImportError as error:
        raise InputError(
            f"encoder {name!r}: needs the transformers library; pip install 'sterna[vlm]'"
        ) from error
    return transformers


class TransformersEncoder:
    """An image model by name or folder: its image features, else pooled output, else mean token.

    Pictures are rendered at the size the model was made for, and normalised as its own
    configuration says; nothing is cropped. Raises `InputError` if transformers is missing or the
    name is no image model.
    """

    def __init__(self, name: str) -> None:
        """Load the model (safetensors alone) for inference."""
        transformers = library(name)
        try:
            reader: Any = transformers.AutoImageProcessor
            settings = reader.from_pretrained(name, use_fast=False)
            model = transformers.AutoModel.from_pretrained(name, use_safetensors=True)
        except (OSError, ValueError, ImportError) as error:
            reason = str(error).strip().splitlines()[0][:160]
            raise InputError(
                f"encoder {name!r}: no image model to be read there: {reason}"
            ) from error
        self.name = name
        self._model: Any = model.eval().requires_grad_(False)
        self._mean, self._deviation = (
            torch.tensor(getattr(settings, key, default), dtype=torch.float32)[:, None, None]
            for key, default in (("image_mean", [0.5] * 3), ("image_std", [0.5] * 3))
        )
        self.pixels = _pixels(settings)
        self.size = self(np.zeros((1, *self.pixels[::-1], 3), np.uint8)).shape[1]
        self.digest = _digest(model)

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
        x = (x - self._mean) / self._deviation
        if hasattr(self._model, "get_image_features"):
            out: Any = self._model.get_image_features(pixel_values=x)
        else:
            out = self._model(pixel_values=x)
        if not isinstance(out, Tensor):
            pooled = getattr(out, "pooler_output", None)
            out = out.last_hidden_state.flatten(2).mean(1) if pooled is None else pooled
        features: Tensor = out.flatten(1)
        return features


def _pixels(settings: Any) -> tuple[int, int]:
    """Return width and height that an image processor brings pictures to."""
    crop = settings.crop_size if getattr(settings, "do_center_crop", False) else None
    size = crop or getattr(settings, "size", None) or {}
    side = size.get("shortest_edge", 224)
    return int(size.get("width", side)), int(size.get("height", side))


def _digest(model: Any) -> str:
    total = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        total.update(name.encode())
        total.update(value.contiguous().view(torch.uint8).numpy().tobytes() if value.ndim else b"")
    return total.hexdigest()
