"""Pre-training: recipes, and the run that `sterna pretrain` and `sterna distil --stage 1` do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from sterna import processes
from sterna.data.episodes import Episode
from sterna.data.objects import ObjectStore
from sterna.data.viewfile import LOGITS
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.minivln.inherit import inherit
from sterna.minivln.stage1 import Stage1Config, Stage1Task
from sterna.models.duet import DUET
from sterna.models.presets import preset
from sterna.models.pretraining import PretrainModel, load_heads
from sterna.models.weights import load_weights
from sterna.recipes.config import DataConfig, EvalConfig, PretrainRun, Stage1Run
from sterna.recipes.policies import check_fit, check_teacher, fitted, open_teacher
from sterna.recipes.r2r import text_student, text_teacher, toy_student, toy_teacher
from sterna.recipes.runs import Ready, finish, ready
from sterna.recipes.start import begin
from sterna.recipes.toyworld import WORDS
from sterna.recipes.world import World, open_world
from sterna.train.loop import STATE_FILE, LoopConfig
from sterna.train.pretrain.loop import PretrainRunner
from sterna.train.pretrain.masking import MaskingConfig
from sterna.train.pretrain.objects import Objects
from sterna.train.pretrain.task import PretrainConfig, PretrainTask, TaskMix
from sterna.train.schedule import OptimizerConfig

_DUET_OPTIMIZER = OptimizerConfig(
    learning_rate=5e-5,
    warmup=10_000,
    schedule="linear",
    final_rate=0.0,
    betas=(0.9, 0.98),
    epsilon=1e-6,
    decay_vectors=False,
    clip_norm=5.0,
)


def duet_r2r() -> PretrainRun:
    """DUET's published pre-training on R2R: mlm, mrc, sap 1:1:1, 100k iterations of 64."""
    return PretrainRun(
        model=replace(preset("duet-r2r"), lang2visn=True, feature_dropout=0.0),
        data=DataConfig(views="pth_vit_base_patch16_224_imagenet"),
        pretrain=PretrainConfig(mix=TaskMix(mlm=1.0, mrc=1.0, sap=1.0)),
        loop=LoopConfig(iterations=100_000, batch_size=64, eval_every=2500, save_every=2500),
        optimizer=_DUET_OPTIMIZER,
    )


def scalevln_r2r() -> PretrainRun:
    """ScaleVLN's pre-training on R2R alone: CLIP H/14 views, mlm and sap 1:1, batch 128."""
    base = duet_r2r()
    return replace(
        base,
        model=replace(preset("scalevln-r2r"), lang2visn=True, feature_dropout=0.0),
        data=DataConfig(views="clip_vit-h14_mp3d_original"),
        pretrain=PretrainConfig(mix=TaskMix(mlm=1.0, sap=1.0)),
        loop=replace(
            base.loop,
            iterations=200_000,
            batch_size=128,
            eval_every=10_000,
            save_every=10_000,
            select_by="SR+SPL",
        ),
    )


def text_pretraining() -> PretrainRun:
    """The text teacher's pre-training on two CPU cores: mlm and sap 1:1, text observations."""
    base = text_teacher()
    return PretrainRun(
        model=replace(base.model, lang2visn=True, feature_dropout=0.0),
        data=base.data,
        start=base.start,
        pretrain=PretrainConfig(mix=TaskMix(mlm=1.0, sap=1.0), frozen_language_layers=4),
        loop=LoopConfig(
            iterations=1500,
            batch_size=32,
            length_window=8,
            precision="bf16",
            eval_every=750,
            save_every=250,
            select_by="SR+SPL",
        ),
        optimizer=replace(_DUET_OPTIMIZER, learning_rate=3e-4, language_rate=0.2, warmup=100),
        select=base.select,
    )


def toy_pretraining() -> PretrainRun:
    """A small teacher's pre-training on generated houses."""
    base = toy_teacher()
    masking = MaskingConfig(mask_id=WORDS.index("[UNK]"), first_word=4, end_word=len(WORDS))
    return PretrainRun(
        model=replace(base.model, lang2visn=True),
        data=base.data,
        start=base.start,
        pretrain=PretrainConfig(mix=TaskMix(mlm=1.0, sap=3.0), masking=masking),
        loop=LoopConfig(
            iterations=300,
            batch_size=16,
            length_window=4,
            eval_every=150,
            save_every=100,
            select_by="SR+SPL",
        ),
        optimizer=base.optimizer,
        select=EvalConfig(split="val_seen", episodes=120),
    )


def minivln_r2r() -> Stage1Run:
    """MiniVLN stage 1 on R2R: a 21M student of ScaleVLN's pre-training checkpoint."""
    base = scalevln_r2r()
    sizes = replace(preset("minivln"), feature_size=1024, lang2visn=True, feature_dropout=0.0)
    return Stage1Run(**vars(base) | {"model": sizes}, distill=Stage1Config(weight=1.0))


def text_stage1() -> Stage1Run:
    """Stage 1 of the text student; its heads differ from the teacher's, so no attention term."""
    base, student = text_pretraining(), text_student()
    sizes = replace(student.model, lang2visn=True, feature_dropout=0.0)
    changed = {
        "model": sizes,
        "start": student.start,
        "pretrain": replace(base.pretrain, frozen_language_layers=0),
        "loop": replace(base.loop, precision="fp32"),
        "optimizer": replace(base.optimizer, learning_rate=1e-3, language_rate=1.0),
    }
    stage1 = Stage1Config(attention=False, normalise=True, teacher_precision="bf16")
    return Stage1Run(**vars(base) | changed, distill=stage1)


