"""Gates: soft and hard, drawn and held to a budget; which units a fixed selection keeps.

Legend: R rows, U units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sterna.actdistill.stack import Stack, everything, gated, static
from sterna.errors import InputError


def hard(logits: Tensor, threshold: float = 0.0, *, noise: Tensor | None = None) -> Tensor:
    """Return 1 where logits (+ noise) are above the threshold, else 0; straight through.

    Forward: [u + n > t]. Backward: the gradient of sigmoid(u + n - t), so that what runs in
    training is what runs at run time. `logits` and `noise` [R, U].
    """
    shifted = (logits if noise is None else logits + noise) - threshold
    soft = shifted.sigmoid()
    return (shifted > 0).to(soft.dtype) + (soft - soft.detach())  # exactly 0 or 1


def logistic_noise(like: Tensor, scale: float) -> Tensor:
    """Draw scale * (log v - log(1 - v)), v uniform: [u + noise > 0] has P = sigmoid(u / scale)."""
    v = torch.rand_like(like).clamp(1e-6, 1 - 1e-6)
    return scale * (v.log() - (-v).log1p())


def top(logits: Tensor, costs: Sequence[float], rho: float, fixed: Sequence[bool]) -> Tensor:
    """Return gates [R, U] of each row's highest logits that fit `rho` of all costs.

    Straight through a softmax (MoLe-VLA's top-k, with costs instead of a count). Units are taken
    from the highest logit down while they fit; fixed ones first.
    """
    soft = logits.softmax(-1)
    ranked = logits.masked_fill(logits.new_tensor(fixed, dtype=torch.bool), math.inf)
    order = ranked.argsort(-1, descending=True)
    price = logits.new_tensor(costs)
    must = sum(c for c, f in zip(costs, fixed, strict=True) if f)
    limit = max(rho * sum(costs), must) * (1 + 1e-6)
    # Cumulated along the order: the first units until the budget is used up, the same for all rows
    # where costs are equal.
    fits = price[order].cumsum(-1) <= limit
    gates = torch.zeros_like(soft).scatter(-1, order, fits.to(soft.dtype))
    return gates + (soft - soft.detach())


def depth_rates(count: int, most: float, done: float = 1.0) -> list[float]:
    """Return the rate at which each of `count` units is dropped in the warm-up.

    p_l = S D(l) p_max, D(l) = exp(l ln 2 / (L - 1)) - 1: from 0 at the first unit to p_max at the
    last (LayerSkip, ACL 2024); S = `done` in [0, 1] raises it from nothing.
    """
    if count == 1:
        return [0.0]
    return [done * most * (math.exp(n * math.log(2) / (count - 1)) - 1) for n in range(count)]


def stochastic_depth(rows: int, rates: Sequence[float], like: Tensor) -> Tensor:
    """Draw gates [rows, U]: 0 with each unit's rate."""
    draws = torch.rand(rows, len(rates), device=like.device)
    return (draws >= torch.tensor(rates, device=like.device)).to(like.dtype)


def budget_loss(spent: Tensor, rho: float) -> Tensor:
    """Return (sum_l c_l E[g_l] / sum_l c_l - rho)^2 of a spent share."""
    return (spent - rho) ** 2


def balance_loss(gates: Tensor) -> Tensor:
    """Return the released loss: mean_l (mean_b g_bl - mean_bl g_bl)^2 of gates [R, U].

    It is zero for gates that are all one: nothing in it asks for sparsity.
    """
    mean = gates.mean(0)
    return ((mean - mean.mean()) ** 2).mean()


def annealed(rho: float, done: float, over: float) -> float:
    """Return the budget at a share `done` of the run: from 1 down to `rho` within `over`."""
    if over <= 0 or done >= over:
        return rho
    return 1.0 + (rho - 1.0) * done / over


# Which units a fixed selection keeps.


@dataclass(frozen=True)
class Costs:
    """FLOPs of every unit on some samples, and which units always run."""

    each: tuple[float, ...]
    fixed: tuple[bool, ...]

    def share(self, keep: Iterable[int]) -> float:
        """Return the share of all costs that units `keep` (and the fixed ones) make."""
        kept = set(keep) | {n for n, fixed in enumerate(self.fixed) if fixed}
        return sum(self.each[n] for n in kept) / sum(self.each)


def measure_costs(stack: Stack, batches: Iterable[object]) -> Costs:
    """Return the FLOPs of every unit over some batches."""
    total = np.zeros(len(stack.units))
    with torch.no_grad():
        for batch in batches:
            done = gated(stack, stack.prepare(batch), everything(stack), skip=True, costs=True)
            total += np.array(done.costs)
    return Costs(tuple(total.tolist()), tuple(unit.fixed for unit in stack.units))


def fill(order: Sequence[int], costs: Costs, rho: float) -> tuple[int, ...]:
    """Return the units, in the order of `order`, that fit `rho` of all costs; fixed ones first.

    A unit that does not fit is passed over and cheaper ones may follow. `InputError` where the
    fixed units alone cost more.
    """
    fixed = [n for n, always in enumerate(costs.fixed) if always]
    if costs.share(fixed) > rho + 1e-9:
        raise InputError(
            f"budget: {rho:g} is less than what always runs ({costs.share(fixed):.3f}); raise rho"
        )
    kept = list(fixed)
    for unit in order:
        if unit not in kept and costs.share([*kept, unit]) <= rho + 1e-9:
            kept.append(unit)
    return tuple(sorted(kept))


def reach(order: Sequence[int], costs: Costs, share: float) -> tuple[int, ...]:
    """Return the first units of an order that together cost at least `share` of all costs.

    Fixed units come first. For baselines: one is never given less than what it is compared with
    (a thousandth is let pass).
    """
    kept = [n for n, always in enumerate(costs.fixed) if always]
    for unit in order:
        if costs.share(kept) >= share - 1e-3:
            break
        if unit not in kept:
            kept.append(unit)
    return tuple(sorted(kept))


def first_order(stack: Stack) -> list[int]:
    """Return units from shallow to deep, all streams side by side (fixed truncation)."""
    streams = [unit.stream for unit in stack.units]

    def depth(unit: int) -> tuple[float, int]:
        return streams[:unit].count(streams[unit]) / streams.count(streams[unit]), unit

    return sorted(range(len(streams)), key=depth)


def random_order(costs: Costs, seed: int) -> list[int]:
    """Return units in an order drawn from a seed."""
    order: list[int] = np.random.default_rng([seed, 77]).permutation(len(costs.each)).tolist()
    return order


@torch.no_grad()
def cosine_importance(stack: Stack, batches: Iterable[object]) -> list[float]:
    """Return 1 - mean over tokens of cos(in, out) of every unit (EfficientVLA's, training-free).

    The mean is over tokens of all rows; tokens are what the unit reads and writes.
    """
    sums, counts = [0.0] * len(stack.units), [0] * len(stack.units)
    for batch in batches:
        state = stack.prepare(batch)
        for unit in range(len(stack.units)):
            before = stack.read(unit, state)
            state = stack.run(unit, state)
            mask = stack.tokens(unit, state).mask
            for a, b in zip(before, stack.read(unit, state), strict=True):
                near = torch.cosine_similarity(a.float(), b.float(), dim=-1)
                near = near[mask] if near.shape == mask.shape else near
                sums[unit] += float((1 - near).sum())
                counts[unit] += near.numel()
    return [total / max(1, count) for total, count in zip(sums, counts, strict=True)]


def greedy_path(score: Callable[[tuple[int, ...]], float], costs: Costs) -> list[int]:
    """Return units from the last removed to the first, when the least missed goes each time.

    `score(keep)` is the loss on held-out samples. Fixed units stay, in front.
    """
    kept = tuple(range(len(costs.each)))
    gone: list[int] = []
    while len(kept) > sum(costs.fixed):
        options = [n for n in kept if not costs.fixed[n]]
        trials = {n: score(tuple(m for m in kept if m != n)) for n in options}
        gone.append(min(trials, key=lambda n: (trials[n], n)))
        kept = tuple(m for m in kept if m != gone[-1])
    return [*kept, *reversed(gone)]


def held_out_loss(stack: Stack, batches: Sequence[object]) -> Callable[[tuple[int, ...]], float]:
    """Return a function from kept units to the model's own loss on some batches.

    Towers run once; draws of a loss (a diffusion's noise) are the same every time.
    """
    with torch.no_grad():
        states = [stack.prepare(batch) for batch in batches]

    def score(keep: tuple[int, ...]) -> float:
        total = 0.0
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for state, batch in zip(states, batches, strict=True):
                passed = gated(stack, stack.fresh(state), static(stack, keep), skip=True)
                total += float(stack.loss(stack.finish(passed.state), batch))
        return total / len(batches)

    return score
