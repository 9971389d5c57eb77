"""A small navigator with uneven weights, and a padded batch for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sterna.models.config import DuetConfig
from sterna.models.duet import DUET, NavigationOutput
from sterna.models.text import TextMemory

CONFIG = DuetConfig(
    hidden_size=24,
    heads=3,
    ffn_size=40,
    language_layers=2,
    panorama_layers=2,
    cross_layers=2,
    vocab_size=50,
    max_positions=20,
    max_steps=10,
    feature_size=8,
)
Batch = dict[str, Tensor]


def make_model(**change: Any) -> DUET:
    torch.manual_seed(0)
    model = DUET(replace(CONFIG, **change))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def make_batch(rows: int = 3, words: int = 7, views: int = 6, nodes: int = 5) -> Batch:
    """Rows of different lengths, padded as a caller pads."""
    g = torch.Generator().manual_seed(1)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    def lengths(most: int, least: int) -> Tensor:
        counts = torch.arange(rows).remainder(most - least + 1)
        return torch.arange(most)[None] < (most - counts)[:, None]

    node_mask = lengths(1 + nodes, 4)
    candidates = torch.tensor([3, 2, 1])[None].repeat(rows, 1)
    candidates[1:, 2] = 0
    kinds = (torch.arange(views) < 3).long()[None].repeat(rows, 1)
    kinds[1:, 2] = 0
    positions = noise(rows, 1, 14).expand(-1, 1 + views, -1).clone()
    positions[:, :, 7:] = 0
    positions[:, 1:4, 7:] = noise(rows, 3, 7) * (candidates > 0)[..., None]
    distances = noise(rows, 1 + nodes, 1 + nodes).abs() * 4
    both = node_mask[:, :, None] & node_mask[:, None]
    distances = distances * both
    distances[:, 0], distances[:, :, 0] = 0, 0
    visited = torch.zeros(rows, 1 + nodes, dtype=torch.bool)
    visited[:, 1] = True
    features = noise(rows, 1 + nodes, 24)
    features[:, 0] = 0
    return {
        "ids": torch.randint(50, (rows, words), generator=g),
        "words": lengths(words, 4),
        "features": noise(rows, views, 8),
        "locations": noise(rows, views, 7),
        "kinds": kinds,
        "views": lengths(views, 4),
        "positions": positions,
        "candidates": candidates,
        "node_features": features,
        "node_steps": visited.long(),
        "node_positions": noise(rows, 1 + nodes, 7),
        "node_distances": distances,
        "node_mask": node_mask,
        "visited": visited,
    }


def run(
    model: DUET,
    b: Batch,
    *,
    details: bool = False,
    text: TextMemory | None = None,
    decide: bool = False,
    object_mask: Tensor | None = None,
) -> NavigationOutput:
    if text is None:
        text = model.encode_text(b["ids"], b["words"], details=details)
    panorama = model.encode_panorama(
        b["features"], b["locations"], b["kinds"], b["views"], details=details
    )
    return model.navigate(
        text,
        panorama.embeds,
        b["views"],
        b["positions"],
        b["candidates"],
        b["node_features"],
        b["node_steps"],
        b["node_positions"],
        b["node_distances"],
        b["node_mask"],
        b["visited"],
        details=details,
        decide=decide,
        object_mask=object_mask,
    )
