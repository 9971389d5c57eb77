"""Tiny image encoders of the published kinds, written as folders, and pictures of viewpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

SIDE = 32
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": 8,
}
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 50,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
KINDS = ("clip", "siglip", "dino", "dinov2", "vit-imagenet", "efficientnet")


def write_encoder(folder: Path, kind: str, *, seed: int = 0) -> Path:
    """Write a tiny encoder with random weights as its makers would."""
    import transformers as t

    torch.manual_seed(seed)
    model: Any
    if kind == "clip":
        model = make_clip()
    elif kind == "siglip":
        model = t.SiglipModel(t.SiglipConfig(text_config=TEXT, vision_config=SMALL))
    elif kind == "dino":
        model = t.ViTModel(t.ViTConfig(**SMALL), add_pooling_layer=False)
    elif kind == "dinov2":
        sizes = {**SMALL, "mlp_ratio": 2}
        model = t.Dinov2Model(t.Dinov2Config(**sizes))
    elif kind == "vit-imagenet":
        model = t.ViTForImageClassification(t.ViTConfig(**SMALL, num_labels=1000))
    else:
        sizes = {"width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 128}
        config = t.EfficientNetConfig(image_size=SIDE, num_labels=1000, **sizes)
        model = t.EfficientNetForImageClassification(config)
    model.save_pretrained(folder)
    write_processor(folder)
    return folder


def make_clip(*, quick: bool = True) -> Any:
    """A CLIP with OpenAI's activation or (not `quick`) the usual one."""
    import transformers as t

    vision = {**SMALL, "hidden_act": "quick_gelu" if quick else "gelu"}
    config = t.CLIPConfig(text_config=TEXT, vision_config=vision, projection_dim=24)
    return t.CLIPModel(config).eval()


def write_processor(folder: Path) -> None:
    """Say how pictures are prepared: the shorter side to 32, bicubic, the middle cut out."""
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE},
        "do_center_crop": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def write_openclip(folder: Path, clip: Any, *, quick: bool) -> Path:
    """Write the vision tower of a transformers CLIP as an OpenCLIP folder."""
    state = {}
    source = clip.state_dict()
    vision = "vision_model."
    plain = {
        "embeddings.class_embedding": "class_embedding",
        "embeddings.patch_embedding.weight": "conv1.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
        "pre_layrnorm.weight": "ln_pre.weight",
        "pre_layrnorm.bias": "ln_pre.bias",
        "post_layernorm.weight": "ln_post.weight",
        "post_layernorm.bias": "ln_post.bias",
    }
    for theirs, ours in plain.items():
        state[f"visual.{ours}"] = source[vision + theirs].clone()
    state["visual.proj"] = source["visual_projection.weight"].T.contiguous()
    state["logit_scale"] = torch.zeros(())
    for layer in range(SMALL["num_hidden_layers"]):
        theirs, ours = f"{vision}encoder.layers.{layer}.", f"visual.transformer.resblocks.{layer}."
        for kind in ("weight", "bias"):
            parts = [source[f"{theirs}self_attn.{p}_proj.{kind}"] for p in "qkv"]
            state[f"{ours}attn.in_proj_{kind}"] = torch.cat(parts)
            for a, b in (
                ("self_attn.out_proj", "attn.out_proj"),
                ("layer_norm1", "ln_1"),
                ("layer_norm2", "ln_2"),
                ("mlp.fc1", "mlp.c_fc"),
                ("mlp.fc2", "mlp.c_proj"),
            ):
                state[f"{ours}{b}.{kind}"] = source[f"{theirs}{a}.{kind}"].clone()
    folder.mkdir(parents=True)
    save_file(state, folder / "open_clip_model.safetensors")
    tower = {"image_size": SIDE, "layers": 2, "width": 32, "head_width": 8, "patch_size": 8}
    config = {
        "model_cfg": {
            "embed_dim": 24,
            "quick_gelu": quick,
            "vision_cfg": {**tower, "mlp_ratio": 1.5},
            "text_cfg": {},
        },
        "preprocess_cfg": {
            "mean": [0.48145466, 0.4578275, 0.40821073],
            "std": [0.26862954, 0.26130258, 0.27577711],
        },
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def picture(seed: int, width: int = 64, height: int = 48) -> np.ndarray:
    """A picture with large and small structure, uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    noisy = smooth + rng.normal(0, 8, smooth.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def write_pictures(root: Path, scans: dict[str, int]) -> Path:
    """Write `SCAN/VIEWPOINT/00.jpg .. 35.jpg` of so many viewpoints a scan, 64 x 48 pixels."""
    for number, (scan, count) in enumerate(sorted(scans.items())):
        for viewpoint in range(count):
            folder = root / scan / f"{viewpoint:02d}"
            folder.mkdir(parents=True)
            for view in range(36):
                seed = 10_000 * number + 100 * viewpoint + view
                Image.fromarray(picture(seed)).save(folder / f"{view:02d}.jpg")
    return root
