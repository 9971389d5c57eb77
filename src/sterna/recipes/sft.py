"""Supervised fine-tuning of vision-language navigators: recipes and runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate.state import AcceleratorState, PartialState  # type: ignore[import-untyped]

from sterna.data.ego.joined import JoinedStore
from sterna.data.ego.samples import EgoSample, EgoSamples
from sterna.data.ego.store import EgoStore
from sterna.errors import InputError
from sterna.files import write_json
from sterna.metrics.protocol import Protocol
from sterna.models.navigator.folder import (
    SETTINGS,
    add_lora,
    load,
    open_published,
    save,
    train_parts,
)
from sterna.models.navigator.small import SMALL_SIZES, small_model, small_processor
from sterna.models.navigator.sources import Images, JoinedImages, SeenFrames, StoreFrames
from sterna.models.navigator.vlm import History, VlmNavigator
from sterna.recipes.runs import as_json, defaults_of, write_run
from sterna.recipes.sftconfig import (
    SMALL,
    NavigatorConfig,
    SftRun,
    StartNavigator,
    WalksConfig,
)
from sterna.recipes.sight import SMALL_SIGHT, teach_sight
from sterna.train.log import RunLog
from sterna.train.loop import LoopConfig, Scores
from sterna.train.schedule import OptimizerConfig
from sterna.train.sft import SftRunner, SftTask, judge
from sterna.world.talk.prompts import Wording

PROTOCOL = "protocol.json"


@dataclass(frozen=True, kw_only=True)
class ReadySft:
    """A run that could start: all is read, nothing is done yet."""

    config: SftRun
    policy: VlmNavigator
    runner: SftRunner
    samples: EgoSamples
    images: Images


def prepare_sft(config: SftRun, out: Path) -> ReadySft:
    """Read all that a run needs; the first time, navigator-s learns to see here."""
    store = EgoStore(config.walks.train)
    held_out = None if config.walks.held_out is None else EgoStore(config.walks.held_out)
    check_same_world(store, held_out)
    stores = [store, *(EgoStore(folder) for folder in config.walks.more)]
    joined = JoinedStore(stores)
    samples = config.samples(joined)
    config = timed(config, len(samples))
    # What is made once and kept on disk, the first process makes; the others wait and read it.
    with PartialState(cpu=not torch.cuda.is_available()).main_process_first():
        policy = begin(config, store, out)
        images = JoinedImages([images_of(config, policy, one) for one in stores], joined.starts)
        judged = None if held_out is None else judge_of(config, policy, held_out)
    # accelerate keeps one precision a process.
    AcceleratorState._reset_state()
    runner: SftRunner = SftRunner(
        SftTask(policy),
        samples,
        images,
        out,
        config.loop,
        config.optimizer,
        evaluate=judged,
        keep=lambda name: _keep(runner, out / name, config),
        config=as_json(config),
        defaults=defaults_of(config),
    )
    return ReadySft(config=config, policy=policy, runner=runner, samples=samples, images=images)


def run_sft(config: SftRun, out: Path, *, threads: int | None = None) -> Path:
    """Fine-tune in `out`, from wherever it stopped; return `out`.

    Leaves ``protocol.json`` (how the walks move and see: the default of `sterna eval`), ``best/``
    and ``last/`` (navigators, `folder.load` reads them; best is the last one that was evaluated),
    ``run.json``, ``log.jsonl``, ``state.pt`` and, for navigator-s, ``sight/``.
    """
    ready = prepare_sft(config, out)
    write_json(out / PROTOCOL, seen_protocol(EgoStore(config.walks.train)).to_dict())
    progress = ready.runner.run()
    write_run(out, ready.config, progress_values=vars(progress), threads=threads)
    return out


def seen_protocol(store: EgoStore) -> Protocol:
    """Return the protocol of walks, its camera the one that saw them."""
    rules, camera = Protocol.from_dict(dict(store.protocol)), store.camera
    if (camera.width, camera.height) == (rules.camera_width, rules.camera_height) and (
        camera.hfov == rules.camera_hfov
    ):
        return rules
    return replace(
        rules,
        name=f"{rules.name}_{camera.width}x{camera.height}",
        camera_width=camera.width,
        camera_height=camera.height,
        camera_hfov=camera.hfov,
        camera_elevation=camera.elevation,
    )


def timed(config: SftRun, count: int) -> SftRun:
    """Return the configuration with iterations and warm-up worked out for `count` samples."""
    loop = config.loop
    if config.epochs is not None:
        iterations = max(1, round(config.epochs * count / loop.batch_size))
        loop = replace(loop, iterations=iterations)
    warmup = round(config.warmup_share * loop.iterations)
    return replace(config, loop=loop, optimizer=replace(config.optimizer, warmup=warmup))


def check_same_world(store: EgoStore, other: EgoStore | None) -> None:
    """Refuse held-out walks that move or see otherwise than those learnt from."""
    if other is None:
        return
    if other.protocol_hash != store.protocol_hash or other.camera != store.camera:
        raise InputError(
            f"{other.folder}: its protocol or camera is another than {store.folder}'s; make both "
            "with the same"
        )


def begin(config: SftRun, store: EgoStore, out: Path) -> VlmNavigator:
    """Return the navigator that a run begins with, its trained parts chosen."""
    model = config.model
    history = History(kind=config.walks.memory, budget=config.walks.budget)
    wording = config.wording(store)
    if model.name == SMALL:
        navigator = _small(config, store, wording, history, out)
    elif (Path(model.name) / SETTINGS).is_file():
        found = load(model.name, precision=model.weights, local_files_only=model.local_files_only)
        navigator = VlmNavigator(
            found.model, found.processor, wording, history=history, base=found.base or model.name
        )
    else:
        navigator = open_published(
            model.name,
            wording,
            history=history,
            precision=model.weights,
            max_pixels=model.max_pixels,
            history_pool=model.history_pool,
            local_files_only=model.local_files_only,
        )
    if model.adapter == "lora" and not navigator.adapted:
        navigator = add_lora(navigator, model.lora)
    train_parts(navigator, tower=model.tower == "tuned", checkpointing=model.checkpointing)
    return navigator


def _small(
    config: SftRun, store: EgoStore, wording: Wording, history: History, out: Path
) -> VlmNavigator:
    """Make navigator-s; if it is to see first, teach it once and keep it in `out`/sight."""
    kept = out / "sight"
    vision = config.start.vision or config.start.eyes is not None
    if vision and (kept / SETTINGS).is_file():
        found = load(kept)
        return VlmNavigator(found.model, found.processor, wording, history=history, base=str(kept))
    processor = small_processor(config.model.small)
    model = small_model(config.model.small, processor, seed=config.loop.seed)
    base = str(kept) if vision else None
    navigator = VlmNavigator(model, processor, wording, history=history, base=base)
    if config.start.eyes is not None:
        take_tower(navigator, config.start.eyes)
        save(navigator, kept, notes=f"A tower that has learnt to see: {config.start.eyes}")
    elif config.start.vision:
        log = RunLog(kept.with_name("sight-log"), tensorboard=False)
        scores = teach_sight(navigator, store.camera, config.start.sight, log)
        log.write("sight-scores", 0, scores)
        save(navigator, kept, notes=f"A tower that has learnt to see: {scores}")
    return navigator


def take_tower(navigator: VlmNavigator, folder: Path) -> None:
    """Give a small navigator the tower of another; `InputError` if its sizes are others."""
    found = load(folder)
    images = replace(found.processor.images, history_pool=navigator.processor.images.history_pool)
    if images != navigator.processor.images:
        raise InputError(f"{folder}: its frames or tokens have other sizes than this navigator's")
    try:
        navigator.tower.load_state_dict(found.tower.state_dict())
    except RuntimeError as error:
        raise InputError(
            f"{folder}: its tower does not fit ({str(error).splitlines()[0]}); give the same "
            "--model.small options to both"
        ) from error


def images_of(config: SftRun, policy: VlmNavigator, store: EgoStore) -> Images:
    """Return where the images of a store come from: a frozen tower's features, or frames."""
    if not policy.frozen_tower:
        return StoreFrames(store, blind=config.walks.blind)
    folder = config.walks.cache or store.folder.with_name(store.folder.name + "-seen")
    return SeenFrames(policy, store, folder, blind=config.walks.blind)


