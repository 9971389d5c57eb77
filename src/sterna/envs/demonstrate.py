"""Demonstrations of Meta-World's scripted experts: noise in what is done, none in the labels.

As in DART (Laskey et al., CoRL 2017): the executed action is disturbed, the recorded one is what
the expert would do there, so that a learner sees how to come back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sterna.data.demos.store import Demonstration
from sterna.envs.metaworld import MetaworldTask
from sterna.errors import InputError


@dataclass(frozen=True, kw_only=True)
class NoiseConfig:
    """How the executed actions of every second episode are disturbed."""

    sigma: float = 0.3
    """Standard deviation of Gaussian noise on dx, dy, dz."""
    push: float = 0.04
    """Chance a step that a push begins: one uniform random direction, held."""
    push_steps: int = 4
    """Steps a push lasts."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.sigma < 0 or not 0 <= self.push <= 1 or self.push_steps < 1:
            raise InputError(f"noise: sigma >= 0, push in 0..1, push_steps >= 1; found {self}")


class Noise:
    """The disturbance of one episode, drawn from its own generator."""

    def __init__(self, config: NoiseConfig, seed: int) -> None:
        self.config, self._rng = config, np.random.default_rng([seed, 7])
        self._left, self._push = 0, np.zeros(3)

    def __call__(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the action that is executed; the gripper is left alone."""
        config = self.config
        if self._left == 0 and self._rng.random() < config.push:
            self._left, self._push = config.push_steps, self._rng.uniform(-1, 1, 3)
        change = self._rng.normal(0.0, config.sigma, 3) if config.sigma else np.zeros(3)
        if self._left:
            self._left -= 1
            change = change + self._push
        out = action.copy()
        out[:3] += change.astype(np.float32)
        return out


def demonstrate(
    task: MetaworldTask, seed: int, noise: NoiseConfig | None, *, chunk: int, stride: int
) -> Demonstration | None:
    """Let the expert do an episode; return every `stride`-th frame, or None if it failed.

    The label of a frame is the expert's actions at this step and the `chunk` - 1 after it; so the
    expert goes on for so many steps after success.
    """
    task.reset(seed)
    disturb = None if noise is None else Noise(noise, seed)
    images, proprio, actions = [], [], []
    done = 0
    while not done or task.steps < done + chunk:
        if not done and task.steps % stride == 0:
            images.append(task.images())
            proprio.append(task.proprio())
        action = task.expert_action()
        actions.append(action)
        succeeded = task.step(action if disturb is None else disturb(action))
        if succeeded and not done:
            done = task.steps
        if not done and task.steps >= task.protocol.max_steps:
            return None
    starts = range(0, done, stride)
    return Demonstration(
        seed=seed,
        noisy=noise is not None,
        steps=done,
        images=np.stack(images),
        proprio=np.stack(proprio),
        actions=np.stack([np.stack(actions[at : at + chunk]) for at in starts]),
    )
