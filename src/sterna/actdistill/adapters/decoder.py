"""Any decoder of transformers as a stack: a unit is a layer.

Masks, rotary embeddings and whatever a family adds between its layers are the model's own: its
forward is run once with layers that only write down what they are called with. A step that a family
adds between layers (Qwen3-VL's deeper visual features) is seen by handing on zeros. The layers then
run here, as the gates say; keys and values of skipped layers are absent, so gates stay fixed from
the first pass to the last of an answer, and layer 0, whose cache counts the tokens, always runs.

Legend: B samples, N tokens, D width.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sterna.actdistill.stack import Kind, RouterInput, Stack, Tokens, Unit
from sterna.errors import InputError


@dataclass(frozen=True)
class Layout:
    """What the tokens of a batch are, bool [B, N] each, and the recent actions [B, A].

    `prompt` are tokens but for padding and answers (which would give the action away), `vision`
    those of them that are images.
    """

    prompt: Tensor
    vision: Tensor
    recent: Tensor


@dataclass(frozen=True)
class DecoderState:
    """What runs through a decoder: x [B, N, D], and what every layer is called with."""

    x: Tensor
    calls: tuple[Mapping[str, Any], ...]
    between: tuple[Tensor | None, ...]
    """What the model adds behind each layer, whether it ran or not."""
    layout: Layout
    batch: Any
    done: int = -1
    """The unit up to which `between` is part of x."""
    past: int = 0
    """Tokens in the cache when this pass began."""
    cache: Any = None


class _SeenError(Exception):
    """Every layer was called: the rest of the forward pass is not needed."""


class DecoderStack(Stack):
    """A model with a trunk of transformers' decoder layers; subclasses know batches and heads."""

    def __init__(self, model: nn.Module, kind: Kind, recent: int) -> None:
        """Wrap a model; `InputError` where it has no trunk, or several."""
        super().__init__()
        self.model, self.kind, self.recent = model, kind, recent
        trunk = find_trunk(model)
        self._place = next(name for name, part in model.named_modules() if part is trunk)
        layers = trunk.layers
        self.units = tuple(Unit(name=f"layer {n}", fixed=n == 0) for n in range(len(layers)))
        self.width = int(self.trunk.config.hidden_size)

    @property
    def trunk(self) -> Any:
        """The decoder: the module with `embed_tokens`, `layers` and `norm`."""
        return self.model.get_submodule(self._place)

    @abstractmethod
    def call(self, batch: Any, cache: Any) -> None:
        """Run the model's own forward pass on a batch (its layers only write down their calls)."""

    @abstractmethod
    def layout(self, batch: Any) -> Layout:
        """Return what the tokens of a batch are."""

    def wants_cache(self, batch: Any) -> bool:
        """Return whether a batch is one that words are added to (`question`)."""
        return False

    # What runs.

    def prepare(self, batch: Any) -> DecoderState:
        """Run towers and embeddings."""
        cache = new_cache(self.trunk) if self.wants_cache(batch) else None
        return self.entered(lambda: self.call(batch, cache), self.layout(batch), batch, cache)

    def fresh(self, state: DecoderState) -> DecoderState:
        """Return the state; one with a cache can only go on."""
        if state.cache is not None:
            raise InputError("decoder: a state with a cache runs once; prepare it without")
        return state

    def entered(
        self, call: Callable[[], Any], layout: Layout, batch: Any, cache: Any
    ) -> DecoderState:
        """Return the state before layer 0 of a forward pass."""
        past = 0 if cache is None else int(cache.get_seq_length())
        calls: list[tuple[Tensor, Mapping[str, Any]]] = []
        returned: list[Tensor] = []
        last = len(self.trunk.layers) - 1

        def recorder(number: int, layer: nn.Module) -> Callable[..., Tensor]:
            def forward(x: Tensor, **given: Any) -> Tensor:
                calls.append((x, given))
                # A traced pass goes on to its end: tracing keeps count of modules left.
                if number == last and not torch.compiler.is_exporting():
                    raise _SeenError
                returned.append(torch.zeros_like(x))
                return returned[-1]

            return forward

        try:
            with replaced(self.trunk.layers, recorder):
                call()
        except _SeenError:
            pass
        earlier = zip(calls[1:], returned[: len(calls) - 1], strict=True)
        between = [None if a[0] is b else a[0] for a, b in earlier]
        return DecoderState(
            x=calls[0][0],
            calls=tuple(given for _, given in calls),
            between=(*between, None),
            layout=layout,
            batch=batch,
            past=past,
            cache=cache,
        )

    def run(self, unit: int, state: DecoderState) -> DecoderState:
        """Run a layer."""
        (x,) = self.read(unit, state)
        out = self.trunk.layers[unit](x, **state.calls[unit])
        return self.write(unit, state, (out if isinstance(out, Tensor) else out[0],))

    def read(self, unit: int, state: DecoderState) -> tuple[Tensor, ...]:
        """Return the tokens at a layer, [B, N, D]."""
        return (_added(state, unit),)

    def write(self, unit: int, state: DecoderState, values: tuple[Tensor, ...]) -> DecoderState:
        """Return the state with other tokens at that layer."""
        return replace(state, x=values[0], done=unit)

    def select(self, unit: int, state: DecoderState, rows: Tensor) -> DecoderState:
        """Return some samples, with their masks; their keys and values are those kept for them."""
        count = len(state.x)
        calls = list(state.calls)
        calls[unit] = {k: picked(v, rows, count) for k, v in calls[unit].items()}
        between = tuple(None if b is None else b[rows] for b in state.between)
        return replace(state, x=state.x[rows], calls=tuple(calls), between=between)

    def finish(self, state: DecoderState) -> Decoded:
        """Return the tokens behind the final norm."""
        x = self.trunk.norm(_added(state, len(self.units)))
        return Decoded(x, state)

    # What is looked at.

    def router_input(self, state: DecoderState, phase: int) -> RouterInput:
        """Return the embeddings by what they are."""
        layout = state.layout
        return RouterInput(
            vision=state.x,
            vision_mask=layout.vision,
            text=state.x,
            text_mask=layout.prompt & ~layout.vision,
            recent=layout.recent,
        )

    def tokens(self, unit: int, state: DecoderState) -> Tokens:
        """Return the tokens of the prompt; answers would give the action away."""
        return Tokens(_added(state, unit), state.layout.prompt)

    def cost(self, unit: int, state: DecoderState) -> float:
        """Return FLOPs: linears over all tokens, attention over all pairs (cached ones too)."""
        rows, tokens = state.x.shape[:2]
        return rows * layer_cost(self.trunk, unit, tokens, state.past)

    def layers(self, unit: int) -> Sequence[nn.Module]:
        """Return the layer."""
        return (self.trunk.layers[unit],)

    def pruned(self, keep: Sequence[int]) -> DecoderStack:
        """Return a copy with the kept layers alone, renumbered."""
        kept = sorted(set(keep))
        if not kept or kept[0] != 0:
            raise InputError("decoder: layer 0 stays (its cache counts the tokens); keep it")
        out = copy.deepcopy(self)
        cut_layers(out.trunk, kept)
        out.units = tuple(self.units[n] for n in kept)
        return out


