"""A vision-language navigator as graphs for one agent, with or without a router.

Frames are seen once (`SeeGraph`); words become vectors (`WordsGraph`); the angles of all places of
an answer (`TurnGraph`) and what the router decides (`RouteGraph`) are found once an answer; and
every pass through the decoder, of the question or of some words more, is one graph (`PassGraph`),
whose keys and values come in and go out. In torch a skipped layer is not run (`PassGraph.through`);
for export every layer runs and what lies between them is named, as in `edge.routed`.

Legend: N tokens of a pass, P tokens before it, T tokens of a frame, D width, U layers, K key heads,
E their width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim

from sterna.actdistill.adapters.navigator import NavigatorStack
from sterna.actdistill.router import PhaseRouter, Router
from sterna.edge.routed import Trace, Values
from sterna.edge.routed_files import GATES, Part
from sterna.edge.runtime.answerer import PASS, ROUTE, SEE, TURN, WORDS
from sterna.errors import InputError
from sterna.models.navigator.eyes import Eyes
from sterna.models.navigator.pixels import coloured, pool
from sterna.models.navigator.vlm import VlmNavigator
from sterna.world.talk.images import Grid, resized, token_grid


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
    """Frames, seen once: their tokens as the present and as the past."""

    def __init__(self, navigator: VlmNavigator) -> None:
        """Take the tower."""
        super().__init__()
        self.images, self.size = navigator.processor.images, frame_size(navigator)
        assert isinstance(navigator.tower, Eyes)
        self.tower: Eyes = navigator.tower
        self.tokens = token_grid(*self.size, self.images)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Map frames uint8 [k, h, w, 3] to (tokens [k, T, D], those of the past [k, T', D])."""
        seen = self.tower.look(coloured(frames, self.images).permute(0, 3, 1, 2))
        return seen, pool(seen, self.tokens, self.images.history_pool).clone()


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


