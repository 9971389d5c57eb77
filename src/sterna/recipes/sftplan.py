"""What a fine-tuning run will cost: measured for small models, reckoned for large ones.

Reckoned from parameter counts of the model built on the meta device (no weights are read):

- S tokens a sample = text and answer + images x tokens of an image; P patches a sample.
- forward FLOPs a sample = 2 N S + 2 L h S^2 for the language model (N its weights that multiply,
  head included, L layers of width h, causal attention counts half) and 2 Nv P + 4 Lv hv P p for
  the tower (p patches an image). Training costs 3 forwards, 4 with checkpointing; 2 and 3 where
  only an adapter is trained. A frozen tower sees every frame once.
- time = FLOPs / (GPUs x peak x utilisation).
- bytes a GPU = (weights + 4 trained gradients + 8 trained Adam moments) / shards + activations of a
  micro-batch (a layer's input each layer with checkpointing, else all of them; 2 bytes) + logits of
  the answers (10 bytes) + the largest layer gathered + 2 GB of the driver's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from sterna.data.ego.joined import JoinedStore
from sterna.data.ego.store import EgoStore
from sterna.errors import InputError
from sterna.files import read_json
from sterna.models.navigator.families import causal_class, config_class
from sterna.models.navigator.folder import SETTINGS
from sterna.recipes.plan import peak_bytes, span
from sterna.recipes.sft import prepare_sft, timed
from sterna.recipes.sftconfig import SMALL, SftRun
from sterna.train.sft import image_counts
from sterna.world.talk.images import ImageConfig, patch_grid, token_grid

TEXT_TOKENS = {"vln-ego": 260, "short": 60}
"""Tokens of a prompt without its images, with its answer (a long instruction)."""
ANSWER_TOKENS = {"vln-ego": 9, "short": 1}
"""Tokens of an action in an answer."""
_DRIVER = 2e9
_VLN_EGO = 1_830_000  # samples of VLN-Ego, where no walks are there to count


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A device that a plan is made for."""

    name: str = "A100/A800, 80 GB"
    memory: float = 80e9
    """Bytes."""
    peak: float = 312e12
    """FLOP/s in bf16."""
    utilisation: float = 0.35
    """Share of the peak that training reaches (an assumption)."""


_VISION = {"depth": 32, "in_channels": 3, "num_heads": 16, "patch_size": 14}
_V2 = {**_VISION, "embed_dim": 1280, "mlp_ratio": 4}
_V25 = {**_VISION, "hidden_size": 1280, "intermediate_size": 3420}


def _text(width: int, ffn: int, layers: int, heads: int, kv: int, vocabulary: int) -> Any:
    return {
        "hidden_size": width,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "vocab_size": vocabulary,
    }


PUBLISHED: Mapping[str, Any] = MappingProxyType(
    {
        "Qwen/Qwen2-VL-2B-Instruct": {
            "model_type": "qwen2_vl",
            "text_config": _text(1536, 8960, 28, 12, 2, 151_936),
            "vision_config": {**_V2, "hidden_size": 1536},
            "tie_word_embeddings": True,
        },
        "Qwen/Qwen2-VL-7B-Instruct": {
            "model_type": "qwen2_vl",
            "text_config": _text(3584, 18_944, 28, 28, 4, 152_064),
            "vision_config": {**_V2, "hidden_size": 3584},
            "tie_word_embeddings": False,
        },
        "Qwen/Qwen2.5-VL-3B-Instruct": {
            "model_type": "qwen2_5_vl",
            "text_config": _text(2048, 11_008, 36, 16, 2, 151_936),
            "vision_config": {**_V25, "out_hidden_size": 2048},
            "tie_word_embeddings": True,
        },
        "Qwen/Qwen2.5-VL-7B-Instruct": {
            "model_type": "qwen2_5_vl",
            "text_config": _text(3584, 18_944, 28, 28, 4, 152_064),
            "vision_config": {**_V25, "out_hidden_size": 3584},
            "tie_word_embeddings": False,
        },
    }
)
"""Sizes of published models, for plans where their folders are not at hand."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Parameters of a model and the sizes that its cost depends on."""

    language: int
    """Weights of the language model's layers and norms."""
    head: int
    """Of the output head (the words' table again where the two are tied)."""
    words: int
    tower: int
    total: int
    layers: int
    width: int
    ffn: int
    vocabulary: int
    tower_layers: int
    tower_width: int
    largest_layer: int
    projections: int
    """Inputs and outputs of all projections that an adapter is put beside."""


