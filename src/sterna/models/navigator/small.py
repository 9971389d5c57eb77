"""`navigator-s`: a Qwen-VL of a few million parameters with a tokenizer of its own, built offline.

The architecture is that of the large models (transformers' own classes), so what trains and runs
one trains and runs the other. Words begin with the vectors that name what is to be seen
(`world.houses.words`); the vision tower learns to answer in the same vectors (`sight`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from sterna.errors import InputError
from sterna.models.encoder import SHIPPED, load_encoder
from sterna.models.navigator.eyes import seeing_class
from sterna.models.navigator.families import config_class
from sterna.models.navigator.processor import Processor
from sterna.models.navigator.words import SMALL_TEMPLATE, make_tokenizer, token_texts
from sterna.world.houses.words import SIZE, word_vectors
from sterna.world.talk.images import ImageConfig

Family = Literal["qwen2_5_vl", "qwen3_vl"]
_MIDDLE = (0.5, 0.5, 0.5)


@dataclass(frozen=True, kw_only=True)
class SmallConfig:
    """Sizes of a small navigator; those of the recipes are `SMALL_SIZES`."""

    family: Family = "qwen2_5_vl"
    """Whose layers it has."""
    width: int = 128
    """Width of the language model, a power of two from 128 (that of the word vectors)."""
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    ffn: int = 384
    tower: Literal["qwen", "conv", "house"] = "qwen"
    """qwen: the family's own vision tower; conv: a small convolutional one (`eyes`), which learns
    to see in a fraction of the frames; house: the houses' view encoder (`houseeyes`), which sees
    already; its width and depth are what they are."""
    vision_width: int = 96
    vision_layers: int = 3
    vision_heads: int = 4
    vision_ffn: int = 192
    side: int = 64
    """Side of a frame in pixels; frames of other sizes are brought near to side x side pixels."""
    patch: int = 8
    merge: int = 2
    history_pool: int = 2
    """Tokens a side of the past's frames that become one: 16 tokens now, 4 then."""

    alike: bool = False
    """Let the first key head of every layer begin with queries like its keys, so that words look
    for image tokens that resemble them (and the reverse) before anything is learnt."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.family not in get_args(Family):
            raise InputError(f"model: family must be {' or '.join(get_args(Family))}")
        if self.width < SIZE or self.width & (self.width - 1):
            raise InputError(
                f"model: width must be a power of two from {SIZE} up, found {self.width}"
            )
        if self.width // self.heads % 4 or self.heads % self.kv_heads:
            raise InputError(
                "model: width / heads must be a multiple of 4 and heads one of kv_heads, found "
                f"{self.width}, {self.heads}, {self.kv_heads}"
            )
        if self.tower not in ("qwen", "conv", "house"):
            raise InputError(f"model: tower must be qwen, conv or house, found {self.tower!r}")
        if self.tower == "qwen" and self.vision_width % (4 * self.vision_heads):
            raise InputError(
                "model: vision_width must be a multiple of 4 vision_heads, found "
                f"{self.vision_width} and {self.vision_heads}"
            )
        if self.side % (self.patch * self.merge * self.history_pool):
            raise InputError(
                f"model: side must be a multiple of patch x merge x history_pool, found {self.side}"
            )

    @property
    def images(self) -> ImageConfig:
        """How its frames become tokens."""
        return ImageConfig(
            patch=self.patch,
            merge=self.merge,
            temporal=1,
            min_pixels=self.side**2,
            max_pixels=self.side**2,
            mean=_MIDDLE,
            std=_MIDDLE,
            history_pool=self.history_pool,
            marks=False,
        )


SMALL_SIZES = SmallConfig(layers=2, ffn=256, tower="house", merge=1, history_pool=8, alike=True)
"""Sizes of navigator-s in the recipes: what one core can train."""


def small_processor(config: SmallConfig) -> Processor:
    """Make the processor of a small model: the same for the same version of the grammar."""
    return Processor(make_tokenizer(), config.images, SMALL_TEMPLATE)


def small_model(config: SmallConfig, processor: Processor, *, seed: int = 0) -> Any:
    """Make a small model (a transformers class) with random weights and known words.

    The same seed gives the same weights; torch's own generator is left where it was.
    """
    settings = config_class(config.family)(**_settings(config, processor))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = seeing_class(config.family)(settings)
        _spread(model)
        if config.alike:
            _align(model, config)
        if config.tower == "house":
            model.model.visual.begin()
    table = torch.from_numpy(word_vectors(token_texts(processor.tokenizer), config.width))
    with torch.no_grad():
        words: Tensor = model.get_input_embeddings().weight
        words.copy_(table)
    model.eval()
    return model


def _spread(model: nn.Module) -> None:
    """Draw weights with a variance of one over their inputs: 0.02 is for much wider layers."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv3d | nn.Conv2d):
            inputs = module.weight[0].numel()
            nn.init.normal_(module.weight, std=inputs**-0.5)


