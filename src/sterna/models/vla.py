"""A small vision-language-action policy: pictures, a sentence and proprioception to a chunk.

Tokens run in the order sentence, proprioception, pictures, query through a causal pre-norm decoder;
the next T actions are read from the query. The form is that of OpenVLA and its kin (Kim et al.,
2024), with action chunks (Zhao et al., RSS 2023) and sizes for a CPU.

Legend: B rows, K cameras, S pixels a side, W words, P proprioception, N tokens, D width, H heads,
E = D / H, T steps of a chunk, A width of an action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sterna.errors import InputError
from sterna.models.attention import attend, split_heads
from sterna.models.layers import MASKED

PAD, UNKNOWN = 0, 1
"""Word numbers of what fills a sentence up and of words that are not in the vocabulary."""
_PATCH, _BLOCK = 4, 3
_CELL = _PATCH * 2 * _BLOCK
"""Pixels of a token's side: the product of the stem's strides."""


@dataclass(frozen=True, kw_only=True)
class VlaConfig:
    """Sizes and words of a policy."""

    words: tuple[str, ...] = ()
    """Vocabulary, in small letters; other words count as unknown."""
    image_size: int = 96
    """Pixels a side, a multiple of 24."""
    cameras: int = 1
    """Pictures of an observation."""
    proprio: int = 4
    """Width of proprioception."""
    action: int = 4
    """Width of an action."""
    chunk: int = 8
    """Actions predicted at once."""
    depth: int = 12
    """Decoder layers."""
    width: int = 96
    """Width of tokens."""
    heads: int = 3
    """Attention heads."""
    ffn: int = 384
    """Width inside the feed-forward part."""
    sentence_tokens: int = 2
    """Tokens that a sentence becomes."""
    max_words: int = 12
    """Words of a sentence that are read."""

    def __post_init__(self) -> None:
        """Check the values."""
        object.__setattr__(self, "words", tuple(self.words))
        counts = ("cameras", "proprio", "action", "chunk", "depth", "width", "heads", "ffn")
        for key in (*counts, "sentence_tokens", "max_words", "image_size"):
            if type(getattr(self, key)) is not int or getattr(self, key) < 1:
                raise InputError(f"vla: {key} must be a positive integer")
        if self.image_size % _CELL:
            raise InputError(
                f"vla: image_size must be a multiple of {_CELL}, found {self.image_size}"
            )
        if self.width % self.heads:
            raise InputError(f"vla: width {self.width} is no multiple of {self.heads} heads")
        if any(not word or word != word.lower() for word in self.words):
            raise InputError("vla: words are written in small letters")

    @property
    def image_tokens(self) -> int:
        """Tokens of all pictures together."""
        return self.cameras * (self.image_size // _CELL) ** 2

    @property
    def tokens(self) -> int:
        """N: sentence, proprioception, pictures, query."""
        return self.sentence_tokens + 1 + self.image_tokens + 1

    def read(self, sentences: Sequence[str]) -> Tensor:
        """Return sentences as word numbers, int64 [B, max_words]."""
        number = {word: place + 2 for place, word in enumerate(self.words)}
        out = torch.full((len(sentences), self.max_words), PAD)
        for row, text in enumerate(sentences):
            found = [number.get(word, UNKNOWN) for word in text.lower().split()]
            if not found:
                raise InputError("vla: an empty sentence; say what is to be done")
            found = found[: self.max_words]
            out[row, : len(found)] = torch.tensor(found)
        return out


@dataclass(frozen=True)
class VlaBatch:
    """What a policy reads, and what it should have said.

    `images` uint8 [B, K, S, S, 3], `words` int64 [B, W], `proprio` float32 [B, P]; `recent`
    float32 [B, T A], the chunk before this one (zeros at the beginning of an episode; read by
    routers alone); for training `actions` float32 [B, T, A] and `ids` int64 [B].
    """

    images: Tensor
    words: Tensor
    proprio: Tensor
    recent: Tensor
    actions: Tensor | None = None
    ids: Tensor | None = None

    def to(self, device: torch.device | str) -> VlaBatch:
        """Return the batch on a device."""
        moved = {k: v.to(device) for k, v in vars(self).items() if v is not None}
        return replace(self, **moved)

    def __len__(self) -> int:
        return len(self.proprio)


class Stem(nn.Module):
    """Pictures to tokens: patches of 4 pixels, one convolution over them, blocks of 3 x 3 joined.

    Cheap on purpose: what a stem costs no gate can save.
    """

    def __init__(self, width: int) -> None:
        """Make 3 -> 48 -> 64 -> D channels, with strides 4, 2 and 3."""
        super().__init__()
        self.patches = nn.Linear(_PATCH * _PATCH * 3, 48)
        self.convolution = nn.Conv2d(48, 64, 3, stride=2, padding=1)
        self.join = nn.Linear(_BLOCK * _BLOCK * 64, width)

    def forward(self, images: Tensor) -> Tensor:
        """Map uint8 [B, K, S, S, 3] to tokens [B, K (S / 24)^2, D]."""
        rows, cameras, size = images.shape[:3]
        x = images.flatten(0, 1).to(self.patches.weight.dtype) / 127.5 - 1.0
        x = F.gelu(self.patches(blocks(x, _PATCH)))
        side = size // _PATCH
        # Channels stay last in memory, which is what convolutions like on CPUs.
        x = x.view(-1, side, side, x.shape[-1]).permute(0, 3, 1, 2)
        x = F.gelu(self.convolution(x)).permute(0, 2, 3, 1)
        tokens: Tensor = self.join(blocks(x, _BLOCK))
        return tokens.reshape(rows, cameras * tokens.shape[1], -1)


def blocks(x: Tensor, side: int) -> Tensor:
    """Cut [B, S, S, C] into blocks of `side` x `side`, [B, (S / side)^2, side^2 C]."""
    rows, size, _, channels = x.shape
    count = size // side
    x = x.reshape(rows, count, side, count, side * channels).transpose(2, 3)
    return x.reshape(rows, count * count, side * side * channels)


class Sentence(nn.Module):
    """Words to a few tokens: each token is a softmax mean of the words by its own query."""

    def __init__(self, config: VlaConfig) -> None:
        """Make embeddings of words and places, and the queries."""
        super().__init__()
        self.word_embeddings = nn.Embedding(len(config.words) + 2, config.width)
        self.place_embeddings = nn.Embedding(config.max_words, config.width)
        self.query_embeddings = nn.Embedding(config.sentence_tokens, config.width)
        self.query_embeddings.weight.data.mul_(0.1)

    def forward(self, words: Tensor) -> Tensor:
        """Map word numbers [B, W] to tokens [B, sentence_tokens, D]."""
        places = torch.arange(words.shape[1], device=words.device)
        x = self.word_embeddings(words) + self.place_embeddings(places)
        scores = torch.matmul(x, self.query_embeddings.weight.t()).masked_fill(
            (words == PAD)[..., None], MASKED
        )
        mixed: Tensor = torch.matmul(scores.softmax(1).transpose(1, 2), x)
        return mixed


class Layer(nn.Module):
    """A pre-norm decoder layer: x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, config: VlaConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(config.width)
        self.packed = nn.Linear(config.width, 3 * config.width)
        self.mixed = nn.Linear(config.width, config.width)
        self.ffn_norm = nn.LayerNorm(config.width)
        self.widen = nn.Linear(config.width, config.ffn)
        self.narrow = nn.Linear(config.ffn, config.width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Map tokens [B, N, D]; `bias` [1, 1, N, N] forbids looking ahead."""
        query, key, value = (
            split_heads(part, self.heads).contiguous()
            for part in self.packed(self.attention_norm(x)).chunk(3, -1)
        )
        context, _ = attend(query, key, value, bias)
        x = x + self.mixed(context)
        out: Tensor = x + self.narrow(F.gelu(self.widen(self.ffn_norm(x))))
        return out


class Vla(nn.Module):
    """The policy; `prepare`, the layers, `finish` and `head` one after the other are `forward`."""

    bias: Tensor
    proprio_mean: Tensor
    proprio_scale: Tensor

    def __init__(self, config: VlaConfig) -> None:
        """Make a policy with fresh weights from torch's generator."""
        super().__init__()
        self.config = config
        width = config.width
        self.stem, self.sentence = Stem(width), Sentence(config)
        self.feel = nn.Sequential(
            nn.Linear(config.proprio, width), nn.GELU(), nn.Linear(width, width)
        )
        self.query = nn.Parameter(torch.randn(width) * 0.02)
        self.position_embeddings = nn.Embedding(config.tokens, width)
        self.position_embeddings.weight.data.mul_(0.02)
        self.layers = nn.ModuleList([Layer(config) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(width)
        self.act_head = nn.Linear(width, config.chunk * config.action)
        self.register_buffer("proprio_mean", torch.zeros(config.proprio))
        self.register_buffer("proprio_scale", torch.ones(config.proprio))
        ahead = torch.ones(config.tokens, config.tokens, dtype=torch.bool).triu(1)
        bias = torch.zeros(1, 1, config.tokens, config.tokens).masked_fill(ahead, MASKED)
        self.register_buffer("bias", bias, persistent=False)
        self._begin()

    @torch.no_grad()
    def _begin(self) -> None:
        """Draw linears with standard deviation 0.02, those that end a branch less (GPT-2)."""
        small = 0.02 / (2 * self.config.depth) ** 0.5
        for layer in self.layers:
            assert isinstance(layer, Layer)
            for linear, spread in (
                (layer.packed, 0.06),
                (layer.widen, 0.06),
                (layer.mixed, 3 * small),
                (layer.narrow, 3 * small),
            ):
                linear.weight.normal_(0.0, spread)
                linear.bias.zero_()
        self.act_head.bias.zero_()

    def prepare(self, batch: VlaBatch) -> Tensor:
        """Return the tokens [B, N, D] before the first layer."""
        rows = len(batch)
        feel = (batch.proprio - self.proprio_mean) / self.proprio_scale
        tokens = torch.cat(
            [
                self.sentence(batch.words),
                self.feel(feel)[:, None],
                self.stem(batch.images),
                self.query.expand(rows, 1, -1),
            ],
            1,
        )
        return tokens + self.position_embeddings.weight

    def finish(self, tokens: Tensor) -> Tensor:
        """Return what the head reads, [B, D]."""
        out: Tensor = self.norm(tokens[:, -1])
        return out

    def head(self, features: Tensor) -> Tensor:
        """Return a chunk of actions [B, T, A]."""
        config = self.config
        out: Tensor = self.act_head(features).view(-1, config.chunk, config.action)
        return out

    def forward(self, batch: VlaBatch) -> Tensor:
        """Return the next actions [B, T, A]; what is executed is clipped to [-1, 1]."""
        tokens = self.prepare(batch)
        for layer in self.layers:
            tokens = layer(tokens, self.bias)
        return self.head(self.finish(tokens))

    def save_pretrained(self, folder: str | Path, *, notes: str = "") -> Path:
        """Write weights, sizes, a probe and a card; see `vla_folder.save_pretrained`."""
        from sterna.models import vla_folder  # it builds models, so it imports this module

        return vla_folder.save_pretrained(self, folder, notes=notes)

    def push_to_hub(self, name: str, *, notes: str = "", private: bool = True) -> str:
        """Put the policy on the Hub as owner/name and return its URL; see `hub.push_to_hub`."""
        from sterna.models import hub

        return hub.push_to_hub(self, name, notes=notes, private=private)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, check: bool = True) -> Vla:
        """Load a folder, or owner/name of the Hub, strictly, in eval mode; raises `InputError`."""
        from sterna.models import vla_folder

        return vla_folder.from_pretrained(folder, check=check)


def chunk_loss(predicted: Tensor, actions: Tensor) -> Tensor:
    """Return mean |predicted - expert's| over rows, steps and values; both [B, T, A]."""
    return (predicted - actions).abs().mean()
