"""Vision-language navigators (Qwen-VL) as stacks, and answers generated with some layers left out.

The next n actions of an answer are what a layer is asked to predict. Generation stays that of
`models.navigator`: within `hooked` its layers are run or skipped by gates that are decided at the
first pass of every answer and held to its last token.

Legend: B samples, S tokens, n actions of an answer, U layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sterna.actdistill.adapters.decoder import (
    Decoded,
    DecoderStack,
    DecoderState,
    Layout,
    linear_weights,
    pass_cost,
    picked,
    replaced,
    width_of,
)
from sterna.actdistill.losses import IGNORED
from sterna.actdistill.stack import Choices, Decide, RouterInput, register
from sterna.data.ego.samples import PREVIOUS
from sterna.errors import InputError
from sterna.models.navigator.generation import sample
from sterna.models.navigator.vlm import Batch, VlmNavigator
from sterna.train.sft import answer_loss

ACTIONS = 4
"""STOP, forward, left, right."""


@dataclass(frozen=True, kw_only=True)
class NavigatorBatch:
    """Questions with answers and images, the actions [B, n] they name, and those before [B, k].

    Actions are -1 where there is none.
    """

    batch: Batch
    actions: Tensor
    previous: Tensor


def previous_actions(taken: Sequence[Any]) -> Tensor:
    """Return the last actions of samples, int64 [B, k], filled up with -1 on the left."""
    out = np.full((len(taken), PREVIOUS), -1)
    for row, actions in zip(out, taken, strict=True):
        last = np.asarray(actions)[-PREVIOUS:]
        if len(last):
            row[-len(last) :] = last
    return torch.from_numpy(out)


class NavigatorStack(DecoderStack):
    """A `VlmNavigator`; batches are `NavigatorBatch`es. Its tower is the vision tower."""

    model: VlmNavigator

    def __init__(self, model: VlmNavigator) -> None:
        """Wrap a navigator."""
        kind = Choices(slots=model.wording.actions, classes=ACTIONS)
        super().__init__(model, kind, PREVIOUS * ACTIONS)

    def call(self, batch: NavigatorBatch, cache: Any) -> None:
        """Run the model's own pass over questions and answers."""
        encoded = batch.batch.encoded
        self.model.model(
            input_ids=encoded.ids,
            attention_mask=encoded.mask,
            position_ids=encoded.positions,
            use_cache=False,
            **self.model.seen(batch.batch),
        )

    def layout(self, batch: NavigatorBatch) -> Layout:
        """Return images, words of the question, and the actions before."""
        encoded = batch.batch.encoded
        prompt = encoded.mask.bool()
        if encoded.labels is not None:
            prompt = prompt & (encoded.labels == IGNORED)
        vision = (encoded.ids == self.model.processor.image) & prompt
        return Layout(prompt, vision, one_hot(batch.previous))

    def loss(self, features: Decoded, batch: NavigatorBatch) -> Tensor:
        """Return the mean cross entropy of the answers' tokens (as `train.sft` has it)."""
        inner, targets = batch.batch, self.model.targets(batch.batch)
        logits = self.model.core.lm_head(features.x[:, -inner.encoded.answer_length - 1 : -1])
        known = (targets != IGNORED).sum().clamp(min=1)
        return answer_loss(logits.float(), targets).sum() / known

    def truth(self, unit: int, batch: NavigatorBatch, state: DecoderState) -> Tensor:
        """Return the actions of the answers."""
        return batch.actions.masked_fill(batch.actions < 0, IGNORED).to(state.x.device)

    def question(self, batch: NavigatorBatch) -> NavigatorBatch:
        """Return the batch with its answers cut off."""
        encoded = batch.batch.encoded
        if encoded.labels is None:
            return batch
        raise InputError("navigator: act on a batch of questions, made without answers")

    def act(self, state: DecoderState, run: Callable[[DecoderState], DecoderState]) -> Tensor:
        """Return logits [B, V] of the answers' first tokens; whole answers: `answer`."""
        logits: Tensor = self.model.core.lm_head(self.finish(run(state)).x[:, -1])
        return logits

    def towers(self) -> Sequence[nn.Module]:
        """Return the vision tower."""
        return (self.model.tower,)


