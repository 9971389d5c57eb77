"""The losses against NumPy twins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sterna.actdistill.graph import Signals
from sterna.actdistill.losses import (
    IGNORED,
    LossConfig,
    Targets,
    action_distance,
    align_loss,
    depth_weights,
    distillation,
    structure_loss,
    truth_loss,
)
from sterna.actdistill.stack import Choices, Chunk, Pointer
from sterna.errors import InputError

CHUNK = Chunk(steps=3, size=2)


def _softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_align_and_structure() -> None:
    s, t = _draw(5, 7), _draw(5, 7) * 2 + 1
    a, b = s.double().numpy(), t.double().numpy()
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    assert float(align_loss(s, t)) == pytest.approx(float((1 - (a * b).sum(1)).mean()), abs=1e-6)
    matrix = ((a @ a.T - b @ b.T) ** 2).mean()
    assert float(structure_loss(s, t)) == pytest.approx(float(matrix), abs=1e-6)
    # Structure knows nothing of a turn of all vectors, align does.
    turn = torch.linalg.qr(_draw(7, 7)).Q
    assert float(structure_loss(s @ turn, s)) < 1e-10 < float(align_loss(s @ turn, s))


def test_actions_as_numbers() -> None:
    a, truth, teacher = _draw(4, 3, 2), _draw(4, 3, 2) + 1, _draw(4, 3, 2) * 3
    for other, found in (
        (truth, truth_loss(CHUNK, a, truth)),
        (teacher, action_distance(CHUNK, a, teacher)),
    ):
        expected = ((a.numpy() - other.numpy()) ** 2).mean()
        assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_actions_as_classes() -> None:
    kind, logits = Choices(slots=2, classes=5), _draw(4, 2, 5)
    truth = torch.tensor([[1, 2], [0, IGNORED], [4, 4], [IGNORED, IGNORED]])
    p = _softmax(logits.double().numpy())
    entropies = [
        -np.log(p[r, s, truth[r, s]]) for r in range(4) for s in range(2) if truth[r, s] != IGNORED
    ]
    assert float(truth_loss(kind, logits, truth)) == pytest.approx(np.mean(entropies), rel=1e-5)
    nothing = torch.full((4, 2), IGNORED)
    assert float(truth_loss(kind, logits, nothing)) == 0
    target = _draw(4, 2, 5) * 2
    q = _softmax(target.double().numpy())
    divergence = (q * (np.log(q) - np.log(p))).sum(-1).mean()
    assert float(action_distance(kind, logits, target)) == pytest.approx(divergence, rel=1e-5)
    assert float(action_distance(kind, logits, logits)) == pytest.approx(0, abs=1e-6)


def test_actions_as_places() -> None:
    logits, target = _draw(3, 6), _draw(3, 6).flip(0) * 2
    closed = torch.arange(6).expand(3, -1) >= torch.tensor([[3], [4], [6]])
    logits, target = (x.masked_fill(closed, -torch.inf) for x in (logits, target))
    logits.requires_grad_()
    found = action_distance(Pointer(), logits, target)
    expected = []
    for row, count in enumerate((3, 4, 6)):
        q = _softmax(target[row, :count].double().numpy())
        p = _softmax(logits[row, :count].detach().double().numpy())
        expected.append((q * np.log(q / p)).sum())
    assert float(found.detach()) == pytest.approx(np.mean(expected), rel=1e-5)
    (grad,) = torch.autograd.grad(found, logits)
    assert bool(torch.isfinite(grad).all()) and not bool(grad[closed].any())
    labels = torch.tensor([2, IGNORED, 5])
    loss = truth_loss(Pointer(), logits, labels)
    p = [_softmax(logits[r, :c].detach().double().numpy()) for r, c in ((0, 3), (2, 6))]
    assert float(loss.detach()) == pytest.approx(-(np.log(p[0][2]) + np.log(p[1][5])) / 2, rel=1e-5)


def test_depth_weights() -> None:
    raw = (np.arange(5) / 4) ** 2
    np.testing.assert_allclose(depth_weights(range(5), [5] * 5, 2.0), raw / raw.mean())
    np.testing.assert_allclose(depth_weights(range(5), [5] * 5, 0.0), np.ones(5))
    two = depth_weights([0, 1, 0, 1, 2], [2, 2, 3, 3, 3], 1.0)
    np.testing.assert_allclose(two, np.array([0, 1, 0, 0.5, 1]) / 0.5)
    assert depth_weights([0], [1], 2.0) == [1.0]


def _signals(units: int, rows: int, seed: int, steps: int = 3) -> Signals:
    g = torch.Generator().manual_seed(seed)
    return Signals(
        {n: torch.randn(rows, 4, generator=g) for n in range(units)},
        {n: torch.randn(rows, steps, 2, generator=g) for n in range(units)},
    )


def _twin(mine: Signals, theirs: Signals, truth: Tensor, config: LossConfig) -> float:
    """The whole objective in NumPy, in the release's words for variant paper."""
    count, paper = len(mine.semantic), config.variant == "paper"
    raw = (np.arange(count) / (count - 1)) ** config.gamma
    total = 0.0
    for layer, weight in enumerate(raw / raw.mean()):
        s, t = (x.semantic[layer].double().numpy() for x in (mine, theirs))
        s, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (s, t))
        semantic = (1 - (s * t).sum(1)).mean() + config.eta * ((s @ s.T - t @ t.T) ** 2).mean()
        a = mine.action[layer].double().numpy()
        others = [truth.double().numpy(), theirs.action[layer].double().numpy()]
        if layer or paper:
            others.append(mine.action[layer - 1].double().numpy() if layer else 0 * a)
        action = sum(((a - other) ** 2).mean() for other in others)
        total += weight * (config.alpha * semantic + config.beta * action)
    return float(total if paper else total / count)