def _align(model: nn.Module, config: SmallConfig) -> None:
    """Mix the first key head into the queries that ask it (as in "mimetic" initialisation).

    (Trockman and Kolter, arXiv 2305.09828: query-key products near a multiple of the identity.)
    """
    size, shared = config.width // config.heads, config.heads // config.kv_heads
    with torch.no_grad():
        for module in model.modules():
            query, key = getattr(module, "q_proj", None), getattr(module, "k_proj", None)
            if not isinstance(query, nn.Linear) or not isinstance(key, nn.Linear):
                continue
            for head in range(shared):
                rows = slice(head * size, (head + 1) * size)
                query.weight[rows] = (query.weight[rows] + key.weight[:size]) * 0.5**0.5


def _eyes(config: SmallConfig) -> dict[str, Any]:
    shared = {"patch": config.patch, "merge": config.merge, "out": config.width}
    if config.tower == "house":
        return shared | {"kind": "house", "width": load_encoder(SHIPPED).net.config.width}
    return shared | {"width": config.vision_width, "depth": config.vision_layers}


def _settings(config: SmallConfig, processor: Processor) -> dict[str, Any]:
    """Return what transformers' configuration class takes."""
    newer = config.family == "qwen3_vl"
    half = config.width // config.heads // 2
    third = half // 3
    sections = [half - 2 * third, third, third]
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": sections}
    text: dict[str, Any] = {
        "vocab_size": processor.tokenizer.get_vocab_size(),
        "hidden_size": config.width,
        "intermediate_size": config.ffn,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "max_position_embeddings": 4096,
        "rope_parameters": rope | ({"mrope_interleaved": True} if newer else {}),
        "pad_token_id": processor.pad,
        "bos_token_id": processor.pad,
        "eos_token_id": processor.end,
        "tie_word_embeddings": True,
    } | ({"head_dim": config.width // config.heads} if newer else {})
    vision: dict[str, Any] = {
        "depth": config.vision_layers,
        "hidden_size": config.vision_width,
        "intermediate_size": config.vision_ffn,
        "num_heads": config.vision_heads,
        "patch_size": config.patch,
        "spatial_merge_size": config.merge,
        "temporal_patch_size": 1,
        "out_hidden_size": config.width,
    }
    if config.tower != "qwen":
        # What transformers makes first is put away at once: as little of it as there can be.
        vision |= {"eyes": _eyes(config), "depth": 1, "hidden_size": 4 * config.vision_heads}
    if newer:
        places = (config.side // config.patch) ** 2
        vision |= {"num_position_embeddings": places, "deepstack_visual_indexes": []}
    else:
        whole = list(range(config.vision_layers))
        vision |= {"window_size": config.side, "fullatt_block_indexes": whole}
    return {
        "text_config": text,
        "vision_config": vision,
        "image_token_id": processor.image,
        # No token of ours is a video or a mark; numbers beyond the vocabulary never occur.
        "video_token_id": processor.tokenizer.get_vocab_size(),
        "vision_start_token_id": processor.tokenizer.get_vocab_size() + 1,
        "vision_end_token_id": processor.tokenizer.get_vocab_size() + 2,
        "tie_word_embeddings": True,
        "pad_token_id": processor.pad,
        "eos_token_id": processor.end,
    }
