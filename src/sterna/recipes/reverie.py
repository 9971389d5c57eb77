"""Recipes for REVERIE: go to where the object can be seen, and say which one it is."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from sterna.minivln.stage1 import Stage1Config
from sterna.minivln.stage2 import DistillConfig
from sterna.models.presets import preset
from sterna.recipes import pretraining, r2r
from sterna.recipes.config import DataConfig, DistillRun, PretrainRun, Stage1Run, TrainConfig
from sterna.recipes.toyreverie import OBJECTS_FILE
from sterna.train.imitation import ImitationConfig
from sterna.train.loop import LoopConfig
from sterna.train.pretrain.ends import EndsConfig
from sterna.train.pretrain.task import PretrainConfig, TaskMix
from sterna.train.schedule import OptimizerConfig

Run = TypeVar("Run", bound=TrainConfig)
Pre = TypeVar("Pre", bound=PretrainRun)

_IMITATION = ImitationConfig(demonstrate="expert", multi_endpoints=True)
_GOALS = EndsConfig(rule="goals")
_DUET = DataConfig(
    task="reverie",
    views="pth_vit_base_patch16_224_imagenet",
    objects="obj.avg.top3.min80_vit_base_patch16_224_imagenet",
    max_objects=20,
)
_AUTOVLN = DataConfig(
    task="reverie",
    views="view_timm_imagenet_vitb16",
    objects="obj_gtmax_timm_imagenet_vitb16",
    max_words=100,
    max_objects=50,
)
_TEXT = DataConfig(task="reverie", max_objects=20)
_TOY = DataConfig(task="reverie", views="toy", objects=OBJECTS_FILE)


def duet_reverie() -> TrainConfig:
    """DUET's published fine-tuning on REVERIE: ViT-B/16 views and objects, 200k iterations of 8."""
    return TrainConfig(
        model=preset("duet-reverie"),
        data=_DUET,
        imitation=_IMITATION,
        loop=LoopConfig(eval_every=1000, pieces=8),
        optimizer=OptimizerConfig(learning_rate=1e-5),
    )


def minivln_autovln() -> DistillRun:
    """MiniVLN stage 2 on REVERIE: a 21M student of an AutoVLN teacher, 20k iterations of 32."""
    base = duet_reverie()
    return DistillRun(
        model=replace(preset("minivln"), feature_size=768, object_size=768),
        data=_AUTOVLN,
        imitation=base.imitation,
        loop=replace(base.loop, iterations=20_000, batch_size=32),
        optimizer=base.optimizer,
        distill=DistillConfig(weight=0.1),
    )


def text_teacher() -> TrainConfig:
    """The teacher of two CPU cores on REVERIE: text observations and names of objects."""
    return on_reverie(r2r.text_teacher(), _TEXT)


def text_student() -> DistillRun:
    """The student of `text-reverie-teacher`, 12% of its parameters; weight 0 trains it alone."""
    return on_reverie(r2r.text_student(), _TEXT)


def toy_teacher() -> TrainConfig:
    """A small teacher on generated houses with objects, in half a minute."""
    return on_reverie(r2r.toy_teacher(), _TOY)


def toy_student() -> DistillRun:
    """The student of `toy-reverie-teacher`; weight 0 trains it alone."""
    return on_reverie(r2r.toy_student(), _TOY)


def on_reverie(base: Run, data: DataConfig) -> Run:
    """Turn an R2R recipe into one of REVERIE: its goals, its objects, its scores."""
    imitation = replace(base.imitation, demonstrate="expert", multi_endpoints=True)
    loop = replace(base.loop, select_by="SPL+RGSPL")
    return replace(base, data=data, imitation=imitation, loop=loop)


def duet_pretraining() -> PretrainRun:
    """DUET's published pre-training on REVERIE: mlm, mrc, sap, og 1:1:1:1, 100k times 32."""
    base = pretraining.duet_r2r()
    return replace(
        base,
        model=replace(preset("duet-reverie"), lang2visn=True, feature_dropout=0.0),
        data=_DUET,
        pretrain=PretrainConfig(mix=TaskMix(mlm=1.0, mrc=1.0, sap=1.0, og=1.0), ends=_GOALS),
        loop=replace(base.loop, batch_size=32, eval_every=4000, save_every=4000),
    )


def text_pretraining() -> PretrainRun:
    """The text teacher's pre-training on REVERIE: mlm, sap and og 1:1:1."""
    base = pretraining.text_pretraining()
    return _pretrained(base, _TEXT, TaskMix(mlm=1.0, sap=1.0, og=1.0))


def toy_pretraining() -> PretrainRun:
    """A small teacher's pre-training on generated houses with objects."""
    return _pretrained(pretraining.toy_pretraining(), _TOY, TaskMix(mlm=1.0, sap=3.0, og=1.0))


def minivln_autovln_stage1() -> Stage1Run:
    """MiniVLN stage 1 on REVERIE: a 21M student of AutoVLN's pre-training checkpoint."""
    base = duet_pretraining()
    sizes = replace(preset("minivln"), feature_size=768, object_size=768)
    mix = TaskMix(mlm=1.0, sap=1.0, og=1.0)
    changed = {
        "model": replace(sizes, lang2visn=True, feature_dropout=0.0),
        "data": _AUTOVLN,
        "pretrain": PretrainConfig(mix=mix, ends=_GOALS),
        "loop": replace(base.loop, batch_size=64, eval_every=5000, save_every=5000),
    }
    return Stage1Run(**vars(base) | changed, distill=Stage1Config(weight=1.0))


def text_stage1() -> Stage1Run:
    """Stage 1 of the text student on REVERIE, without the attention term (other heads)."""
    base = pretraining.text_stage1()
    return _pretrained(base, _TEXT, TaskMix(mlm=1.0, sap=1.0, og=1.0))


def toy_stage1() -> Stage1Run:
    """Stage 1 of the toy student on generated houses with objects."""
    return _pretrained(pretraining.toy_stage1(), _TOY, TaskMix(mlm=1.0, sap=3.0, og=1.0))


def _pretrained(base: Pre, data: DataConfig, mix: TaskMix) -> Pre:
    """Turn an R2R pre-training into one of REVERIE: its tasks, its ends of walks, its objects."""
    pretrain = replace(base.pretrain, mix=mix, ends=_GOALS)
    return replace(base, data=data, pretrain=pretrain)


TRAINING = {
    "duet-reverie": duet_reverie,
    "text-reverie-teacher": text_teacher,
    "toy-reverie-teacher": toy_teacher,
}
DISTILLING = {
    "minivln-reverie-autovln": minivln_autovln,
    "text-reverie-student": text_student,
    "toy-reverie-student": toy_student,
}
PRETRAINING = {
    "duet-reverie": duet_pretraining,
    "text-reverie-teacher": text_pretraining,
    "toy-reverie-teacher": toy_pretraining,
}
STAGE1 = {
    "minivln-reverie-autovln": minivln_autovln_stage1,
    "text-reverie-student": text_stage1,
    "toy-reverie-student": toy_stage1,
}