def one_hot(previous: Tensor) -> Tensor:
    """Return actions [B, k] (-1: none) as float32 [B, k ACTIONS]."""
    known = (previous >= 0)[..., None]
    codes = torch.nn.functional.one_hot(previous.clamp(min=0), ACTIONS)
    return (codes * known).flatten(1).float()


@dataclass
class Held:
    """Gates of the answers under way, and how often each layer was open."""

    open_: np.ndarray
    asked: float = 0.0
    gates: Tensor | None = None
    ids: Tensor | None = None
    mask: Tensor | None = None
    previous: Tensor | None = None
    spent: float = 0.0
    """FLOPs of layers that ran, and what they were with every gate open."""
    full: float = 0.0
    past: int = 0
    """Tokens before the pass under way."""
    _rows: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def begin(self, gates: Tensor) -> None:
        """Take the gates [B, U] of the next answers."""
        self.gates, self._rows = gates, {}
        self.open_ += gates.double().sum(0).cpu().numpy()
        self.asked += len(gates)

    def rows(self, unit: int, count: int) -> Tensor:
        """Return the rows of `count` that a layer is open for; found once for all passes."""
        if (unit, count) not in self._rows:
            assert self.gates is not None
            gates = self.gates[:, unit].repeat_interleave(count // len(self.gates), 0)
            self._rows[unit, count] = (gates > 0.5).nonzero().squeeze(1)
        return self._rows[unit, count]


@contextmanager
def hooked(stack: NavigatorStack, decide: Decide) -> Iterator[Held]:
    """Let a navigator answer with the layers that gates keep; everything else stays its own.

    Gates are decided at the first pass of each generation (its cache is empty) and held while its
    tokens are said, for every answer of a group alike. `Held.previous` [B, k] may be set before a
    generation: the actions before, for the router. What it counts is the answers, not the tokens.
    """
    held = Held(np.zeros(len(stack.units)))

    def before(module: nn.Module, args: Any, given: dict[str, Any]) -> None:
        held.ids, held.mask = given.get("input_ids"), given.get("attention_mask")

    def routed(number: int, layer: Any) -> Callable[..., Tensor]:
        inner, linears, width = type(layer).forward, linear_weights(layer), width_of(stack.trunk)

        def forward(x: Tensor, **given: Any) -> Tensor:
            if number == 0:
                held.past = _past(given)
                if not held.past:
                    _decide(stack, decide, held, x)
            rows = held.rows(number, len(x))
            cost = pass_cost(linears, width, x.shape[1], held.past)
            held.full += cost * len(x)
            held.spent += cost * len(rows)
            if not len(rows):
                return x
            if len(rows) == len(x):
                out: Tensor = inner(layer, x, **given)
                return out
            some = {k: picked(v, rows, len(x)) for k, v in given.items()}
            return x.index_copy(0, rows, inner(layer, x[rows], **some))

        return forward

    handle = stack.model.model.register_forward_pre_hook(before, with_kwargs=True)
    try:
        with replaced(stack.trunk.layers, routed):
            yield held
    finally:
        handle.remove()


def _past(given: dict[str, Any]) -> int:
    """Return how many tokens the cache counts as layer 0 begins, which writes before all others."""
    cache = given.get("past_key_values")
    return 0 if cache is None else int(cache.get_seq_length())


def _decide(stack: NavigatorStack, decide: Decide, held: Held, x: Tensor) -> None:
    assert held.ids is not None and held.mask is not None
    prompt = held.mask.bool()
    vision = (held.ids == stack.model.processor.image) & prompt
    previous = held.previous
    if previous is None or len(previous) != len(x):
        previous = torch.full((len(x), PREVIOUS), -1)
    recent = one_hot(previous.to(x.device))
    held.begin(decide(0, RouterInput(x, vision, x, prompt & ~vision, recent)))


def answer(
    stack: NavigatorStack, batch: Batch, decide: Decide, previous: Tensor | None = None, **how: Any
) -> list[str]:
    """Return an answer to each question of a batch, with routed layers (`generation.sample`)."""
    with hooked(stack, decide) as held, torch.no_grad():
        held.previous = previous
        return sample(stack.model, batch, **how).texts


register(lambda model: isinstance(model, VlmNavigator), NavigatorStack)
