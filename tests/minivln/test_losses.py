"""The two losses of stage 2 against plain double loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sterna.errors import InputError
from sterna.minivln.stage2 import DistillConfig, soft_cross_entropy, squared_error


def make(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize("normalise", [False, True])
def test_squared_error(normalise: bool) -> None:
    student, teacher, weight = make(0, (7, 5)), make(1, (7, 5)), make(2, (7,)).abs()
    wanted = energy = 0.0
    for i in range(7):
        for d in range(5):
            wanted += float(weight[i]) * (float(teacher[i, d]) - float(student[i, d])) ** 2 / 5
            energy += float(teacher[i, d]) ** 2 / 35
    found = squared_error(student, teacher, weight, normalise=normalise)
    assert float(found) == pytest.approx(wanted / energy if normalise else wanted, rel=1e-6)


def test_squared_error_gives_the_teacher_no_gradient() -> None:
    student, teacher = make(0, (3, 4)).requires_grad_(), make(1, (3, 4)).requires_grad_()
    squared_error(student, teacher, torch.ones(3), normalise=True).backward()
    assert teacher.grad is None and student.grad is not None


def test_soft_cross_entropy() -> None:
    student, teacher = make(3, (6, 9)) * 3, make(4, (6, 9)) * 3
    closed = torch.from_numpy(np.random.default_rng(5).random((6, 9)) < 0.4)
    closed[:, 0] = False
    student[closed] = teacher[closed] = -math.inf
    found = soft_cross_entropy(student, teacher)
    for r in range(6):
        open_ = [j for j in range(9) if not closed[r, j]]
        total_s = sum(math.exp(float(student[r, j])) for j in open_)
        total_t = sum(math.exp(float(teacher[r, j])) for j in open_)
        wanted = 0.0
        for j in open_:
            log_student = float(student[r, j]) - math.log(total_s)
            wanted -= math.exp(float(teacher[r, j])) / total_t * log_student
        assert float(found[r]) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("tau", [0.5, 2.0, 7.0])
def test_temperature(tau: float) -> None:
    student, teacher = make(3, (6, 9)) * 3, make(4, (6, 9)) * 3
    student[:, 4] = teacher[:, 4] = -math.inf
    open_ = np.arange(9) != 4
    s, t = (x.double().numpy()[:, open_] / tau for x in (student, teacher))
    log_s = s - np.log(np.exp(s).sum(1, keepdims=True))
    p = np.exp(t) / np.exp(t).sum(1, keepdims=True)
    found = soft_cross_entropy(student, teacher, tau)
    np.testing.assert_allclose(found.numpy(), -(tau**2) * (p * log_s).sum(1), rtol=1e-5)


def test_temperature_one_is_no_temperature_bit_for_bit() -> None:
    student, teacher = make(3, (6, 9)).requires_grad_(), make(4, (6, 9))
    plain = -(teacher.softmax(-1) * student.log_softmax(-1)).sum(-1)
    (wanted,) = torch.autograd.grad(plain.sum(), student)
    found = soft_cross_entropy(student, teacher, 1.0)
    (gradient,) = torch.autograd.grad(found.sum(), student)
    assert torch.equal(found, plain) and torch.equal(gradient, wanted)


def test_a_high_temperature_compares_the_logits_themselves() -> None:
    """Hinton et al. (2015), eq. 4: the gradient goes to (s - t) / n for centred logits."""
    student, teacher = make(3, (1, 8)), make(4, (1, 8))
    student, teacher = student - student.mean(), teacher - teacher.mean()
    student.requires_grad_()
    soft_cross_entropy(student, teacher, 500.0).sum().backward()
    torch.testing.assert_close(student.grad, (student - teacher).detach() / 8, atol=2e-3, rtol=0)


def test_temperature_over_a_run() -> None:
    assert [DistillConfig(temperature=3.0).tau(d) for d in (0, 0.5, 1)] == [3, 3, 3]
    config = DistillConfig(temperature=4.0, final_temperature=1.0)
    assert [config.tau(d) for d in (0.0, 0.5, 1.0)] == [4.0, 2.5, 1.0]


def test_equal_logits_give_the_entropy() -> None:
    teacher = make(6, (4, 8)) * 2
    p = teacher.softmax(-1)
    entropy = -(p * p.log()).sum(-1)
    torch.testing.assert_close(soft_cross_entropy(teacher, teacher), entropy)


def test_mostly_closed_slots_stay_finite() -> None:
    """Trap 14: 90% of the slots are -inf; loss and gradient are numbers, closed slots get none."""
    rng = np.random.default_rng(7)
    student, teacher = make(8, (50, 40)), make(9, (50, 40))
    closed = torch.from_numpy(rng.random((50, 40)) < 0.9)
    closed[:, 0] = False
    teacher[closed] = -math.inf
    leaf = student.requires_grad_()
    loss = soft_cross_entropy(leaf.masked_fill(closed, -math.inf), teacher)
    assert torch.isfinite(loss).all()
    loss.sum().backward()
    assert leaf.grad is not None and torch.isfinite(leaf.grad).all()
    assert (leaf.grad[closed] == 0).all() and leaf.grad[~closed].abs().sum() > 0
    open_ = ~closed
    wanted = torch.zeros_like(teacher)
    for r in range(50):
        wanted[r, open_[r]] = leaf.detach()[r, open_[r]].softmax(0) - teacher[r, open_[r]].softmax(
            0
        )
    torch.testing.assert_close(leaf.grad, wanted, atol=1e-6, rtol=1e-4)


def test_only_stop_open() -> None:
    logits = torch.tensor([[0.3, -math.inf, -math.inf]])
    assert float(soft_cross_entropy(logits, logits + 1.0)) == 0.0


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["temperature", "final_temperature"])
def test_bad_temperatures(name: str, bad: float) -> None:
    with pytest.raises(InputError, match=f"{name} must be positive and finite, found"):
        DistillConfig(**{name: bad})


def test_bad_corrections() -> None:
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(InputError, match="corrections is a share, from 0 to 1, found"):
            DistillConfig(corrections=bad)
    with pytest.raises(InputError, match="corrections need a teacher"):
        DistillConfig(corrections=0.5, weight=0)


def test_bad_settings() -> None:
    with pytest.raises(InputError, match="weight must be >= 0, found -1"):
        DistillConfig(weight=-1)
    with pytest.raises(InputError, match="every term is off"):
        DistillConfig(text=False, panorama=False, fuse=False)
    assert DistillConfig(weight=0, text=False, panorama=False, fuse=False).weight == 0
