"""GRPO's formulas against plain loops; signs, zero groups, the first update."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sterna.errors import InputError
from sterna.vlnr1.objective import (
    Mean,
    ObjectiveConfig,
    Scale,
    clipped,
    divergence,
    entropy,
    group_advantages,
    item_weights,
    k3,
    objective,
    ratios,
)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def twin_advantages(rewards: np.ndarray, scale: str) -> np.ndarray:
    out, every = np.zeros_like(rewards), rewards.ravel().tolist()
    whole = math.sqrt(sum((r - sum(every) / len(every)) ** 2 for r in every) / len(every))
    for b, row in enumerate(rewards.tolist()):
        if len(set(row)) == 1:
            continue
        mean = sum(row) / len(row)
        spread = math.sqrt(sum((r - mean) ** 2 for r in row) / len(row))
        for g, r in enumerate(row):
            out[b, g] = (r - mean) / {"group": spread + 1e-6, "batch": whole + 1e-6, "none": 1}[
                scale
            ]
    return out


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages(scale: Scale) -> None:
    rewards = np.random.default_rng(0).random((6, 8))
    rewards[2] = 0.1
    rewards[3, 1:] = rewards[3, 0]
    rewards[3, 5] += 1e-3
    found = group_advantages(rewards, scale)
    np.testing.assert_allclose(found, twin_advantages(rewards, scale), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.sum(1), 0, atol=1e-9)
    if scale == "group":
        assert found[0].std() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1e9])
def test_trap_19_equal_rewards_give_exactly_zero(scale: Scale, value: float) -> None:
    """0.1 has no exact mean: without a guard, rounding divided by a tiny deviation is noise."""
    found = group_advantages(np.full((3, 7), value), scale)
    assert (found == 0).all()


def test_a_reward_that_is_not_finite_is_refused() -> None:
    with pytest.raises(InputError, match="not finite"):
        group_advantages(np.array([[0.0, math.inf]]))


@pytest.mark.parametrize("mean", ["answers", "items", "longest"])
def test_item_weights(mean: Mean) -> None:
    lengths = np.array([3, 1, 0, 5])
    values = [np.random.default_rng(i).random(n) for i, n in enumerate(lengths)]
    weights = item_weights(lengths, mean, longest=6)
    found = sum(float(w * v.sum()) for w, v in zip(weights, values, strict=True))
    wanted = {
        "answers": sum(v.mean() for v in values if len(v)) / 4,
        "items": np.concatenate(values).mean(),
        "longest": np.concatenate(values).sum() / (4 * 6),
    }[mean]
    assert found == pytest.approx(wanted, rel=1e-12)
    assert (item_weights(np.zeros(2, int), mean, longest=6) == 0).all()


def twin_clipped(ratio: float, advantage: float, below: float, above: float) -> float:
    held = min(max(ratio, 1 - below), 1 + above)
    return min(ratio * advantage, held * advantage)


def test_clipped() -> None:
    ratio, advantage = (draw(0, 200) * 0.4).exp(), draw(1, 200)
    found = clipped(ratio, advantage, 0.2, 0.3)
    wanted = [
        twin_clipped(float(r), float(a), 0.2, 0.3) for r, a in zip(ratio, advantage, strict=True)
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [(1.5, 1.0, 0), (1.5, -1.0, 1), (0.5, 1.0, 1), (0.5, -1.0, 0), (1.1, 1.0, 1), (0.9, -1.0, 1)],
)
def test_where_the_clip_stops_the_gradient(ratio: float, advantage: float, moves: int) -> None:
    """Nothing is gained by going further the way one has gone; the way back stays open."""
    now = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    clipped(ratios(now, torch.zeros(1)), torch.tensor([advantage]), 0.2, 0.2).sum().backward()
    assert now.grad is not None
    assert float(now.grad) == pytest.approx(ratio * advantage * moves)


def test_k3_is_the_published_estimator_and_never_negative() -> None:
    now, reference = draw(0, 500), draw(1, 500)
    wanted = [
        math.exp(q - p) - (q - p) - 1 for p, q in zip(now.tolist(), reference.tolist(), strict=True)
    ]
    found = k3(now, reference)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
    assert (found >= 0).all() and float(k3(now, now).abs().max()) == 0


def test_k3_draws_the_policy_towards_its_start() -> None:
    """Minimising it raises the log-probability of what the start policy likes more: the sign."""
    now = torch.tensor([-2.0, -1.0], requires_grad=True)
    k3(now, torch.tensor([-1.0, -2.0])).sum().backward()
    assert now.grad is not None
    assert float(now.grad[0]) < 0 < float(now.grad[1])


def test_k3_agrees_with_the_divergence_on_average() -> None:
    p, q = (draw(seed, 6).log_softmax(0) for seed in (0, 1))
    estimated = (p.exp() * k3(p, q)).sum()
    assert float(estimated) == pytest.approx(float(divergence(p[None], q[None])), rel=1e-9)


def test_divergence_and_entropy_with_closed_choices() -> None:
    logits, other = draw(0, 5, 7), draw(1, 5, 7)
    logits[:, 3] = other[:, 3] = -math.inf
    logits[2, 5:] = other[2, 5:] = -math.inf
    logits.requires_grad_()
    p, q = logits.log_softmax(1), other.log_softmax(1)
    kl, noise = divergence(p, q), entropy(p)
    (kl.sum() + noise.sum()).backward()
    for i in range(5):
        a, b = p[i].detach().exp().numpy(), q[i].exp().numpy()
        kept = a > 0
        wanted = sum(x * math.log(x / y) for x, y in zip(a[kept], b[kept], strict=True))
        assert float(kl[i].detach()) == pytest.approx(wanted, rel=1e-9)
        assert float(noise[i].detach()) == pytest.approx(
            -sum(x * math.log(x) for x in a[kept]), rel=1e-9
        )
    assert logits.grad is not None and bool(torch.isfinite(logits.grad).all())
    assert float(divergence(q, q).abs().max()) == 0


def padded(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Log-probabilities now, old and of the start [N, T], advantages and weights."""
    now, old, start = (draw(seed + i, 4, 6) * 0.3 - 1 for i in range(3))
    lengths = np.array([6, 2, 4, 1])
    mask = torch.from_numpy(np.arange(6) < lengths[:, None])
    weights = torch.from_numpy(item_weights(lengths, "answers"))[:, None] * mask
    return now, old, start, draw(seed + 3, 4)[:, None].expand(4, 6), weights


