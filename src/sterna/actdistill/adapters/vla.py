"""The small vision-language-action policy (`models.vla`) as a stack: a unit is a decoder layer.

Legend: R rows, N tokens, D width, T steps of a chunk, A width of an action.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sterna.actdistill.stack import Chunk, RouterInput, Stack, Tokens, Unit, register
from sterna.errors import InputError
from sterna.models.vla import Vla, VlaBatch, chunk_loss
from sterna.train.cloning import shifted


@dataclass(frozen=True)
class VlaState:
    """Tokens [R, N, D], and the chunk before this decision [R, T A]."""

    tokens: Tensor
    recent: Tensor


class VlaStack(Stack):
    """A `Vla` cut into its layers; the first always runs, stem and embeddings are no units."""

    def __init__(self, model: Vla, *, shift: int = 0, feel_noise: float = 0.0) -> None:
        """Wrap a policy; it stays the same object, so it is trained where it is.

        `shift` and `feel_noise` disturb what a student learns from (`train.cloning`).
        """
        super().__init__()
        self.model, self.shift, self.feel_noise = model, shift, feel_noise
        config = model.config
        self.units = tuple(
            Unit(name=f"layers.{number}", fixed=number == 0) for number in range(config.depth)
        )
        self.kind = Chunk(steps=config.chunk, size=config.action)
        self.width = config.width
        self.recent = config.chunk * config.action

    def disturbed(self, batch: VlaBatch) -> VlaBatch:
        """Shift pictures and disturb proprioception, as cloning does."""
        images, proprio = batch.images, batch.proprio
        if self.shift:
            by = torch.randint(-self.shift, self.shift + 1, (len(images), 2))
            images = torch.from_numpy(shifted(images.numpy(), by.numpy()))
        if self.feel_noise:
            noise = torch.randn_like(proprio) * self.model.proprio_scale.to(proprio.device)
            proprio = proprio + self.feel_noise * noise
        return VlaBatch(**{**vars(batch), "images": images, "proprio": proprio})

    def prepare(self, batch: VlaBatch) -> VlaState:
        """Embed a batch."""
        batch = batch.to(self.model.query.device)
        return VlaState(self.model.prepare(batch), batch.recent)

    def router_input(self, state: VlaState, phase: int) -> RouterInput:
        """Return tokens of pictures, tokens of the sentence, the chunk before."""
        config, tokens = self.model.config, state.tokens
        words = config.sentence_tokens
        text, vision = tokens[:, :words], tokens[:, words + 1 : -1]
        return RouterInput(
            vision=vision,
            vision_mask=_all(vision),
            text=text,
            text_mask=_all(text),
            recent=state.recent,
        )

    def run(self, unit: int, state: VlaState) -> VlaState:
        """Run a layer."""
        return replace(state, tokens=self.model.layers[unit](state.tokens, self.model.bias))

    def read(self, unit: int, state: VlaState) -> tuple[Tensor, ...]:
        """Return the tokens."""
        return (state.tokens,)

    def write(self, unit: int, state: VlaState, values: tuple[Tensor, ...]) -> VlaState:
        """Replace the tokens."""
        return replace(state, tokens=values[0])

    def select(self, unit: int, state: VlaState, rows: Tensor) -> VlaState:
        """Return some rows."""
        return VlaState(state.tokens[rows], state.recent[rows])

    def tokens(self, unit: int, state: VlaState) -> Tokens:
        """Return all tokens."""
        return Tokens(state.tokens, _all(state.tokens))

    def finish(self, state: VlaState) -> Tensor:
        """Return the normed query token [R, D]."""
        return self.model.finish(state.tokens)

    def loss(self, features: Tensor, batch: VlaBatch) -> Tensor:
        """Return the mean absolute error of the chunk."""
        return chunk_loss(self.model.head(features), self._actions(batch))

    def act(self, state: VlaState, run: Callable[[VlaState], VlaState]) -> Tensor:
        """Return chunks [R, T, A]."""
        return self.model.head(self.finish(run(state)))

    def truth(self, unit: int, batch: VlaBatch, state: VlaState) -> Tensor:
        """Return the expert's chunks [R, T, A]."""
        return self._actions(batch)

    def _actions(self, batch: VlaBatch) -> Tensor:
        if batch.actions is None:
            raise InputError("actdistill: this batch has no actions to learn from")
        return batch.actions.to(self.model.query.device)

    def cost(self, unit: int, state: VlaState) -> float:
        """Return 2 R N (4 D^2 + 2 D F + 2 N D): linears, feed-forward, scores and their mix."""
        rows, count, width = state.tokens.shape
        inner = self.model.config.ffn
        return 2.0 * rows * count * (4 * width**2 + 2 * width * inner + 2 * count * width)

    def pruned(self, keep: Sequence[int]) -> VlaStack:
        """Return a copy with these layers alone."""
        kept = sorted(set(keep))
        if not kept or kept[0] != 0 or kept[-1] >= len(self.units):
            raise InputError(
                f"units: expected 0, which always runs, and others below {len(self.units)}, "
                f"found {kept}"
            )
        model = Vla(replace(self.model.config, depth=len(kept)))
        state = {k: v for k, v in self.model.state_dict().items() if not k.startswith("layers.")}
        for new, old in enumerate(kept):
            layer = self.model.layers[old].state_dict()
            state |= {f"layers.{new}.{name}": value for name, value in layer.items()}
        model.load_state_dict(state)
        model.train(self.model.training)
        model = model.to(self.model.query.device)
        return VlaStack(model, shift=self.shift, feel_noise=self.feel_noise)

    def layers(self, unit: int) -> Sequence[nn.Module]:
        """Return the layer."""
        return (self.model.layers[unit],)

    def towers(self) -> Sequence[nn.Module]:
        """Return the stem."""
        return (self.model.stem,)


def _all(tokens: Tensor) -> Tensor:
    """Return a mask [R, N] of nothing but tokens."""
    return torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)


register(lambda model: isinstance(model, Vla), VlaStack)
