"""A small vision-language-action policy in a folder: safetensors, sizes, a card and a probe."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

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
from sterna.models.vla import Vla, VlaBatch, VlaConfig
from sterna.models.weights import read_tensors, require_same


def save_pretrained(model: Vla, folder: str | Path, *, notes: str = "") -> Path:
    """Write model.safetensors, config.json, probe.json and README.md; every file atomically.

    `notes` (Markdown) goes into the card: data, recipe, scores. Returns the folder.
    """
    return write_folder(model, "VLA", model.config, probe(model), _card(model, notes), folder)


def from_pretrained(folder: str | Path, *, check: bool = True) -> Vla:
    """Load a folder written by `save_pretrained`, or a policy of the Hub, in eval mode.

    Strict: a missing, unexpected or mis-shaped entry is a `WeightsError` with a table; so is a
    probe whose outputs differ from those stored (skipped with `check=False`).
    """
    source = find_folder(folder)
    model = Vla(read_config(source / CONFIG))
    state = read_tensors(source / WEIGHTS)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    require_same(expected, state, str(source / WEIGHTS))
    model.load_state_dict(state)
    model.eval()
    if check:
        check_outputs(probe(model), source / PROBE)
    return model


def read_config(path: str | Path) -> VlaConfig:
    """Read the sizes in a config.json; unknown or missing names are an `InputError`."""
    return read_sizes(path, "VLA", VlaConfig)


@torch.no_grad()
def probe(model: Vla) -> dict[str, list[float]]:
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
    return {"action": [round(value, 7) for value in out.tolist()]}


def _card(model: Vla, notes: str) -> str:
    config = model.config
    count = sum(parameter.numel() for parameter in model.parameters())
    text = [
        "# A small vision-language-action policy",
        "",
        f"Looks at {config.cameras} picture(s) of {config.image_size} pixels, reads a sentence and",
        f"says the next {config.chunk} actions.",
        "",
        f"- parameters: {count:,}",
        f"- {config.depth} layers of width {config.width}, {config.heads} heads, feed-forward "
        f"{config.ffn}, {config.tokens} tokens",
        f"- words: {' '.join(config.words)}",
    ]
    code = [
        "from sterna.models.vla_folder import from_pretrained",
        "",
        'policy = from_pretrained("this/folder")',
    ]
    return card_of(["vision-language-action", "manipulation"], text, code, notes)
