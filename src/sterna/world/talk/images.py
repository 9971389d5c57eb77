"""Sizes of images in pixels, patches and tokens, the way Qwen-VL models lay them out.

Legend: h x w pixels, p side of a patch, m patches merged along a side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sterna.errors import InputError

Grid = tuple[int, int]
"""Rows and columns."""

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_THINNEST = 200  # length over width from which a picture is refused, as the published code does


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """How frames become patches and tokens; the defaults are Qwen2-VL's and Qwen2.5-VL's."""

    patch: int = 14
    """Side of a patch in pixels."""
    merge: int = 2
    """Patches a side that become one token."""
    temporal: int = 2
    """Times a still picture is repeated in a patch."""
    min_pixels: int = 56 * 56
    """Smaller frames are enlarged."""
    max_pixels: int = 28 * 28 * 1280
    """Larger frames are reduced."""
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    history_pool: int = 1
    """Tokens a side that are averaged in frames of the past; 1: none, as published."""
    marks: bool = True
    """Put the model's start and end marks around every image (two tokens each)."""

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("patch", "merge", "temporal", "min_pixels", "max_pixels", "history_pool"):
            if getattr(self, name) < 1:
                raise InputError(f"images: {name} must be at least 1, found {getattr(self, name)}")
        if self.max_pixels < max(self.min_pixels, self.factor**2):
            raise InputError(
                f"images: max_pixels must be at least min_pixels and {self.factor**2} (one token), "
                f"found {self.max_pixels}"
            )

    @property
    def factor(self) -> int:
        """Pixels a side of a token."""
        return self.patch * self.merge


def resized(height: int, width: int, config: ImageConfig) -> Grid:
    """Return the size in pixels (rows, columns) that a frame is brought to.

    Both are multiples of `config.factor`, their product lies between min_pixels and max_pixels and
    the aspect stays as near as that allows (the "smart resize" of Qwen2-VL). `InputError` for a
    frame thinner than 200 to 1.
    """
    factor = config.factor
    if min(height, width) < 1 or max(height, width) > _THINNEST * min(height, width):
        raise InputError(f"frames: cannot use {height} x {width} pixels (thinner than 200 to 1)")
    size = np.array([height, width])
    near = np.array([round(side / factor) * factor for side in (height, width)])
    if near.prod() > config.max_pixels:
        shrink = math.sqrt(height * width / config.max_pixels)
        near = np.maximum(factor, np.floor(size / shrink / factor).astype(int) * factor)
    elif near.prod() < config.min_pixels:
        grow = math.sqrt(config.min_pixels / (height * width))
        near = np.ceil(size * grow / factor).astype(int) * factor
    return int(near[0]), int(near[1])


def patch_grid(height: int, width: int, config: ImageConfig) -> Grid:
    """Return rows and columns of patches of a frame."""
    rows, columns = resized(height, width, config)
    return rows // config.patch, columns // config.patch


def token_grid(height: int, width: int, config: ImageConfig, *, past: bool = False) -> Grid:
    """Return rows and columns of tokens of a frame; `past` for a frame of the history."""
    rows, columns = (side // config.merge for side in patch_grid(height, width, config))
    pool = config.history_pool if past else 1
    if rows % pool or columns % pool:
        raise InputError(
            f"images: {rows} x {columns} tokens cannot be pooled by {pool}; choose a history_pool "
            "that divides both"
        )
    return rows // pool, columns // pool