def counted(settings: Mapping[str, Any]) -> Counts:
    """Count the parameters of a configuration (config.json's values) on the meta device."""
    family = str(settings.get("model_type"))
    values = {k: v for k, v in settings.items() if k != "model_type"}
    config = config_class(family)(**values)
    with torch.device("meta"):
        model = causal_class(family)(config)
    text, vision = config.text_config, config.vision_config
    words = _size(model.get_input_embeddings())
    body = _size(model.model.language_model) - words
    return Counts(
        language=body,
        head=text.vocab_size * text.hidden_size,
        words=words,
        tower=_size(model.model.visual),
        total=_size(model),
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        ffn=text.intermediate_size,
        vocabulary=text.vocab_size,
        tower_layers=vision.depth,
        tower_width=getattr(vision, "embed_dim", vision.hidden_size),
        largest_layer=max(body // text.num_hidden_layers, words),
        projections=sum(
            part.in_features + part.out_features
            for name, part in model.model.language_model.named_modules()
            if isinstance(part, nn.Linear) and name.endswith("_proj")
        ),
    )


def _size(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def plan_sft(config: SftRun, *, gpu: Gpu | None = None) -> tuple[str, dict[str, Any]]:
    """Return what a run costs as text and as values; nothing is started or left behind."""
    if config.model.name == SMALL:
        return _measured(config)
    return _reckoned(config, gpu or Gpu())


def _measured(config: SftRun) -> tuple[str, dict[str, Any]]:
    """Time a few iterations here, on black frames: what is seen costs the same."""
    bare = replace(
        config,
        walks=replace(config.walks, blind=True, held_out=None),
        start=replace(config.start, vision=False),
    )
    with TemporaryDirectory() as folder:
        ready = prepare_sft(bare, Path(folder))
        seconds = []
        for iteration in range(4):
            began = time.perf_counter()
            ready.runner.step(iteration)
            seconds.append(time.perf_counter() - began)
        store = ready.samples.store
        first = store.stores[0] if isinstance(store, JoinedStore) else store
        frames = first.frames(range(min(64, first.frame_count)))
        began = time.perf_counter()
        ready.policy.features(frames)
        each = (time.perf_counter() - began) / len(frames)
    loop, sight = ready.config.loop, config.start.sight
    views = sight.views * (sight.seeds[1] - sight.seeds[0]) * sight.epochs
    values = {
        "parameters": _size(ready.policy),
        "samples": len(ready.samples),
        "iterations": loop.iterations,
        "batch_size": loop.batch_size,
        "peak_bytes": peak_bytes(),
        "seconds_per_iteration": median(seconds[1:]),
        "seconds_of_sight": 3 * each * views if config.start.vision else 0.0,
        "seconds_of_seeing": each * store.frame_count,
    }
    values["total_seconds"] = (
        values["seconds_per_iteration"] * loop.iterations
        + values["seconds_of_sight"]
        + values["seconds_of_seeing"]
    )
    lines = [
        ("model", f"{values['parameters']:,} parameters, {values['samples']:,} samples"),
        ("memory", f"{values['peak_bytes'] / 1e9:.2f} GB at the peak"),
        ("sight", f"{span(values['seconds_of_sight'])} to learn to see, once"),
        ("frames", f"{span(values['seconds_of_seeing'])} to see {store.frame_count:,}, once"),
        ("iteration", f"{values['seconds_per_iteration']:.3g} s (batch {loop.batch_size})"),
        ("total", f"{span(values['total_seconds'])} for {loop.iterations:,} iterations"),
    ]
    return "\n".join(f"{name:<12}{text}" for name, text in lines), values


def settings_of(name: str) -> Mapping[str, Any]:
    """Return config.json's values of a model: of its folder, or as published."""
    file = Path(name) / "config.json"
    if file.is_file():
        found: Mapping[str, Any] = read_json(file)
        if (Path(name) / SETTINGS).is_file() and "model_type" not in found:
            raise InputError(f"{name}: holds an adapter alone; plan with its base model")
        return found
    if name in PUBLISHED:
        settings: Mapping[str, Any] = PUBLISHED[name]
        return settings
    raise InputError(
        f"plan: no folder {name} here, and no sizes known; expected a folder with config.json or "
        f"one of {', '.join(PUBLISHED)}"
    )


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a run has to go through, in samples, tokens and patches."""

    samples: int
    frames: int
    images: float
    """Mean images a sample."""
    tokens: float
    """Mean tokens a sample."""
    longest: int
    """Tokens of the longest sample."""
    patches: int
    """Patches an image."""
    answer: int
    """Tokens of an answer."""


def load_of(config: SftRun, images: ImageConfig) -> Load:
    """Work out what the walks ask for; without walks, VLN-Ego's number and full histories."""
    walks, size = config.walks, (480, 640)
    samples, frames, mean = _VLN_EGO, _VLN_EGO, walks.budget + 1.0
    if (walks.train / "ego.json").is_file():
        store = EgoStore(walks.train)
        given = config.samples(store)
        size = (store.camera.height, store.camera.width)
        samples, frames = len(given), store.frame_count
        mean = float(image_counts(given).mean())
    now, then = (prod(token_grid(*size, images, past=past)) for past in (False, True))
    text = TEXT_TOKENS[config.model.style]
    return Load(
        samples=samples,
        frames=frames,
        images=mean,
        tokens=text + now + (mean - 1) * then,
        longest=text + now + walks.budget * then,
        patches=prod(patch_grid(*size, images)),
        answer=walks.actions * ANSWER_TOKENS[config.model.style] + 1,
    )


def _reckoned(config: SftRun, gpu: Gpu) -> tuple[str, dict[str, Any]]:
    model = config.model
    settings = settings_of(model.name)
    count = counted(settings)
    images = ImageConfig(
        patch=settings["vision_config"].get("patch_size", 14),
        max_pixels=model.max_pixels or ImageConfig().max_pixels,
        history_pool=model.history_pool,
    )
    load = load_of(config, images)
    config = timed(config, load.samples)
    rows = [_on(config, count, load, gpu, number) for number in (1, 8)]
    values = {
        "model": model.name,
        "counts": asdict(count),
        "load": asdict(load),
        "gpu": asdict(gpu),
        "iterations": config.loop.iterations,
        "plans": rows,
    }
    lines = [
        ("model", f"{model.name}: {count.total:,} parameters, {_trained(config, count):,} trained"),
        (
            "samples",
            f"{load.samples:,} of {load.tokens:,.0f} tokens ({load.images:.1f} images); "
            f"{config.loop.iterations:,} iterations of {config.loop.batch_size}",
        ),
        *((f"{r['gpus']} GPU{'s' * (r['gpus'] > 1)}", _said(r, gpu)) for r in rows),
        ("reckoned", f"at {gpu.utilisation:.0%} of the peak of {gpu.name}; not measured"),
    ]
    return "\n".join(f"{name:<12}{text}" for name, text in lines), values


def _said(row: Mapping[str, Any], gpu: Gpu) -> str:
    fits = "" if row["bytes"] <= gpu.memory else f": does NOT fit {gpu.memory / 1e9:.0f} GB"
    return (
        f"{row['bytes'] / 1e9:.0f} GB each{fits}, {span(row['seconds'])} "
        f"({row['samples_per_second']:.1f} samples/s), micro-batches of {row['micro_batch']}"
    )


def _trained(config: SftRun, count: Counts) -> int:
    model = config.model
    if model.adapter == "lora":
        return model.lora.rank * count.projections
    return count.total - (0 if model.tower == "tuned" else count.tower)


def flops(config: SftRun, count: Counts, load: Load) -> float:
    """Return the arithmetic of a whole run; see the module."""
    s, passes = load.tokens, 4.0 if config.model.checkpointing else 3.0
    if config.model.adapter == "lora":
        passes -= 1
    weights = count.language * s + count.head * load.answer
    language = 2 * weights + 2 * count.layers * count.width * s**2
    p = load.patches
    image = 2 * count.tower * p + 4 * count.tower_layers * count.tower_width * p**2
    samples = config.loop.iterations * config.loop.batch_size
    if config.model.tower == "tuned":
        return samples * passes * (language + load.images * image)
    return samples * passes * language + load.frames * image


def _on(config: SftRun, count: Counts, load: Load, gpu: Gpu, gpus: int) -> dict[str, Any]:
    """Return time and memory on a number of GPUs that share weights and moments between them."""
    loop = config.loop
    micro = max(1, loop.batch_size // (gpus * loop.pieces))
    bytes_each = 2 if config.model.weights == "bf16" else 4
    state = count.total * bytes_each + 12 * _trained(config, count)
    s = load.longest * micro
    inside = 2 * s * (10 * count.width + 4 * count.ffn)
    kept = 2 * s * count.width * count.layers
    activations = kept + inside if config.model.checkpointing else inside * count.layers
    logits = 10 * micro * load.answer * count.vocabulary
    gathered = 2 * 2 * count.largest_layer if gpus > 1 else 0
    seconds = flops(config, count, load) / (gpus * gpu.peak * gpu.utilisation)
    return {
        "gpus": gpus,
        "bytes": state / gpus + activations + logits + gathered + _DRIVER,
        "seconds": seconds,
        "samples_per_second": loop.iterations * loop.batch_size / seconds,
        "micro_batch": micro,
    }
