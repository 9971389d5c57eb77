"""The view encoder's network: small pictures in, what stands where in them out.

It says for each cell of a picture which kind of thing, which colour of thing and which room is
there, and for the whole picture how probable it is that each concept is visible.

Legend: n pictures, S side in pixels, G cells a side, A = G * G cells, C concepts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sterna.errors import InputError
from sterna.world.houses.seen import centre_weights

STRIDE = 8
"""Pixels a cell."""
SHARE_FLOOR = 1e-3
"""Added to shares before the logarithm."""


@dataclass(frozen=True, kw_only=True)
class ViewNetConfig:
    """Sizes of the network, and what it names."""

    side: int = 48
    """Side of a picture in pixels, a multiple of 8."""
    width: int = 48
    """Channels at a quarter of the side; twice as many at an eighth."""
    kinds: int = 107
    """Kinds of things, the building's parts included."""
    colours: int = 12
    rooms: int = 11
    named: tuple[int, ...] = ()
    """Kinds that are concepts, by number; concepts are these, then rooms, then colours."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.side < 2 * STRIDE or self.side % STRIDE:
            raise InputError(f"view net: side must be a multiple of {STRIDE} from 16: {self.side}")
        if self.width < 8:
            raise InputError(f"view net: width must be at least 8, found {self.width}")
        if any(not 0 <= kind < self.kinds for kind in self.named):
            raise InputError(f"view net: named kinds must be below {self.kinds}")

    @property
    def cells(self) -> int:
        """Cells a side."""
        return self.side // STRIDE

    @property
    def concepts(self) -> int:
        """Number of concepts."""
        return len(self.named) + self.rooms + self.colours


class ViewOutput(NamedTuple):
    """Logits a cell: kinds [n, A, K], colours [n, A, 12 + none], rooms [n, A, 11 + none]."""

    kinds: Tensor
    colours: Tensor
    rooms: Tensor


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - stride + 1) // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class ViewNet(nn.Module):
    """Five convolutions, the picture's mean added to every cell, one linear for all answers."""

    weights: Tensor

    def __init__(self, config: ViewNetConfig) -> None:
        """Make a network with random weights."""
        super().__init__()
        self.config = config
        width = config.width
        self.body = nn.Sequential(
            _conv(3, width, 6, 4),
            _conv(width, width, 3),
            _conv(width, 2 * width, 4, 2),
            _conv(2 * width, 2 * width, 3),
            _conv(2 * width, 2 * width, 3),
        )
        self.around = nn.Linear(2 * width, 2 * width)
        self.mix = nn.Conv2d(2 * width, 4 * width, 1)
        self._parts = (config.kinds, config.colours + 1, config.rooms + 1)
        self.head = nn.Linear(4 * width, sum(self._parts))
        self.slope = nn.Parameter(torch.ones(config.concepts))
        self.offset = nn.Parameter(torch.full((config.concepts,), 3.0))
        self.register_buffer(
            "weights", torch.from_numpy(centre_weights(config.cells)), persistent=False
        )

    def forward(self, pictures: Tensor) -> ViewOutput:
        """Answer for uint8 pictures [n, S, S, 3]."""
        x = pictures.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
        x = self.body(x.contiguous(memory_format=torch.channels_last))
        x = x + self.around(x.mean((2, 3)))[:, :, None, None]
        x = torch.relu(self.mix(x)).flatten(2).transpose(1, 2)
        return ViewOutput(*self.head(x).split(self._parts, dim=-1))

    def visible(self, output: ViewOutput) -> Tensor:
        """Return logits [n, C] of concepts being visible, from their weighted shares of cells."""
        config = self.config
        shares = [torch.einsum("nak,a->nk", part.softmax(-1), self.weights) for part in output]
        kinds, colours, rooms = shares
        named = kinds[:, list(config.named)]
        share = torch.cat([named, rooms[:, : config.rooms], colours[:, : config.colours]], 1)
        return self.slope * torch.log(share + SHARE_FLOOR) + self.offset

    @torch.no_grad()
    def fused(self) -> ViewNet:
        """Return a frozen copy whose convolutions hold their normalisation."""
        self.eval()
        out = ViewNet(self.config)
        out.load_state_dict(self.state_dict())
        out.eval().requires_grad_(False)
        for block in out.body:
            block[0], block[1] = fuse_conv_bn_eval(block[0], block[1]), nn.Identity()  # type: ignore[index,operator]
        return out
