"""A vision tower made of the houses' own view encoder, which can see before anything is learnt.

Its tokens begin as what the encoder believes of their part of the frame, in vectors of names (the
language model's words begin with the same), and where in the frame they lie; what else is worth
saying (how far away things are) is learnt (`recipes.sight`).

Legend: k frames, h x w pixels, m cells merged along a side, T tokens, W width, D width of a token,
N names.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sterna.errors import InputError
from sterna.models.encoder import SHIPPED, load_encoder
from sterna.models.navigator.eyes import Eyes
from sterna.models.viewnet import STRIDE
from sterna.world.houses.pack import CLASSES
from sterna.world.houses.scene import STRUCTURE
from sterna.world.houses.seen import COLOUR_NAMES, ROOMS
from sterna.world.houses.words import name_vectors, word_vectors

PARTS = (len(CLASSES), len(COLOUR_NAMES) + 1, len(ROOMS) + 1)
"""Kinds, colours and none, rooms and none."""
BUILDING, ROOM = 0.5, 0.5
"""How loudly floors, walls and rooms are named; things and their colours have 1."""
_WAVES = 2  # of each direction, with sine and cosine, that say where a token lies
_LAYERS = ((1, 6, 4), (1, 3, 1), (2, 4, 2), (2, 3, 1), (2, 3, 1))  # widths, kernels, strides


class HouseEyes(Eyes):
    """Takes the weights of `encoder.SHIPPED` (`begin`); frames are multiples of 8 `merge` pixels.

    Patches come as `pixels.patches` lays them out, so it takes what other towers take.
    """

    places: Tensor

    def __init__(self, *, patch: int, merge: int, width: int, out: int) -> None:
        """Make it with random weights; `InputError` for a patch that is no cell of the encoder."""
        nn.Module.__init__(self)
        if patch != STRIDE:
            raise InputError(
                f"model: the houses' eyes see patches of {STRIDE} pixels, found {patch}; give "
                f"--model.small.patch {STRIDE}, or another tower"
            )
        self.patch, self.merge = patch, merge
        blocks, inputs = [], 3
        for wide, kernel, stride in _LAYERS:
            conv = nn.Conv2d(inputs, wide * width, kernel, stride, (kernel - stride + 1) // 2)
            blocks.append(nn.Sequential(conv, nn.Identity(), nn.ReLU(inplace=True)))
            inputs = wide * width
        self.body = nn.Sequential(*blocks)
        self.around = nn.Linear(inputs, inputs)
        self.mix = nn.Conv2d(inputs, 2 * inputs, 1)
        self.head = nn.Linear(2 * inputs, sum(PARTS))
        self.names = nn.Linear(sum(PARTS), out, bias=False)
        self.more = nn.Linear(2 * inputs, out)
        self.register_buffer("places", torch.zeros(4 * _WAVES, out))

    def begin(self) -> None:
        """Take the view encoder's weights and the vectors of names; `more` says nothing yet."""
        kept = load_encoder(SHIPPED).net.state_dict()
        own = self.state_dict()
        self.load_state_dict(own | {name: kept[name] for name in own if name in kept})
        with torch.no_grad():
            self.names.weight.copy_(_named(len(self.names.weight)).T)
            self.more.weight.zero_()
            self.more.bias.zero_()
            texts = [f"<place {i}>" for i in range(len(self.places))]
            self.places.copy_(torch.from_numpy(word_vectors(texts, self.places.shape[1])))

    def cells(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [k, h', w', 4 W] and logits of names [k, h', w', N] of the cells.

        `pictures` are [k, 3, h, w] from -1 to 1.
        """
        x = self.body(pictures.contiguous(memory_format=torch.channels_last))
        x = x + self.around(x.mean((2, 3)))[:, :, None, None]
        x = torch.relu(self.mix(x)).permute(0, 2, 3, 1)
        return x, self.head(x)

    def look(self, pictures: Tensor) -> Tensor:
        """Return tokens [k, T, D] of whole frames [k, 3, h, w], colours as in `pixels.coloured`."""
        m, k = self.merge, pictures.shape[0]
        rows, columns = (side // (self.patch * m) for side in pictures.shape[2:])
        x, logits = self.cells(pictures)
        parts = torch.split_with_sizes(logits, PARTS, -1)
        shares = torch.cat([part.softmax(-1) for part in parts], -1)
        said: Tensor = self.names(shares) + self.more(x)
        said = said.view(k, rows, m, columns, m, -1).mean((2, 4)).flatten(1, 2)
        waves = torch.from_numpy(_waves(rows, columns))
        return said + waves.to(said) @ self.places.to(said)


def _named(out: int) -> Tensor:
    """Return the vectors [N, D] of what cells can be; none is nothing."""
    kinds, colours, rooms = (
        torch.from_numpy(name_vectors(names, out)) for names in (CLASSES, COLOUR_NAMES, ROOMS)
    )
    kinds[: len(STRUCTURE)] *= BUILDING
    none = torch.zeros(1, out)
    return torch.cat([kinds, colours, none, ROOM * rooms, none])


@lru_cache(maxsize=16)
def _waves(rows: int, columns: int) -> NDArray[np.float32]:
    """Return where tokens [T] lie: sines and cosines of half waves and more, [T, 4 waves]."""
    down = (2 * np.arange(rows) + 1) / rows - 1
    across = (2 * np.arange(columns) + 1) / columns - 1
    y, x = np.meshgrid(down, across, indexing="ij")
    angles = [axis.ravel() * math.pi / 2 * n for axis in (y, x) for n in range(1, _WAVES + 1)]
    waves = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
    return np.stack(waves, -1).astype(np.float32)