@pytest.mark.parametrize("variant", ["sterna", "paper"])
def test_the_whole_objective(line: Any, variant: Any) -> None:
    """variant paper: sum over layers of w (alpha sem + beta act), last step of a chunk alone."""
    steps = 1 if variant == "paper" else 3
    kind = Chunk(steps=steps, size=2)
    mine, theirs = _signals(6, 5, 1, steps), _signals(6, 5, 2, steps)
    truth = _draw(5, steps, 2)
    config = LossConfig(variant=variant, alpha=0.7, beta=1.3)
    targets = Targets(theirs, dict.fromkeys(range(6), truth))
    total, terms = distillation(line, kind, mine, targets, config)
    assert float(total) == pytest.approx(_twin(mine, theirs, truth, config), rel=1e-5)
    assert set(terms) == {"align", "structure", "truth", "teacher", "previous"}


@pytest.mark.parametrize("term", ["align", "structure", "truth", "teacher", "previous"])
def test_each_term_can_be_switched_off(line: Any, term: str) -> None:
    mine, theirs, truth = _signals(6, 5, 1), _signals(6, 5, 2), _draw(5, 3, 2)
    targets = Targets(theirs, dict.fromkeys(range(6), truth))
    _, whole = distillation(line, CHUNK, mine, targets, LossConfig())
    total, rest = distillation(line, CHUNK, mine, targets, LossConfig(**{term: False}))
    assert set(whole) - set(rest) == {term}
    assert all(torch.equal(rest[name], whole[name]) for name in rest)
    nothing = dict.fromkeys(("align", "structure", "truth", "teacher", "previous"), False)
    assert float(distillation(line, CHUNK, mine, targets, LossConfig(**nothing))[0]) == 0
    assert float(total) > 0


def test_the_layer_before_is_held_still(line: Any) -> None:
    mine = _signals(2, 5, 1)
    leaves = {n: a.requires_grad_() for n, a in mine.action.items()}
    config = LossConfig(align=False, structure=False, truth=False, teacher=False, gamma=0.0)
    line.units = line.units[:2]
    targets = Targets(_signals(2, 5, 2), {})
    total, _ = distillation(line, CHUNK, Signals(mine.semantic, leaves), targets, config)
    grads = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    assert grads[0] is None and grads[1] is not None


def test_what_it_refuses() -> None:
    with pytest.raises(InputError, match="eta must be 0 or more"):
        LossConfig(eta=-1)
    with pytest.raises(InputError, match="variant"):
        LossConfig(variant="other")  # type: ignore[arg-type]
