"""Where weights begin."""

from __future__ import annotations

from typing import cast

import torch

from sterna.models.config import DuetConfig
from sterna.models.layers import key_bias
from sterna.recipes.config import StartConfig
from sterna.recipes.start import begin
from sterna.recipes.world import World


def drift(*, still: bool) -> float:
    """How far four language layers move their input."""
    sizes = DuetConfig(hidden_size=32, heads=4, ffn_size=64, language_layers=4, feature_size=16)
    model = begin(sizes, StartConfig(spread=0.0, still=still), 0, cast(World, None)).eval()
    words, mask = torch.randint(0, 100, (2, 9)), torch.ones(2, 9, dtype=torch.bool)
    with torch.no_grad():
        x = model.embeddings(words)
        return float((model.lang_encoder(x, key_bias(mask))[0] - x).abs().max())


def test_still_layers_pass_on_what_they_are_given() -> None:
    assert drift(still=True) < 1e-4 < 0.1 < drift(still=False)
