"""Tiny navigators that are made in a moment, and samples for them."""

from dataclasses import dataclass, field
from functools import cache

import numpy as np

from sterna.models.navigator.prompts import Wording
from sterna.models.navigator.small import SmallConfig, small_model, small_processor
from sterna.models.navigator.vlm import History, VlmNavigator

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
    return SmallConfig(family=family, vision_heads=2, side=SIDE, **sizes | changes)


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
