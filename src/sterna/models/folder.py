"""What every saved model's folder has: weights, sizes, a card, and a probe of what it computes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import save
from torch import nn

from sterna import files
from sterna.errors import InputError
from sterna.models.weights import WeightsError

WEIGHTS, CONFIG, PROBE, CARD = "model.safetensors", "config.json", "probe.json", "README.md"
FORMAT = 1
TOLERANCE = 1e-4
"""Largest difference of a probe output, absolute and relative; other CPUs differ by about 1e-6."""

Outputs = Mapping[str, Sequence[float | None]]
"""What a model says to a fixed input, by name; None for -inf."""
Sizes = TypeVar("Sizes")


def write_folder(
    model: nn.Module, kind: str, sizes: Any, outputs: Outputs, card: str, folder: str | Path
) -> Path:
    """Write model.safetensors, config.json, probe.json and README.md; every file atomically."""
    target = Path(folder)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    files.write_bytes(target / WEIGHTS, save(state, metadata={"format": "pt"}))
    config = {"model": kind, "format": FORMAT, "sizes": json.loads(json.dumps(asdict(sizes)))}
    files.write_json(target / CONFIG, config)
    files.write_json(target / PROBE, {"tolerance": TOLERANCE, "outputs": dict(outputs)})
    files.write_text(target / CARD, card)
    return target


def read_sizes(path: str | Path, kind: str, sizes: type[Sizes]) -> Sizes:
    """Read the sizes in a config.json; unknown or missing names are an `InputError`."""
    content = files.read_json(path)
    found = content.get("sizes") if isinstance(content, dict) else None
    if not isinstance(found, dict) or content.get("model") != kind:
        raise InputError(
            f"{path}: expected the configuration of a {kind} model ('model', 'sizes'), found "
            "something else; give a folder written by save_pretrained"
        )
    if content.get("format") != FORMAT:
        raise InputError(
            f"{path}: expected format {FORMAT}, found {content.get('format')}; update sterna"
        )
    # A part that is off (None) may have come after the folder was written.
    known = {entry.name: entry.default for entry in fields(sizes)}  # type: ignore[arg-type]
    needed = {name for name, usual in known.items() if usual is not None}
    odd = (set(found) - set(known)) | (needed - set(found))
    if odd:
        raise InputError(f"{path}: unknown or missing sizes {sorted(odd)}; write the model again")
    try:
        return sizes(**found)
    except TypeError as error:
        raise InputError(f"{path}: a size has the wrong type ({error}); correct it") from error


def check_outputs(found: Outputs, path: Path) -> None:
    """Raise `WeightsError` unless a model says what its probe.json holds."""
    content: Any = files.read_json(path)
    stored = content.get("outputs") if isinstance(content, dict) else None
    if not isinstance(stored, dict) or set(stored) != set(found):
        raise WeightsError(f"{path}: not a probe written by save_pretrained; write the model again")
    for name, values in found.items():
        if not _agree(values, stored[name]):
            raise WeightsError(
                f"{path}: the model no longer computes what it did when saved: {name} expected "
                f"{json.dumps(stored[name][:3])}..., found {json.dumps(values[:3])}...; "
                "weights and code do not belong together, fetch the folder again"
            )


def _agree(found: Sequence[float | None], stored: Sequence[float | None]) -> bool:
    if len(found) != len(stored):
        return False
    for a, b in zip(found, stored, strict=True):
        if a is None or b is None:
            if a is not b:
                return False
        elif abs(a - b) > TOLERANCE * (1 + abs(b)):
            return False
    return True


def card_of(tags: Sequence[str], text: Sequence[str], code: Sequence[str], notes: str) -> str:
    """Return a model card: front matter, lines of text, how it is opened, notes."""
    lines = [
        "---",
        "library_name: sterna",
        "pipeline_tag: robotics",
        f"tags: [{', '.join(tags)}]",
        "---",
        *text,
        "",
        "```python",
        *code,
        "```",
        "",
        f"`{PROBE}` holds the outputs of a fixed input; they are computed again at every load.",
    ]
    return "\n".join(lines) + "\n" + (f"\n{notes.strip()}\n" if notes.strip() else "")
