"""Word vectors that share a space with captions: sentence embeddings of single words, narrowed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sterna.errors import InputError
from sterna.models.sentence import SentenceEncoder


@dataclass(frozen=True)
class WordTable:
    """Word vectors and the map that made them: vectors = (embedding - mean) @ components."""

    vectors: NDArray[np.float32]
    """[vocabulary, W]; zero for special and unused entries."""
    mean: NDArray[np.float32]
    """Mean embedding of the vocabulary, [D]."""
    components: NDArray[np.float32]
    """Principal directions as columns, [D, W], orthonormal."""
    explained: float
    """Share of the variance that the W directions keep."""

    def image_linear(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (weight [W, D], bias [W]) of a linear that maps sentence embeddings likewise.

        Put into the image linear of a model whose view features are embedded captions, it aligns
        captions with words from the start.
        """
        return self.components.T.copy(), -self.mean @ self.components


def word_table(
    encoder: SentenceEncoder, width: int, *, dtype: torch.dtype = torch.float32
) -> WordTable:
    """Embed every vocabulary entry as a sentence and keep its `width` principal components.

    The surface string of a word piece has its `##` stripped. Special ([CLS], [PAD], ...) and unused
    entries get zero vectors and do not count in the components. `InputError` if `width` > D.
    """
    if not 1 <= width <= encoder.width:
        raise InputError(
            f"word table: width {width} must be 1 .. {encoder.width}, the encoder's width"
        )
    words = encoder.tokenizer.vocabulary()
    real = np.array([not (w.startswith("[") and w.endswith("]") and len(w) > 2) for w in words])
    surfaces = [w.removeprefix("##") for w, keep in zip(words, real, strict=True) if keep]
    embedded = encoder.encode(surfaces, batch_size=512, dtype=dtype)
    mean, components, explained = principal_components(embedded, width)
    vectors = np.zeros((len(words), width), np.float32)
    vectors[real] = (embedded - mean) @ components
    return WordTable(vectors, mean, components, explained)


def principal_components(
    points: NDArray[np.float32], width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """Return (mean [D], top directions [D, width], share of variance) of points [n, D].

    Signs are fixed (largest entry of a direction positive), so that the result is reproducible.
    """
    mean = points.mean(0, dtype=np.float64)
    centred = points - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / max(1, len(points) - 1))
    top = vectors[:, ::-1][:, :width]
    top = top * np.sign(top[np.abs(top).argmax(0), np.arange(width)])
    share = float(values[::-1][:width].sum() / max(values.sum(), 1e-12))
    return mean.astype(np.float32), top.astype(np.float32), share
