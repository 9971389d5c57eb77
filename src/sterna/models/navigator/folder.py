"""A navigator in a folder: transformers' own files, and ours that say how it is asked.

`save` and `load` are the two ends of a run; `open_published` takes a model as its authors publish
it. Weights are safetensors alone, loading is strict, nothing of the folder is run.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from sterna.errors import InputError
from sterna.files import read_json, write_json, write_text
from sterna.models.hub import find_folder
from sterna.models.navigator.eyes import seeing_class
from sterna.models.navigator.families import (
    calm,
    causal_class,
    keep_fewer_activations,
    known,
    peft,
    quiet,
    transformers,
)
from sterna.models.navigator.processor import Processor, read_images
from sterna.models.navigator.vlm import History, VlmNavigator
from sterna.world.talk.images import ImageConfig
from sterna.world.talk.prompts import Wording
from sterna.world.talk.reading import TEMPLATES, read_tokenizer

SETTINGS, FORMAT = "navigator.json", 1
Precision = Literal["fp32", "bf16"]
_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_NEEDED = ["*.json", "*.safetensors", "*.txt"]


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """A low-rank adapter on the language model's projections; the tower stays as it is."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Check the values."""
        if self.rank < 1 or self.alpha < 1 or not 0 <= self.dropout < 1:
            raise InputError(
                "lora: rank and alpha must be at least 1, dropout from 0 to below 1, found "
                f"{self.rank}, {self.alpha} and {self.dropout}"
            )


def save(
    navigator: VlmNavigator,
    folder: str | Path,
    *,
    notes: str = "",
    weights: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a navigator to a folder, whole or not at all; return the folder.

    With an adapter only that is written, beside the name of the weights it stands on (`base`).
    `weights` are the model's where the navigator holds only a part of them.
    """
    target = Path(folder)
    part = target.with_name(target.name + ".tmp")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    with quiet():
        navigator.model.save_pretrained(part, state_dict=weights)
    settings = {
        "format": FORMAT,
        "family": navigator.family,
        "wording": asdict(navigator.wording),
        "history": asdict(navigator.history),
        "base": navigator.base if navigator.adapted else None,
        **navigator.processor.save(part),
    }
    write_json(part / SETTINGS, settings)
    write_text(part / "README.md", _card(navigator, notes))
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    return target


def load(
    folder: str | Path, *, precision: Precision = "fp32", local_files_only: bool = True
) -> VlmNavigator:
    """Read what `save` wrote (or a policy of the Hub, owner/name), in eval mode.

    An adapter's base is looked for where `base` says, and fetched only if `local_files_only` is
    False. `InputError` for a folder that is none, with what differs where weights do not fit.
    """
    source = find_folder(folder)
    settings = read_settings(source)
    processor = Processor.load(source, settings)
    base = settings["base"]
    if base is None:
        model = _weights(source, settings["family"], precision)
    else:
        found = fetch(base, local_files_only=local_files_only)
        model = _with_adapter(_weights(found, settings["family"], precision), source)
    navigator = VlmNavigator(
        model,
        processor,
        Wording(**settings["wording"]),
        history=History(**settings["history"]),
        base=base,
    )
    return navigator.eval()


def read_settings(folder: Path) -> dict[str, Any]:
    """Read navigator.json; `InputError` for a folder that holds no navigator."""
    file = folder / SETTINGS
    if not file.is_file():
        raise InputError(
            f"{folder}: no {SETTINGS} there; give a folder that `sterna sft` wrote (its `best`), "
            "or a published model with open_published"
        )
    found = read_json(file)
    wanted = {"format", "family", "wording", "history", "base", "images", "template"}
    if not isinstance(found, dict) or set(found) != wanted or found["format"] != FORMAT:
        raise InputError(f"{file}: expected {sorted(wanted)} of format {FORMAT}; write it again")
    known(found["family"])
    return found


def open_published(
    name: str | Path,
    wording: Wording,
    *,
    history: History | None = None,
    precision: Precision = "bf16",
    max_pixels: int | None = None,
    history_pool: int = 1,
    local_files_only: bool = False,
) -> VlmNavigator:
    """Open a published Qwen2-VL, Qwen2.5-VL or Qwen3-VL by name (fetched once) or folder.

    `max_pixels` bounds the size of a frame (its tokens), `history_pool` shrinks those of the past.
    """
    transformers()  # before a model is fetched
    folder = fetch(name, local_files_only=local_files_only)
    family = str(read_json(folder / "config.json").get("model_type"))
    known(family)
    images = _bounded(read_images(folder), max_pixels, history_pool)
    processor = Processor(read_tokenizer(folder), images, TEMPLATES[family])
    model = _weights(folder, family, precision)
    return VlmNavigator(model, processor, wording, history=history, base=str(name)).eval()


def _bounded(images: ImageConfig, max_pixels: int | None, history_pool: int) -> ImageConfig:
    if max_pixels is not None:
        least = min(images.min_pixels, max_pixels)
        images = replace(images, min_pixels=least, max_pixels=max_pixels)
    return replace(images, history_pool=history_pool)


def fetch(name: str | Path, *, local_files_only: bool) -> Path:
    """Return the folder of a model: itself, or the hub's copy of that name.

    `InputError` if it is not here and may not be fetched, or cannot be.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(
            str(name), allow_patterns=_NEEDED, local_files_only=local_files_only
        )
    except Exception as error:  # the hub's client raises a dozen kinds, none of them ours
        raise InputError(
            f"model {name}: not a folder, and not to be had from the hub "
            f"({type(error).__name__}); give a folder that holds it"
        ) from error
    return Path(found)


def _weights(folder: Path, family: str, precision: Precision) -> Any:
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"{folder}: no *.safetensors there; fetch the model's whole folder")
    found = str(read_json(folder / "config.json").get("model_type"))
    if found != family:
        raise InputError(f"{folder}: expected a model of family {family}, found {found}")
    vision = read_json(folder / "config.json").get("vision_config") or {}
    kind = seeing_class(family) if vision.get("eyes") else causal_class(family)
    with quiet():
        model, info = kind.from_pretrained(
            folder,
            dtype=_TYPES[precision],
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    wrong = {kind: sorted(map(str, keys)) for kind, keys in info.items() if keys}
    if wrong:
        kinds = "; ".join(f"{kind}: {', '.join(keys[:5])}" for kind, keys in wrong.items())
        raise InputError(f"{folder}: its weights do not fit {family} ({kinds}); fetch it again")
    return model


def add_lora(navigator: VlmNavigator, config: LoraConfig) -> VlmNavigator:
    """Return the navigator with a low-rank adapter that alone is trained."""
    if navigator.base is None:
        raise InputError("lora: the navigator names no base weights; save it and open the folder")
    library = peft()
    settings = library.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=r".*language_model.*\.(q|k|v|o|gate|up|down)_proj",
    )
    with calm():
        model = library.get_peft_model(navigator.model, settings)
    return VlmNavigator(
        model,
        navigator.processor,
        navigator.wording,
        history=navigator.history,
        base=navigator.base,
    )


