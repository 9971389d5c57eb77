"""A convolutional vision tower for small navigators: what a few minutes of one core can teach.

It stands where transformers' own tower stands and gives tokens of the same width; the smallest of
those that is of use learns at a quarter of the rate (docs/results/vlnr1.md).

Legend: k frames, h x w pixels, p side of a patch, m patches merged along a side, T tokens, D width.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sterna.errors import InputError
from sterna.models.navigator.families import causal_class

_GROUPS = 4


class _Block(nn.Module):
    """A convolution with its norm; `rest` adds what came in."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = nn.GroupNorm(_GROUPS, outputs)
        self.rest = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Convolve [k, inputs, h, w]."""
        out = F.relu(self.norm(self.conv(x)))
        return x + out if self.rest else out


class Eyes(nn.Module):
    """Sees frames of any size that is a multiple of `patch` x `merge` pixels.

    Halves the frame until a place is a patch, `depth` layers there, then joins merge x merge
    places. Patches come as `pixels.patches` lays them out, so it takes what other towers take.
    """

    def __init__(self, *, patch: int, merge: int, width: int, depth: int, out: int) -> None:
        """Make it with random weights; `InputError` for a patch that is no power of two."""
        super().__init__()
        halvings = patch.bit_length() - 1
        if patch != 1 << halvings or halvings < 1 or width % (_GROUPS << (halvings - 1)):
            raise InputError(
                f"model: eyes need a patch of 2, 4, 8 or 16 pixels and a width that is a multiple "
                f"of {_GROUPS << max(0, halvings - 1)}, found {patch} and {width}"
            )
        self.patch, self.merge = patch, merge
        sizes = [3, *(width >> (halvings - 1 - i) for i in range(halvings))]
        self.halving = nn.Sequential(*(_Block(a, b, 2) for a, b in pairwise(sizes)))
        self.deep = nn.Sequential(*(_Block(width, width, 1) for _ in range(depth)))
        self.join = nn.Linear(width * merge * merge, out)

    def forward(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return tokens [k, T, D] of patches [k, L, 3 p p] in a grid (rows, columns)."""
        return self.look(picture(patches, grid, self.patch, self.merge))

    def look(self, pictures: Tensor) -> Tensor:
        """Return tokens [k, T, D] of whole frames [k, 3, h, w], colours as in `pixels.coloured`."""
        m, k = self.merge, pictures.shape[0]
        rows, columns = (side // (self.patch * m) for side in pictures.shape[2:])
        x = pictures.contiguous(memory_format=torch.channels_last)
        x = self.deep(self.halving(x))
        x = x.view(k, -1, rows, m, columns, m).permute(0, 2, 4, 3, 5, 1)
        joined: Tensor = self.join(x.reshape(k, rows * columns, -1))
        return joined


def picture(patches: Tensor, grid: tuple[int, int], patch: int, merge: int) -> Tensor:
    """Return frames [k, 3, h, w] of patches [k, L, 3 p p] as `pixels.patches` lays them out."""
    rows, columns = grid[0] // merge, grid[1] // merge
    x = patches.view(len(patches), rows, columns, merge, merge, 3, patch, patch)
    x = x.permute(0, 5, 1, 3, 6, 2, 4, 7)
    return x.reshape(len(patches), 3, grid[0] * patch, grid[1] * patch)


@cache
def seeing_class(family: str) -> Any:
    """Return the model class of a family; its tower are eyes where its configuration names them.

    (`vision_config.eyes`: the arguments of `Eyes`, or of `HouseEyes` where its `kind` is house.)
    """
    base = causal_class(family)

    def begin(self: Any, config: Any) -> None:
        base.__init__(self, config)
        settings = getattr(config.vision_config, "eyes", None)
        if settings is not None:
            self.model.visual = _make(**settings)

    return type(base.__name__, (base,), {"__init__": begin, "__module__": __name__})


def _make(*, kind: str = "conv", **sizes: int) -> Eyes:
    if kind == "conv":
        return Eyes(**sizes)
    # It is built on this module.
    from sterna.models.navigator.houseeyes import HouseEyes

    return HouseEyes(**sizes)