@dataclass(frozen=True)
class Decoded:
    """Tokens behind the final norm, [B, N, D], and the state that they are of."""

    x: Tensor
    state: DecoderState


def _added(state: DecoderState, unit: int) -> Tensor:
    """Return x with what the model adds between where it is from and a unit."""
    x = state.x
    for extra in state.between[max(0, state.done) : unit]:
        x = x if extra is None else x + extra
    return x


def width_of(trunk: Any) -> int:
    """Return the width of all attention heads of a layer together."""
    config = trunk.config
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(head * config.num_attention_heads)


def layer_cost(trunk: Any, number: int, tokens: int, past: int) -> float:
    """Return the FLOPs of a layer on one sample: linears, and attention to all tokens so far."""
    return pass_cost(linear_weights(trunk.layers[number]), width_of(trunk), tokens, past)


def linear_weights(layer: nn.Module) -> int:
    """Return how many weights the linears of a layer have."""
    return sum(part.weight.numel() for part in layer.modules() if isinstance(part, nn.Linear))


def pass_cost(linears: int, width: int, tokens: int, past: int) -> float:
    """Return the FLOPs of `tokens` through a layer of so many weights, `past` tokens before."""
    return float(tokens * (2 * linears + 4 * (tokens + past) * width))


def new_cache(trunk: Any) -> Any:
    """Return an empty cache for a trunk."""
    from transformers import DynamicCache

    return DynamicCache(config=trunk.config)


def find_trunk(model: nn.Module) -> Any:
    """Return the one module that holds decoder layers; `InputError` says what was looked for."""
    found = [
        module
        for module in model.modules()
        if isinstance(getattr(module, "layers", None), nn.ModuleList)
        and hasattr(module, "norm")
        and hasattr(module, "embed_tokens")
        and all(hasattr(layer, "self_attn") for layer in getattr(module, "layers"))  # noqa: B009
    ]
    if len(found) != 1:
        raise InputError(
            f"actdistill: {type(model).__name__} has {len(found)} decoders (a module with "
            "embed_tokens, norm and a ModuleList `layers` whose entries have self_attn); a stack "
            "of another shape needs an adapter of its own"
        )
    return found[0]


def cut_layers(trunk: Any, keep: Sequence[int]) -> None:
    """Leave the kept layers of a trunk alone, in place; caches are numbered anew."""
    layers = [trunk.layers[n] for n in keep]
    for number, layer in enumerate(layers):
        for part in layer.modules():
            if hasattr(part, "layer_idx"):
                part.layer_idx = number
    trunk.layers = nn.ModuleList(layers)
    config = trunk.config
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        config.layer_types = [kinds[n] for n in keep]
    config.num_hidden_layers = len(layers)


@contextmanager
def replaced(
    layers: Sequence[nn.Module], make: Callable[[int, Any], Callable[..., Any]]
) -> Iterator[None]:
    """Let layers run other functions for a while; `make(number, layer)` gives each one's."""
    before = [vars(layer).get("forward") for layer in layers]
    made = [make(number, layer) for number, layer in enumerate(layers)]
    for layer, function in zip(layers, made, strict=True):
        layer.forward = function
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            if own is None:
                del layer.forward
            else:
                layer.forward = own


def picked(value: Any, rows: Tensor, count: int) -> Any:
    """Return some rows of an argument of a layer that is called with `count` rows.

    Tensors have rows first, or second behind the axes of multimodal positions [3, B, N, E] (a mask
    [B, 1, N, N] has one there); those of one row serve all. Anything else (a cache) is left alone.
    """
    if isinstance(value, tuple):
        return tuple(picked(part, rows, count) for part in value)
    if not isinstance(value, Tensor) or value.ndim < 2 or count == 1:
        return value
    if value.ndim == 4 and value.shape[1] == count:
        return value.index_select(1, rows)
    return value.index_select(0, rows) if value.shape[0] == count else value
