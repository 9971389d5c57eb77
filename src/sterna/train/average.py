"""The exponential mean of weights, which scores and travels better than where a run happens to end.

mean <- mean + (1 - d) (weights - mean) after every iteration, d = min(decay, (1 + i) / (10 + i)):
short in the first iterations, so that what was random at the start does not stay. Source: B. T.
Polyak and A. B. Juditsky, "Acceleration of stochastic approximation by averaging" (1992); the
warm-up is that of TensorFlow's ExponentialMovingAverage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@torch.no_grad()
def follow(mean: Iterable[Tensor], own: Iterable[Tensor], decay: float, iteration: int) -> None:
    """Draw a mean towards weights after `iteration` (0-based)."""
    share = 1.0 - min(decay, (1 + iteration) / (10 + iteration))
    torch._foreach_lerp_(list(mean), list(own), share)


class WeightMean(nn.Module):
    """The mean of what is trained in a module; begins as it is."""

    def __init__(self, learner: nn.Module, decay: float) -> None:
        """Copy the weights that have a gradient."""
        super().__init__()
        self.decay = decay
        self._own = [p for p in learner.parameters() if p.requires_grad]
        copies = [nn.Parameter(p.detach().clone(), requires_grad=False) for p in self._own]
        self.weights = nn.ParameterList(copies)

    def follow(self, iteration: int) -> None:
        """Draw the mean towards the weights after an iteration."""
        follow(self.weights, self._own, self.decay, iteration)

    def restart(self) -> None:
        """Begin again with the weights as they are."""
        follow(self.weights, self._own, 0.0, 0)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Put the mean in the place of the weights for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for own, mean in zip(self._own, self.weights, strict=True):
            own.data, mean.data = mean.data, own.data