def toy_stage1() -> Stage1Run:
    """Stage 1 of the toy student, with as many heads as its teacher has."""
    base, student = toy_pretraining(), toy_student()
    sizes = replace(student.model, lang2visn=True, heads=base.model.heads)
    return Stage1Run(**vars(base) | {"model": sizes}, distill=Stage1Config(normalise=True))


PRETRAINING = {
    "duet-r2r": duet_r2r,
    "scalevln-r2r": scalevln_r2r,
    "text-teacher": text_pretraining,
    "toy-teacher": toy_pretraining,
}
STAGE1 = {
    "minivln-r2r-scalevln": minivln_r2r,
    "text-student": text_stage1,
    "toy-student": toy_stage1,
}


def pretrain(config: PretrainRun, root: Path, out: Path, *, threads: int | None = None) -> Path:
    """Pre-train (or distil, for a `Stage1Run`) in `out`, from wherever it stopped; return `out`.

    Leaves ``best/`` and ``last/`` (saved policies with text branches, which `sterna train
    --start.weights` takes), ``run.json``, ``log.jsonl`` and ``state.pt``. Weights are selected by
    navigating the selection split as they are.
    """
    return finish(prepare(config, root, out), out, threads=threads)


def prepare(config: PretrainRun, root: Path, out: Path) -> Ready:
    """Read all that `pretrain` needs."""
    if not config.model.lang2visn:
        raise InputError("pre-training: the model needs text branches; set --model.lang2visn")
    if config.start.from_teacher and not _taught(config):
        raise InputError("start: from_teacher needs a teacher; use `sterna distil --stage 1`")
    if _taught(config):
        check_teacher(config.need_teacher())  # before minutes are spent on reading data
    with processes.main_first():
        world = open_world(root, config.data)
        episodes = world.episodes("train")
        chosen = world.episodes(config.select.split, about=config.select.episodes)
        bare, objects = _seen(config, world, [*episodes, *chosen])
        panoramas = bare if objects is None else bare.showing(objects)
        config = replace(config, model=fitted(config.model, panoramas))
        policy = begin(config.model, config.start, config.loop.seed, world)
    check_fit(policy.config, panoramas, [*episodes, *chosen], "model")
    teacher = _teacher(config) if _taught(config) else None
    if teacher is not None:
        check_fit(teacher.config, panoramas, episodes, "teacher")
    resumes = (out / STATE_FILE).is_file()
    return ready(
        PretrainRunner,
        _task(config, policy, teacher, bare, objects, world, episodes, resumes=resumes),
        policy,
        config,
        out,
        world=world,
        seen=panoramas,
        episodes=episodes,
        chosen=chosen,
        notes=_notes(config),
        teacher=teacher,
    )


def _taught(config: PretrainRun) -> TypeGuard[Stage1Run]:
    return isinstance(config, Stage1Run) and config.distill.weight > 0


def _seen(
    config: PretrainRun, world: World, episodes: Sequence[Episode]
) -> tuple[Panoramas, ObjectStore | None]:
    """Return panoramas without objects (pre-training puts them in itself) and the objects."""
    bare = world.bare_panoramas(episodes)
    masked = "mrc" in config.pretrain.mix.tasks()
    return bare, world.objects(bare.atlas, logits=masked)


def _task(
    config: PretrainRun,
    policy: DUET,
    teacher: DUET | None,
    panoramas: Panoramas,
    store: ObjectStore | None,
    world: World,
    episodes: Sequence[Episode],
    *,
    resumes: bool,
) -> PretrainTask:
    keys = panoramas.atlas.keys
    logits: NDArray[np.floating] | None = None
    if "mrc" in config.pretrain.mix.tasks():
        logits = world.views.table(keys, logits=True)
    objects = None
    if store is not None:
        objects = Objects.from_store(keys, store, limit=config.data.max_objects)
    with_classes = objects is not None and objects.logits is not None
    model = PretrainModel(
        policy,
        image_classes=None if logits is None else LOGITS,
        object_classes=LOGITS if with_classes else None,
    )
    weights = config.start.weights
    if weights is not None and weights.is_file():  # a published checkpoint brings its task heads
        _, _, report = load_weights(weights, kind="pretraining")
        load_heads(model, report.heads, str(weights))
    if teacher is None or not _taught(config):
        return PretrainTask(model, panoramas, config.pretrain, view_logits=logits, objects=objects)
    task = Stage1Task(
        model,
        PretrainModel(teacher),
        panoramas,
        config.pretrain,
        config.distill,
        view_logits=logits,
        objects=objects,
    )
    if config.start.from_teacher and not resumes:
        back = inherit(policy, teacher, panoramas, episodes)
        for linear in (task.embedding_map, *task.hidden_maps.values()):
            linear.get_parameter("weight").data.copy_(back)
    return task


def _teacher(config: Stage1Run) -> DUET:
    path = config.need_teacher()
    teacher = open_teacher(path, branches=True)
    if not teacher.config.lang2visn:
        raise InputError(
            f"{path}: a navigator without text branches cannot teach stage 1; give the run of "
            "`sterna pretrain`, or a published pre-training checkpoint"
        )
    return teacher


def _notes(config: PretrainRun) -> str:
    mix = ", ".join(config.pretrain.mix.tasks())
    beside = " beside a teacher (MiniVLN stage 1)" if _taught(config) else ""
    return (
        f"Pre-trained on {config.data.task} by {mix}{beside} (views: {config.data.views}"
        f"{', blind' if config.data.blind else ''}), seed {config.loop.seed}, "
        f"{config.loop.iterations} iterations, weights selected on {config.select.split} by "
        f"{config.loop.select_by}, without fine-tuning."
    )
