"""A vision-language navigator as four graphs for one agent, with or without a router.

A frame is seen once (`SeeGraph`); words become vectors (`WordsGraph`); the router decides once an
answer (`RouteGraph`); and every pass through the decoder, of the question or of some words more, is
one graph (`PassGraph`), whose keys and values come in and go out. In torch a skipped layer is not
run; for export every layer runs and what lies between them is named, as in `edge.routed`.

Legend: N tokens of a pass, P tokens before it, T tokens of a frame, D width, U layers, K key heads,
E their width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from sterna.actdistill.adapters.navigator import NavigatorStack
from sterna.actdistill.router import Router
from sterna.actdistill.stack import RouterInput
from sterna.edge.routed import Trace, Values
from sterna.edge.routed_files import GATES, Part
from sterna.edge.runtime.answerer import PASS, ROUTE, SEE, WORDS
from sterna.errors import InputError
from sterna.models.navigator.eyes import Eyes
from sterna.models.navigator.pixels import cut, pool
from sterna.models.navigator.vlm import VlmNavigator
from sterna.world.talk.images import Grid, patch_grid, resized, token_grid


def frame_size(navigator: VlmNavigator) -> Grid:
    """Return rows and columns of the frames that an export takes; `InputError` where it cannot be.

    An export does not resize, so frames have one size: that to which small pictures are brought.
    """
    images = navigator.processor.images
    if not isinstance(navigator.tower, Eyes):
        raise InputError(
            f"export: a tower of kind {type(navigator.tower).__name__} is not exported (its loops "
            "over windows are no graph); towers of Sterna's are (--model.small.tower house, conv)"
        )
    side = round(images.max_pixels**0.5)
    return resized(side, side, images)


class SeeGraph(nn.Module):
    """A frame, seen once: its tokens as the present and as the past."""

    def __init__(self, navigator: VlmNavigator) -> None:
        """Take the tower."""
        super().__init__()
        self.tower, self.images = navigator.tower, navigator.processor.images
        self.size = frame_size(navigator)
        self.grid = patch_grid(*self.size, self.images)
        self.tokens = token_grid(*self.size, self.images)

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        """Map a frame uint8 [h, w, 3] to (tokens [T, D], pooled tokens of the past [T', D])."""
        seen = self.tower(cut(frame[None], self.images), self.grid)
        return seen[0], pool(seen, self.tokens, self.images.history_pool)[0].clone()


class WordsGraph(nn.Module):
    """Words as vectors."""

    def __init__(self, navigator: VlmNavigator) -> None:
        """Take the table."""
        super().__init__()
        self.table = navigator.core.get_input_embeddings()

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids [N] to vectors [N, D]."""
        found: Tensor = self.table(ids)
        return found


class RouteGraph(nn.Module):
    """The gates of an answer, from its question."""

    def __init__(self, router: Router) -> None:
        """Take the router."""
        super().__init__()
        self.router = router

    def forward(
        self, threshold: Tensor, x: Tensor, vision: Tensor, words: Tensor, recent: Tensor
    ) -> Tensor:
        """Map a question to gates bool [U].

        `x` [N, D], which of it are images and which words, bool [N] each, the actions before [A].
        """
        row = x[None]
        seen = RouterInput(row, vision[None], row, words[None], recent[None])
        return (self.router.logits(0, seen)[0] > threshold) | self.router.fixed[0]


class _Kept:
    """Keys and values of one layer, in transformers' place of a cache."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append, and return all."""
        self.keys = torch.cat([self.keys, keys], 2)
        self.values = torch.cat([self.values, values], 2)
        return self.keys, self.values


class PassGraph(nn.Module):
    """Some tokens through the decoder, and what comes next."""

    def __init__(self, stack: NavigatorStack, *, flat: bool = False) -> None:
        """Take a navigator in eval mode; `flat` is the way of export."""
        super().__init__()
        self.stack, self.flat = stack.eval(), flat
        self.trace: Trace | None = None

    def forward(self, x: Tensor, positions: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """Map tokens to (logits [V] of the next one, keys and values of all layers, ...).

        `x` [N, D] with `positions` int64 [3, N]; `past` are keys and values [K, P, E] of layer
        after layer. With `flat` what lies between layers follows.
        """
        navigator, trunk = self.stack.model, self.stack.trunk
        self.trace = trace = Trace(self.stack, None, x.new_zeros(()), flat=self.flat)
        before, count = past[0].shape[1], x.shape[0]
        row = x[None]
        angles = trunk.rotary_emb(row, positions[:, None])
        places = torch.arange(before + count)
        seen = places[None] <= places[before:, None]
        mask = torch.zeros(1, 1, *seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
        kept: list[Tensor] = []
        for unit, layer in enumerate(trunk.layers):

            def run(given: Values, layer: Any = layer) -> Values:
                tokens, keys, values = given
                cache = _Kept(keys[None], values[None])
                out = layer(
                    tokens,
                    attention_mask=mask,
                    position_embeddings=angles,
                    past_key_values=cache,
                    use_cache=True,
                )
                tokens = out if isinstance(out, Tensor) else out[0]
                return tokens, cache.keys[0], cache.values[0]

            given = row, past[2 * unit], past[2 * unit + 1]
            row, keys, values = trace.step(unit, given, run) if self.flat else run(given)
            kept += [keys, values]
        logits = navigator.core.lm_head(trunk.norm(row[:, -1]))[0]
        return (logits, *(trace.between.values() if self.flat else kept))


@contextmanager
def plain_attention(navigator: VlmNavigator) -> Iterator[None]:
    """Let layers compute attention step by step, which every version of the exporter can write."""
    configs = {id(c): c for c in _configs(navigator)}.values()
    before = [config._attn_implementation for config in configs]
    try:
        for config in configs:
            config._attn_implementation = "eager"
        yield
    finally:
        for config, own in zip(configs, before, strict=True):
            config._attn_implementation = own


def _configs(navigator: VlmNavigator) -> Iterator[Any]:
    for module in navigator.core.modules():
        if hasattr(module, "config") and hasattr(module.config, "_attn_implementation"):
            yield module.config


def cache_shape(stack: NavigatorStack) -> tuple[int, int]:
    """Return (K, E) of the keys of a layer."""
    config = stack.trunk.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(config.num_key_value_heads), int(size)


def check_plain(stack: NavigatorStack) -> None:
    """Raise `InputError` for what one graph of layers does not hold."""
    navigator = stack.model
    if navigator.adapted:
        raise InputError("export: an adapter beside its base; merge it first")
    kinds = set(getattr(stack.trunk.config, "layer_types", None) or ())
    if kinds - {"full_attention"}:
        raise InputError(f"export: layers of kind {', '.join(sorted(kinds))} are not exported")
    if navigator.token_shape(frame_size(navigator))[1] != stack.width:
        raise InputError(
            "export: features of deeper layers of the tower (Qwen3-VL) are not exported; only "
            "navigators whose frames enter with the words are"
        )


def asked_parts(stack: NavigatorStack, router: Router | None) -> dict[str, Part]:
    """Return the graphs of a navigator by name, flat; without a router there is none to ask."""
    check_plain(stack)
    see = SeeGraph(stack.model)
    heads, size = cache_shape(stack)
    count, before, width = 5, 3, stack.width
    units = range(len(stack.units))
    frame = (torch.arange(3 * see.size[0] * see.size[1]) % 251).to(torch.uint8)
    free = {1: Dim("past")}
    past = {
        f"{name}_{unit}": (torch.full((heads, before, size), 0.1 * (1 + unit)), free)
        for unit in units
        for name in ("keys", "values")
    }
    tokens = {0: Dim("tokens")}
    seen: dict[str, Any] = {"frame": (frame.view(*see.size, 3), {})}
    x = torch.linspace(-1, 1, count * width).view(count, width)
    places = torch.arange(before, before + count).expand(3, -1).contiguous()
    given: Mapping[str, Any] = {
        "x": (x, tokens),
        "positions": (places, {1: Dim("tokens")}),
        **past,
    }
    parts = {
        SEE: Part(graph=see, inputs=seen, outputs=["now", "then"]),
        WORDS: Part(
            graph=WordsGraph(stack.model),
            inputs={"ids": (torch.arange(count), {0: Dim("words")})},
            outputs=["x"],
        ),
        PASS: Part(
            graph=PassGraph(stack, flat=True),
            inputs=given,
            outputs=["logits"],
            units=units,
            joined=2,
            cached=True,
        ),
    }
    if router is not None:
        vision = torch.arange(count) < 2
        parts[ROUTE] = Part(
            graph=RouteGraph(router.eval()),
            inputs={
                "threshold": (torch.zeros(()), {}),
                "x": (x, tokens),
                "vision": (vision, tokens),
                "words": (~vision, tokens),
                "recent": (torch.zeros(stack.recent), {}),
            },
            outputs=[GATES],
            exact=True,
        )
    return parts
