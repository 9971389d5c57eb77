"""Recipes for Room-to-Room: each a function that returns a full configuration."""

from __future__ import annotations

from dataclasses import replace

from sterna.minivln.stage2 import DistillConfig
from sterna.models.config import DuetConfig
from sterna.models.presets import preset
from sterna.recipes.config import DataConfig, DistillRun, EvalConfig, StartConfig, TrainConfig
from sterna.recipes.toyworld import FEATURE_SIZE, WORDS
from sterna.train.imitation import ImitationConfig
from sterna.train.loop import LoopConfig
from sterna.train.schedule import OptimizerConfig


def duet_r2r() -> TrainConfig:
    """DUET's published fine-tuning: 180M parameters, ViT-B/16 views, 200k iterations of 8."""
    return TrainConfig(
        model=preset("duet-r2r"),
        data=DataConfig(views="pth_vit_base_patch16_224_imagenet"),
        loop=LoopConfig(eval_every=1000, pieces=8),
        optimizer=OptimizerConfig(learning_rate=1e-5),
    )


def scalevln_r2r() -> TrainConfig:
    """ScaleVLN's fine-tuning on R2R alone: CLIP H/14 views, batch 8, weight 0.15, SR + SPL."""
    base = duet_r2r()
    return replace(
        base,
        model=preset("scalevln-r2r"),
        data=DataConfig(views="clip_vit-h14_mp3d_original"),
        imitation=ImitationConfig(ml_weight=0.15),
        loop=replace(base.loop, eval_every=500, select_by="SR+SPL"),
    )


def minivln_r2r() -> DistillRun:
    """MiniVLN stage 2 on R2R: a 21M student of a ScaleVLN teacher, 200k iterations of 16."""
    base = scalevln_r2r()
    return DistillRun(
        model=replace(preset("minivln"), feature_size=1024),
        data=base.data,
        imitation=base.imitation,
        loop=replace(base.loop, batch_size=16),
        optimizer=base.optimizer,
        distill=DistillConfig(weight=0.1),
    )


_TEXT_LOOP = LoopConfig(
    iterations=2400,
    batch_size=16,
    demonstrations=4,
    warm_start=400,
    length_window=8,
    precision="bf16",
    eval_every=800,
    save_every=200,
    select_by="SR+SPL",
)


def text_teacher() -> TrainConfig:
    """The teacher of two CPU cores: text observations, language layers of MiniLM."""
    return TrainConfig(
        model=replace(preset("teacher-s"), dropout=0.0, feature_dropout=0.3),
        start=StartConfig(language="all-MiniLM-L6-v2", aligned=True),
        imitation=ImitationConfig(frozen_language_layers=4, max_steps=12),
        loop=_TEXT_LOOP,
        optimizer=OptimizerConfig(
            learning_rate=3e-4, language_rate=0.2, warmup=100, schedule="cosine", clip_norm=5.0
        ),
        select=EvalConfig(split="val_seen"),
    )


def text_student() -> DistillRun:
    """The student of `text-teacher`, 12% of its parameters; weight 0 trains it alone."""
    return DistillRun(
        model=replace(preset("student-s"), dropout=0.0, feature_dropout=0.3),
        start=StartConfig(word_table=True, aligned=True, spread=0.0),
        imitation=ImitationConfig(max_steps=12),
        loop=replace(
            _TEXT_LOOP,
            iterations=3600,
            warm_start=300,
            eval_every=1200,
            save_every=500,
            replay=2,
            precision="fp32",
        ),
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup=100, schedule="cosine", clip_norm=5.0),
        select=EvalConfig(split="val_seen"),
        distill=DistillConfig(weight=10.0, normalise=True, lessons=300, teacher_precision="bf16"),
    )


_TOY = DuetConfig(
    hidden_size=80,
    heads=4,
    ffn_size=160,
    language_layers=1,
    panorama_layers=1,
    cross_layers=1,
    vocab_size=len(WORDS),
    max_positions=100,
    max_steps=20,
    feature_size=FEATURE_SIZE,
    dropout=0.0,
    feature_dropout=0.0,
)
_TOY_LOOP = LoopConfig(
    iterations=300,
    batch_size=16,
    demonstrations=4,
    warm_start=220,
    length_window=4,
    eval_every=150,
    save_every=100,
    select_by="SR+SPL",
)
_TOY_START = StartConfig(word_table=True, aligned=True, spread=0.0)


def toy_teacher() -> TrainConfig:
    """A small teacher on generated houses, in half a minute."""
    return TrainConfig(
        model=_TOY,
        data=DataConfig(views="toy"),
        start=_TOY_START,
        loop=_TOY_LOOP,
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup=20, schedule="cosine", clip_norm=5.0),
        select=EvalConfig(split="val_seen", episodes=120),
    )


def toy_student() -> DistillRun:
    """The student of `toy-teacher`, less than an eighth of its size; weight 0 trains it alone."""
    base = toy_teacher()
    return DistillRun(
        model=replace(_TOY, hidden_size=28, heads=2, ffn_size=28),
        data=base.data,
        start=base.start,
        loop=base.loop,
        optimizer=replace(base.optimizer, learning_rate=3e-3),
        select=base.select,
        distill=DistillConfig(weight=0.1, cache=False),
    )


TRAINING = {
    "duet-r2r": duet_r2r,
    "scalevln-r2r": scalevln_r2r,
    "text-teacher": text_teacher,
    "toy-teacher": toy_teacher,
}
DISTILLING = {
    "minivln-r2r-scalevln": minivln_r2r,
    "text-student": text_student,
    "toy-student": toy_student,
}
