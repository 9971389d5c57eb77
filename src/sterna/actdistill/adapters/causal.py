"""Any decoder of transformers with a language-model head, or with an action head of its own.

For models that users bring: a policy whose actions are words (OpenVLA), or whose head reads the
last word of the question (CogACT, OpenVLA-OFT with one token). Batches hold what the model's own
forward takes; padding is on the left, answers are the last tokens.

    stack = stack_of(model, words=(31744, 256), slots=7)            # actions are words
    stack = stack_of(model, head=my_head, kind=Chunk(steps=16, size=7))  # a head of one's own

Legend: B samples, N tokens, K words of an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sterna.actdistill.adapters.decoder import Decoded, DecoderStack, DecoderState, Layout
from sterna.actdistill.stack import Choices, Kind, register
from sterna.errors import InputError


@dataclass(frozen=True, kw_only=True)
class DecoderBatch:
    """What a model's forward takes, and what its tokens are."""

    inputs: Mapping[str, Any]
    """Arguments of the model's forward: input_ids of the question [B, N], its mask, pictures."""
    prompt: Tensor
    """bool [B, N] tokens as the decoder sees them (a picture may be many), without padding."""
    vision: Tensor
    """bool [B, N] those of them that are pictures."""
    actions: Tensor | None = None
    """Words int64 [B, K], or what the head's loss takes."""
    recent: Tensor | None = None
    """The actions before, [B, A]."""


class CausalStack(DecoderStack):
    """A model of transformers; see the module.

    `words` are (first id, number) of the words that are actions, `slots` K of an answer; or `head`
    is a module with `loss(token [B, D], actions)` and `sample(token)`, and `kind` what it predicts.
    `towers` are modules that a student never tunes.
    """

    model: Any

    def __init__(
        self,
        model: Any,
        *,
        words: tuple[int, int] | None = None,
        slots: int = 1,
        head: Any = None,
        kind: Kind | None = None,
        recent: int = 0,
        towers: Sequence[nn.Module] = (),
    ) -> None:
        """Wrap a model; `InputError` unless it is said how actions are read."""
        if (words is None) == (head is None) or (head is not None and kind is None):
            raise InputError(
                "actdistill: say how actions are read off this decoder: words=(first id, number) "
                "and slots=K, or head=module (loss, sample) with kind=Chunk(...) or Choices(...)"
            )
        if words is not None:
            kind = Choices(slots=slots, classes=words[1])
        assert kind is not None
        super().__init__(model, kind, recent)
        self.words, self.head, self._towers = words, head, tuple(towers)

    def call(self, batch: DecoderBatch, cache: Any) -> None:
        """Run the model's own forward, answers behind the question."""
        inputs = dict(batch.inputs)
        if self._told(batch):
            assert batch.actions is not None
            told = batch.actions[:, :-1]
            inputs["input_ids"] = torch.cat([inputs["input_ids"], told], 1)
            inputs["attention_mask"] = _extended(batch, told.shape[1])
        elif "attention_mask" not in inputs:
            inputs["attention_mask"] = _extended(batch, 0)
        self.model(**inputs, past_key_values=cache, use_cache=cache is not None)

    def _told(self, batch: DecoderBatch) -> int:
        """Return the words of the answer that are read (all but the last)."""
        if self.words is None or batch.actions is None:
            return 0
        return batch.actions.shape[1] - 1

    def wants_cache(self, batch: DecoderBatch) -> bool:
        """Words are added to questions."""
        return self.words is not None and batch.actions is None

    def question(self, batch: DecoderBatch) -> DecoderBatch:
        """Return the batch without its actions."""
        return replace(batch, actions=None)

    def layout(self, batch: DecoderBatch) -> Layout:
        """Return pictures, words and the actions before."""
        if not bool(batch.prompt[:, -1].all()):
            raise InputError("actdistill: a question does not end at the right; pad on the left")
        told = batch.prompt.new_zeros(len(batch.prompt), self._told(batch))
        recent = batch.recent
        if recent is None:
            recent = torch.zeros(len(batch.prompt), self.recent, device=batch.prompt.device)
        return Layout(
            torch.cat([batch.prompt, told], 1), torch.cat([batch.vision, told], 1), recent
        )

    def loss(self, features: Decoded, batch: DecoderBatch) -> Tensor:
        """Return the mean cross entropy of the words of the answers, or the head's own loss."""
        if batch.actions is None:
            raise InputError("actdistill: the batch has no actions to learn from; give actions=...")
        if self.words is None:
            loss: Tensor = self.head.loss(features.x[:, -1], batch.actions)
            return loss
        count = batch.actions.shape[1]
        logits = self.model.get_output_embeddings()(features.x[:, -count:])
        return F.cross_entropy(logits.float().flatten(0, 1), batch.actions.flatten())

    def truth(self, unit: int, batch: DecoderBatch, state: DecoderState) -> Tensor:
        """Return the words as classes, or the chunk."""
        assert batch.actions is not None
        if self.words is None:
            return batch.actions
        return batch.actions - self.words[0]

    def act(self, state: DecoderState, run: Callable[[DecoderState], DecoderState]) -> Tensor:
        """Return words int64 [B, K] (the likeliest of those that are actions), or chunks."""
        features = self.finish(run(state))
        if self.words is None:
            sampled: Tensor = self.head.sample(features.x[:, -1])
            return sampled
        assert isinstance(self.kind, Choices)
        first, number = self.words
        said: list[Tensor] = []
        while True:
            logits = self.model.get_output_embeddings()(features.x[:, -1])
            said.append(logits[:, first : first + number].argmax(-1) + first)
            if len(said) == self.kind.slots:
                return torch.stack(said, 1)
            state = self._said(state, said)
            features = self.finish(run(state))

    def _said(self, state: DecoderState, said: Sequence[Tensor]) -> DecoderState:
        """Return the state of one more word behind all that is in the cache."""
        ids, batch = said[-1][:, None], state.batch
        one = batch.prompt.new_ones(len(ids), 1)
        mask = _extended(batch, len(said))
        return self.entered(
            lambda: self.model(
                input_ids=ids, attention_mask=mask, past_key_values=state.cache, use_cache=True
            ),
            Layout(one, ~one, state.layout.recent),
            batch,
            state.cache,
        )

    def towers(self) -> Sequence[nn.Module]:
        """Return what was named at the beginning."""
        return self._towers


def _extended(batch: DecoderBatch, more: int) -> Tensor:
    """Return the attention mask of a question with some words behind it."""
    mask = batch.inputs.get("attention_mask")
    mask = batch.prompt.long() if mask is None else mask
    return torch.cat([mask, mask.new_ones(len(mask), more)], 1)


def _is_decoder(model: Any) -> bool:
    config = getattr(model, "config", None)
    return (
        isinstance(model, nn.Module)
        and hasattr(config, "model_type")
        and hasattr(model, "get_output_embeddings")
    )


register(_is_decoder, CausalStack)
