"""A model in a folder: safetensors, sizes, a card, and a probe that proves it still computes."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from sterna import files
from sterna.errors import InputError
from sterna.models.config import DuetConfig
from sterna.models.duet import DUET
from sterna.models.weights import WeightsError, expected_shapes, read_tensors, require_same

WEIGHTS, CONFIG, PROBE, CARD = "model.safetensors", "config.json", "probe.json", "README.md"
FORMAT = 1
TOLERANCE = 1e-4
"""Largest difference of a probe output, absolute and relative; other CPUs differ by about 1e-6."""


def save_pretrained(model: DUET, folder: str | Path, *, notes: str = "") -> Path:
    """Write model.safetensors, config.json, probe.json and README.md; every file atomically.

    `notes` (Markdown) goes into the card: data, recipe, scores, terms. Returns the folder.
    """
    target = Path(folder)
    state = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    files.write_bytes(target / WEIGHTS, save(state, metadata={"format": "pt"}))
    config = {"model": "DUET", "format": FORMAT, "sizes": asdict(model.config)}
    files.write_json(target / CONFIG, config)
    files.write_json(target / PROBE, {"tolerance": TOLERANCE, "outputs": probe(model)})
    files.write_text(target / CARD, _card(model, notes))
    return target


def from_pretrained(folder: str | Path, *, check: bool = True) -> DUET:
    """Load a folder written by `save_pretrained`, in eval mode.

    Strict: any missing, unexpected or mis-shaped entry is a `WeightsError` with a table; so is a
    probe whose outputs differ from those stored (skipped with `check=False`).
    """
    source = Path(folder)
    config = read_config(source / CONFIG)
    state = read_tensors(source / WEIGHTS)
    require_same(expected_shapes(config), state, str(source / WEIGHTS))
    with torch.device("meta"):
        model = DUET(config)
    model.load_state_dict(state, assign=True)
    model.eval()
    if check:
        _check_probe(model, source / PROBE)
    return model


def read_config(path: str | Path) -> DuetConfig:
    """Read the sizes in a config.json; unknown or missing names are an `InputError`."""
    content = files.read_json(path)
    sizes = content.get("sizes") if isinstance(content, dict) else None
    if not isinstance(sizes, dict) or content.get("model") != "DUET":
        raise InputError(
            f"{path}: expected the configuration of a DUET model ('model', 'sizes'), found "
            "something else; give a folder written by save_pretrained"
        )
    if content.get("format") != FORMAT:
        raise InputError(
            f"{path}: expected format {FORMAT}, found {content.get('format')}; update sterna"
        )
    odd = set(sizes) ^ {entry.name for entry in fields(DuetConfig)}
    if odd:
        raise InputError(f"{path}: unknown or missing sizes {sorted(odd)}; write the model again")
    try:
        return DuetConfig(**sizes)
    except TypeError as error:
        raise InputError(f"{path}: a size has the wrong type ({error}); correct it") from error


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


def _check_probe(model: DUET, path: Path) -> None:
    content: Any = files.read_json(path)
    stored = content.get("outputs") if isinstance(content, dict) else None
    found = probe(model)
    if not isinstance(stored, dict) or set(stored) != set(found):
        raise WeightsError(f"{path}: not a probe written by save_pretrained; write the model again")
    for name, values in found.items():
        if not _agree(values, stored[name]):
            raise WeightsError(
                f"{path}: the model no longer computes what it did when saved: {name} expected "
                f"{json.dumps(stored[name][:3])}..., found {json.dumps(values[:3])}...; "
                "weights and code do not belong together, fetch the folder again"
            )


def _agree(found: list[float | None], stored: list[float | None]) -> bool:
    if len(found) != len(stored):
        return False
    for a, b in zip(found, stored, strict=True):
        if a is None or b is None:
            if a is not b:
                return False
        elif abs(a - b) > TOLERANCE * (1 + abs(b)):
            return False
    return True


def _card(model: DUET, notes: str) -> str:
    config = model.config
    count = sum(parameter.numel() for parameter in model.parameters())
    words = config.vocab_size * config.hidden_size
    lines = [
        "---",
        "library_name: sterna",
        "pipeline_tag: robotics",
        "tags: [vision-and-language-navigation, DUET]",
        "---",
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
        "",
        "```python",
        "from sterna.models.duet import DUET",
        "",
        'model = DUET.from_pretrained("this/folder")',
        "```",
        "",
        f"`{PROBE}` holds the outputs of a fixed input; they are computed again at every load.",
    ]
    return "\n".join(lines) + "\n" + (f"\n{notes.strip()}\n" if notes.strip() else "")
