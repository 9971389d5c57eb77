"""A small vision-language-action policy in a folder: safetensors, sizes, a card and a probe."""

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
from sterna.models.pretrained import CARD, CONFIG, PROBE, TOLERANCE, WEIGHTS
from sterna.models.vla import Vla, VlaBatch, VlaConfig
from sterna.models.weights import WeightsError, read_tensors, require_same

FORMAT = 1


def save_pretrained(model: Vla, folder: str | Path, *, notes: str = "") -> Path:
    """Write model.safetensors, config.json, probe.json and README.md; every file atomically.

    `notes` (Markdown) goes into the card: data, recipe, scores. Returns the folder.
    """
    target = Path(folder)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    files.write_bytes(target / WEIGHTS, save(state, metadata={"format": "pt"}))
    sizes = json.loads(json.dumps(asdict(model.config)))
    files.write_json(target / CONFIG, {"model": "VLA", "format": FORMAT, "sizes": sizes})
    files.write_json(target / PROBE, {"tolerance": TOLERANCE, "outputs": probe(model)})
    files.write_text(target / CARD, _card(model, notes))
    return target


def from_pretrained(folder: str | Path, *, check: bool = True) -> Vla:
    """Load a folder written by `save_pretrained`, in eval mode.

    Strict: a missing, unexpected or mis-shaped entry is a `WeightsError` with a table; so is a
    probe whose outputs differ from those stored (skipped with `check=False`).
    """
    source = Path(folder)
    model = Vla(read_config(source / CONFIG))
    state = read_tensors(source / WEIGHTS)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    require_same(expected, state, str(source / WEIGHTS))
    model.load_state_dict(state)
    model.eval()
    if check:
        _check_probe(model, source / PROBE)
    return model


def read_config(path: str | Path) -> VlaConfig:
    """Read the sizes in a config.json; unknown or missing names are an `InputError`."""
    content = files.read_json(path)
    sizes = content.get("sizes") if isinstance(content, dict) else None
    if not isinstance(sizes, dict) or content.get("model") != "VLA":
        raise InputError(
            f"{path}: expected the configuration of a VLA ('model', 'sizes'), found something "
            "else; give a folder written by `sterna metaworld train`"
        )
    if content.get("format") != FORMAT:
        raise InputError(
            f"{path}: expected format {FORMAT}, found {content.get('format')}; update sterna"
        )
    odd = set(sizes) ^ {entry.name for entry in fields(VlaConfig)}
    if odd:
        raise InputError(f"{path}: unknown or missing sizes {sorted(odd)}; write the model again")
    try:
        return VlaConfig(**sizes)
    except TypeError as error:
        raise InputError(f"{path}: a size has the wrong type ({error}); correct it") from error


@torch.no_grad()
def probe(model: Vla) -> list[float]:
    """Return the first action of a fixed input made from sines, so that it is the same anywhere."""
    was_training, device, config = model.training, model.query.device, model.config
    shape = (1, config.cameras, config.image_size, config.image_size, 3)
    count = torch.Size(shape).numel()
    wave = torch.sin(torch.arange(count, dtype=torch.float64) * 1.7) * 127.0 + 128.0
    word = config.words[0] if config.words else "go"
    batch = VlaBatch(
        images=wave.to(torch.uint8).view(shape),
        words=config.read([word]),
        proprio=torch.full((1, config.proprio), 0.25),
        recent=torch.zeros(1, config.chunk * config.action),
    )
    model.eval()
    out: Tensor = model(batch.to(device))[0, 0]
    model.train(was_training)
    return [round(value, 7) for value in out.tolist()]


def _check_probe(model: Vla, path: Path) -> None:
    content: Any = files.read_json(path)
    stored = content.get("outputs") if isinstance(content, dict) else None
    found = probe(model)
    if not isinstance(stored, list) or len(stored) != len(found):
        raise WeightsError(f"{path}: not a probe written by save_pretrained; write the model again")
    if any(abs(a - b) > TOLERANCE * (1 + abs(b)) for a, b in zip(found, stored, strict=True)):
        raise WeightsError(
            f"{path}: the model no longer computes what it did when saved: expected {stored}, "
            f"found {found}; weights and code do not belong together, fetch the folder again"
        )


def _card(model: Vla, notes: str) -> str:
    config = model.config
    count = sum(parameter.numel() for parameter in model.parameters())
    lines = [
        "---",
        "library_name: sterna",
        "pipeline_tag: robotics",
        "tags: [vision-language-action, manipulation]",
        "---",
        "# A small vision-language-action policy",
        "",
        f"Looks at {config.cameras} picture(s) of {config.image_size} pixels, reads a sentence and",
        f"says the next {config.chunk} actions.",
        "",
        f"- parameters: {count:,}",
        f"- {config.depth} layers of width {config.width}, {config.heads} heads, feed-forward "
        f"{config.ffn}, {config.tokens} tokens",
        f"- words: {' '.join(config.words)}",
        "",
        "```python",
        "from sterna.models.vla_folder import from_pretrained",
        "",
        'policy = from_pretrained("this/folder")',
        "```",
        "",
        f"`{PROBE}` holds the output of a fixed input; it is computed again at every load.",
    ]
    return "\n".join(lines) + "\n" + (f"\n{notes.strip()}\n" if notes.strip() else "")