def judge_of(config: SftRun, policy: VlmNavigator, store: EgoStore) -> Callable[[], Scores]:
    """Return a function that scores the navigator on held-out samples, evenly over all."""
    samples = config.samples(store)
    count = min(config.walks.judged, len(samples))
    rows = np.linspace(0, len(samples) - 1, count).astype(np.int64)
    chosen: Sequence[EgoSample] = [samples[int(row)] for row in rows]
    images = images_of(config, policy, store)
    return lambda: judge(policy, chosen, images)


def _keep(runner: SftRunner, folder: Path, config: SftRun) -> None:
    save(runner.policy, folder, notes=_notes(config), weights=runner.gathered)


def _notes(config: SftRun) -> str:
    walks = config.walks
    return (
        f"Fine-tuned on the walks {walks.train.name}"
        f"{' with black frames (a control)' if walks.blind else ''}: {config.loop.iterations} "
        f"iterations of {config.loop.batch_size} samples, answers of {walks.actions} actions, "
        f"memory {walks.memory} of {walks.budget} frames, seed {config.loop.seed}."
    )


def navigator_s() -> SftRun:
    """A small navigator of its own (0.9M parameters): learns to see, then to act. CPU."""
    return SftRun(
        walks=WalksConfig(budget=8),
        model=NavigatorConfig(small=SMALL_SIZES),
        start=StartNavigator(sight=SMALL_SIGHT),
        loop=LoopConfig(
            iterations=1400,
            batch_size=64,
            length_window=32,
            log_every=20,
            eval_every=350,
            save_every=100,
            select_by="last",
        ),
        optimizer=OptimizerConfig(
            kind="muon",
            learning_rate=3e-3,
            schedule="cosine",
            betas=(0.9, 0.98),
            weight_decay=0.02,
            clip_norm=1.0,
        ),
        warmup_share=0.05,
    )


