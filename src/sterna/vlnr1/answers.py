"""GRPO of a navigator that answers in words: what its answers were, and the loss of them.

Where answers come from (recorded samples, walks in an environment) is the business of `offline` and
`rollouts`; here an answer is a question, its tokens, and how much better it was than its group.

An *item* is what was drawn: a token of a free answer, or the choice among the four options of each
place of a constrained one.

Legend: Q questions, N answers, F images, K most items of an answer, A tokens, n actions, T tokens
of an image, D their width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from sterna.errors import InputError
from sterna.models.navigator.pixels import Frames
from sterna.models.navigator.processor import IGNORED
from sterna.models.navigator.vlm import Batch, VlmNavigator
from sterna.train.task import TaskOutput
from sterna.vlnr1.objective import ObjectiveConfig, entropy, item_weights, k3, objective
from sterna.world.geometry import Floats, Ints
from sterna.world.talk.choices import Choices, choices
from sterna.world.talk.images import Grid
from sterna.world.talk.prompts import Asked


@dataclass(frozen=True, kw_only=True)
class AnswersConfig:
    """How a navigator learns from its own answers."""

    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    updates: int = 1
    """Optimiser steps that learn from the same answers; 1: strictly on-policy."""
    temperature: float = 1.0
    """Of the softmax that answers are drawn from, and that is learnt."""
    constrained: bool = False
    """Draw nothing but answers that exist: one choice among four an action. False: tokens of the
    whole vocabulary, read strictly, as published."""

    def __post_init__(self) -> None:
        """Check the values."""
        if not self.temperature > 0 or self.updates < 1:
            raise InputError(
                "grpo: temperature must be positive and updates at least 1, found "
                f"{self.temperature} and {self.updates}"
            )


@dataclass(frozen=True)
class Answered:
    """N answers to Q questions.

    `images` are frames uint8 [F, h, w, 3] of `size` (rows, columns), or a frozen tower's features
    of them [F, T, D]; `shown` names those of each question, its history and then the current one.
    `question` [N] is what was asked, `tokens` what was said (ends included), `actions` [N, n] what
    it means (constrained answers). Each of an answer's items has advantage [N] and weight [N].
    `old` and `start` [N, K] are log-probabilities of the items, on the right, by who answered
    (None: the policy as it is) and by the start policy (None: no divergence).
    """

    questions: tuple[Asked, ...]
    images: Frames | Tensor
    size: Grid
    shown: tuple[Ints, ...]
    question: Ints
    tokens: tuple[tuple[int, ...], ...]
    actions: Ints
    advantage: Floats
    weight: Floats
    old: Tensor | None = None
    start: Tensor | None = None
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Items:
    """Items of N answers, on the right: log-probabilities, entropies, which there are [N, K]."""

    log_probs: Tensor
    entropies: Tensor
    mask: Tensor


class AnswersTask(nn.Module):
    """GRPO of a navigator; the policy, the policy it began as, the loss.

    Dropout stays off (an adapter may have some), so that who learns is who answered.
    """

    def __init__(
        self, policy: VlmNavigator, start: VlmNavigator | None, config: AnswersConfig
    ) -> None:
        """Own a policy; `start` is what the divergence is measured from."""
        super().__init__()
        if config.objective.kl_weight and start is None:
            raise InputError("grpo: kl_weight needs the start policy; give it, or set 0")
        self.policy, self.config = policy, config
        # In a list, so that it is neither trained, nor saved, nor put in train mode.
        self._start = [] if start is None else [start.eval().requires_grad_(False)]
        found = choices(policy.processor, policy.wording) if config.constrained else None
        self.choices = found

    def train(self, mode: bool = True) -> AnswersTask:
        """Set the mode of everything but dropout."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
        return self

    def batch(
        self,
        navigator: VlmNavigator,
        given: Answered,
        asked: Ints,
        answers: Sequence[Sequence[int]] | None,
    ) -> Batch:
        """Return questions (by number), and what is said to each; an image is seen once."""
        images = given.images
        if not isinstance(images, Tensor):
            images = navigator.features(images)
        index = np.concatenate([given.shown[q] for q in asked])
        return navigator.batch(
            [given.questions[q] for q in asked],
            given.size,
            features=images.to(navigator.device)[torch.from_numpy(index).to(navigator.device)],
            answers=answers,
        ).to(navigator.device)

    def items(self, navigator: VlmNavigator, given: Answered) -> Items:
        """Return the items of answers, with gradient.

        A question that has several answers is read once where that can be.
        """
        if navigator.reads_apart and len(given.questions) < len(given.tokens):
            batch = self.batch(navigator, given, np.arange(len(given.questions)), None)
            question = torch.from_numpy(given.question).to(navigator.device)
            logits, targets = navigator.answer_logits(batch, question, given.tokens)
        else:
            batch = self.batch(navigator, given, given.question, given.tokens)
            logits, targets = navigator(batch), navigator.targets(batch)
        logits = logits / self.config.temperature
        if self.choices is not None:
            return chosen_items(logits, given, self.choices)
        return token_items(logits, targets)

    @torch.no_grad()
    def complete(self, given: Answered, pieces: int = 1) -> Answered:
        """Add what does not change while a batch is learnt from, computed in pieces."""
        parts = cut(given, pieces)
        if self.config.updates > 1:
            given = replace(given, old=self._joined(self.policy, parts, given))
        if self.config.objective.kl_weight:
            start = self._start[0].to(self.policy.device)
            given = replace(given, start=self._joined(start, parts, given))
        return given

    def _joined(
        self, navigator: VlmNavigator, parts: Sequence[Answered], whole: Answered
    ) -> Tensor:
        out = torch.zeros(
            len(whole.tokens), most_items(whole, constrained=self.choices is not None)
        )
        for part, rows in zip(parts, shares(whole, len(parts)), strict=True):
            found = self.items(navigator, part).log_probs.cpu()
            out[torch.from_numpy(rows), -found.shape[1] :] = found
        return out

    def forward(self, given: Answered) -> TaskOutput:
        """Return the loss of answers, or of a piece of them."""
        found = self.items(self.policy, given)
        now, width = found.log_probs, found.log_probs.shape[1]

        def tensor(values: Floats) -> Tensor:
            return torch.from_numpy(values).to(now.device, torch.float32)[:, None].expand_as(now)

        held = None if given.old is None else given.old[:, -width:].to(now.device)
        start = None if given.start is None else given.start[:, -width:].to(now.device)
        output = objective(
            now,
            held,
            tensor(given.advantage),
            tensor(given.weight) * found.mask,
            self.config.objective,
            divergences=None if start is None else k3(now, start),
            entropies=found.entropies,
        )
        rows = {"agree": 0.0, "rows": float(len(now))}
        return TaskOutput(output.loss, given.values | output.metrics | rows)