class TurnGraph(nn.Module):
    """The rotary angles of places."""

    def __init__(self, stack: NavigatorStack) -> None:
        """Take the decoder's own."""
        super().__init__()
        self.rotary = stack.trunk.rotary_emb
        self.kind: Tensor = stack.trunk.norm.weight

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Map positions int64 [3, N] to their cosines and sines [..., N, E], as layers take them.

        (Some versions of transformers mix the three axes before the layers, others within.)
        """
        cos, sin = self.rotary(self.kind, positions[:, None])
        return cos, sin


class RouteGraph(nn.Module):
    """The gates of an answer, from its question."""

    def __init__(self, router: Router) -> None:
        """Take the router."""
        super().__init__()
        self.phase, self.fixed = cast(PhaseRouter, router.phases[0]), router.fixed[0]

    def forward(self, threshold: Tensor, vision: Tensor, words: Tensor, recent: Tensor) -> Tensor:
        """Map the image tokens and the words of a question, and the actions before, to bool [U].

        `vision` and `words` [N, D], `recent` [A].
        """
        phase = self.phase
        return (phase.of_row(vision, phase.heard(words), recent) > threshold) | self.fixed


class Kept:
    """Keys and values of one layer, in transformers' place of a cache."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        """Begin with some, [1, K, P, E]."""
        self.keys, self.values = keys, values

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append, and return all."""
        self.keys = torch.cat([self.keys, keys], 2)
        self.values = torch.cat([self.values, values], 2)
        return self.keys, self.values


class PassGraph(nn.Module):
    """Some tokens through the decoder, and what comes next."""

    def __init__(self, stack: NavigatorStack) -> None:
        """Take a navigator in eval mode."""
        super().__init__()
        self.stack = stack.eval()
        trunk = stack.trunk
        # Plain tuples: the stack holds these modules, and finding them takes time in every pass.
        self._layers = tuple(trunk.layers)
        self._ends = (trunk.norm, stack.model.core.lm_head)
        self.trace: Trace | None = None

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, *past: Tensor
    ) -> tuple[Tensor, ...]:
        """Map tokens to (logits [V] of the next one, what lies between all layers, ...), flat.

        `x` [N, D] with their angles (`TurnGraph`); `mask` [N, P + N] is added to attention; `past`
        are keys and values [K, P, E] of layer after layer.
        """
        self.trace = trace = Trace(self.stack, None, x.new_zeros(()), flat=True)
        row = x[None]
        for unit, layer in enumerate(self._layers):

            def run(given: Values, layer: Any = layer) -> Values:
                tokens, keys, values = given
                kept = Kept(keys[None], values[None])
                tokens = _passed(layer, tokens, (cos, sin), mask[None, None], kept)
                return tokens, kept.keys[0], kept.values[0]

            row = trace.step(unit, (row, past[2 * unit], past[2 * unit + 1]), run)[0]
        return (self._next(row), *trace.between.values())

    def through(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        mask: Tensor | None,
        kept: Mapping[int, Kept],
    ) -> Tensor:
        """Pass tokens through the layers that `kept` has places for, alone; return logits [V]."""
        row = x[None]
        for unit, place in kept.items():
            row = _passed(self._layers[unit], row, angles, mask, place)
        return self._next(row)

    def _next(self, row: Tensor) -> Tensor:
        norm, head = self._ends
        logits: Tensor = head(norm(row[:, -1]))
        return logits[0]


def _passed(
    layer: Any, x: Tensor, angles: tuple[Tensor, Tensor], mask: Tensor | None, kept: Kept
) -> Tensor:
    """Call one of transformers' layers as their model does, on tokens [1, N, D]."""
    out = layer(
        x,
        attention_mask=mask,
        position_embeddings=angles,
        past_key_values=kept,
        use_cache=True,
    )
    return out if isinstance(out, Tensor) else out[0]


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
    frames = (torch.arange(2 * 3 * see.size[0] * see.size[1]) % 251).to(torch.uint8)
    free = {1: Dim("past")}
    past = {
        f"{name}_{unit}": (torch.full((heads, before, size), 0.1 * (1 + unit)), free)
        for unit in units
        for name in ("keys", "values")
    }
    tokens = {0: Dim("tokens")}
    seen: dict[str, Any] = {"frames": (frames.view(2, *see.size, 3), {0: Dim("frames")})}
    x = torch.linspace(-1, 1, count * width).view(count, width)
    places = torch.arange(before, before + count).expand(3, -1).contiguous()
    turn = TurnGraph(stack)
    cos, sin = turn(places)
    axis = {cos.ndim - 2: Dim("tokens")}
    # How long a mask is follows from the rest; torch finds out.
    mask = torch.zeros(count, before + count).triu(before + 1)
    given: Mapping[str, Any] = {
        "x": (x, tokens),
        "cosines": (cos, axis),
        "sines": (sin, axis),
        "mask": (mask, {0: Dim("tokens"), 1: Dim.AUTO}),
        **past,
    }
    parts = {
        SEE: Part(graph=see, inputs=seen, outputs=["now", "then"]),
        WORDS: Part(
            graph=WordsGraph(stack.model),
            inputs={"ids": (torch.arange(count), {0: Dim("words")})},
            outputs=["x"],
        ),
        TURN: Part(
            graph=turn,
            inputs={"positions": (places, {1: Dim("tokens")})},
            outputs=["cosines", "sines"],
            exact=True,
        ),
        PASS: Part(
            graph=PassGraph(stack),
            inputs=given,
            outputs=["logits"],
            units=units,
            joined=4,
            cached=True,
        ),
    }
    if router is not None:
        parts[ROUTE] = Part(
            graph=RouteGraph(router.eval()),
            inputs={
                "threshold": (torch.zeros(()), {}),
                "vision": (x, {0: Dim("seen")}),
                "words": (x[1:] + 1, {0: Dim("words")}),
                "recent": (torch.zeros(stack.recent), {}),
            },
            outputs=[GATES],
            exact=True,
        )
    return parts
