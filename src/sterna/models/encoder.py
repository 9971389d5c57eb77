"""View encoders: pictures in, features that share a space with words out. Frozen, colours alone.

`ViewEncoder` is ours, trained by `recipes.encoder` to name what pictures show; `models.pictures`
runs any image model of the transformers library by name.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from sterna import files
from sterna.errors import InputError
from sterna.models.viewnet import ViewNet, ViewNetConfig, ViewOutput
from sterna.models.weights import read_tensors, require_same
from sterna.world.houses.words import CONCEPTS, SIZE, view_features

WEIGHTS, CONFIG = "model.safetensors", "config.json"
BATCH = 256
Precision = Literal["fp32", "bf16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

Pictures = NDArray[np.uint8]
Numbers = NDArray[np.float32]


class Encoder(Protocol):
    """What turns pictures into features."""

    @property
    def name(self) -> str:
        """Human name, stored beside features."""
        ...

    @property
    def size(self) -> int:
        """Width F of a feature."""
        ...

    @property
    def pixels(self) -> tuple[int, int]:
        """Width and height of the pictures it wants to see."""
        ...

    @property
    def digest(self) -> str:
        """Hash of the weights, stored beside features."""
        ...

    def __call__(self, images: Pictures, /) -> Numbers:
        """Encode pictures uint8 [n, H, W, 3] to float32 [n, F]."""
        ...


class ViewEncoder:
    """The default: probabilities of concepts times their word vectors (`houses.words`)."""

    name = "sterna views"

    def __init__(
        self, net: ViewNet, base: Numbers, *, size: int = SIZE, precision: Precision = "fp32"
    ) -> None:
        """Freeze a network; `base` [C] are the shares of training views that show each concept.

        `precision` bf16 is faster on recent processors; probabilities change in the third digit.
        """
        if net.config.concepts != len(CONCEPTS) or base.shape != (len(CONCEPTS),):
            raise InputError(
                f"view encoder: expected {len(CONCEPTS)} concepts, found {net.config.concepts} in "
                f"the network and {base.shape} base rates; train it anew"
            )
        self.net = net.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.precision = precision
        self.base, self.vector_size = base.astype(np.float32), size
        self.size = 2 * size
        self.pixels = (net.config.side, net.config.side)
        self.digest = hashlib.sha256(_packed(self) + precision.encode()).hexdigest()

    def probabilities(self, images: Pictures) -> Numbers:
        """How probably each concept is visible in each picture, float32 [n, C]."""
        side = self.net.config.side
        if images.ndim != 4 or images.shape[1:] != (side, side, 3) or images.dtype != np.uint8:
            raise InputError(
                f"view encoder: expected uint8 pictures [n, {side}, {side}, 3], found "
                f"{images.dtype} {images.shape}; render them at {side}x{side}"
            )
        out = np.empty((len(images), len(CONCEPTS)), np.float32)
        narrow = self.precision != "fp32"
        with torch.inference_mode(), torch.autocast("cpu", DTYPES[self.precision], enabled=narrow):
            for first in range(0, len(images), BATCH):
                part = torch.from_numpy(np.ascontiguousarray(images[first : first + BATCH]))
                output = ViewOutput(*(answer.float() for answer in self.net(part)))
                logits = self.net.visible(output).float()
                out[first : first + BATCH] = torch.sigmoid(logits).numpy()
        return out

    def __call__(self, images: Pictures, /) -> Numbers:
        """Encode pictures uint8 [n, S, S, 3] to float32 [n, 2 * vector size]."""
        return view_features(self.probabilities(images), self.base, self.vector_size)


SHIPPED = Path(__file__).parent / "houseview"
"""The view encoder of houses that comes with the package."""


def _state(encoder: ViewEncoder) -> dict[str, Tensor]:
    state = {name: value.contiguous() for name, value in encoder.net.state_dict().items()}
    return state | {"base": torch.from_numpy(encoder.base)}


def _packed(encoder: ViewEncoder) -> bytes:
    return save(_state(encoder), metadata={"format": "pt"})


def save_encoder(
    encoder: ViewEncoder, folder: str | Path, notes: dict[str, Any], *, half: bool = False
) -> Path:
    """Write model.safetensors and config.json (sizes, concepts, `notes`), each atomically.

    With `half` weights are written in 16 bits, which half the file and round every weight.
    """
    target = Path(folder)
    state = {name: value.half() if half else value for name, value in _state(encoder).items()}
    files.write_bytes(target / WEIGHTS, save(state, metadata={"format": "pt"}))
    config = {
        "model": "ViewEncoder",
        "sizes": asdict(encoder.net.config),
        "vector_size": encoder.vector_size,
        "concepts": CONCEPTS,
        "notes": notes,
    }
    files.write_json(target / CONFIG, config)
    return target


def load_encoder(folder: str | Path, *, precision: Precision = "fp32") -> ViewEncoder:
    """Load a folder written by `save_encoder`.

    Raises `InputError` for a missing or damaged file, other shapes, or another list of concepts.
    """
    source = Path(folder)
    config = files.read_json(source / CONFIG)
    try:
        sizes = ViewNetConfig(**(config["sizes"] | {"named": tuple(config["sizes"]["named"])}))
        size, concepts = int(config["vector_size"]), tuple(config["concepts"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{source / CONFIG}: not a view encoder's ({error!r}); train it anew"
        ) from error
    if concepts != CONCEPTS:
        raise InputError(
            f"{source}: names {len(concepts)} concepts that are not the {len(CONCEPTS)} of this "
            "version's houses; train the encoder anew"
        )
    net = ViewNet(sizes).fused()
    state = read_tensors(source / WEIGHTS)
    expected = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    require_same(expected | {"base": (len(CONCEPTS),)}, state, str(source / WEIGHTS))
    state = {name: value.float() for name, value in state.items()}
    base = state.pop("base").numpy()
    net.load_state_dict(state)
    return ViewEncoder(net, base, size=size, precision=precision)
