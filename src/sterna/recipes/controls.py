"""Agents in continuous space that learn nothing: the rows beside every score.

An agent has `reset(slots, observations, episodes)` for slots where an episode begins, and
`act(observations, active)`, which returns an action for every slot. One with `attach(slots)` is
given the environments, which an oracle may question.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from sterna.data.episodes import Episode
from sterna.envs.continuous import Obs
from sterna.envs.slots import Slots
from sterna.errors import InputError
from sterna.world.frames import Action
from sterna.world.geometry import Ints
from sterna.world.space import Bools

FREQUENCIES = (0.02, 0.64, 0.18, 0.16)
"""Of STOP, FORWARD, LEFT, RIGHT: about those of VLN-CE's reference trajectories (val splits)."""
FORWARD_STEPS = 37
"""Forward steps of VLN-CE's hand-made agent, as long as a path of R2R: 9.25 m."""


class SlotAgent(Protocol):
    """Acts in many slots at once."""

    def reset(
        self, slots: Sequence[int], observations: Sequence[Obs], episodes: Sequence[Episode]
    ) -> None:
        """Begin episodes in `slots`; their first observations in that order."""

    def act(self, observations: Sequence[Obs | None], active: Bools) -> Ints:
        """Return an action for every slot [slots]; those of inactive slots are not looked at."""


class RandomAgent:
    """Draws actions with given frequencies; draws depend on seed, episode and step alone."""

    def __init__(self, seed: int = 0, frequencies: Sequence[float] = FREQUENCIES) -> None:
        """Take frequencies of STOP, FORWARD, LEFT, RIGHT; they need not sum to 1."""
        weights = np.asarray(frequencies, np.float64)
        if weights.shape != (len(Action),) or not (weights >= 0).all() or weights.sum() <= 0:
            raise InputError(
                "random: expected four frequencies (stop, forward, left, right) of 0 or more, "
                f"found {list(frequencies)}"
            )
        self._bounds = np.cumsum(weights / weights.sum())
        self._seed = seed
        self._draws: dict[int, np.random.Generator] = {}

    def reset(
        self, slots: Sequence[int], observations: Sequence[Obs], episodes: Sequence[Episode]
    ) -> None:
        """Begin new draws."""
        for slot, episode in zip(slots, episodes, strict=True):
            name = int.from_bytes(episode.instr_id.encode()[-16:], "little")
            self._draws[slot] = np.random.default_rng([self._seed, name])

    def act(self, observations: Sequence[Obs | None], active: Bools) -> Ints:
        """Draw for the active slots."""
        out = np.zeros(len(active), np.int64)
        for slot in np.flatnonzero(active).tolist():
            drawn = int(np.searchsorted(self._bounds, self._draws[slot].random(), side="right"))
            out[slot] = min(drawn, len(Action) - 1)
        return out


class ForwardAgent:
    """Walks so many steps straight on, then stops; 0 stays and stops at once."""

    def __init__(self, steps: int = FORWARD_STEPS) -> None:
        if steps < 0:
            raise InputError(f"forward: expected 0 steps or more, found {steps}")
        self.steps = steps
        self._taken: dict[int, int] = {}

    def reset(
        self, slots: Sequence[int], observations: Sequence[Obs], episodes: Sequence[Episode]
    ) -> None:
        """Begin to count anew."""
        self._taken.update(dict.fromkeys(slots, 0))

    def act(self, observations: Sequence[Obs | None], active: Bools) -> Ints:
        """Walk on or stop."""
        out = np.zeros(len(active), np.int64)
        for slot in np.flatnonzero(active).tolist():
            out[slot] = Action.FORWARD if self._taken[slot] < self.steps else Action.STOP
            self._taken[slot] += 1
        return out


class FollowerAgent:
    """Asks each environment for the action of the shortest-path follower: an oracle."""

    def __init__(self) -> None:
        self._slots: Slots | None = None

    def attach(self, slots: Slots) -> None:
        """Take the environments."""
        self._slots = slots

    def reset(
        self, slots: Sequence[int], observations: Sequence[Obs], episodes: Sequence[Episode]
    ) -> None:
        """Remember nothing."""

    def act(self, observations: Sequence[Obs | None], active: Bools) -> Ints:
        """Ask the environments of the active slots."""
        assert self._slots is not None, "attach() comes first"
        going = np.flatnonzero(active).tolist()
        out = np.zeros(len(active), np.int64)
        out[going] = self._slots.each(going, lambda _, env: _expert(env))
        return out


def _expert(env: Any) -> int:
    return int(env.expert_action())


CONTROLS = ("random", "forward", "follower", "stay")


def control(
    name: str,
    *,
    seed: int = 0,
    frequencies: Sequence[float] = FREQUENCIES,
    forward_steps: int = FORWARD_STEPS,
) -> SlotAgent:
    """Return a control by name; `InputError` lists them."""
    if name == "random":
        return RandomAgent(seed, frequencies)
    if name in ("forward", "stay"):
        return ForwardAgent(forward_steps if name == "forward" else 0)
    if name == "follower":
        return FollowerAgent()
    raise InputError(f"no control {name!r}; there are {', '.join(CONTROLS)}")
