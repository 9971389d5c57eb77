"""Frames as patches, the way Qwen-VL models take them; no torchvision, no processor class.

Legend: k frames, h x w pixels, p side of a patch, m patches merged along a side, t temporal depth
of a patch, L patches of a frame, T = L / m^2 tokens of a frame.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sterna.errors import InputError
from sterna.world.talk.images import Grid, ImageConfig, resized

Frames = NDArray[np.uint8]


def patches(frames: Frames, config: ImageConfig) -> Tensor:
    """Return frames uint8 [k, h, w, 3] as patches float32 [k, L, 3 * t * p * p].

    Patches that merge into one token lie side by side; colours are brought to `mean` and `std`.
    Frames of another size are resized bicubically.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        found = f"{frames.dtype} {frames.shape}"
        raise InputError(f"frames: expected uint8 [k, h, w, 3], found {found}")
    height, width = resized(frames.shape[1], frames.shape[2], config)
    if (height, width) != frames.shape[1:3] and len(frames):
        frames = np.stack([_resize(frame, height, width) for frame in frames])
    return cut(torch.from_numpy(np.ascontiguousarray(frames)), config)


def cut(frames: Tensor, config: ImageConfig) -> Tensor:
    """Return frames uint8 [k, h, w, 3] of the right size as patches (see `patches`)."""
    (k, height, width, _), p, m = frames.shape, config.patch, config.merge
    x = coloured(frames, config)
    x = x.view(k, height // p // m, m, p, width // p // m, m, p, 3)
    x = x.permute(0, 1, 4, 2, 5, 7, 3, 6)  # k, rows, columns, m, m, 3, p, p
    x = x.unsqueeze(6).expand(*x.shape[:6], config.temporal, p, p)
    return x.reshape(k, height * width // p**2, 3 * config.temporal * p * p)


def coloured(frames: Tensor, config: ImageConfig) -> Tensor:
    """Return frames uint8 [k, h, w, 3] with colours brought to `mean` and `std`."""
    mean = torch.tensor(config.mean) * 255
    scale = 1 / (torch.tensor(config.std) * 255)
    return (frames.float() - mean) * scale


def _resize(frame: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    picture = Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def pool(tokens: Tensor, grid: Grid, by: int) -> Tensor:
    """Average tokens [k, T, D] of a grid (rows, columns) over `by` x `by` neighbours."""
    if by == 1:
        return tokens
    rows, columns = grid
    k, _, width = tokens.shape
    x = tokens.view(k, rows // by, by, columns // by, by, width)
    return x.mean((2, 4)).flatten(1, 2)
