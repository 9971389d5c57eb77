"""First lessons: a student learns to read and to look as its teacher does, before it walks.

Eqs. (6) and (7) need no trajectory: what an instruction or a viewpoint looks like to the teacher is
known before the first step. So the language encoder is fitted to the teacher's words, and the
panorama encoder to its view tokens, on instructions and viewpoints drawn at random. That is much
cheaper than a roll-out; stage 2 then starts from a student that already understands both.
Before them come language lessons: words alone, which ask for a larger rate than anything else.

Legend: L words, T panorama tokens, D student width, E teacher width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from sterna.data.episodes import Episode
from sterna.minivln.maps import viewpoints
from sterna.minivln.stage2 import DistillTask, squared_error
from sterna.models.agent import look
from sterna.world.geometry import VIEWS

Write = Callable[[str, int, dict[str, float]], None]
"""Takes (kind, number of the lesson, values) for the log."""

_STREAM, _LANGUAGE_STREAM = 7, 29
"""Keep these draws apart from those of the training loop."""


@dataclass(frozen=True)
class _Course:
    """Lessons: what they are called, how many, their peak rate, the seed of what is drawn."""

    kind: str
    steps: int
    rate: float
    seed: tuple[int, int]


def give_language_lessons(
    task: DistillTask,
    episodes: Sequence[Episode],
    *,
    seed: int,
    write: Write | None = None,
    every: int = 50,
) -> None:
    """Fit the student's words and language layers to the teacher's, and nothing else.

    Takes `task.distill.language_lessons` steps of `lesson_size` instructions of `episodes` and of
    `task.texts`, at `language_lesson_rate`. W_l learns too: a map that was fitted to a student who
    knew less (`fit_maps`) holds the directions that it knew, and no more can be learnt through it.
    """
    told, policy = task.distill, task.policy
    if not told.language_lessons:
        return
    parts = _parameters([policy.embeddings, policy.lang_encoder, task.text_map])
    texts = [*episodes, *task.texts]

    def losses(rng: np.random.Generator) -> dict[str, Tensor]:
        drawn = rng.choice(len(texts), size=min(told.lesson_size, len(texts)), replace=False)
        return {"text": task.reading([texts[i] for i in drawn], normalise=True)}

    count, rate = told.language_lessons, told.language_lesson_rate
    course = _Course("language-lesson", count, rate, (seed, _LANGUAGE_STREAM))
    _teach(task, parts, losses, course, write, every)


def give_lessons(
    task: DistillTask,
    episodes: Sequence[Episode],
    *,
    learning_rate: float,
    seed: int,
    write: Write | None = None,
    every: int = 50,
) -> None:
    """Fit the student's text and panorama encoders to the teacher's.

    Takes `task.distill.lessons` steps of `lesson_size` instructions and as many viewpoints of the
    episodes' scans, seen at random headings; AdamW, cosine to zero. Errors are relative to the
    teacher's mean square. Everything drawn is a function of `seed`.
    """
    count, size = task.distill.lessons, task.distill.lesson_size
    if not count:
        return
    nodes = viewpoints(task, episodes)

    def losses(rng: np.random.Generator) -> dict[str, Tensor]:
        found = {}
        if task.distill.text:
            drawn = rng.choice(len(episodes), size=min(size, len(episodes)), replace=False)
            found["text"] = task.reading([episodes[i] for i in drawn], normalise=True)
        if task.distill.panorama:
            drawn = rng.choice(nodes, size=size)
            found["panorama"] = _looking(task, drawn, rng.integers(VIEWS, size=size))
        return found

    course = _Course("lesson", count, learning_rate, (seed, _STREAM))
    _teach(task, _learners(task), losses, course, write, every)


def _teach(
    task: DistillTask,
    parts: list[nn.Parameter],
    losses: Callable[[np.random.Generator], dict[str, Tensor]],
    course: _Course,
    write: Write | None,
    every: int,
) -> None:
    """Take a course down the sum of `losses`: AdamW, a short rise, then a cosine to zero."""
    optimizer = torch.optim.AdamW(parts, lr=course.rate, fused=True)
    task.train()
    bar = tqdm(range(course.steps), desc=f"first {course.kind}s", unit="lesson")
    for number in bar:
        rng = np.random.default_rng([*course.seed, number])
        torch.manual_seed(int(rng.integers(2**62)))
        done = number / course.steps
        rate = course.rate * min(1.0, (number + 1) / 50) * 0.5 * (1 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = rate
        found = losses(rng)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack(list(found.values())).sum())
        nn.utils.clip_grad_norm_(parts, 1.0)
        optimizer.step()
        values = {name: float(loss.detach()) for name, loss in found.items()}
        bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()}, refresh=False)
        if write is not None and ((number + 1) % every == 0 or number + 1 == course.steps):
            write(course.kind, number + 1, values | {"rate": rate})


def _learners(task: DistillTask) -> list[nn.Parameter]:
    policy = task.policy
    modules: list[nn.Module] = [policy.embeddings]
    if task.distill.text:
        modules += [policy.lang_encoder, task.text_map]
    if task.distill.panorama:
        modules += [policy.img_embeddings, task.panorama_map]
    return _parameters(modules)


def _parameters(modules: Sequence[nn.Module]) -> list[nn.Parameter]:
    return [p for module in modules for p in module.parameters() if p.requires_grad]


def _looking(task: DistillTask, nodes: np.ndarray, poses: np.ndarray) -> Tensor:
    """Relative squared error of the tokens of viewpoints, mean over tokens."""
    panorama = look(task.policy, task.panoramas, task.table, nodes, poses)
    mine = panorama.embeds[panorama.mask]
    theirs = task.look(nodes, poses)[panorama.mask]
    weight = mine.new_full((len(mine),), 1.0 / len(mine), dtype=torch.float32)
    return squared_error(task.panorama_map(mine), theirs, weight, normalise=True)
