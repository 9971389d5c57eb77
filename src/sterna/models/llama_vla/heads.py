"""Three ways from a decoder's tokens to actions: as words, by regression, by diffusion.

Legend: B samples, D width, T steps of a chunk, S numbers of a step (each in [-1, 1]).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TokenHead(nn.Module):
    """Actions as words, one a number (OpenVLA): the last `bins` words of the vocabulary."""

    def __init__(self, width: int, steps: int, size: int, vocabulary: int, bins: int) -> None:
        """Make the output layer over the words that are actions."""
        super().__init__()
        self.steps, self.size, self.bins, self.first = steps, size, bins, vocabulary - bins
        self.out = nn.Linear(width, bins, bias=False)

    @property
    def words(self) -> int:
        """Words of an answer."""
        return self.steps * self.size

    def classes(self, actions: Tensor) -> Tensor:
        """Return the bins [B, T S] of actions [B, T, S]: equal parts of [-1, 1]."""
        scaled = (actions.flatten(1).clamp(-1, 1) + 1) / 2 * self.bins
        return scaled.long().clamp(max=self.bins - 1)

    def values(self, classes: Tensor) -> Tensor:
        """Return the middles of bins [B, T S] as actions [B, T, S]."""
        middle = (classes + 0.5) / self.bins * 2 - 1
        return middle.view(-1, self.steps, self.size)

    def ids(self, classes: Tensor) -> Tensor:
        """Return the words of bins."""
        return classes + self.first

    def loss(self, tokens: Tensor, actions: Tensor) -> Tensor:
        """Return the mean cross entropy; `tokens` [B, T S, D] are those before each word."""
        return F.cross_entropy(self.out(tokens).flatten(0, 1), self.classes(actions).flatten())


class ChunkHead(nn.Module):
    """A chunk read off the last token (OpenVLA-OFT's way, with one token)."""

    def __init__(self, width: int, steps: int, size: int) -> None:
        """Make a small network from the token to the chunk."""
        super().__init__()
        self.steps, self.size = steps, size
        self.net = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, steps * size))

    def forward(self, token: Tensor) -> Tensor:
        """Return chunks [B, T, S] of tokens [B, D]."""
        out: Tensor = self.net(token)
        return out.view(-1, self.steps, self.size)

    def loss(self, token: Tensor, actions: Tensor) -> Tensor:
        """Return the mean absolute error."""
        return F.l1_loss(self(token), actions)

    def sample(self, token: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the chunks."""
        chunks: Tensor = self(token)
        return chunks


class _Block(nn.Module):
    """Self-attention and a feed-forward network, pre-norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))
        out: Tensor = x + self.mlp(self.norms[1](x))
        return out


class DiffusionHead(nn.Module):
    """A denoising transformer that reads one token of the decoder (CogACT).

    Training: noise of a random level is added to the chunk, and predicted; squared-cosine schedule
    of `levels` levels, `repeats` draws a sample. Sampling: DDIM in `samples` steps.
    """

    levels, samples, repeats = 100, 10, 4
    mean_square: Tensor

    def __init__(self, width: int, steps: int, size: int, *, inner: int = 32, blocks: int = 2):
        """Make `blocks` blocks of width `inner` over [condition and level; noisy actions]."""
        super().__init__()
        self.steps, self.size, self.inner = steps, size, inner
        self.read, self.enter = nn.Linear(width, inner), nn.Linear(size, inner)
        self.level, self.leave = nn.Linear(inner, inner), nn.Linear(inner, size)
        self.places = nn.Parameter(torch.randn(1 + steps, inner) * 0.02)
        self.blocks = nn.ModuleList(_Block(inner, 2) for _ in range(blocks))
        places = torch.arange(self.levels + 1) / self.levels
        curve = ((places + 0.008) / 1.008 * math.pi / 2).cos() ** 2
        kept = (curve[1:] / curve[0]).clamp(min=1e-4)
        self.register_buffer("mean_square", kept, persistent=False)

    def forward(self, token: Tensor, noisy: Tensor, level: Tensor) -> Tensor:
        """Return the noise [B, T, S] in chunks of level int64 [B], given tokens [B, D]."""
        rates = torch.exp(
            -math.log(1e4) * torch.arange(self.inner // 2, device=token.device) / (self.inner // 2)
        )
        angles = level[:, None] * rates
        first = self.read(token) + self.level(torch.cat([angles.sin(), angles.cos()], -1))
        x = torch.cat([first[:, None], self.enter(noisy)], 1) + self.places
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.leave(x[:, 1:])
        return out

    def loss(self, token: Tensor, actions: Tensor) -> Tensor:
        """Return the mean squared error of the predicted noise."""
        token, actions = (x.repeat_interleave(self.repeats, 0) for x in (token, actions))
        level = torch.randint(self.levels, (len(token),), device=token.device)
        noise = torch.randn_like(actions)
        kept = self.mean_square[level][:, None, None]
        noisy = kept.sqrt() * actions + (1 - kept).sqrt() * noise
        return F.mse_loss(self(token, noisy, level), noise)

    def sample(self, token: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return chunks [B, T, S] by DDIM, without added noise after the first."""
        shape = (len(token), self.steps, self.size)
        x = torch.randn(shape, generator=generator).to(token)
        path = torch.linspace(self.levels - 1, 0, self.samples).round().long().tolist()
        for place, level in enumerate(path):
            kept = self.mean_square[level]
            noise = self(token, x, torch.full((len(x),), level, device=x.device))
            clean = ((x - (1 - kept).sqrt() * noise) / kept.sqrt()).clamp(-1, 1)
            after = (
                self.mean_square[path[place + 1]] if place + 1 < len(path) else kept.new_ones(())
            )
            x = after.sqrt() * clean + (1 - after).sqrt() * noise
        return x
