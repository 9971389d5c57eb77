"""What is hidden: shares, labels, and at least one of everything."""

from __future__ import annotations

import numpy as np
import pytest

from sterna.errors import InputError
from sterna.train.pretrain.masking import KEPT, MaskingConfig, mask_regions, mask_words

CONFIG = MaskingConfig()


def words(rows: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids outside the range of replacements, so that a replacement shows."""
    lengths = width - np.arange(rows) % 5
    valid = np.arange(width) < lengths[:, None]
    return np.where(valid, 1000 + np.arange(width), 0), valid


def test_shares_of_words() -> None:
    """15% asked for; of these 80% hidden, 10% another word, 10% as they were."""
    ids, valid = words(4000, 40)
    shown, labels = mask_words(ids, valid, np.random.default_rng(0), CONFIG)
    asked = labels != KEPT
    assert not (asked & ~valid).any()
    assert np.array_equal(labels[asked], ids[asked])
    assert np.array_equal(shown[~asked], ids[~asked])
    assert asked.sum() / valid.sum() == pytest.approx(0.15, abs=0.003)
    masked, kept = shown[asked] == 103, shown[asked] == ids[asked]
    assert masked.mean() == pytest.approx(0.8, abs=0.01)
    assert kept.mean() == pytest.approx(0.1, abs=0.01)
    other = shown[asked][~masked & ~kept]
    assert 1996 <= other.min() < 2100 and 29500 < other.max() < 29611


def test_no_instruction_without_a_hidden_word() -> None:
    """Where none was drawn the first word is hidden, as in the original."""
    ids, valid = words(3000, 3)
    ids, valid = ids[:, :3], valid[:, :3]
    valid[:, 0] = True
    shown, labels = mask_words(ids, valid, np.random.default_rng(1), CONFIG)
    asked = labels != KEPT
    assert asked.any(1).all()
    alone = asked[:, 0] & ~asked[:, 1:].any(1)
    assert alone.mean() > 0.5 and (shown[alone, 0] == 103).mean() > 0.9


def test_regions() -> None:
    counts = np.array([40, 36, 1, 0] * 500)
    hidden = mask_regions(counts, np.random.default_rng(2), 0.15)
    assert hidden.shape == (2000, 40)
    assert not (hidden & (np.arange(40) >= counts[:, None])).any()
    assert (hidden.sum(1) >= np.minimum(counts, 1)).all()
    assert hidden[counts == 40].mean() == pytest.approx(0.15, abs=0.01)
    few = mask_regions(np.full(2000, 3), np.random.default_rng(3), 1e-9)
    assert (few.sum(1) == 1).all()
    assert few.mean(0) == pytest.approx(np.full(3, 1 / 3), abs=0.04)
    assert mask_regions(np.zeros(2, np.int64), np.random.default_rng(4), 0.15).shape == (2, 0)


def test_bad_settings() -> None:
    with pytest.raises(InputError, match="words and regions must lie between 0 and 1, found 0"):
        MaskingConfig(words=0)
    with pytest.raises(InputError, match="first_word below end_word"):
        MaskingConfig(first_word=9, end_word=9)