def navigator_s3() -> SftRun:
    """navigator-s with the layers of Qwen3-VL instead of Qwen2.5-VL's. CPU."""
    base = navigator_s()
    return replace(base, model=replace(base.model, small=replace(SMALL_SIZES, family="qwen3_vl")))


def vlm_2b() -> SftRun:
    """Qwen2-VL-2B, all weights but the tower's, with VLN-R1's settings. GPUs."""
    return SftRun(
        model=NavigatorConfig(
            name="Qwen/Qwen2-VL-2B-Instruct",
            style="vln-ego",
            previous=False,
            checkpointing=True,
            max_pixels=336 * 336,
        ),
        start=StartNavigator(vision=False),
        loop=LoopConfig(
            batch_size=64,
            pieces=8,
            precision="bf16",
            length_window=64,
            log_every=10,
            eval_every=1000,
            save_every=1000,
            select_by="last",
        ),
        optimizer=OptimizerConfig(
            learning_rate=5e-6,
            schedule="cosine",
            final_rate=0.0,
            betas=(0.9, 0.95),
            weight_decay=0.0,
            clip_norm=1.0,
        ),
        epochs=1.0,
    )


def vlm_7b() -> SftRun:
    """Qwen2-VL-7B, all weights but the tower's, with VLN-R1's settings. Several GPUs."""
    base = vlm_2b()
    model = replace(base.model, name="Qwen/Qwen2-VL-7B-Instruct")
    return replace(base, model=model, loop=replace(base.loop, pieces=64))


def vlm_lora() -> SftRun:
    """Qwen2.5-VL-3B with low-rank adapters. One GPU."""
    base = vlm_2b()
    model = replace(base.model, name="Qwen/Qwen2.5-VL-3B-Instruct", adapter="lora", weights="bf16")
    optimizer = replace(base.optimizer, learning_rate=1e-4)
    return replace(base, model=model, optimizer=optimizer)


SFT = {
    "navigator-s": navigator_s,
    "navigator-s3": navigator_s3,
    "vlm-2b": vlm_2b,
    "vlm-7b": vlm_7b,
    "vlm-lora": vlm_lora,
}
"""Recipes by the names that `sterna sft` takes."""