def _with_adapter(model: Any, folder: Path) -> Any:
    with calm():
        return peft().PeftModel.from_pretrained(model, folder, is_trainable=True)


def train_parts(navigator: VlmNavigator, *, tower: bool, checkpointing: bool) -> None:
    """Say what is trained: the tower too, or not; with `checkpointing` activations are not kept."""
    for weight in navigator.tower.parameters():
        weight.requires_grad_(tower and not navigator.adapted)
    if checkpointing:
        keep_fewer_activations(navigator.core)


def _card(navigator: VlmNavigator, notes: str) -> str:
    count = sum(weight.numel() for weight in navigator.parameters())
    wording = navigator.wording
    lines = [
        "---",
        "library_name: sterna",
        "pipeline_tag: robotics",
        "tags: [vision-and-language-navigation, VLN-CE]",
        "---",
        "# A vision-language navigator",
        "",
        f"Reads an instruction and frames and answers with its next {wording.actions} actions.",
        "",
        f"- family {navigator.family}, {count:,} parameters"
        + (f", an adapter on {navigator.base}" if navigator.adapted else ""),
        f"- turns of {wording.turn_angle:g} degrees, steps of {wording.forward_step:g} m, prompts "
        f"in the style {wording.style}",
        f"- at most {navigator.history.budget} past frames ({navigator.history.kind})",
        "",
        "```python",
        "from sterna.models.navigator.folder import load",
        "",
        'navigator = load("this/folder")',
        "```",
    ]
    return "\n".join(lines) + "\n" + (f"\n{notes.strip()}\n" if notes.strip() else "")
