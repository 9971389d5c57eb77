"""The image tower of an OpenCLIP folder, run by transformers' CLIP: the same numbers, no new code.

A folder holds ``open_clip_config.json`` and ``open_clip_model.safetensors`` (or
``open_clip_pytorch_model.bin``, read without running code). Only plain vision transformers are
taken: B/16, L/14, H/14, g/14 and their kin.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sterna.errors import InputError
from sterna.files import read_json
from sterna.models.weights import read_tensors, require_same

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
_PLAIN = {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio"}
"""Settings of a tower that is taken; others are refused unless they are off."""
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")
_BLOCK_NAMES = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_NAMES = {
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",  # spelt so in transformers
    "ln_pre.bias": "pre_layrnorm.bias",
    "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
}


def open_openclip(folder: Path) -> tuple[Any, Any]:
    """Return the tower (a model with `get_image_features`) and how it prepares a picture.

    Raises `InputError` for another architecture or weights that do not fit, with a table.
    """
    from sterna.models.vision import need_transformers

    library = need_transformers(str(folder))
    config = read_json(folder / CONFIG)
    tower = library.CLIPVisionModelWithProjection(_sizes(library, config, folder / CONFIG))
    files = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    if not files:
        raise InputError(f"{folder}: expected {WEIGHTS[0]}, found none; fetch the model again")
    state = tower_weights(read_tensors(files[0]), str(files[0]))
    wanted = {name: tuple(value.shape) for name, value in tower.state_dict().items()}
    require_same(wanted, state, str(files[0]))
    tower.load_state_dict({name: value.float() for name, value in state.items()})
    return _Tower(tower), partial(_prepare, config.get("preprocess_cfg") or {}, _side(config))


class _Tower(torch.nn.Module):
    """Speaks as transformers' CLIP does."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.tower = tower

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        embeds: Tensor = self.tower(pixel_values=pixel_values).image_embeds
        return embeds


def tower_weights(tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Rename the ``visual.`` entries of OpenCLIP (or OpenAI) to those of transformers' tower."""
    visual = {
        name.removeprefix("visual."): value
        for name, value in tensors.items()
        if name.startswith("visual.")
    }
    if "proj" not in visual:
        raise InputError(
            f"{source}: expected the entries of an OpenCLIP vision transformer (visual.proj ...), "
            f"found {len(visual)} of visual.; give a CLIP ViT"
        )
    out: dict[str, Tensor] = {"visual_projection.weight": visual.pop("proj").T.contiguous()}
    for name, value in visual.items():
        block = _BLOCK.fullmatch(name)
        if block is None:
            out[f"vision_model.{_NAMES.get(name, name)}"] = value
            continue
        stem = f"vision_model.encoder.layers.{block[1]}."
        if block[2].startswith("attn.in_proj_"):
            kind = block[2].removeprefix("attn.in_proj_")
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                out[f"{stem}self_attn.{part}_proj.{kind}"] = rows.contiguous()
            continue
        inner, _, kind = block[2].rpartition(".")
        out[f"{stem}{_BLOCK_NAMES.get(inner, inner)}.{kind}"] = value
    return out


def _side(config: Mapping[str, Any]) -> int:
    return int(config["model_cfg"]["vision_cfg"]["image_size"])


def _sizes(library: Any, config: Any, path: Path) -> Any:
    try:
        model = config["model_cfg"]
        vision = model["vision_cfg"]
        odd = [key for key, value in vision.items() if key not in _PLAIN and value]
        width = int(vision["width"])
        sizes = {
            "hidden_size": width,
            "intermediate_size": int(width * vision.get("mlp_ratio", 4.0)),
            "num_hidden_layers": int(vision["layers"]),
            "num_attention_heads": width // int(vision.get("head_width", 64)),
            "image_size": int(vision["image_size"]),
            "patch_size": int(vision["patch_size"]),
            "projection_dim": int(model["embed_dim"]),
            "hidden_act": "quick_gelu" if model.get("quick_gelu") else "gelu",
        }
    except (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
        raise InputError(
            f"{path}: expected the sizes of a CLIP vision transformer ({error!r}); give a ViT"
        ) from error
    if odd:
        raise InputError(f"{path}: an image tower with {odd[0]} is not known; give a plain ViT")
    return library.CLIPVisionConfig(**sizes)


def _prepare(settings: Mapping[str, Any], side: int, picture: Image.Image) -> Tensor:
    """Resize the shorter side (bicubic), crop the middle, normalise: OpenCLIP's own transform."""
    mode = settings.get("resize_mode", "shortest")
    if mode != "shortest":
        raise InputError(f"{CONFIG}: resize_mode {mode!r} is not known; expected 'shortest'")
    width, height = picture.size
    short = min(width, height)
    size = (int(side * width / short), int(side * height / short))
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    array = np.asarray(picture.crop((left, top, left + side, top + side)), np.float32) / 255
    mean, std = (
        np.asarray(settings.get(key, default), np.float32)
        for key, default in (("mean", _MEAN), ("std", _STD))
    )
    return torch.from_numpy((array - mean) / std).permute(2, 0, 1).contiguous()
