"""Named sizes, and how many parameters they have.

Legend of the formulas: h width, f feed-forward width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from sterna.errors import InputError
from sterna.models.config import DuetConfig
from sterna.models.duet import DUET


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named configuration and where its weights come from."""

    config: DuetConfig
    checkpoint: str
    """The published checkpoint it loads, or how the model is made."""
    paper: str


_DUET = "DUET, Chen et al., CVPR 2022"
_SCALE = "ScaleVLN, Wang et al., ICCV 2023"
_MINI = DuetConfig(
    hidden_size=312, ffn_size=1200, language_layers=3, panorama_layers=1, cross_layers=2
)

PRESETS: dict[str, Preset] = {
    "duet-r2r": Preset(
        config=DuetConfig(), checkpoint="DUET R2R best_val_unseen, model_step_*.pt", paper=_DUET
    ),
    "scalevln-r2r": Preset(
        config=DuetConfig(feature_size=1024),
        checkpoint="OpenGVLab/ScaleVLN R2R, CLIP ViT-H/14",
        paper=_SCALE,
    ),
    "scalevln-r2r-b16": Preset(
        config=DuetConfig(feature_size=512),
        checkpoint="OpenGVLab/ScaleVLN R2R, CLIP ViT-B/16",
        paper=_SCALE,
    ),
    "duet-reverie": Preset(
        config=DuetConfig(object_size=768),
        checkpoint="DUET and AutoVLN REVERIE best_val_unseen",
        paper=_DUET,
    ),
    "duet-soon": Preset(
        config=DuetConfig(object_size=2048), checkpoint="DUET SOON best_val_unseen", paper=_DUET
    ),
    "scalevln-reverie": Preset(
        config=DuetConfig(feature_size=1024, object_size=768),
        checkpoint="OpenGVLab/ScaleVLN REVERIE, CLIP ViT-H/14",
        paper=_SCALE,
    ),
    "minivln": Preset(
        config=_MINI,
        checkpoint="none published: distil it",
        paper="MiniVLN, arXiv 2409.18800, ICRA 2025",
    ),
    "teacher-s": Preset(
        config=DuetConfig(
            hidden_size=384, ffn_size=1536, language_layers=6, panorama_layers=1, cross_layers=1
        ),
        checkpoint="none: language layers from all-MiniLM-L6-v2",
        paper="sterna, a teacher for two CPU cores",
    ),
    "student-s": Preset(
        config=DuetConfig(
            hidden_size=92,
            heads=4,
            ffn_size=368,
            language_layers=3,
            panorama_layers=1,
            cross_layers=1,
        ),
        checkpoint="none: distil it",
        paper="sterna, the student of teacher-s",
    ),
}


def preset(name: str) -> DuetConfig:
    """Return the sizes called `name`; an unknown name is an `InputError` that lists them all."""
    if name not in PRESETS:
        raise InputError(f"model {name!r} is unknown; choose one of {', '.join(PRESETS)}")
    return PRESETS[name].config


def with_features(config: DuetConfig, width: int) -> DuetConfig:
    """Return the configuration for view features of another width (objects keep theirs)."""
    return replace(config, feature_size=width)


def parameter_counts(config: DuetConfig) -> dict[str, int]:
    """Count parameters by arithmetic, block by block; `total` and `without_word_table` last.

    attention 4 (h^2 + h) + 2 h; feed-forward 2 h f + f + h + 2 h; cross-modal layer = 2 attentions
    + feed-forward (+ 1 + 1 with text branches); panorama layer 4 h^2 + 4 h + 2 h f + f + h + 4 h;
    head of n inputs: n h + h + 2 h + h + 1.
    """
    h, f = config.hidden_size, config.ffn_size
    attention, feed = 4 * (h * h + h) + 2 * h, 2 * h * f + f + h + 2 * h
    cross = (2 + config.lang2visn) * attention + (1 + config.lang2visn) * feed
    panorama = 4 * h * h + 4 * h + 2 * h * f + f + h + 4 * h

    def head(inputs: int) -> int:
        return inputs * h + h + 2 * h + h + 1

    objects = config.object_size is not None
    table = config.vocab_size * config.word_width
    words = table + (0 if config.word_size is None else config.word_size * h)
    own = (config.object_size or 0) * h + 3 * h if objects and not config.shared_objects else 0
    counts = {
        "embeddings": words + (config.max_positions + 2) * h + 2 * h,
        "lang_encoder": config.language_layers * (attention + feed),
        "img_embeddings": (config.feature_size + 7) * h
        + 2 * 3 * h
        + own
        + 3 * h
        + 2 * h
        + config.panorama_layers * panorama
        + 2 * h,
        "local_encoder": 14 * h + 3 * h + config.cross_layers * cross,
        "global_encoder": 7 * h
        + 3 * h
        + config.max_steps * h
        + 2 * config.graph_bias
        + config.cross_layers * cross,
        "global_sap_head": head(h),
        "local_sap_head": head(h),
        "sap_fuse_linear": head(2 * h),
        "og_head": head(h) if objects else 0,
    }
    counts["total"] = sum(counts.values())
    counts["without_word_table"] = counts["total"] - table
    return counts


def built_count(config: DuetConfig) -> int:
    """Count the parameters of the model itself, built without memory."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in DUET(config).parameters())


def preset_table() -> list[dict[str, str | int | float]]:
    """Return one row a preset, as `sterna models` prints them; MB are 10^6 bytes, float32."""
    rows: list[dict[str, str | int | float]] = []
    for name, entry in PRESETS.items():
        counts = parameter_counts(entry.config)
        rows.append(
            {
                "name": name,
                "parameters": counts["total"],
                "without_word_table": counts["without_word_table"],
                "megabytes": round(counts["total"] * 4 / 1e6, 1),
                "checkpoint": entry.checkpoint,
                "paper": entry.paper,
            }
        )
    return rows
