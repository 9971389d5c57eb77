"""Tiny navigators that are made in a moment, and samples for them."""

from dataclasses import dataclass, field
from functools import cache

import numpy as np

from sterna.models.navigator.small import SmallConfig, small_model, small_processor
from sterna.models.navigator.vlm import History, VlmNavigator
from sterna.world.talk.prompts import Wording

FAMILIES = ("qwen2_5_vl", "qwen3_vl")
SIDE = 32


@dataclass(frozen=True)
class Asked:
    """What a prompt needs."""

    instruction: str = "go to the red sofa"
    history: tuple = ()
    previous: np.ndarray = field(default_factory=lambda: np.array([], np.int64))


def tiny_config(family="qwen2_5_vl", **changes):
    sizes = {"layers": 2, "ffn": 64, "vision_width": 32, "vision_layers": 2, "vision_ffn": 48}
    return SmallConfig(family=family, vision_heads=2, **{"side": SIDE} | sizes | changes)


@cache
def processor(config):
    return small_processor(config)


def tiny(family="qwen2_5_vl", *, seed=0, actions=3, style="short", **changes):
    config = tiny_config(family, **changes)
    made = processor(config)
    wording = Wording(turn_angle=30, actions=actions, style=style, previous=True)
    model = small_model(config, made, seed=seed)
    return VlmNavigator(model, made, wording, history=History(budget=4))


def samples(count, *, seed=0, images=None):
    """Samples with 0 to 4 frames of history, and all their frames."""
    rng = np.random.default_rng(seed)
    places = ("red sofa", "kitchen", "white fridge in the kitchen", "bed", "second door")
    out = []
    for i in range(count):
        past = int(rng.integers(0, 5)) if images is None else images - 1
        previous = rng.integers(0, 4, min(past, 3))
        out.append(Asked(f"go to the {places[i % 5]}", tuple(range(past)), previous))
    total = sum(len(s.history) + 1 for s in out)
    return out, rng.integers(0, 256, (total, SIDE, SIDE, 3), dtype=np.uint8)


def part(asked, frames, row):
    """The sample of a row alone, with its frames."""
    first = sum(len(s.history) + 1 for s in asked[:row])
    return [asked[row]], frames[first : first + len(asked[row].history) + 1]


def byte_tokenizer():
    """A tokenizer with the special tokens of the published models, and bytes for words."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = ("im_start", "im_end", "image_pad", "vision_start", "vision_end", "endoftext")
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in names])
    return tokenizer


def write_published(family, folder):
    """A tiny model of a family in a folder as its authors would publish it."""
    import json

    import torch

    from sterna.models.navigator.families import causal_class, config_class

    folder.mkdir(parents=True)
    tokenizer = byte_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    patch = 16 if family == "qwen3_vl" else 14
    text = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
    } | ({"head_dim": 16} if family == "qwen3_vl" else {})
    vision = {"depth": 2, "num_heads": 2, "patch_size": patch}
    vision |= {
        "qwen2_vl": {"embed_dim": 32, "hidden_size": 32},
        "qwen2_5_vl": {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 32,
                       "fullatt_block_indexes": [1], "window_size": 112},
        "qwen3_vl": {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 32,
                     "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]},
    }[family]  # fmt: skip
    config = config_class(family)(
        text_config=text,
        vision_config=vision,
        image_token_id=tokenizer.token_to_id("<|image_pad|>"),
        vision_start_token_id=tokenizer.token_to_id("<|vision_start|>"),
        vision_end_token_id=tokenizer.token_to_id("<|vision_end|>"),
        video_token_id=tokenizer.get_vocab_size() - 1,
    )
    torch.manual_seed(0)
    causal_class(family)(config).save_pretrained(folder)
    images = {"patch_size": patch, "merge_size": 2, "temporal_patch_size": 2}
    images |= {"min_pixels": 56 * 56, "max_pixels": 28 * 28 * 1280}
    images |= {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    return folder
