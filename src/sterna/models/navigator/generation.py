"""Answers from a model, for many questions at once: keys and values kept, prompts read once.

Two ways. Free: token by token from the whole vocabulary until the answer ends. Constrained: only
the options that exist can be said; the model is asked once an action which of the four it is, and
the rest of an option's tokens are fed together, so an answer of n actions costs n passes however
long its sentences are.

Legend: B questions, G answers each, R = B * G rows, A tokens of an answer, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sterna.errors import InputError
from sterna.models.navigator.vlm import Batch, VlmNavigator, aligned
from sterna.world.talk.choices import Choices, choices, longest_answer


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Answers to B questions, G each; row b * G + g is answer g to question b."""

    texts: list[str]
    """[R], as `Wording.parse` reads them."""
    ids: Tensor
    """Tokens [R, A], ends included, filled up on the right."""
    mask: Tensor
    """Which of them belong to the answer, bool [R, A]."""
    log_probs: Tensor
    """Log-probabilities [R, A] of the tokens in what they were drawn from (0 outside the mask; in
    constrained answers of the choice among the four, 0 for tokens that had to come)."""

    def tokens(self, row: int) -> list[int]:
        """Return the tokens of an answer as they were generated."""
        found: list[int] = self.ids[row][self.mask[row]].tolist()
        return found


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are chosen."""

    group: int = 1
    """Answers a question."""
    temperature: float = 0.0
    """0: the likeliest; otherwise drawn from logits divided by it."""
    constrained: bool = False
    """Say nothing but answers that exist."""
    limit: int | None = None
    """Most tokens of an answer; None: what the longest right answer needs."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.group < 1 or self.temperature < 0 or (self.limit is not None and self.limit < 1):
            raise InputError(
                "sampling: group and limit must be at least 1 and temperature 0 or more, found "
                f"{self.group}, {self.limit} and {self.temperature}"
            )
        if self.group > 1 and not self.temperature:
            raise InputError("sampling: a group of equal answers tells nothing; give a temperature")


@torch.no_grad()
def sample(
    navigator: VlmNavigator,
    batch: Batch,
    *,
    generator: torch.Generator | None = None,
    **options: Any,
) -> Answers:
    """Return answers to a batch of questions; `options` are the fields of `Sampling`.

    `generator` (on the CPU) decides the draws; None: torch's own. The model is left in the mode it
    was in; answers are made in eval mode.
    """
    sampling = Sampling(**options)
    if batch.encoded.labels is not None:
        raise InputError("navigator: the batch holds answers already; generate from questions")
    was_training = navigator.training
    # Setting the mode of every module takes a small one as long as a layer.
    switched = any(module.training for module in navigator.modules())
    if switched:
        navigator.eval()
    try:
        state = _Reading(navigator, batch.to(navigator.device), sampling, generator)
        if sampling.constrained:
            return _constrained(state, choices(navigator.processor, navigator.wording))
        return _free(state)
    finally:
        if switched:
            navigator.train(was_training)


