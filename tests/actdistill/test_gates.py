"""Gates, budgets, the router and its calibration; NumPy twins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sterna.actdistill.gates import (
    Costs,
    annealed,
    balance_loss,
    budget_loss,
    cosine_importance,
    depth_rates,
    fill,
    first_order,
    greedy_path,
    hard,
    held_out_loss,
    logistic_noise,
    measure_costs,
    random_order,
    reach,
    stochastic_depth,
    top,
)
from sterna.actdistill.router import Router, RouterConfig, calibrate, pooled
from sterna.actdistill.stack import RouterInput, act, blend, everything, gated, stack_of, static
from sterna.errors import InputError

COSTS = Costs((1.0, 2.0, 3.0, 4.0), (True, False, False, False))


def test_hard_gates_are_exact_and_have_the_gradient_of_soft_ones() -> None:
    logits = torch.linspace(-3, 3, 12).view(3, 4).requires_grad_()
    gates = hard(logits, 0.5)
    assert torch.equal(gates.detach(), (logits.detach() > 0.5).float())
    gates.sum().backward()
    soft = (logits.detach() - 0.5).sigmoid()
    torch.testing.assert_close(logits.grad, soft * (1 - soft))


def test_logistic_noise_opens_gates_with_their_probability() -> None:
    torch.manual_seed(0)
    logits = torch.full((20_000, 1), 0.8)
    for scale in (1.0, 2.0):
        found = hard(logits, noise=logistic_noise(logits, scale)).mean()
        assert float(found) == pytest.approx(1 / (1 + np.exp(-0.8 / scale)), abs=0.01)


def test_blending_is_exact_at_its_ends() -> None:
    g = torch.Generator().manual_seed(0)
    h, f = torch.randn(4, 5, 6, generator=g), torch.randn(4, 5, 6, generator=g) * 1e3
    gate = torch.tensor([0.0, 1.0, 0.3, 1.0])
    out = blend(h, f, gate)
    assert torch.equal(out[0], h[0]) and torch.equal(out[1], f[1])
    expected = h.numpy() + 0.3 * (f.numpy() - h.numpy())
    np.testing.assert_allclose(out[2], expected[2], rtol=1e-5, atol=1e-3)


def test_top_gates_keep_to_the_budget_row_by_row() -> None:
    logits = torch.tensor([[0.0, 3.0, 2.0, 1.0], [0.0, 1.0, 2.0, 3.0]])
    gates = top(logits, COSTS.each, 0.6, COSTS.fixed)
    assert gates.tolist() == [[1, 1, 1, 0], [1, 0, 0, 1]]
    price = (gates * torch.tensor(COSTS.each)).sum(1) / 10
    assert bool((price <= 0.6).all())
    assert top(logits, COSTS.each, 0.01, COSTS.fixed).tolist() == [[1, 0, 0, 0]] * 2


def test_budget_and_balance() -> None:
    gates = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    assert float(budget_loss(torch.tensor(0.8), 0.5)) == pytest.approx(0.09)
    mean = gates.numpy().mean(0)
    assert float(balance_loss(gates)) == pytest.approx(float(((mean - mean.mean()) ** 2).mean()))
    assert [annealed(0.4, d, 0.5) for d in (0.0, 0.25, 0.5, 1.0)] == pytest.approx(
        [1.0, 0.7, 0.4, 0.4]
    )


def test_stochastic_depth_rises_with_depth_and_time() -> None:
    rates = depth_rates(5, 0.5)
    twin = 0.5 * (np.exp(np.arange(5) * np.log(2) / 4) - 1)
    np.testing.assert_allclose(rates, twin)
    assert depth_rates(5, 0.5, 0.0) == [0.0] * 5 and depth_rates(1, 0.5) == [0.0]
    torch.manual_seed(0)
    gates = stochastic_depth(20_000, rates, torch.zeros(1))
    np.testing.assert_allclose(1 - gates.mean(0), twin, atol=0.01)


def test_fixed_selections() -> None:
    assert fill((3, 2, 1), COSTS, 0.5) == (0, 3)
    assert fill((3, 2, 1), COSTS, 0.8) == (0, 2, 3)
    assert reach((3, 2, 1), COSTS, 0.5) == (0, 3)
    assert reach((3, 2, 1), COSTS, 0.51) == (0, 2, 3)
    with pytest.raises(InputError, match="less than what always runs"):
        fill((1,), COSTS, 0.05)
    orders = {tuple(random_order(COSTS, seed)) for seed in range(5)}
    assert len(orders) > 1 and random_order(COSTS, 3) == random_order(COSTS, 3)


def test_orders_of_a_stack(line: Any, lines: Any) -> None:
    batches = [lines.batch(range(16)), lines.batch(range(16, 32))]
    costs = measure_costs(line, batches)
    assert costs.fixed[0] and not any(costs.fixed[1:]) and len(set(costs.each)) == 1
    assert first_order(line) == list(range(6))
    found = cosine_importance(line, batches)
    state, twin = lines.batch(range(32)), []
    for unit in range(6):
        after = line.run(unit, state)
        a, b = state.x.detach().numpy(), after.x.detach().numpy()
        near = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
        twin.append((1 - near[state.mask.numpy()]).mean())
        state = after
    np.testing.assert_allclose(found, twin, rtol=1e-4)
    score = held_out_loss(line, batches)
    path = greedy_path(score, costs)
    assert sorted(path) == list(range(6)) and path[0] == 0
    # The first that goes is the one that is missed least of all.
    alone = {n: score(tuple(m for m in range(6) if m != n)) for n in range(1, 6)}
    assert path[-1] == min(alone, key=lambda n: alone[n])
    with torch.no_grad():
        passed = gated(line, lines.batch(range(16)), static(line, path[:3]), skip=True)
        first = float(line.loss(line.finish(passed.state), lines.batch(range(16))))
        passed = gated(line, lines.batch(range(16, 32)), static(line, path[:3]), skip=True)
        second = float(line.loss(line.finish(passed.state), lines.batch(range(16, 32))))
    assert score(tuple(path[:3])) == pytest.approx((first + second) / 2)


def test_pooling_is_over_tokens_alone() -> None:
    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], dtype=torch.bool)
    found = pooled(x, mask)
    for row, count in ((0, 2), (1, 4)):
        part = x[row, :count].numpy()
        np.testing.assert_allclose(
            found[row], np.concatenate([part.mean(0), part.max(0)]), rtol=1e-5
        )
    assert not bool(found[2].any())


def _seen(rows: int, seed: int = 0) -> RouterInput:
    g = torch.Generator().manual_seed(seed)
    ones = torch.ones(rows, 3, dtype=torch.bool)
    return RouterInput(
        torch.randn(rows, 3, 8, generator=g),
        ones,
        torch.randn(rows, 3, 8, generator=g),
        ones,
        torch.randn(rows, 4, generator=g),
    )


@pytest.mark.parametrize("off", [(), ("text",), ("vision",), ("recent",), ("text", "recent")])
def test_one_row_whose_words_were_heard_is_routed_as_among_others(
    line: Any, off: tuple[str, ...]
) -> None:
    """Padding beside it, its words pooled before: the same logits."""
    torch.manual_seed(3)
    (router,) = Router(line, RouterConfig(width=8, **dict.fromkeys(off, False))).eval().phases
    seen = _seen(4)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 0], [1, 0, 0]], dtype=torch.bool)
    seen = replace(seen, vision_mask=mask, text_mask=mask | mask.roll(1, 0))
    found = router(seen).detach()
    for row in range(4):
        words = seen.text[row][seen.text_mask[row]]
        vision = seen.vision[row][mask[row]]
        heard = router.heard(words)
        alone = router.of_row(vision if len(vision) else None, heard, seen.recent[row]).detach()
        torch.testing.assert_close(alone, found[row])


def test_the_router_begins_open_and_sees_what_is_on(line: Any) -> None:
    router = Router(line, RouterConfig(keep=0.9)).eval()
    logits = router.logits(0, _seen(50)).detach()
    assert float(logits.sigmoid().mean()) == pytest.approx(0.9, abs=0.03)
    names = ("vision", "text", "recent")
    for name in names:
        off = Router(line, RouterConfig(**{name: False})).eval()
        one, other = _seen(5), _seen(5, seed=1)
        for part in names:
            values = vars(one) | {part: getattr(other, part)}
            changed = not torch.equal(off.logits(0, one), off.logits(0, RouterInput(**values)))
            assert changed == (part != name), (name, part)
    with pytest.raises(InputError, match="every input is off"):
        RouterConfig(vision=False, text=False, recent=False)


def test_fixed_units_are_open_whatever_the_router_says(line: Any) -> None:
    router = Router(line, RouterConfig())
    gates = router.decide(threshold=1e9)(0, _seen(4))
    assert gates.tolist() == [[1, 0, 0, 0, 0, 0]] * 4
    assert router.decide(threshold=-1e9)(0, _seen(4)).tolist() == [[1] * 6] * 4


@pytest.mark.parametrize("rho", [1.0, 0.75, 0.5, 0.35, 0.25])
def test_calibration_spends_the_budget(rho: float) -> None:
    g = torch.Generator().manual_seed(0)
    logits = [torch.randn(400, 2, generator=g), torch.randn(900, 2, generator=g) + 1]
    phases = [[0, 1], [2, 3]]
    threshold = calibrate(logits, phases, COSTS, rho)
    spent = COSTS.each[0]
    for found, units in zip(logits, phases, strict=True):
        for place, unit in enumerate(units):
            if not COSTS.fixed[unit]:
                spent += COSTS.each[unit] * float((found[:, place] > threshold).float().mean())
    assert rho - 0.002 <= spent / 10 <= rho + 1e-7
    with pytest.raises(InputError, match="less than what always runs"):
        calibrate(logits, phases, COSTS, 0.05)


def test_calibration_never_splits_equal_logits() -> None:
    """A router that says the same to all: units open together, the budget is kept."""
    logits = [torch.tensor([[9.0, 2.0, 1.0, 0.0]] * 10)]
    threshold = calibrate(logits, [[0, 1, 2, 3]], COSTS, 0.5)
    assert (logits[0][0] > threshold).tolist() == [True, True, False, False]


def test_nothing_that_is_skipped_is_computed(line: Any, lines: Any) -> None:
    ran: list[tuple[int, int]] = []
    for number, block in enumerate(line.blocks):
        block.register_forward_hook(lambda m, i, o, n=number: ran.append((n, len(o))))
    gates = torch.tensor([[1, 0, 1, 0, 0, 1], [1, 0, 0, 0, 0, 1]]).float()
    out, held = act(line, lines.batch([0, 1]), lambda p, s: gates)
    assert ran == [(0, 2), (2, 1), (5, 2)]
    assert out.shape == (2, 3, 2) and torch.equal(held[0], gates)


def test_unknown_models_and_units(line: Any) -> None:
    with pytest.raises(InputError, match=r"no adapter for Linear; it needs .* register"):
        stack_of(torch.nn.Linear(1, 1))
    with pytest.raises(InputError, match="none of the 6 units"):
        static(line, [7])
    assert everything(line)(0, _seen(2)).tolist() == [[1] * 6] * 2
