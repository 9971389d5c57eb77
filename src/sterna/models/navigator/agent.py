"""A navigator that walks in many environments at once: one generation for all that need an answer.

Each environment (a slot) keeps what was seen, or the tower's features of it, so that no frame is
ever looked at twice; answers are executed a few actions at a time before looking again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sterna.data.ego.samples import PREVIOUS
from sterna.errors import InputError
from sterna.models.navigator.generation import sample
from sterna.models.navigator.vlm import VlmNavigator
from sterna.world.frames import Action
from sterna.world.geometry import Ints
from sterna.world.talk.memory import history
from sterna.world.talk.prompts import Question

Observation = Mapping[str, Any]
"""Holds `instruction` and `rgb` uint8 [h, w, 3]."""


@dataclass(frozen=True, kw_only=True)
class ActingConfig:
    """How a navigator acts on its answers."""

    execute: int | None = None
    """Actions of an answer that are carried out before looking again; None: all."""
    constrained: bool = True
    """Say nothing but answers that exist; False: free text, read strictly."""
    temperature: float = 0.0
    """0: the likeliest answer."""
    seed: int = 0
    """Seed of the draws where there is a temperature."""
    blind: bool = False
    """Control: every frame is black."""

    def __post_init__(self) -> None:
        """Check the values."""
        if (self.execute is not None and self.execute < 1) or self.temperature < 0:
            raise InputError(
                "acting: execute must be at least 1 and temperature 0 or more, found "
                f"{self.execute} and {self.temperature}"
            )


@dataclass
class _Slot:
    """One environment: its instruction, what was seen, what was done, what is still to do."""

    instruction: str
    features: list[Tensor] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    planned: list[int] = field(default_factory=list)


class NavigatorAgent:
    """Acts by a navigator's answers; see the module.

    `asked` counts answers and `unread` those that were no answer (free generation alone): then the
    agent walks one step forward and looks again. `name` is what its walks are kept under.
    """

    name = "navigator"

    def __init__(self, navigator: VlmNavigator, config: ActingConfig | None = None) -> None:
        self.navigator, self.config = navigator, config or ActingConfig()
        n = navigator.wording.actions
        if self.config.execute is not None and self.config.execute > n:
            raise InputError(
                f"acting: execute is at most the {n} actions of an answer, found "
                f"{self.config.execute}"
            )
        self.execute = self.config.execute or n
        self.asked = self.unread = 0
        self._slots: dict[int, _Slot] = {}
        self._draws = torch.Generator().manual_seed(self.config.seed)

    def reset(
        self, slots: Sequence[int] | Ints, observations: Sequence[Observation], episodes: Any = None
    ) -> None:
        """Begin episodes in `slots`; `observations` are the first of those slots, in that order.

        What is seen then is seen again by the first `act`.
        """
        for slot, seen in zip(slots, observations, strict=True):
            self._slots[int(slot)] = _Slot(instruction=str(seen["instruction"]))

    def act(
        self, observations: Sequence[Observation | None], active: Sequence[bool] | NDArray[np.bool_]
    ) -> Ints:
        """Return an action for every slot [slots]; STOP where `active` is False.

        `observations` has an entry a slot; those of inactive slots are not looked at.
        """
        going = [slot for slot, on in enumerate(active) if on]
        missing = [slot for slot in going if slot not in self._slots]
        if missing:
            raise InputError(
                f"navigator: slot {missing[0]} acts before its episode began; reset it"
            )
        self._see(going, observations)
        asking = [slot for slot in going if not self._slots[slot].planned]
        if asking:
            self._ask(asking, observations)
        out = np.full(len(active), int(Action.STOP), np.int64)
        for slot in going:
            state = self._slots[slot]
            out[slot] = state.planned.pop(0)
            state.taken.append(int(out[slot]))
        return out

    @torch.no_grad()
    def _see(self, slots: Sequence[int], observations: Sequence[Observation | None]) -> None:
        """Look at the present frames of all slots together."""
        if not slots:
            return
        frames = np.stack([_frame(observations[slot]) for slot in slots])
        if self.config.blind:
            frames = np.zeros_like(frames)
        for slot, features in zip(slots, self.navigator.features(frames), strict=True):
            self._slots[slot].features.append(features)

    def _ask(self, slots: Sequence[int], observations: Sequence[Observation | None]) -> None:
        """Ask for all slots in one generation, and plan what was answered."""
        memory, wording = self.navigator.history, self.navigator.wording
        questions, features = [], []
        for slot in slots:
            state = self._slots[slot]
            step = len(state.taken)
            past = history(step, memory.kind, memory.budget)
            previous = np.array(state.taken[-PREVIOUS:], np.int64)
            questions.append(Question(state.instruction, past, previous))
            features += [state.features[int(i)] for i in past] + [state.features[step]]
        height, width = _frame(observations[slots[0]]).shape[:2]
        batch = self.navigator.batch(questions, (height, width), features=torch.stack(features))
        answers = sample(
            self.navigator,
            batch,
            generator=self._draws,
            temperature=self.config.temperature,
            constrained=self.config.constrained,
        )
        for slot, text in zip(slots, answers.texts, strict=True):
            actions = wording.parse(text)
            self.asked += 1
            self.unread += actions is None
            self._slots[slot].planned = (
                [int(Action.FORWARD)] if actions is None else actions[: self.execute].tolist()
            )


def _frame(observation: Observation | None) -> NDArray[np.uint8]:
    if observation is None or "rgb" not in observation:
        raise InputError('navigator: an observation has no "rgb"; make the environment with it')
    frame: NDArray[np.uint8] = observation["rgb"]
    return frame