def token_items(logits: Tensor, targets: Tensor) -> Items:
    """Return the tokens of answers as items, from logits [N, A, V] and labels [N, A]."""
    kept = targets != IGNORED
    every = logits.log_softmax(-1)
    chosen = every.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    return Items(chosen.masked_fill(~kept, 0.0), entropy(every).masked_fill(~kept, 0.0), kept)


def chosen_items(logits: Tensor, given: Answered, found: Choices) -> Items:
    """Return the choices of constrained answers as items [N, n], from logits [N, A, V]."""
    rows = torch.arange(len(logits), device=logits.device)[:, None]
    columns = torch.from_numpy(head_columns(given.actions, found) + logits.shape[1])
    n = given.actions.shape[1]
    heads = torch.tensor([found.slot(place).heads for place in range(n)])
    asked = logits[rows, columns.to(logits.device)]
    every = asked.gather(-1, heads.to(logits.device).expand(len(logits), -1, -1)).log_softmax(-1)
    actions = torch.from_numpy(given.actions).to(logits.device)
    chosen = every.gather(-1, actions[..., None])[..., 0]
    return Items(chosen, entropy(every), torch.ones_like(chosen, dtype=torch.bool))


def head_columns(actions: Ints, found: Choices) -> Ints:
    """Return where each choice stands in the tokens of an answer, counted back from its end [N, n].

    -1 is the answer's last token, its end.
    """
    n = actions.shape[1]
    tails = np.array([[len(tail) for tail in found.slot(k).tails] for k in range(n)])
    shared = np.array([len(found.slot(k).shared) for k in range(n)])
    lengths = shared + 1 + tails[np.arange(n), actions]
    begins = np.cumsum(lengths, 1) - lengths + shared
    out: Ints = begins - (lengths.sum(1, keepdims=True) + 1)
    return out


def item_counts(given: Answered, *, constrained: bool) -> Ints:
    """Return how many items each answer has [N]."""
    if constrained:
        return np.full(len(given.tokens), given.actions.shape[1])
    return np.array([len(tokens) for tokens in given.tokens])


def most_items(given: Answered, *, constrained: bool) -> int:
    """Return the most items of an answer, K."""
    return int(item_counts(given, constrained=constrained).max())


def weighted(
    given: Answered,
    unit: Ints,
    units: int,
    config: AnswersConfig,
    *,
    longest: int,
) -> Answered:
    """Return answers with the weight of their items.

    `unit` [N] is what each answer is a part of: itself, or the walk that it was given in, `units`
    in all, each with at most `longest` items.
    """
    counts = item_counts(given, constrained=config.constrained)
    lengths = np.bincount(unit, counts, minlength=units).astype(np.int64)
    weights = item_weights(lengths, config.objective.mean, longest)
    return replace(given, weight=weights[unit])


def shares(given: Answered, count: int) -> list[Ints]:
    """Return the answers of each of up to `count` pieces: whole questions, all of their answers."""
    groups = np.array_split(np.arange(len(given.questions)), min(count, len(given.questions)))
    return [np.flatnonzero(np.isin(given.question, group)) for group in groups]


def cut(given: Answered, count: int) -> list[Answered]:
    """Cut answers into up to `count` pieces; losses and gradients add up to those of the whole."""
    if count == 1:
        return [given]
    parts = [_take(given, rows) for rows in shares(given, count)]
    silent = dict.fromkeys(given.values, 0.0)  # metrics of pieces are added
    return [parts[0], *(replace(part, values=silent) for part in parts[1:])]


def _take(given: Answered, rows: Ints) -> Answered:
    asked, question = np.unique(given.question[rows], return_inverse=True)
    every, place = np.unique(np.concatenate([given.shown[q] for q in asked]), return_inverse=True)
    ends = np.cumsum([len(given.shown[q]) for q in asked])
    kept = torch.from_numpy(rows)
    return replace(
        given,
        questions=tuple(given.questions[q] for q in asked),
        images=given.images[torch.from_numpy(every)]
        if isinstance(given.images, Tensor)
        else given.images[every],
        shown=tuple(np.split(place, ends[:-1])),
        question=question,
        tokens=tuple(given.tokens[i] for i in rows),
        actions=given.actions[rows],
        advantage=given.advantage[rows],
        weight=given.weight[rows],
        old=None if given.old is None else given.old[kept],
        start=None if given.start is None else given.start[kept],
    )
