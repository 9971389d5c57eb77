"""Which encoder looks at which panoramas, and how; light, so that --help is quick."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sterna.data.boxes import IMAGE_HEIGHT
from sterna.errors import InputError

Number = Literal["float16", "float32", "float64"]


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """Which encoder looks at which panoramas, and how."""

    encoder: str
    """An image model: a folder or Hub name of transformers (CLIP, SigLIP, DINO, ViT, EfficientNet,
    ...), a folder of OpenCLIP, or timm:NAME where timm is installed."""
    pictures: Path | None = None
    """Folder of pictures: SCAN/VIEWPOINT/00.jpg .. 35.jpg, or SCAN/VIEWPOINT.jpg (a panorama)."""
    houses: Path | None = None
    """Data folder of `sterna data make houses` to render instead of reading pictures."""
    scans: tuple[str, ...] = ()
    """Only these scans (default: all)."""
    north: float = 0.0
    """Heading in degrees at the middle column of a panorama."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """What the network computes in; bf16 is faster on recent hardware, features differ by 1e-2."""
    pool: Literal["auto", "cls", "mean"] = "auto"
    """What stands for a picture where the model does not say: its pooled output if that was
    trained, else its first token (auto), the first token (cls), the mean of all tokens (mean)."""
    logits: Literal["auto", "yes", "no"] = "auto"
    """Keep ImageNet logits behind the features, as masked region classification needs them; auto:
    where the model has a classifier of 1000 classes."""
    dtype: Number = "float32"
    """Numbers in the file: float16 halves it (differences of 1e-3), float64 is what HAMT's
    extractor writes (the same values, twice the size)."""
    batch_size: int = 36
    """Pictures encoded at once, of one viewpoint."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; with several cards start one --shard a card."""

    def __post_init__(self) -> None:
        if (self.pictures is None) == (self.houses is None):
            raise InputError("features: give a folder of pictures, or --houses DIR, not both")
        if self.batch_size < 1:
            raise InputError(f"features: batch size is at least 1, found {self.batch_size}")
        if not math.isfinite(self.north):
            raise InputError(f"features: north is an angle in degrees, found {self.north}")


@dataclass(frozen=True, kw_only=True)
class ObjectConfig(FeatureConfig):
    """What `FeatureConfig` says, and how objects are cut out of views."""

    boxes: Path | None = None
    """REVERIE's boxes: BBox.tar.gz, a folder of its files or BBoxes.json (default: those of the
    data folder)."""
    top: int = 3
    """Views an object is seen through, those of its largest boxes; features are averaged."""
    least: int = 80
    """Pixels that the part cut out is wide and high at least (of 640 x 480)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top < 1 or not 1 <= self.least <= IMAGE_HEIGHT:
            raise InputError(
                f"features: top is at least 1 and least 1 to {IMAGE_HEIGHT}, found {self.top} and "
                f"{self.least}"
            )


def read_shard(text: str) -> tuple[int, int]:
    """Read ``i/n``: the i-th of n parts, counted from 1."""
    first, slash, last = text.partition("/")
    if slash and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last):
        return int(first), int(last)
    raise InputError(f"--shard {text!r}: expected i/n with 1 <= i <= n, such as 2/4")
