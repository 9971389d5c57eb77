"""transformers' pi0 as a stack: unit i is layer i of the language model and that of its expert.

The expert's layer i attends to the keys and values that the language model's layer i leaves, so
both run or neither. Actions are found by flow matching: the expert is run several times over the
keys and values of one prefix, with the gates of the first time. Token graphs are over the expert's
tokens (robot state and noisy actions), so noise and time are part of a batch: a teacher and its
student must see the same.

Legend: B samples, N tokens of the prefix, T steps of a chunk, S numbers of a step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sterna.actdistill.adapters.decoder import cut_layers, layer_cost, new_cache, picked, replaced
from sterna.actdistill.stack import Chunk, RouterInput, Stack, Tokens, Unit, register
from sterna.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Pi0Batch:
    """What pi0 sees, and what it should do."""

    state: Tensor
    """Robot state [B, max_state_dim]."""
    input_ids: Tensor
    """Words and image places, int64 [B, N]."""
    pixel_values: Tensor
    """[B, cameras, 3, side, side]."""
    pixel_attention_mask: Tensor
    """bool [B, cameras]."""
    attention_mask: Tensor
    """int64 [B, N]."""
    actions: Tensor | None = None
    """[B, T, S]."""
    noise: Tensor | None = None
    """[B, T, S]; see `drawn`."""
    timestep: Tensor | None = None
    """[B]."""
    recent: Tensor | None = None
    """The chunk before, [B, T, S]."""

    def drawn(self, config: Any, seed: int) -> Pi0Batch:
        """Return the batch with noise and time (pi0's beta distribution) drawn for training."""
        rng = np.random.default_rng(seed)
        shape = (len(self.state), config.chunk_size, config.max_action_dim)
        noise = rng.standard_normal(shape, np.float32)
        made = rng.beta(config.time_sampling_beta_alpha, config.time_sampling_beta_beta, shape[0])
        time = made * config.time_sampling_scale + config.time_sampling_offset
        return replace(self, noise=torch.from_numpy(noise), timestep=torch.from_numpy(time).float())


@dataclass(frozen=True)
class Pi0State:
    """Tokens of the prefix (None once their keys are cached) and of the expert."""

    prefix: Tensor | None
    suffix: Tensor
    calls: tuple[tuple[Mapping[str, Any], ...], tuple[Mapping[str, Any], ...]]
    cache: Any
    batch: Pi0Batch
    seen: dict[str, Tensor] = field(default_factory=dict)


class _SeenError(Exception):
    """Every layer was called."""


class Pi0Stack(Stack):
    """A `PI0ForConditionalGeneration`; see the module. Its tower is everything that sees images."""

    kind: Chunk

    def __init__(self, model: Any) -> None:
        """Wrap a model."""
        super().__init__()
        self.model = model
        config = model.config
        self.kind = Chunk(steps=config.chunk_size, size=config.max_action_dim)
        self.recent = config.chunk_size * config.max_action_dim
        count = len(self._vlm.layers)
        if len(self._dit.layers) != count:
            raise InputError(
                f"pi0: {count} layers of the language model and {len(self._dit.layers)} of the "
                "expert; a unit is one of each"
            )
        self.units = tuple(Unit(name=f"pair {n}", fixed=n == 0) for n in range(count))
        self.width = int(config.dit_config.hidden_size)

    @property
    def seen_width(self) -> int:
        """Width of the prefix, which the router sees."""
        return int(self.model.config.vlm_config.text_config.hidden_size)

    @property
    def _vlm(self) -> Any:
        return self.model.model.vlm.language_model

    @property
    def _dit(self) -> Any:
        return self.model.model.dit

    # What runs.

    def prepare(self, batch: Pi0Batch) -> Pi0State:
        """See, embed, and mix actions with noise; of a question, begin with noise alone."""
        if batch.noise is None or batch.timestep is None:
            count = len(batch.state)
            if batch.actions is not None:
                raise InputError(
                    "pi0: a batch with actions needs its noise and time (Pi0Batch.drawn), so that "
                    "teacher and student see the same"
                )
            noise = batch.noise
            if noise is None:
                noise = torch.randn(count, self.kind.steps, self.kind.size)
            batch = replace(batch, noise=noise, timestep=torch.ones(count))
        return self._captured(batch)

    def _captured(self, batch: Pi0Batch) -> Pi0State:
        """Run the model's own pass; its layers only write down what they are called with."""
        calls: tuple[list[Any], list[Any]] = ([], [])
        entries: list[Tensor] = []
        last = len(self.units) - 1

        def recorder(part: int) -> Callable[[int, Any], Callable[..., Tensor]]:
            def make(number: int, layer: Any) -> Callable[..., Tensor]:
                def forward(x: Tensor, **given: Any) -> Tensor:
                    if number == 0:
                        entries.append(x)
                    calls[part].append(given)
                    if part == 0:  # the expert's mask counts the cached tokens
                        _count(given["past_key_values"], x, number)
                    elif number == last:
                        raise _SeenError
                    return torch.zeros_like(x)

                return forward

            return make

        try:
            with replaced(self._vlm.layers, recorder(0)), replaced(self._dit.layers, recorder(1)):
                self.model(**_arguments(batch))
        except _SeenError:
            pass
        cache = new_cache(self._vlm)
        both = tuple(
            tuple({**given, "past_key_values": cache, "use_cache": True} for given in part)
            for part in calls
        )
        image = batch.input_ids == self.model.config.vlm_config.image_token_id
        words = batch.attention_mask.bool()
        seen = {"vision": image & words, "text": words & ~image, "embeds": entries[0]}
        return Pi0State(entries[0], entries[1], (both[0], both[1]), cache, batch, seen)

    def fresh(self, state: Pi0State) -> Pi0State:
        """Return the state with an empty cache."""
        cache = new_cache(self._vlm)
        first, second = (
            tuple({**given, "past_key_values": cache} for given in part) for part in state.calls
        )
        return replace(state, calls=(first, second), cache=cache)

    def run(self, unit: int, state: Pi0State) -> Pi0State:
        """Run layer `unit` of the language model (the first time) and of the expert."""
        prefix = state.prefix
        if prefix is not None:
            prefix = _first(self._vlm.layers[unit](prefix, **state.calls[0][unit]))
        suffix = _first(self._dit.layers[unit](state.suffix, **state.calls[1][unit]))
        return replace(state, prefix=prefix, suffix=suffix)

    def read(self, unit: int, state: Pi0State) -> tuple[Tensor, ...]:
        """Return prefix [B, N, D] (the first time) and suffix [B, 1 + T, E]."""
        return (state.suffix,) if state.prefix is None else (state.prefix, state.suffix)

    def write(self, unit: int, state: Pi0State, values: tuple[Tensor, ...]) -> Pi0State:
        """Return the state with those replaced."""
        prefix = values[0] if len(values) == 2 else None
        return replace(state, prefix=prefix, suffix=values[-1])

    def select(self, unit: int, state: Pi0State, rows: Tensor) -> Pi0State:
        """Return some samples."""
        count = len(state.suffix)
        both = []
        for part in state.calls:
            calls = list(part)
            calls[unit] = {k: picked(v, rows, count) for k, v in calls[unit].items()}
            both.append(tuple(calls))
        prefix = None if state.prefix is None else state.prefix[rows]
        return replace(state, prefix=prefix, suffix=state.suffix[rows], calls=(both[0], both[1]))

    def finish(self, state: Pi0State) -> Pi0Velocity:
        """Return the predicted velocity of the actions."""
        x = self._dit.norm(state.suffix)[:, -self.model.config.chunk_size :]
        return Pi0Velocity(self.model.action_out_proj(x), state.batch)

    def loss(self, features: Pi0Velocity, batch: Pi0Batch) -> Tensor:
        """Return pi0's flow-matching loss: mean squared error of noise - actions."""
        drawn = features.batch
        if batch.actions is None or drawn.noise is None:
            raise InputError("pi0: the batch has no actions to learn from; give actions=...")
        return F.mse_loss(features.velocity, drawn.noise - batch.actions)

    def question(self, batch: Pi0Batch) -> Pi0Batch:
        """Return the batch without its actions; noise that it has is where sampling begins."""
        return replace(batch, actions=None, timestep=None)

    def act(self, state: Pi0State, run: Callable[[Pi0State], Pi0State]) -> Tensor:
        """Return chunks [B, T, S] by flow matching from the state's noise."""
        steps = int(self.model.config.num_inference_steps)
        length = state.seen["embeds"].shape[1]
        noise = state.batch.noise
        assert noise is not None
        for step in range(steps):
            if step:
                crop(state.cache, length)
                state = self._again(state, noise, 1.0 - step / steps)
            noise = noise - self.finish(run(state)).velocity / steps
        return noise

    def _again(self, state: Pi0State, noise: Tensor, time: float) -> Pi0State:
        """Return the state of another denoising step, over the same prefix."""
        times = torch.full((len(noise),), time)
        suffix = self.model.embed_action_time(state.batch.state, noise, times)
        return replace(state, prefix=None, suffix=suffix)

    # What is looked at.

    def router_input(self, state: Pi0State, phase: int) -> RouterInput:
        """Return images and words of the prefix before any layer."""
        recent = state.batch.recent
        if recent is None:
            recent = state.suffix.new_zeros(len(state.suffix), self.recent)
        return RouterInput(
            vision=state.seen["embeds"],
            vision_mask=state.seen["vision"],
            text=state.seen["embeds"],
            text_mask=state.seen["text"],
            recent=recent.flatten(1),
        )

    def tokens(self, unit: int, state: Pi0State) -> Tokens:
        """Return the expert's tokens: robot state and noisy actions."""
        x = state.suffix
        return Tokens(x, torch.ones(x.shape[:2], dtype=torch.bool, device=x.device))

    def truth(self, unit: int, batch: Pi0Batch, state: Pi0State) -> Tensor:
        """Return the whole chunk."""
        assert batch.actions is not None
        return batch.actions

    def cost(self, unit: int, state: Pi0State) -> float:
        """Return FLOPs of both layers; of the expert's alone once the prefix is cached."""
        rows, length = state.suffix.shape[:2]
        prefix = state.seen["embeds"].shape[1]
        total = layer_cost(self._dit, unit, length, prefix)
        if state.prefix is not None:
            total += layer_cost(self._vlm, unit, prefix, 0)
        return rows * total

    def layers(self, unit: int) -> Sequence[nn.Module]:
        """Return both layers."""
        return (self._vlm.layers[unit], self._dit.layers[unit])

    def towers(self) -> Sequence[nn.Module]:
        """Return the vision tower and its projector."""
        vlm = self.model.model.vlm
        return (vlm.vision_tower, vlm.multi_modal_projector)

    def pruned(self, keep: Sequence[int]) -> Pi0Stack:
        """Return a copy with the kept pairs alone."""
        kept = sorted(set(keep))
        if not kept or kept[0] != 0:
            raise InputError("pi0: pair 0 stays (its cache counts the tokens); keep it")
        out = copy.deepcopy(self)
        for trunk in (out._vlm, out._dit):
            cut_layers(trunk, kept)
        out.units = tuple(self.units[n] for n in kept)
        return out


@dataclass(frozen=True)
class Pi0Velocity:
    """The predicted velocity [B, T, S], and the batch with the noise that it is of."""

    velocity: Tensor
    batch: Pi0Batch


def _arguments(batch: Pi0Batch) -> dict[str, Any]:
    names = ("state", "input_ids", "pixel_values", "pixel_attention_mask", "attention_mask")
    more = ("actions", "noise", "timestep")
    return {name: getattr(batch, name) for name in (*names, *more)}


def _first(out: Any) -> Tensor:
    found: Tensor = out if isinstance(out, Tensor) else out[0]
    return found


def _count(cache: Any, x: Tensor, layer: int) -> None:
    """Let a cache count tokens that have no keys yet."""
    empty = x.new_zeros(len(x), 1, x.shape[1], 1)
    cache.update(empty, empty, layer)


def crop(cache: Any, length: int) -> None:
    """Leave the first `length` tokens of every layer that has any."""
    for layer in cache.layers:
        if getattr(layer, "is_initialized", False):
            layer.keys, layer.values = layer.keys[..., :length, :], layer.values[..., :length, :]


register(lambda model: type(model).__name__ == "PI0ForConditionalGeneration", Pi0Stack)
