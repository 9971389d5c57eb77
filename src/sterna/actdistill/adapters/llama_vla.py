"""Llama-shaped vision-language-action models as stacks: token, last-token and diffusion heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sterna.actdistill.adapters.decoder import Decoded, DecoderStack, DecoderState, Layout
from sterna.actdistill.stack import Choices, Chunk, Kind, register
from sterna.errors import InputError
from sterna.models.llama_vla.heads import TokenHead
from sterna.models.llama_vla.model import LlamaVla, LlamaVlaBatch


class LlamaVlaStack(DecoderStack):
    """A `LlamaVla`; batches are `LlamaVlaBatch`es. Its towers are the vision and its projector."""

    model: LlamaVla

    def __init__(self, model: LlamaVla) -> None:
        """Wrap a model."""
        config = model.config
        kind: Kind = Chunk(steps=config.steps, size=config.size)
        if isinstance(model.head, TokenHead):
            kind = Choices(slots=model.head.words, classes=config.bins)
        super().__init__(model, kind, config.steps * config.size)

    def call(self, batch: LlamaVlaBatch, cache: Any) -> None:
        """Run the model's own pass; answers are part of it where the batch has them."""
        self.model.read(*self.model.embed(batch, answered=batch.actions is not None), cache)

    def wants_cache(self, batch: LlamaVlaBatch) -> bool:
        """Words are added to questions where the head says them one by one."""
        return batch.actions is None and isinstance(self.model.head, TokenHead)

    def question(self, batch: LlamaVlaBatch) -> LlamaVlaBatch:
        """Return the batch without its actions."""
        return replace(batch, actions=None)

    def layout(self, batch: LlamaVlaBatch) -> Layout:
        """Return image tokens, words, and the chunk before."""
        images, count = self.model.image_tokens, len(batch.ids)
        answers = 0
        if batch.actions is not None and isinstance(self.model.head, TokenHead):
            answers = self.model.head.words - 1
        vision = batch.mask.new_ones(count, images)
        told = batch.mask.new_zeros(count, answers)
        prompt = torch.cat([vision, batch.mask, told], 1)
        seen = torch.cat([vision, torch.zeros_like(batch.mask), told], 1)
        recent = batch.images.new_zeros(count, self.recent)
        return Layout(prompt, seen, recent if batch.recent is None else batch.recent.flatten(1))

    def loss(self, features: Decoded, batch: LlamaVlaBatch) -> Tensor:
        """Return the head's own loss."""
        if batch.actions is None:
            raise InputError("vla: the batch has no actions to learn from; give actions=...")
        return self.model.head.loss(self.model.read_by_head(features.x, batch), batch.actions)

    def truth(self, unit: int, batch: LlamaVlaBatch, state: DecoderState) -> Tensor:
        """Return the whole chunk, or its words."""
        assert batch.actions is not None
        head = self.model.head
        return head.classes(batch.actions) if isinstance(head, TokenHead) else batch.actions

    def act(self, state: DecoderState, run: Callable[[DecoderState], DecoderState]) -> Tensor:
        """Return chunks [B, T, S]; words are chosen greedily, one by one, with a cache."""
        head, batch = self.model.head, state.batch
        features = self.finish(run(state))
        rows = torch.arange(len(features.x), device=features.x.device)
        token = features.x[rows, self.model.last(batch)]
        if not isinstance(head, TokenHead):
            return head.sample(token)
        said: list[Tensor] = []
        mask = state.layout.prompt
        while True:
            said.append(head.out(token).argmax(-1))
            if len(said) == head.words:
                return head.values(torch.stack(said, 1))
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            state = self._said(state, head.ids(said[-1])[:, None], mask)
            token = self.finish(run(state)).x[:, -1]

    def _said(self, state: DecoderState, ids: Tensor, mask: Tensor) -> DecoderState:
        """Return the state of one more word behind all that is in the cache."""
        x = self.model.language.embed_tokens(ids)
        one = mask.new_ones(len(mask), 1)
        layout = Layout(one, ~one, state.layout.recent)
        return self.entered(
            lambda: self.model.read(x, mask, state.cache), layout, state.batch, state.cache
        )

    def towers(self) -> tuple[torch.nn.Module, ...]:
        """Return the vision and its projector."""
        return (self.model.vision, self.model.projector)


register(lambda model: isinstance(model, LlamaVla), LlamaVlaStack)