def test_objective_equals_the_twin() -> None:
    now, old, start, advantages, weights = padded(0)
    config = ObjectiveConfig(clip_above=0.3, kl_weight=0.1, entropy_weight=0.05)
    noise = draw(9, 4, 6).abs()
    found = objective(
        now, old, advantages, weights, config, divergences=k3(now, start), entropies=noise
    )
    total = clips = 0.0
    for i, length in enumerate((6, 2, 4, 1)):
        for t in range(length):
            ratio, gap = math.exp(float(now[i, t] - old[i, t])), float(start[i, t] - now[i, t])
            a = float(advantages[i, t])
            value = twin_clipped(ratio, a, 0.2, 0.3) - 0.1 * (math.exp(gap) - gap - 1)
            total += (value + 0.05 * float(noise[i, t])) / (4 * length)
            gone = (ratio > 1.3 and a > 0) or (ratio < 0.8 and a < 0)
            clips += gone / (4 * length)
    assert float(found.loss) == pytest.approx(-total, rel=1e-9)
    assert found.metrics["clip_share"] == pytest.approx(clips, rel=1e-9)


def test_the_ratio_is_exactly_one_at_the_first_update() -> None:
    """Its gradient is then that of plain policy gradient: -w A."""
    now, _, _, advantages, weights = padded(5)
    now.requires_grad_()
    found = objective(now, None, advantages, weights, ObjectiveConfig())
    found.loss.backward()
    assert found.metrics["ratio_off"] == 0 and found.metrics["clip_share"] == 0
    assert now.grad is not None
    np.testing.assert_allclose(now.grad, -(weights * advantages), rtol=1e-12)


def test_padding_changes_nothing() -> None:
    now, old, start, advantages, weights = padded(0)
    noisy = torch.where(weights > 0, now, torch.full_like(now, 7.0)).requires_grad_()
    config = ObjectiveConfig()
    first = objective(now, old, advantages, weights, config, divergences=k3(now, start))
    second = objective(noisy, old, advantages, weights, config, divergences=k3(noisy, start))
    second.loss.backward()
    assert float(first.loss) == float(second.loss.detach())
    assert noisy.grad is not None and (noisy.grad[weights == 0] == 0).all()


def test_an_entropy_bonus_flattens() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0]], requires_grad=True)
    now = logits.log_softmax(1)
    out = objective(
        now[:, 0],
        None,
        torch.zeros(1),
        torch.ones(1),
        ObjectiveConfig(entropy_weight=1.0, kl_weight=0.0),
        entropies=entropy(now),
    )
    out.loss.backward()
    assert logits.grad is not None and float(logits.grad[0, 0]) > 0


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"group": 1}, "at least 2"),
        ({"scale": "sum"}, "scale"),
        ({"mean": "tokens"}, "mean"),
        ({"clip": 1.5}, "clip"),
        ({"kl_weight": -0.1}, "kl_weight"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, object], word: str) -> None:
    with pytest.raises(InputError, match=word):
        ObjectiveConfig(**change)  # type: ignore[arg-type]