class _Reading:
    """What has been read so far, and the logits of what comes next."""

    def __init__(
        self,
        navigator: VlmNavigator,
        batch: Batch,
        sampling: Sampling,
        generator: torch.Generator | None,
    ) -> None:
        self.navigator, self.sampling, self.generator = navigator, sampling, generator
        encoded, group = batch.encoded, sampling.group
        out = navigator.read_questions(batch)
        self.cache = out.past_key_values
        if group > 1:
            self.cache.batch_repeat_interleave(group)
        self.logits: Tensor = out.logits[:, -1].float().repeat_interleave(group, 0)
        self.mask = encoded.mask.repeat_interleave(group, 0)
        self.following = encoded.following.repeat_interleave(group, 0)

    @property
    def rows(self) -> int:
        """Answers under way."""
        return len(self.following)

    def read(self, ids: Tensor, mask: Tensor) -> None:
        """Read tokens [R, t] where `mask` is 1; the last of each row must be a token."""
        places = self.following[:, None] + mask.cumsum(1) - 1
        self.following = self.following + mask.sum(1)
        self.mask = torch.cat([self.mask, mask], 1)
        out = self.navigator.model(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=places.clamp(min=0).expand(3, -1, -1),
            past_key_values=self.cache,
            logits_to_keep=1,
            use_cache=True,
        )
        self.logits = out.logits[:, -1].float()

    def choose(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Choose an entry [R] of logits [R, n]; return it and its log-probability."""
        if not self.sampling.temperature:
            chosen = logits.argmax(-1)
            scores = logits.log_softmax(-1)
        else:
            scores = (logits / self.sampling.temperature).log_softmax(-1)
            draws = torch.rand(len(logits), 1, generator=self.generator, dtype=torch.float64)
            steps = scores.double().exp().cumsum(-1)
            wanted = draws.to(steps) * steps[:, -1:]
            chosen = torch.searchsorted(steps, wanted, right=True)[:, 0]
            chosen = chosen.clamp(max=logits.shape[-1] - 1)
        return chosen, scores.gather(-1, chosen[:, None])[:, 0]


def _free(state: _Reading) -> Answers:
    navigator = state.navigator
    processor = navigator.processor
    limit = state.sampling.limit or longest_answer(processor, navigator.wording)
    going = torch.ones(state.rows, dtype=torch.bool, device=state.logits.device)
    ids, masks, scores = [], [], []
    for place in range(limit):
        chosen, score = state.choose(state.logits)
        ids.append(torch.where(going, chosen, processor.pad))
        masks.append(going)
        scores.append(torch.where(going, score, 0.0))
        going = going & (chosen != processor.end)
        if place == limit - 1 or not bool(going.any()):
            break
        state.read(ids[-1][:, None], torch.ones_like(ids[-1])[:, None])
    kept, mask = torch.stack(ids, 1).cpu(), torch.stack(masks, 1).cpu()
    texts = [processor.decode(row[m].tolist()) for row, m in zip(kept, mask, strict=True)]
    return Answers(texts=texts, ids=kept, mask=mask, log_probs=torch.stack(scores, 1).cpu())


def _constrained(state: _Reading, found: Choices) -> Answers:
    wording, processor = state.navigator.wording, state.navigator.processor
    actions: list[list[int]] = [[] for _ in range(state.rows)]
    tokens: list[list[int]] = [[] for _ in range(state.rows)]
    scores: list[list[float]] = [[] for _ in range(state.rows)]
    fresh: list[list[int]] = [list(found.first.shared) for _ in range(state.rows)]
    for place in range(wording.actions):
        slot = found.slot(place)
        if fresh[0]:
            state.read(*aligned(fresh, processor.pad, state.logits.device))
        for row, new in enumerate(fresh):
            tokens[row] += new
            scores[row] += [0.0] * (len(new) if place == 0 else 0)
        chosen, score = state.choose(state.logits[:, list(slot.heads)])
        following = found.later.shared if place + 1 < wording.actions else (processor.end,)
        fresh = []
        for row, (action, value) in enumerate(zip(chosen.tolist(), score.tolist(), strict=True)):
            actions[row].append(action)
            new = [slot.heads[action], *slot.tails[action], *following]
            scores[row] += [value] + [0.0] * (len(new) - 1)
            fresh.append(new)
    for row, new in enumerate(fresh):
        tokens[row] += new
    return _answers([wording.answer(row) for row in actions], tokens, scores, processor.pad)


def _answers(
    texts: list[str], tokens: list[list[int]], scores: list[list[float]], pad: int
) -> Answers:
    length = max(map(len, tokens))
    return Answers(
        texts=texts,
        ids=torch.tensor([row + [pad] * (length - len(row)) for row in tokens]),
        mask=torch.tensor([[True] * len(row) + [False] * (length - len(row)) for row in tokens]),
        log_probs=torch.tensor([row + [0.0] * (length - len(row)) for row in scores]),
    )
