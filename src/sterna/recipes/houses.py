"""Recipes for houses made from seeds: minutes on two CPU cores, with the published stages.

Words and views begin with the same vectors, as the data folder's ``words.npy`` gives them.
"""

from __future__ import annotations

from dataclasses import replace

from sterna.minivln.stage1 import Stage1Config
from sterna.minivln.stage2 import DistillConfig
from sterna.models.config import DuetConfig
from sterna.recipes.config import (
    DataConfig,
    DistillRun,
    EvalConfig,
    PretrainRun,
    Stage1Run,
    StartConfig,
    TrainConfig,
)
from sterna.recipes.makehouses import FEATURES, OBJECTS, SPECIAL, VOCABULARY
from sterna.recipes.reverie import on_reverie
from sterna.train.imitation import ImitationConfig
from sterna.train.loop import LoopConfig
from sterna.train.pretrain.masking import MaskingConfig
from sterna.train.pretrain.task import PretrainConfig, TaskMix
from sterna.train.schedule import OptimizerConfig
from sterna.world.houses.words import SIZE

_MODEL = DuetConfig(
    hidden_size=96,
    heads=4,
    ffn_size=384,
    language_layers=1,
    panorama_layers=1,
    cross_layers=1,
    vocab_size=VOCABULARY,
    max_positions=120,
    max_steps=20,
    feature_size=2 * SIZE,
    dropout=0.0,
    feature_dropout=0.1,
)
_ERRANDS = DataConfig(task="reverie", views=FEATURES, objects=OBJECTS)
_LOOP = LoopConfig(
    iterations=1150,
    batch_size=24,
    demonstrations=4,
    warm_start=380,
    replay=1,
    ahead=2,
    length_window=8,
    eval_every=575,
    save_every=100,
    select_by="SR+SPL",
)
_OPTIMIZER = OptimizerConfig(
    kind="muon",
    learning_rate=4e-3,
    warmup=20,
    schedule="cosine",
    betas=(0.9, 0.98),
    clip_norm=5.0,
)
_SELECT = EvalConfig(split="val_seen", episodes=200)


def house_teacher() -> TrainConfig:
    """A small teacher for houses: first demonstrations, then its own walks, corrected."""
    return TrainConfig(
        model=_MODEL,
        data=DataConfig(views=FEATURES),
        start=StartConfig(word_table=True, aligned=True, spread=0.0),
        imitation=ImitationConfig(max_steps=10, branches=1.0, buckets=1),
        loop=_LOOP,
        optimizer=_OPTIMIZER,
        select=_SELECT,
    )


def house_student() -> DistillRun:
    """The student of `house-teacher`, an eighth of its size; weight 0 trains it alone."""
    base = house_teacher()
    return DistillRun(
        model=replace(_MODEL, hidden_size=32, ffn_size=64),
        data=base.data,
        start=base.start,
        imitation=base.imitation,
        loop=replace(
            base.loop,
            iterations=1700,
            batch_size=16,
            warm_start=400,
            replay=3,
            eval_every=850,
        ),
        optimizer=replace(_OPTIMIZER, learning_rate=8e-3),
        select=_SELECT,
        distill=DistillConfig(weight=10.0, normalise=True, fit_maps=True, cache=False),
    )


def house_errand_teacher() -> TrainConfig:
    """A narrower teacher for errands: REVERIE's kind, with the thing to be found."""
    base = on_reverie(house_teacher(), _ERRANDS)
    return replace(
        base,
        model=replace(_MODEL, hidden_size=64, ffn_size=128),
        loop=replace(
            base.loop,
            iterations=1000,
            batch_size=16,
            demonstrations=8,
            warm_start=400,
            eval_every=250,
        ),
        optimizer=replace(_OPTIMIZER, learning_rate=5e-3),
    )


def house_pretraining() -> PretrainRun:
    """The house teacher's pre-training: masked words and single actions."""
    base = house_teacher()
    masking = MaskingConfig(
        mask_id=SPECIAL.index("[MASK]"), first_word=len(SPECIAL), end_word=VOCABULARY
    )
    return PretrainRun(
        model=replace(base.model, lang2visn=True, feature_dropout=0.0),
        data=base.data,
        start=base.start,
        pretrain=PretrainConfig(mix=TaskMix(mlm=1.0, sap=2.0), masking=masking),
        loop=LoopConfig(
            iterations=120,
            batch_size=32,
            length_window=8,
            eval_every=120,
            save_every=100,
            select_by="SR+SPL",
        ),
        optimizer=_OPTIMIZER,
        select=_SELECT,
    )


def house_stage1() -> Stage1Run:
    """Stage 1 of the house student, with attention: it has as many heads as its teacher."""
    base, student = house_pretraining(), house_student()
    sizes = replace(student.model, lang2visn=True, feature_dropout=0.0)
    return Stage1Run(**vars(base) | {"model": sizes}, distill=Stage1Config(normalise=True))


TRAINING = {"house-teacher": house_teacher, "house-errand-teacher": house_errand_teacher}
DISTILLING = {"house-student": house_student}
PRETRAINING = {"house-teacher": house_pretraining}
STAGE1 = {"house-student": house_stage1}
