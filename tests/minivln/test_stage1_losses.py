"""The losses and the block map of stage 1 against plain loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from sterna.errors import InputError
from sterna.minivln.stage1 import Stage1Config, attention_loss, block_map, block_maps, hidden_loss
from sterna.models.attention import raw_scores
from sterna.models.presets import preset


def make(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


MASK = torch.tensor([[True, True, True, False], [True, False, True, True], [True] * 4])


@pytest.mark.parametrize("normalise", [False, True])
def test_hidden_loss(normalise: bool) -> None:
    """Eq. (4), MSE(H^T, H^S W_h), over valid tokens alone."""
    student, teacher, w = make(0, (3, 4, 5)), make(1, (3, 4, 7)), make(2, (7, 5))
    error = energy = 0.0
    count = 0
    for r in range(3):
        for q in range(4):
            if not MASK[r, q]:
                continue
            for e in range(7):
                mapped = sum(float(student[r, q, d]) * float(w[e, d]) for d in range(5))
                error += (float(teacher[r, q, e]) - mapped) ** 2
                energy += float(teacher[r, q, e]) ** 2
                count += 1
    wanted = error / energy if normalise else error / count
    found = hidden_loss(student @ w.T, teacher, MASK, normalise=normalise)
    assert float(found) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("normalise", [False, True])
def test_attention_loss(normalise: bool) -> None:
    """Eqs. (2) and (3): scores Q K^T / sqrt(head width), mean over heads, valid pairs alone."""
    heads, error, energy, pairs = 2, 0.0, 0.0, 0
    models = {"S": (make(3, (3, 4, 6)), 3), "T": (make(4, (3, 4, 10)), 5)}
    maps = {
        name: (make(5, (x.shape[2], x.shape[2])), make(6, (x.shape[2], x.shape[2])))
        for name, (x, _) in models.items()
    }

    def score(name: str, r: int, h: int, i: int, j: int) -> float:
        x, e = models[name]
        wq, wk = (w.double().numpy()[:, h * e : (h + 1) * e] for w in maps[name])
        tokens = x[r].double().numpy()
        return float((tokens[i] @ wq) @ (tokens[j] @ wk)) / math.sqrt(e)

    for r in range(3):
        for i in range(4):
            for j in range(4):
                if MASK[r, i] and MASK[r, j]:
                    pairs += 1
                    for h in range(heads):
                        t = score("T", r, h, i, j)
                        error += (t - score("S", r, h, i, j)) ** 2
                        energy += t**2
    wanted = error / energy if normalise else error / (pairs * heads)

    def scores(name: str) -> torch.Tensor:
        x, e = models[name]
        q, k = ((x @ w).view(3, 4, heads, e).transpose(1, 2) for w in maps[name])
        return raw_scores(q, k)

    found = attention_loss(scores("S"), scores("T"), MASK, normalise=normalise)
    assert float(found) == pytest.approx(wanted, rel=1e-6)
    spoiled = scores("S").masked_fill(~MASK[:, None, None, :], 1e4)
    again = attention_loss(spoiled, scores("T"), MASK, normalise=normalise)
    assert float(again) == float(found), "padded keys do not count, whatever they hold"


def test_losses_give_the_teacher_no_gradient() -> None:
    student, teacher = make(0, (3, 4, 5)).requires_grad_(), make(1, (3, 4, 5)).requires_grad_()
    hidden_loss(student, teacher, MASK, normalise=True).backward()
    assert teacher.grad is None and student.grad is not None
    assert (student.grad[~MASK] == 0).all() and (student.grad[MASK] != 0).all()
    student, teacher = make(0, (3, 2, 4, 4)).requires_grad_(), make(1, (3, 2, 4, 4))
    attention_loss(student, teacher.requires_grad_(), MASK, normalise=True).backward()
    assert teacher.grad is None and student.grad is not None
    pairs = (MASK[:, :, None] & MASK[:, None, :])[:, None].expand(-1, 2, -1, -1)
    assert (student.grad[~pairs] == 0).all() and (student.grad[pairs] != 0).all()


def test_the_papers_layer_map() -> None:
    """Trap 15: 3m in language, 2m in the panorama and both cross-modal encoders."""
    maps = block_maps(preset("scalevln-r2r"), preset("minivln"))
    assert maps == {"language": (3, 6, 9), "panorama": (2,), "local": (2, 4), "global": (2, 4)}


@pytest.mark.parametrize(("teacher", "student"), [(9, 4), (7, 2), (5, 5), (12, 1), (1, 1), (4, 0)])
def test_other_depths(teacher: int, student: int) -> None:
    blocks = block_map(teacher, student)
    assert len(blocks) == student
    assert all(a < b for a, b in itertools.pairwise(blocks))
    assert all(1 <= block <= teacher for block in blocks)
    if student:
        assert blocks[-1] == teacher


def test_a_deeper_student_is_refused() -> None:
    with pytest.raises(InputError, match="3 blocks where the teacher has 2; give it at most 2"):
        block_map(2, 3)
    with pytest.raises(InputError, match=r"language blocks: .* at most 3"):
        block_maps(preset("minivln"), preset("scalevln-r2r"))


def test_bad_settings() -> None:
    with pytest.raises(InputError, match="weight must be >= 0, found -1"):
        Stage1Config(weight=-1)
    with pytest.raises(InputError, match="every term is off"):
        Stage1Config(embedding=False, attention=False, hidden=False)
    assert Stage1Config(weight=0, embedding=False, attention=False, hidden=False).weight == 0
