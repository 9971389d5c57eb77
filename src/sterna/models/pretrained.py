"""A DUET in a folder."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sterna.models.config import DuetConfig
from sterna.models.duet import DUET
from sterna.models.folder import (
    CONFIG,
    PROBE,
    WEIGHTS,
    card_of,
    check_outputs,
    read_sizes,
    write_folder,
)
from sterna.models.hub import find_folder
from sterna.models.weights import expected_shapes, read_tensors, require_same


def save_pretrained(model: DUET, folder: str | Path, *, notes: str = "") -> Path:
    """Write model.safetensors, config.json, probe.json and README.md; every file atomically.

    `notes` (Markdown) goes into the card: data, recipe, scores, terms. Returns the folder.
    """
    return write_folder(model, "DUET", model.config, probe(model), _card(model, notes), folder)


def from_pretrained(folder: str | Path, *, check: bool = True) -> DUET:
    """Load a folder of `save_pretrained`, or a policy of the Hub (owner/name), in eval mode.

    Strict: any missing, unexpected or mis-shaped entry is a `WeightsError` with a table; so is a
    probe whose outputs differ from those stored (skipped with `check=False`).
    """
    source = find_folder(folder)
    config = read_config(source / CONFIG)
    state = read_tensors(source / WEIGHTS)
    require_same(expected_shapes(config), state, str(source / WEIGHTS))
    with torch.device("meta"):
        model = DUET(config)
    model.load_state_dict(state, assign=True)
    model.eval()
    if check:
        check_outputs(probe(model), source / PROBE)
    return model


def read_config(path: str | Path) -> DuetConfig:
    """Read the sizes in a config.json; unknown or missing names are an `InputError`."""
    return read_sizes(path, "DUET", DuetConfig)


def probe(model: DUET) -> dict[str, list[float | None]]:
    """Run a fixed small input and return its outputs (None for -inf): two episodes, float32.

    The input is made from sines, so it needs no random generator and is the same everywhere.
    """
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        outputs = _run_probe(model, device)
    model.train(was_training)
    return {
        name: [None if entry == float("-inf") else round(entry, 7) for entry in value.tolist()]
        for name, value in outputs.items()
    }


def _wave(*shape: int) -> Tensor:
    count = torch.Size(shape).numel()
    return torch.sin(torch.arange(count, dtype=torch.float64) * 1.7 + 0.3).float().view(shape)


def _run_probe(model: DUET, device: torch.device) -> dict[str, Tensor]:
    config = model.config
    words, views, nodes = min(5, config.max_positions), 4, 3
    ids = (torch.arange(2 * words).view(2, words) * 997 + 101) % config.vocab_size
    visited = torch.tensor([[False, True, False, False]]).expand(2, -1)
    steps = visited.long() * min(1, config.max_steps - 1)
    text = model.encode_text(ids.to(device), torch.ones_like(ids, dtype=torch.bool).to(device))
    mask = torch.tensor([[True] * views, [True] * (views - 1) + [False]], device=device)
    kinds = torch.tensor([[1, 1, 0, 0]], device=device).expand(2, -1)
    features = _wave(2, views, config.feature_size).to(device)
    panorama = model.encode_panorama(features, _wave(2, views, 7).to(device), kinds, mask)
    out = model.navigate(
        text,
        panorama.embeds,
        mask,
        _wave(2, 1 + views, 14).to(device),
        torch.tensor([[2, 1], [3, 0]], device=device),
        _wave(2, 1 + nodes, config.hidden_size).to(device),
        steps.to(device),
        _wave(2, 1 + nodes, 7).to(device),
        _wave(2, 1 + nodes, 1 + nodes).abs().to(device) * 9,
        torch.ones(2, 1 + nodes, dtype=torch.bool, device=device),
        visited.to(device),
    )
    return {
        "text": text.embeds[:, 0, :8].flatten().cpu(),
        "panorama": panorama.mean[:, :8].flatten().cpu(),
        "fused": out.fused.flatten().cpu(),
    }


def _card(model: DUET, notes: str) -> str:
    config = model.config
    count = sum(parameter.numel() for parameter in model.parameters())
    words = config.vocab_size * config.word_width
    text = [
        "# A DUET navigator",
        "",
        "Reads an instruction, looks around, keeps a map of what it has seen, and says which place",
        "to go to next or to stop (Chen et al., CVPR 2022).",
        "",
        f"- parameters: {count:,} ({count - words:,} without the word table)",
        f"- width {config.hidden_size}, {config.heads} heads, feed-forward {config.ffn_size}, "
        f"layers {config.language_layers} language / {config.panorama_layers} panorama / "
        f"{config.cross_layers} cross-modal",
        f"- width of a view feature {config.feature_size}, of an object feature "
        f"{config.object_size or '(no objects)'}",
    ]
    code = [
        "from sterna.models.duet import DUET",
        "",
        'model = DUET.from_pretrained("this/folder")',
    ]
    return card_of(["vision-and-language-navigation", "DUET"], text, code, notes)
