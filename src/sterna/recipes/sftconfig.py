"""Configuration of supervised fine-tuning: which walks, which model, where it begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sterna.data.ego.joined import JoinedStore
from sterna.data.ego.samples import EgoSamples
from sterna.data.ego.store import EgoStore
from sterna.errors import InputError
from sterna.metrics.protocol import Protocol
from sterna.models.navigator.folder import LoraConfig, Precision
from sterna.models.navigator.small import SmallConfig
from sterna.recipes.sight import SightConfig
from sterna.train.loop import LoopConfig
from sterna.train.schedule import OptimizerConfig
from sterna.world.talk.answers import Style
from sterna.world.talk.prompts import Order, Told, Wording

SMALL = "navigator-s"


@dataclass(frozen=True, kw_only=True)
class WalksConfig:
    """Which walks are learnt from, and what is shown of them."""

    train: Path = Path("walks")
    """Folder of egocentric walks (`sterna ego make`)."""
    more: tuple[Path, ...] = ()
    """More such folders, learnt from beside it: a navigator's own walks (`ego make --agent`)."""
    held_out: Path | None = None
    """Walks in unseen houses to be scored on; None: none."""
    judged: int = 512
    """Held-out samples of an evaluation, evenly over all."""
    actions: int = 6
    """Actions of an answer."""
    memory: Literal["long-short", "average", "decay", "recent"] = "long-short"
    """Which past frames are shown."""
    budget: int = 16
    """How many of them, at most."""
    stride: int = 1
    """Every so-manieth step of a walk is a sample."""
    blind: bool = False
    """Control: every frame is black."""
    cache: Path | None = None
    """Folder for what a frozen tower saw; default: `seen` beside the walks."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.judged < 1:
            raise InputError(f"walks: judged must be at least 1, found {self.judged}")


@dataclass(frozen=True, kw_only=True)
class NavigatorConfig:
    """Which model, how it is asked, what of it is trained."""

    name: str = SMALL
    """navigator-s; a folder of `sterna sft`; or a published Qwen2-VL, Qwen2.5-VL or Qwen3-VL, by
    folder or by its name on the hub."""
    small: SmallConfig = field(default_factory=SmallConfig)
    """Sizes of navigator-s."""
    style: Style = "short"
    """Wording of prompts and answers: short for small models, vln-ego as published."""
    order: Order = "ABCD"
    """Order of the options (vln-ego)."""
    previous: bool = True
    """Tell the last actions taken."""
    told: Told = "first"
    """Where the instruction stands: before the images, or (short) after them."""
    tower: Literal["frozen", "tuned"] = "frozen"
    """Whether the vision tower is trained; a frozen one sees every frame once, ever."""
    adapter: Literal["none", "lora"] = "none"
    """lora: train low-rank adapters of the language model alone."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    weights: Precision = "fp32"
    """Precision of the weights in memory (`loop.precision` is that of the arithmetic)."""
    checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, a third more time."""
    max_pixels: int | None = None
    """Largest frame of a published model; None: its own bound."""
    history_pool: int = 1
    """Of a published model: tokens a side of the past's frames that become one."""
    local_files_only: bool = False
    """Fetch nothing from the hub."""


@dataclass(frozen=True, kw_only=True)
class StartNavigator:
    """Where the weights of navigator-s begin."""

    vision: bool = True
    """Let the tower learn to see first, from labels of rendered houses."""
    sight: SightConfig = field(default_factory=SightConfig)
    eyes: Path | None = None
    """A tower that has learnt to see already: a folder of `sterna ego sight` (or RUN/sight)."""


@dataclass(frozen=True, kw_only=True)
class SftRun:
    """A run of supervised fine-tuning."""

    walks: WalksConfig = field(default_factory=WalksConfig)
    model: NavigatorConfig = field(default_factory=NavigatorConfig)
    start: StartNavigator = field(default_factory=StartNavigator)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(select_by="last"))
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    warmup_share: float = 0.1
    """Share of the iterations in which the learning rate rises."""
    epochs: float | None = None
    """Passes over the samples; given, it decides `loop.iterations`."""

    def __post_init__(self) -> None:
        """Check what depends on several parts."""
        if self.loop.select_by != "last":
            raise InputError(
                f"loop: fine-tuning keeps its last weights; select_by must be last, found "
                f"{self.loop.select_by}"
            )
        if not 0 <= self.warmup_share < 1 or (self.epochs is not None and self.epochs <= 0):
            raise InputError("sft: warmup_share is from 0 to below 1, epochs positive")

    def wording(self, store: EgoStore) -> Wording:
        """Return how samples of a store are asked: its protocol's angle and step."""
        return Wording.of(
            Protocol.from_dict(dict(store.protocol)),
            actions=self.walks.actions,
            style=self.model.style,
            order=self.model.order,
            previous=self.model.previous,
            told=self.model.told,
        )

    def samples(self, store: EgoStore | JoinedStore) -> EgoSamples:
        """Return the samples of a store."""
        walks = self.walks
        return EgoSamples(store, walks.actions, walks.memory, walks.budget, stride=walks.stride)
