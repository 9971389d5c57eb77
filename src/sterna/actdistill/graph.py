"""Graph-structured encapsulation: what a unit's tokens say, and how actions grow with depth.

Two graphs. Over the *tokens* of one unit: each token chooses its k nearest by a scaled dot product,
graph attention gathers them at the chooser, attention pooling makes one semantic vector, and a head
an action prediction. Over the *layers* of a stream: a directed acyclic graph whose nodes are their
action predictions and whose edges lead from every shallower layer to every deeper one. Both are
there in training alone. What differs from the released code stands in docs/decisions/actdistill.md.

Legend: R rows, N tokens, D width of tokens, W width of the graph, K neighbours, H heads, S size of
a semantic vector.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sterna.actdistill.stack import Choices, Chunk, Kind, Pointer, Stack, Tokens
from sterna.errors import InputError

_DENSE = 512
"""Up to so many tokens a neighbourhood is a matrix over all of them."""


@dataclass(frozen=True, kw_only=True)
class GraphConfig:
    """Which graphs there are and how wide they are."""

    tokens: bool = True
    """The graph over tokens; off: their mean."""
    layers: bool = True
    """The graph over layers; off: each layer's own prediction."""
    neighbours: int = 8
    """Tokens that each token chooses (K)."""
    width: int = 64
    """Width W that tokens are projected to (the release keeps D)."""
    rounds: int = 1
    """Rounds of graph attention (the release has 2)."""
    heads: int = 4
    size: int = 64
    """Size S of a semantic vector (the release has 512)."""
    dropout: float = 0.1

    def __post_init__(self) -> None:
        """Check the values."""
        counts = (self.neighbours, self.width, self.rounds, self.heads, self.size)
        if min(counts) < 1 or not 0 <= self.dropout < 1:
            raise InputError(
                "graph: neighbours, width, rounds, heads, size must be at least 1 and dropout in "
                f"[0, 1), found {counts} and {self.dropout}"
            )


