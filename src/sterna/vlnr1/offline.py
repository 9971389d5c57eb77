"""GRPO on recorded samples, as VLN-R1 does it: answers compared with the expert's next actions.

Nothing is walked: a group of answers to one recorded frame is judged position by position
(`rewards`). Every answer that is learnt from stands in ``answers.jsonl``, token by token.

Legend: B samples, G answers a sample, n actions an answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from sterna.data.ego.samples import EgoSample, EgoSamples
from sterna.data.episodes import Episode
from sterna.errors import InputError
from sterna.files import write_text
from sterna.models.navigator.generation import Answers, sample
from sterna.models.navigator.sources import Images
from sterna.train.loop import LoopConfig, Runner
from sterna.train.schedule import Batches, OptimizerConfig, uniform_draws
from sterna.train.sft import image_counts, numbers_of
from sterna.vlnr1.answers import Answered, AnswersConfig, AnswersTask, cut, weighted
from sterna.vlnr1.objective import group_advantages
from sterna.vlnr1.rewards import RewardConfig, raw_rewards, read, rewards, stack_answers
from sterna.world.geometry import Floats, Ints

_IMITATION = ("demonstrations", "warm_start", "replay", "memory")
"""Settings of the loop that only imitation has."""
_DRAWS = 5000
"""Stream of the draws that answers come from."""
ANSWERS_FILE = "answers.jsonl"


def shown_images(samples: Sequence[EgoSample], images: Images) -> tuple[Any, tuple[Ints, ...]]:
    """Return the images of samples, each once, and which of them every sample shows."""
    numbers = numbers_of(samples)
    every, place = np.unique(numbers, return_inverse=True)
    ends = np.cumsum([len(s.history) + 1 for s in samples])
    taken = images.take(every)
    found = taken["frames"] if "frames" in taken else taken["features"]
    return found, tuple(np.split(place, ends[:-1]))


@torch.no_grad()
def ask(
    task: AnswersTask, samples: Sequence[EgoSample], images: Images, seed: int
) -> tuple[Answered, Answers]:
    """Draw a group of answers to each sample; nothing is judged yet."""
    policy, config = task.policy, task.config
    found, shown = shown_images(samples, images)
    features = found.to(policy.device) if isinstance(found, Tensor) else policy.features(found)
    index = torch.from_numpy(np.concatenate(shown)).to(features.device)
    batch = policy.batch(samples, images.size, features=features[index])
    answers = sample(
        policy,
        batch,
        generator=torch.Generator().manual_seed(seed),
        group=config.objective.group,
        temperature=config.temperature,
        constrained=config.constrained,
    )
    count = len(answers.texts)
    given = Answered(
        questions=tuple(samples),
        images=features if policy.frozen_tower else found,
        size=images.size,
        shown=shown,
        question=np.repeat(np.arange(len(samples)), config.objective.group),
        tokens=tuple(tuple(answers.tokens(row)) for row in range(count)),
        actions=stack_answers([policy.wording.parse(t) for t in answers.texts], _n(policy)),
        advantage=np.zeros(count),
        weight=np.zeros(count),
    )
    return given, answers


def _n(policy: Any) -> int:
    return int(policy.wording.actions)


def judged(
    given: Answered, expert: Ints, reward: RewardConfig, config: AnswersConfig, longest: int
) -> tuple[Answered, Floats]:
    """Return answers with advantages and weights, and their rewards [B, G]; `expert` is [B, n]."""
    group = config.objective.group
    answers = given.actions.reshape(len(expert), group, -1)
    values = rewards(answers, expert, reward)
    advantage = group_advantages(values, config.objective.scale).ravel()
    watched = {
        "reward": float(values.mean()),
        "raw_reward": float(raw_rewards(answers, expert, reward).mean()),
        "first": float((answers[..., 0] == expert[:, None, 0]).mean()),
        "whole": float((answers == expert[:, None]).all(-1).mean()),
        "read": float(read(answers).mean()),
        "equal_groups": float((values.max(1) == values.min(1)).mean()),
    }
    given = replace(given, advantage=advantage, values=watched)
    own = np.arange(len(given.tokens))
    return weighted(given, own, len(own), config, longest=longest), values


class OfflineRunner(Runner):
    """Runs GRPO on recorded samples; see `Runner`. An iteration is one optimiser step.

    The training state is written where a batch of answers has been learnt from to the end, so it
    holds none of them.
    """

    def __init__(
        self,
        task: AnswersTask,
        samples: EgoSamples,
        images: Images,
        reward: RewardConfig,
        folder: str | Path,
        loop: LoopConfig,
        optimizer: OptimizerConfig,
        *,
        rows: Ints | None = None,
        **more: Any,
    ) -> None:
        """Prepare a run in `folder`; `rows` are the samples that are learnt from (None: all).

        `InputError` for settings that do not fit one another.
        """
        check_loop(loop, task.config)
        self.rows = np.arange(len(samples)) if rows is None else rows
        self.task, self.samples, self.images, self.reward = task, samples, images, reward
        self._batch: Answered | None = None
        # The runner remembers no walks here, so it needs no episodes.
        super().__init__(task, (), folder, loop, optimizer, **more)
        self.answers = AnswerLog(self.folder, self.progress.iteration)

    @property
    def cycle(self) -> int:
        """Iterations that learn from the same answers."""
        return self.task.config.updates

    def _batches(self, episodes: Sequence[Episode], size: int, stream: int) -> Batches:
        return Batches(
            cast("Sequence[Episode]", self.rows),
            size,
            self.loop.seed,
            stream=stream,
            part=self.accelerator.process_index,
            parts=self.accelerator.num_processes,
            window=self.loop.length_window,
            lengths=image_counts(self.samples)[self.rows],
        )

    def _pieces(self, iteration: int) -> Sequence[Answered]:
        turn, again = divmod(iteration, self.cycle)
        if not again:
            self._batch = self._ask(turn, iteration)
            # Who answered is the policy itself: its ratios are 1, not 1 to within rounding.
            return cut(replace(self._batch, old=None), self.loop.pieces)
        assert self._batch is not None
        return cut(self._batch, self.loop.pieces)

    def _ask(self, turn: int, iteration: int) -> Answered:
        chosen = [self.samples[int(row)] for row in cast("list[int]", self.shown[turn])]
        with self.accelerator.autocast():
            seed = draw_seed(self.loop.seed, _DRAWS + self.accelerator.process_index, turn)
            given, answers = ask(self.task, chosen, self.images, seed)
            expert = np.stack([s.actions for s in chosen])
            longest = answers.ids.shape[1]
            given, values = judged(given, expert, self.reward, self.task.config, longest)
            if self.accelerator.is_main_process:
                self.answers.write(iteration, chosen, expert, answers, values)
            return self.task.complete(given, self.loop.pieces)


def check_loop(loop: LoopConfig, config: AnswersConfig) -> None:
    """Raise `InputError` for settings of the loop that answers cannot be learnt with."""
    usual = LoopConfig()
    odd = [name for name in _IMITATION if getattr(loop, name) != getattr(usual, name)]
    if odd:
        raise InputError(f"grpo: loop.{odd[0]} belongs to imitation; leave it at its default")
    if loop.save_every % config.updates:
        raise InputError(
            f"grpo: loop.save_every must be a multiple of the {config.updates} updates of a batch, "
            f"found {loop.save_every}; a state is written where a batch is done with"
        )


def draw_seed(seed: int, stream: int, turn: int) -> int:
    """Return the seed of a batch of answers: a function of (seed, stream, turn)."""
    return int(uniform_draws(seed, stream, turn, (1,))[0] * 2**53)


class AnswerLog:
    """``answers.jsonl``: every answer, token by token, with its reward; one line a question.

    A resumed run first drops the lines that it will write again.
    """

    def __init__(self, folder: Path, iteration: int) -> None:
        """Open the log of a run that is about to do `iteration`."""
        self.path = Path(folder) / ANSWERS_FILE
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            whole = [line for line in self.path.read_text("utf-8").split("\n")[:-1] if line]
            kept = [line for line in whole if json.loads(line)["iteration"] < iteration]
            write_text(self.path, "".join(f"{line}\n" for line in kept))

    def write(
        self,
        iteration: int,
        samples: Sequence[EgoSample],
        expert: Ints,
        answers: Answers,
        values: Floats,
    ) -> None:
        """Append the groups of a batch."""
        group = values.shape[1]
        with self.path.open("a", encoding="utf-8") as file:
            for number, sample_ in enumerate(samples):
                rows = range(number * group, (number + 1) * group)
                entry = {
                    "iteration": iteration,
                    "instr_id": sample_.instr_id,
                    "step": sample_.step,
                    "expert": expert[number].tolist(),
                    "texts": [answers.texts[row] for row in rows],
                    "tokens": [answers.tokens(row) for row in rows],
                    "rewards": values[number].tolist(),
                }
                file.write(json.dumps(entry) + "\n")
