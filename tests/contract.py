"""What every adapter of ActDistill must keep; the same checks for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sterna.actdistill.flops import counted
from sterna.actdistill.stack import Decide, RouterInput, Stack, everything, gated, static
from sterna.errors import InputError

Outputs = Callable[[Any], list[Tensor]]


def check(stack: Stack, batch: Any, outputs: Outputs) -> None:
    stack.eval()
    with torch.no_grad():
        _layer_zero(stack, batch)
        _one_is_whole(stack, batch, outputs)
        _hard_is_pruned(stack, batch, outputs)
        _rows_alone(stack, batch, outputs)
        _blending_is_skipping(stack, batch, outputs)
        _costs(stack, batch)
    _gradients(stack, batch)


def _layer_zero(stack: Stack, batch: Any) -> None:
    """The first unit stays, whoever asks for what."""
    assert stack.units[0].fixed
    decide = static(stack, [len(stack.units) - 1])
    seen = stack.router_input(stack.prepare(batch), 0)
    assert bool((decide(0, seen)[:, 0] == 1).all())
    with pytest.raises(InputError):
        stack.pruned(range(1, len(stack.units)))
    with pytest.raises(InputError, match="always runs"):
        gated(stack, stack.prepare(batch), _closed(stack), skip=True)


def _closed(stack: Stack) -> Decide:
    def decide(phase: int, seen: RouterInput) -> Tensor:
        return torch.zeros(len(seen.text), len(stack.of_phase(phase)))

    return decide


def _pass(stack: Stack, batch: Any, decide: Decide, outputs: Outputs, **how: Any) -> list[Tensor]:
    passed = gated(stack, stack.prepare(batch), decide, **{"skip": True} | how)
    return outputs(stack.finish(passed.state))


def _one_is_whole(stack: Stack, batch: Any, outputs: Outputs) -> None:
    """Blended or skipped, gates of one change no bit."""
    run = _pass(stack, batch, everything(stack), outputs)
    mixed = _pass(stack, batch, everything(stack), outputs, skip=False)
    assert all(torch.equal(a, b) for a, b in zip(run, mixed, strict=True))


def some(stack: Stack) -> list[int]:
    """About half of the units, the fixed ones among them."""
    return [n for n, unit in enumerate(stack.units) if unit.fixed or n % 2]


def _hard_is_pruned(stack: Stack, batch: Any, outputs: Outputs) -> None:
    keep = some(stack)
    assert 0 < len(keep) < len(stack.units)
    small = stack.pruned(keep)
    assert len(small.units) == len(keep)
    weights = [sum(p.numel() for p in s.parameters()) for s in (stack, small)]
    assert weights[1] < weights[0]
    routed = _pass(stack, batch, static(stack, keep), outputs)
    pruned = _pass(small, batch, everything(small), outputs)
    whole = _pass(stack, batch, everything(stack), outputs)
    assert all(torch.equal(a, b) for a, b in zip(routed, pruned, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(routed, whole, strict=True))


def by_turns(stack: Stack) -> Decide:
    """Gates that differ from row to row."""

    def decide(phase: int, seen: RouterInput) -> Tensor:
        units = stack.of_phase(phase)
        rows = torch.arange(len(seen.text))[:, None]
        gates = ((rows + torch.tensor(units)) % 2).float()
        for place, unit in enumerate(units):
            if stack.units[unit].fixed:
                gates[:, place] = 1
        return gates

    return decide


def _rows_alone(stack: Stack, batch: Any, outputs: Outputs) -> None:
    """Rows that are computed alone are what they are in company, and nothing else is computed."""
    routed = _pass(stack, batch, by_turns(stack), outputs)
    mixed = _pass(stack, batch, by_turns(stack), outputs, skip=False)
    for a, b in zip(routed, mixed, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def _blending_is_skipping(stack: Stack, batch: Any, outputs: Outputs) -> None:
    keep = some(stack)
    routed = _pass(stack, batch, static(stack, keep), outputs)
    mixed = _pass(stack, batch, static(stack, keep), outputs, skip=False)
    assert all(torch.equal(a, b) for a, b in zip(routed, mixed, strict=True))


def _costs(stack: Stack, batch: Any) -> None:
    """Each unit costs what is counted, to within 1%; a skipped unit costs nothing."""
    state = stack.prepare(batch)
    for phase in range(stack.phases):
        stack.router_input(state, phase)
        for unit in stack.of_phase(phase):
            said, box = stack.cost(unit, state), [state]
            found = counted(stack, lambda unit=unit, box=box: box.append(stack.run(unit, box[0])))
            state = box[-1]
            assert abs(said - found) <= 0.01 * found, (stack.units[unit].name, said, found)
    start = stack.prepare(batch)
    whole = counted(stack, lambda: gated(stack, stack.prepare(batch), everything(stack), skip=True))
    base = counted(stack, lambda: stack.prepare(batch))
    keep = some(stack)
    done = gated(stack, start, static(stack, keep), skip=True, costs=True)
    part = counted(
        stack, lambda: gated(stack, stack.prepare(batch), static(stack, keep), skip=True)
    )
    share = (part - base) / (whole - base)
    assert abs(float(done.spent(stack)) - share) < 0.01


def _gradients(stack: Stack, batch: Any) -> None:
    """Every gate gets a gradient, an open unit's from what it adds."""
    gates: list[Tensor] = []

    def decide(phase: int, seen: RouterInput) -> Tensor:
        made = torch.ones(len(seen.text), len(stack.of_phase(phase)), requires_grad=True)
        gates.append(made)
        return made

    passed = gated(stack, stack.prepare(batch), decide, skip=False)
    loss = stack.loss(stack.finish(passed.state), batch)
    found = torch.autograd.grad(loss, gates)
    assert bool(torch.isfinite(loss))
    assert all(bool((g.abs().sum(0) > 0).all()) for g in found)
