"""The instruction encoder: BERT embeddings, BERT layers, and what they leave for every step.

Legend: B episodes, R rows (one decision step of one episode each), L words, D width, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from sterna.models.attention import gather_rows
from sterna.models.config import DuetConfig
from sterna.models.dropout import FastDropout
from sterna.models.layers import Attention, Intermediate, KeyValue, Residual, enter, key_bias
from sterna.models.ragged import Ragged


class WordEmbeddings(nn.Module):
    """Word + position + token type 0, LayerNorm, dropout."""

    def __init__(self, config: DuetConfig) -> None:
        """Make the three tables, the words' linear where they are narrower, and the norm."""
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, config.word_width)
        narrow = config.word_size is not None
        self.word_map = nn.Linear(config.word_width, width, bias=False) if narrow else None
        self.position_embeddings = nn.Embedding(config.max_positions, width)
        self.token_type_embeddings = nn.Embedding(2, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = FastDropout(config.dropout)

    def forward(self, ids: Tensor) -> Tensor:
        """Embed word ids [B, L] as [B, L, D]."""
        fixed = (
            self.position_embeddings.weight[: ids.shape[1]] + self.token_type_embeddings.weight[0]
        )
        words = self.word_embeddings(ids)
        if self.word_map is not None:
            words = self.word_map(words)
        normed: Tensor = self.LayerNorm(words + fixed)
        return self.dropout.forward(enter(normed))


class TextLayer(nn.Module):
    """One post-norm BERT layer."""

    def __init__(self, config: DuetConfig) -> None:
        """Make the attention and feed-forward blocks."""
        super().__init__()
        width, drop, eps = config.hidden_size, config.dropout, config.layer_norm_eps
        self.attention = Attention(width, config.heads, drop, eps, "self")
        self.intermediate = Intermediate(width, config.ffn_size)
        self.output = Residual(config.ffn_size, width, drop, eps)

    def forward(
        self, x: Tensor, bias: Tensor, *, details: bool = False, ragged: Ragged | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Map x [B, L, D] to (x' [B, L, D], attention scores [B, H, L, L] or None).

        `ragged` as in `Attention`.
        """
        x, scores = self.attention(x, bias, details=details, ragged=ragged)
        return self.output(self.intermediate(x), x), scores


class TextEncoder(nn.Module):
    """A stack of BERT layers."""

    def __init__(self, config: DuetConfig) -> None:
        """Make `config.language_layers` layers."""
        super().__init__()
        self.layer = nn.ModuleList(TextLayer(config) for _ in range(config.language_layers))

    def forward(
        self, x: Tensor, bias: Tensor, *, details: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return (output [B, L, D], scores per layer, output per layer); tuples maybe empty."""
        scores: list[Tensor] = []
        hidden: list[Tensor] = []
        for layer in self.layer:
            x, layer_scores = layer(x, bias, details=details)
            if layer_scores is not None:
                scores.append(layer_scores)
                hidden.append(x)
        return x, tuple(scores), tuple(hidden)


@dataclass(frozen=True)
class TextMemory:
    """What the instruction leaves for navigation: its keys and values, computed once an episode."""

    embeds: Tensor
    """Encoder output [B, L, D]; always per episode, `rows` leaves it alone."""
    mask: Tensor
    """True for words, [B, L], or [R, L] after `rows`."""
    local: tuple[KeyValue, ...]
    """Keys and values of every local cross-attention, each [B or R, H, L, D / H]."""
    global_: tuple[KeyValue, ...]
    """The same for the global encoder."""
    embedding: Tensor | None = None
    """With details: output of the word embeddings [B, L, D]."""
    scores: tuple[Tensor, ...] = field(default=())
    """With details: Q K^T / sqrt(E) of every layer, [B, H, L, L], no mask in it."""
    hidden: tuple[Tensor, ...] = field(default=())
    """With details: output of every layer, [B, L, D]."""

    def rows(self, index: Tensor | None) -> TextMemory:
        """Gather keys, values and mask for rows: `index` [R] names the episode of every row.

        None returns the memory itself (row r is episode r). A step's rows after another's may
        repeat episodes; gradients of all of them add up.
        """
        if index is None:
            return self
        return replace(
            self,
            mask=self.mask.index_select(0, index),
            local=_gather(self.local, index),
            global_=_gather(self.global_, index),
        )

    @property
    def bias(self) -> Tensor:
        """Additive attention bias of the words, [B or R, 1, 1, L]."""
        return key_bias(self.mask)


def _gather(pairs: tuple[KeyValue, ...], index: Tensor) -> tuple[KeyValue, ...]:
    return tuple((gather_rows(k, index), gather_rows(v, index)) for k, v in pairs)


def image_type(embeddings: WordEmbeddings) -> Tensor:
    """Return the token-type vector of visual tokens, [D] (row 1 of the text's own table)."""
    return embeddings.token_type_embeddings.weight[1]


def init_weights(module: nn.Module) -> None:
    """BERT initialisation: weights N(0, 0.02), biases 0, norms 1 and 0. For `Module.apply`."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
    bias = getattr(module, "bias", None)
    if isinstance(bias, Tensor):
        with torch.no_grad():
            bias.zero_()
