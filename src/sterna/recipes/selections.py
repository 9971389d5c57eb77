"""Fixed selections of a teacher's units, in orders found on held-out samples."""

from __future__ import annotations

from typing import Any

from sterna.actdistill.gates import (
    Costs,
    cosine_importance,
    fill,
    first_order,
    greedy_path,
    held_out_loss,
    measure_costs,
    random_order,
    reach,
)
from sterna.actdistill.probe import slices
from sterna.actdistill.stages import Samples
from sterna.recipes.actdistill import ActRun
from sterna.recipes.routing import Subject


def batches_of(samples: Samples, size: int) -> list[Any]:
    """Return all samples in batches."""
    return [samples.batch(index) for index in slices(len(samples), size)]


class Selections:
    """Fixed selections of the teacher's units at given costs; orders are worked out once."""

    def __init__(self, subject: Subject, config: ActRun, draws: int) -> None:
        self.subject, self.config, self.draws = subject, config, draws
        self._held: list[Any] | None = None
        self._costs: Costs | None = None
        self._orders: dict[str, list[int]] = {}

    def chosen(self, arm: str, share: float) -> list[tuple[tuple[int, ...], dict[str, Any]]]:
        """Return the selections of an arm that cost `share` of all, or just above."""
        if arm == "random-k":
            return [
                (reach(self.order(arm, n), self.costs, share), {"draw": n})
                for n in range(self.draws)
            ]
        return [(reach(self.order(arm), self.costs, share), {})]

    @property
    def held(self) -> list[Any]:
        """Held-out samples in batches."""
        if self._held is None:
            self._held = batches_of(self.subject.held_out(), self.config.loop.batch_size)
        return self._held

    @property
    def costs(self) -> Costs:
        """FLOPs of the teacher's units on them."""
        if self._costs is None:
            self._costs = measure_costs(self.subject.stack, self.held)
        return self._costs

    def fitting(self, arm: str, rho: float, draw: int) -> tuple[int, ...]:
        """Return the units of an arm that cost at most `rho` of all."""
        return fill(self.order(arm, draw), self.costs, rho)

    def order(self, arm: str, draw: int = 0) -> list[int]:
        """Return units in the order in which an arm takes them; `draw` is the seed of random-k."""
        stack = self.subject.stack
        if arm == "random-k":
            return random_order(self.costs, draw)
        if arm not in self._orders:
            if arm == "first-k":
                order = first_order(stack)
            elif arm == "cosine":
                found = cosine_importance(stack, self.held)
                order = sorted(range(len(found)), key=lambda n: -found[n])
            else:
                order = greedy_path(held_out_loss(stack, self.held), self.costs)
            self._orders[arm] = order
        return self._orders[arm]
