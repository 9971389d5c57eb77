"""Weights and features of the golden data, made from the formulas in its README (section 1)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sterna.models.config import DuetConfig

LIVELY = (0.1, "v2:")
"""Sigma and tag of the weights called lively or w1."""


def rng(name: str) -> np.random.Generator:
    """Return the generator that a name stands for."""
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little")))


def formula_tensor(name: str, shape: tuple[int, ...], sigma: float, tag: str) -> Tensor:
    """Return the value of the parameter `name` (prefixes stripped) under the rule W(sigma, tag)."""
    z = rng(tag + name).standard_normal(shape, dtype=np.float32)
    if len(shape) >= 2:
        scale = 0.5 if "sprel_linear.weight" in name else sigma
        return torch.from_numpy(np.float32(scale) * z)
    z = np.float32(0.1) * z
    return torch.from_numpy(np.float32(1) + z if name.endswith("weight") else z)


def formula_values(
    shapes: Mapping[str, tuple[int, ...]], sigma: float = 0.02, tag: str = ""
) -> dict[str, Tensor]:
    """Return formula values for named shapes; the MLM decoder is tied to the word table."""
    tied = {"mlm_head.predictions.decoder.weight": "embeddings.word_embeddings.weight"}
    return {
        name: formula_tensor(tied.get(name, name), shape, sigma, tag)
        for name, shape in shapes.items()
    }


def formula_state(config: DuetConfig, sigma: float = 0.02, tag: str = "") -> dict[str, Tensor]:
    """Return the state dict of `DUET(config)` under the rule W(sigma, tag)."""
    from sterna.models.duet import DUET

    with torch.device("meta"):
        model = DUET(config)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    return formula_values(shapes, sigma, tag)


def formula_model(config: DuetConfig, sigma: float = 0.02, tag: str = "") -> torch.nn.Module:
    """Return `DUET(config)` in eval mode with the weights of `formula_state`."""
    from sterna.models.duet import DUET

    with torch.device("meta"):
        model = DUET(config)
    model.load_state_dict(formula_state(config, sigma, tag), assign=True)
    return model.eval()


def view_features(key: str, width: int = 768) -> np.ndarray:
    """Return the 36 view features [36, width] of `<scan>_<viewpoint>`."""
    return rng("view:" + key).standard_normal((36, width), dtype=np.float32)


def object_feature(key: str, object_id: int, width: int = 768) -> np.ndarray:
    """Return the feature [width] of an object of `<scan>_<viewpoint>`."""
    return rng(f"obj:{key}_{object_id}").standard_normal(width, dtype=np.float32)
