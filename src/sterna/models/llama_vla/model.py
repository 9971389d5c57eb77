"""A Llama-shaped vision-language-action model of any size: image, sentence, state -> actions.

The decoder is transformers' own Llama; patches of the image stand before the words, as in OpenVLA
and CogACT. What reads the decoder is one of `heads`.

Legend: B samples, P image tokens, L words, D width, T steps of a chunk, S numbers of a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from sterna.errors import InputError
from sterna.models.llama_vla.heads import ChunkHead, DiffusionHead, TokenHead
from sterna.models.navigator.families import transformers

HeadName = Literal["token", "last", "diffusion"]


@dataclass(frozen=True, kw_only=True)
class LlamaVlaConfig:
    """Sizes of a model."""

    head: HeadName = "last"
    """token: actions are words; last: a chunk from the last token; diffusion: denoised."""
    width: int = 64
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    ffn: int = 128
    vocabulary: int = 128
    """Words, those that are actions (at the end) included."""
    bins: int = 32
    """Words that are actions."""
    side: int = 32
    """Side of the image in pixels."""
    patch: int = 8
    steps: int = 4
    """T: steps of a chunk."""
    size: int = 7
    """S: numbers of a step."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.head not in get_args(HeadName):
            raise InputError(f"vla: head must be {', '.join(get_args(HeadName))}: {self.head!r}")
        if self.width % self.heads or self.heads % self.kv_heads or self.side % self.patch:
            raise InputError(
                "vla: heads must divide width, kv_heads heads and patch side, found "
                f"{self.width}, {self.heads}, {self.kv_heads}, {self.side}, {self.patch}"
            )


@dataclass(frozen=True, kw_only=True)
class LlamaVlaBatch:
    """What a model sees, and what it should do."""

    images: Tensor
    """float32 [B, 3, side, side] in [0, 1]."""
    ids: Tensor
    """Words int64 [B, L], padded on the right."""
    mask: Tensor
    """bool [B, L]."""
    actions: Tensor | None = None
    """[B, T, S] in [-1, 1]."""
    recent: Tensor | None = None
    """The chunk before, [B, T, S]; None: there was none."""


class LlamaVla(nn.Module):
    """The model; see the module."""

    def __init__(self, config: LlamaVlaConfig) -> None:
        """Build it with random weights."""
        super().__init__()
        self.config = config
        width = config.width
        self.vision = nn.Sequential(nn.Conv2d(3, width, config.patch, config.patch), nn.Flatten(2))
        self.projector = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        library: Any = transformers()
        settings = library.LlamaConfig(
            vocab_size=config.vocabulary,
            hidden_size=width,
            intermediate_size=config.ffn,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            max_position_embeddings=2048,
        )
        self.language = library.LlamaModel(settings)
        sizes = (width, config.steps, config.size)
        self.head: TokenHead | ChunkHead | DiffusionHead
        if config.head == "token":
            self.head = TokenHead(*sizes, config.vocabulary, config.bins)
        else:
            self.head = (ChunkHead if config.head == "last" else DiffusionHead)(*sizes)

    @property
    def image_tokens(self) -> int:
        """P."""
        return (self.config.side // self.config.patch) ** 2

    def embed(self, batch: LlamaVlaBatch, *, answered: bool) -> tuple[Tensor, Tensor]:
        """Return embeddings [B, P + L (+ words of the answer but the last), D] and their mask."""
        seen = self.projector(self.vision(batch.images).transpose(1, 2))
        words, mask = batch.ids, batch.mask
        if answered and isinstance(self.head, TokenHead):
            if batch.actions is None:
                raise InputError("vla: the batch has no actions to learn from; give actions=...")
            told = self.head.ids(self.head.classes(batch.actions))[:, :-1]
            words = torch.cat([words, told], 1)
            mask = torch.cat([mask, torch.ones_like(told, dtype=torch.bool)], 1)
        x = torch.cat([seen, self.language.embed_tokens(words)], 1)
        return x, torch.cat([mask.new_ones(len(mask), seen.shape[1]), mask], 1)

    def read(self, x: Tensor, mask: Tensor, cache: Any = None) -> Tensor:
        """Return the decoder's output [B, N, D] of embeddings; `mask` covers the cache too."""
        places = (mask.cumsum(1) - 1).clamp(min=0)[:, -x.shape[1] :]
        out: Tensor = self.language(
            inputs_embeds=x,
            attention_mask=mask.long(),
            position_ids=places,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        return out

    def last(self, batch: LlamaVlaBatch) -> Tensor:
        """Return where the last word of each sample is, int64 [B]."""
        return self.image_tokens + batch.mask.sum(1) - 1

    def read_by_head(self, x: Tensor, batch: LlamaVlaBatch) -> Tensor:
        """Return what the head's loss reads: the last word, or all tokens before answer words."""
        rows, last = torch.arange(len(x), device=x.device), self.last(batch)
        token = x[rows, last]
        if not isinstance(self.head, TokenHead):
            return token
        told = x[:, self.image_tokens + batch.ids.shape[1] :]
        return torch.cat([token[:, None], told], 1)

    def loss(self, batch: LlamaVlaBatch) -> Tensor:
        """Return the head's loss."""
        x = self.read(*self.embed(batch, answered=True))
        assert batch.actions is not None
        return self.head.loss(self.read_by_head(x, batch), batch.actions)