def nearest(query: Tensor, key: Tensor, mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return each token's neighbours and their weights, [R, N, K] each, K = min(count, N).

    s_ij = q_i k_j / sqrt(W); the K largest over the others that are tokens (over itself where it is
    alone), w_ij = exp(s_ij) / sum over those kept, as a softmax. Missing neighbours weigh 0.
    """
    tokens = mask.shape[1]
    scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])
    alone = mask.sum(1, keepdim=True)[:, None] == 1
    itself = torch.eye(tokens, dtype=torch.bool, device=mask.device)[None] & ~alone
    scores = scores.masked_fill(itself | ~mask[:, None, :], -math.inf)
    best, index = scores.topk(min(count, tokens), -1)
    # A row that is all padding has no neighbour at all.
    weight = best.masked_fill(torch.isneginf(best[..., :1]), 0.0).softmax(-1)
    return index, weight * ~torch.isneginf(best)


class GraphAttention(nn.Module):
    """One round of graph attention, heads averaged.

    h = W x per head; e_ij = LeakyReLU_0.2(a [h_i ; h_j]); alpha_ij = w_ij exp(e_ij) normalised over
    the neighbours j of i, as softmax(log w + e); out_i = mean over heads of sum_j alpha_ij h_j.
    Gathered at the chooser i; then x + ReLU(out), since i is not among its own neighbours.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        """Make the map W (width to heads x width) and the vectors a of every head."""
        super().__init__()
        self.heads = heads
        self.map = nn.Linear(width, heads * width, bias=False)
        self.chooser = nn.Parameter(torch.empty(heads, width))
        self.chosen = nn.Parameter(torch.empty(heads, width))
        self.dropout = nn.Dropout(dropout)
        for weight in (self.map.weight, self.chooser, self.chosen):
            nn.init.xavier_uniform_(weight)

    def forward(self, x: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        """Return x' [R, N, W] from x [R, N, W], neighbours and weights [R, N, K]."""
        rows, tokens, width = x.shape
        h = self.map(x).view(rows, tokens, self.heads, width)
        from_i = (h * self.chooser).sum(-1)
        from_j = (h * self.chosen).sum(-1)
        flat = index.flatten(1)
        near = from_j.gather(1, flat[..., None].expand(-1, -1, self.heads))
        e = F.leaky_relu(from_i[:, :, None] + near.view(rows, tokens, -1, self.heads), 0.2)
        # The smallest number keeps the logarithm finite where there is no neighbour.
        prior = weight.clamp(min=torch.finfo(weight.dtype).tiny).log()[..., None]
        alpha = (prior + e).softmax(2) * (weight > 0)[..., None]
        out = self.dropout(_mixed(alpha, h, index)).mean(2)
        return x + F.relu(out)


def _mixed(alpha: Tensor, h: Tensor, index: Tensor) -> Tensor:
    """Return sum_j alpha_ij h_j [R, N, H, W] of alpha [R, N, K, H], h and neighbours [R, N, K]."""
    rows, tokens, heads, width = h.shape
    if tokens > _DENSE:
        near = h.flatten(2).gather(1, index.flatten(1)[..., None].expand(-1, -1, heads * width))
        return (alpha[..., None] * near.view(rows, tokens, -1, heads, width)).sum(2)
    # One product a head is several times as fast as gathering, and more so backwards.
    full = alpha.new_zeros(rows, tokens, tokens, heads)
    full = full.scatter(2, index[..., None].expand(-1, -1, -1, heads), alpha)
    return (full.permute(0, 3, 1, 2) @ h.transpose(1, 2)).transpose(1, 2)


class TokenGraph(nn.Module):
    """One unit's tokens to a semantic vector; what it makes of each token goes to the action head.

    Tokens are normalised (LayerNorm) and projected to W first: the widths and sizes of a stream
    differ by orders of magnitude between layers.
    """

    def __init__(self, width: int, config: GraphConfig) -> None:
        """Make the graph of one unit over tokens of `width`."""
        super().__init__()
        self.config, inner = config, config.width
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(width, inner)
        if config.tokens:
            self.phi = nn.Linear(inner, inner, bias=False)
            self.psi = nn.Linear(inner, inner, bias=False)
            self.rounds = nn.ModuleList(
                GraphAttention(inner, config.heads, config.dropout) for _ in range(config.rounds)
            )
            self.pool = nn.Linear(inner, 1, bias=False)
        self.project = nn.Sequential(
            nn.Linear(inner, inner),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(inner, config.size),
        )

    def forward(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Return the semantic vector [R, S] and the tokens' own vectors [R, N, W]."""
        x, mask = self.down(self.norm(tokens.x.float())), tokens.mask
        if self.config.tokens:
            index, weight = nearest(self.phi(x), self.psi(x), mask, self.config.neighbours)
            for layer in self.rounds:
                x = layer(x, index, weight)
            share = self.pool(x).squeeze(-1).masked_fill(~mask, -1e9).softmax(-1)
        else:
            share = mask / mask.sum(1, keepdim=True).clamp(min=1)
        semantic: Tensor = self.project((share[:, None] @ x).squeeze(1))
        return semantic, x


class ActionHead(nn.Module):
    """A unit's action prediction, as `Kind` has it, from its semantic vector (and its tokens)."""

    def __init__(self, kind: Kind, config: GraphConfig) -> None:
        """Make the head of a kind."""
        super().__init__()
        self.kind = kind
        if isinstance(kind, Pointer):
            inputs, outputs = config.size + config.width, 1
        else:
            inputs = config.size
            outputs = _numbers(kind)
        self.net = nn.Sequential(
            nn.Linear(inputs, config.width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.width, outputs),
        )

    def forward(self, semantic: Tensor, x: Tensor, options: Tensor | None) -> Tensor:
        """Return the prediction: a chunk, logits of classes, or logits over tokens."""
        kind = self.kind
        if isinstance(kind, Pointer):
            assert options is not None
            beside = semantic[:, None].expand(-1, x.shape[1], -1)
            scores: Tensor = self.net(torch.cat([x, beside], -1)).squeeze(-1)
            return scores.masked_fill(~options, -math.inf)
        shape = (kind.steps, kind.size) if isinstance(kind, Chunk) else (kind.slots, kind.classes)
        out: Tensor = self.net(semantic)
        return out.view(-1, *shape)


def _numbers(kind: Kind) -> int:
    if isinstance(kind, Chunk):
        return kind.steps * kind.size
    assert isinstance(kind, Choices)
    return kind.slots * kind.classes


def summary(kind: Kind, action: Tensor) -> Tensor:
    """Return an action prediction as numbers of a fixed width [R, Z], for the graph over layers.

    A chunk as it is; probabilities of classes; for a pointer the probability of its first token,
    the largest probability, and the entropy over log N.
    """
    if isinstance(kind, Chunk):
        return action.flatten(1)
    share = action.softmax(-1)
    if isinstance(kind, Choices):
        return share.flatten(1)
    spread = -(share * share.clamp(min=1e-12).log()).sum(-1) / math.log(max(2, action.shape[-1]))
    return torch.stack([share[:, 0], share.amax(-1), spread], -1)


def summary_width(kind: Kind) -> int:
    """Return Z of `summary`."""
    return 3 if isinstance(kind, Pointer) else _numbers(kind)


class LayerGraph(nn.Module):
    """The graph over the layers of a stream: action predictions, from shallow to deep.

    Node l holds n_l = U [s_l ; z_l] (semantic vector, summary of the action). In order of depth:
    beta_lj = softmax over j < l of q(n_l) k(n_j) / sqrt(W) + b_lj, c_l = sigmoid(v n_l - 2),
    a'_l = (1 - c_l) a_l + c_l sum_j beta_lj a'_j: a deep action leans on the evolved ones before
    it as far as it says itself. Logits mix as numbers do; a closed option stays closed.
    """

    def __init__(self, kind: Kind, depth: int, config: GraphConfig) -> None:
        """Make the graph of a stream of `depth` layers."""
        super().__init__()
        self.kind, inner = kind, config.width
        self.node = nn.Linear(config.size + summary_width(kind), inner)
        self.query = nn.Linear(inner, inner, bias=False)
        self.key = nn.Linear(inner, inner, bias=False)
        self.lean = nn.Linear(inner, 1)
        self.edges = nn.Parameter(torch.zeros(depth, depth))
        nn.init.zeros_(self.lean.weight)
        nn.init.constant_(self.lean.bias, -2.0)

    def forward(self, semantic: Sequence[Tensor], actions: Sequence[Tensor]) -> list[Tensor]:
        """Return the evolved predictions of layers in order of depth."""
        nodes = torch.stack(
            [
                self.node(torch.cat([s, summary(self.kind, a)], -1))
                for s, a in zip(semantic, actions, strict=True)
            ],
            1,
        )
        query, key = self.query(nodes), self.key(nodes)
        scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[-1]) + self.edges
        lean = self.lean(nodes).sigmoid().squeeze(-1)
        evolved = [actions[0]]
        for layer in range(1, len(actions)):
            beta = scores[:, layer, :layer].softmax(-1)
            own = actions[layer]
            closed = torch.isneginf(own)
            shape = (-1, *[1] * (own.ndim - 1))
            earlier = torch.stack([a.masked_fill(closed, 0.0) for a in evolved], 1)
            drawn = (beta.view(*beta.shape, *[1] * (own.ndim - 1)) * earlier).sum(1)
            c = lean[:, layer].view(shape)
            mixed = (1 - c) * own.masked_fill(closed, 0.0) + c * drawn
            evolved.append(mixed.masked_fill(closed, -math.inf))
        return evolved


@dataclass(frozen=True)
class Signals:
    """What units say: semantic vectors [R, S] by unit, action predictions by unit that acts."""

    semantic: dict[int, Tensor]
    action: dict[int, Tensor]


class GraphHeads(nn.Module):
    """The graphs and action heads of all units of a stack."""

    def __init__(self, stack: Stack, config: GraphConfig, kind: Kind | None = None) -> None:
        """Make heads for a stack; `kind` replaces that of the stack's predictions."""
        super().__init__()
        self.config, self.kind = config, kind or stack.kind
        self.graphs = nn.ModuleList(TokenGraph(stack.width, config) for _ in stack.units)
        self.heads = nn.ModuleDict(
            {str(n): ActionHead(self.kind, config) for n, u in enumerate(stack.units) if u.acts}
        )
        self.streams: dict[str, list[int]] = {}
        for number, unit in enumerate(stack.units):
            if unit.acts:
                self.streams.setdefault(unit.stream, []).append(number)
        self.evolution = nn.ModuleDict(
            {
                name: LayerGraph(self.kind, len(units), config)
                for name, units in self.streams.items()
                if config.layers and len(units) > 1
            }
        )

    def forward(self, tokens: Mapping[int, Tokens]) -> Signals:
        """Return what every unit says, from the tokens behind it (in float32)."""
        semantic: dict[int, Tensor] = {}
        action: dict[int, Tensor] = {}
        for unit, found in sorted(tokens.items()):
            semantic[unit], x = self.graphs[unit](found)
            if str(unit) in self.heads:
                action[unit] = self.heads[str(unit)](semantic[unit], x, found.options)
        for name, graph in self.evolution.items():
            units = self.streams[name]
            evolved = graph([semantic[n] for n in units], [action[n] for n in units])
            action |= dict(zip(units, evolved, strict=True))
        return Signals(semantic, action)
