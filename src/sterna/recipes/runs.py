"""What the commands do: train, distil, evaluate; each resumable, each leaving a result file."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from sterna.data.episodes import Episode
from sterna.errors import InputError
from sterna.files import read_json
from sterna.metrics import (
    PROTOCOLS,
    R2R_DUET,
    R4R_DUET,
    Prediction,
    Protocol,
    Result,
    write_result,
    write_submission,
)
from sterna.minivln.stage2 import DistillTask
from sterna.models.duet import DUET
from sterna.models.pretrained import from_pretrained, save_pretrained
from sterna.recipes.config import DataConfig, DistillRun, TrainConfig
from sterna.recipes.start import begin
from sterna.recipes.world import World
from sterna.train.evaluate import evaluate
from sterna.train.imitation import ImitationTask
from sterna.train.loop import Scores, Trainer

RUN_FILE = "run.json"
_SHOWN = ("SR", "SPL", "OSR", "NE", "TL", "nDTW")


def as_json(config: Any) -> dict[str, Any]:
    """Return a configuration as JSON values (paths as text)."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config), default=str))
    return values


def protocol_of(data: DataConfig) -> Protocol:
    """Return the protocol that a task is scored with by default (DUET's evaluator)."""
    return R4R_DUET if data.task == "r4r" else R2R_DUET


def train(config: TrainConfig, root: Path, out: Path, *, threads: int | None = None) -> Path:
    """Train (or distil, for a `DistillRun`) in `out`, from wherever it stopped; return `out`.

    Leaves ``best/`` and ``last/`` (saved policies), ``run.json`` (configuration, curve, time),
    ``log.jsonl`` and ``state.pt``.
    """
    world = World(root, config.data)
    episodes = world.episodes("train")
    chosen = world.episodes(config.select.split, about=config.select.episodes)
    panoramas = world.panoramas([*episodes, *chosen])
    config = _fit(config, panoramas.size)
    policy = begin(config.model, config.start, config.loop.seed, world)
    task = _task(config, policy, panoramas)
    connectivity, protocol = world.layout.connectivity, protocol_of(config.data)

    def score() -> Scores:
        result, _ = evaluate(
            policy,
            panoramas,
            chosen,
            connectivity,
            protocol,
            batch_size=config.select.batch_size,
        )
        return {name: result.scores[name].mean for name in _SHOWN}

    def keep(name: str) -> None:
        save_pretrained(policy, out / name, notes=_notes(config))

    trainer = Trainer(
        task,
        episodes,
        out,
        config.loop,
        config.optimizer,
        evaluate=score,
        keep=keep,
        config=as_json(config),
    )
    progress = trainer.run()
    _write_run(out, config, progress_values=vars(progress), threads=threads)
    return out


def _fit(config: TrainConfig, size: int) -> TrainConfig:
    if config.model.feature_size == size:
        return config
    return replace(config, model=replace(config.model, feature_size=size))


def _task(config: TrainConfig, policy: DUET, panoramas: Any) -> ImitationTask:
    if not isinstance(config, DistillRun):
        return ImitationTask(policy, panoramas, config.imitation)
    if not config.distill.weight:
        return ImitationTask(policy, panoramas, config.imitation)
    teacher, _ = open_policy(config.need_teacher())
    return DistillTask(policy, teacher, panoramas, config.imitation, config.distill)


def _notes(config: TrainConfig) -> str:
    return (
        f"Trained by imitation on {config.data.task} (views: {config.data.views}"
        f"{', blind' if config.data.blind else ''}), seed {config.loop.seed}, "
        f"{config.loop.iterations} iterations, weights selected on {config.select.split} by "
        f"{config.loop.select_by}."
    )


def _write_run(
    out: Path, config: TrainConfig, *, progress_values: Mapping[str, Any], threads: int | None
) -> None:
    from sterna.files import write_json

    values = {k: v for k, v in progress_values.items() if k != "best" or v > float("-inf")}
    write_json(
        out / RUN_FILE,
        {
            "config": as_json(config),
            "threads": threads or torch.get_num_threads(),
            "machine": _machine(),
            **values,
        },
    )


def _machine() -> str:
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"CPU ({torch.backends.cpu.get_cpu_capability()})"


def open_policy(folder: Path) -> tuple[DUET, dict[str, Any]]:
    """Open a saved policy and the configuration of its run (empty if it has none).

    `folder` is a policy folder, or a run folder (then its ``best`` is meant).
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a run or a saved policy")
    policy = folder if (folder / "model.safetensors").is_file() else folder / "best"
    if not (policy / "model.safetensors").is_file():
        raise InputError(f"{folder}: holds no model.safetensors, nor does {policy.name}/ in it")
    for run in (policy, policy.parent):
        if (run / "recipe.json").is_file():
            return from_pretrained(policy), dict(read_json(run / "recipe.json"))
    return from_pretrained(policy), {}


def run_eval(
    folder: Path,
    root: Path,
    split: str,
    *,
    data: DataConfig | None = None,
    protocol: str | None = None,
    permute: bool = False,
    blind: bool = False,
    batch_size: int = 64,
    about: int | None = None,
    out: Path | None = None,
) -> Result:
    """Walk a split with a saved policy and score it; writes result and submission into `out`.

    `permute` gives every episode another episode's instruction (control), `blind` zeroes the views
    (control). Observations default to those of the policy's run.
    """
    policy, run = open_policy(folder)
    config = data or data_config(run)
    if blind:
        config = replace(config, blind=True)
    world = World(root, config)
    episodes = world.episodes(split, about=about)
    walked = permuted(episodes) if permute else episodes
    panoramas = world.panoramas(episodes)
    if panoramas.size != policy.config.feature_size:
        raise InputError(
            f"{folder}: the policy reads features of width {policy.config.feature_size}, the view "
            f"store has {panoramas.size}; name the store it was trained on (--views)"
        )
    rule = PROTOCOLS[protocol] if protocol else protocol_of(config)
    began = time.perf_counter()
    result, predictions = evaluate(
        policy,
        panoramas,
        walked,
        world.layout.connectivity,
        rule,
        batch_size=batch_size,
    )
    seconds = time.perf_counter() - began
    result = replace(
        result,
        split=split,
        config={**run, "control": _control(config.blind, permute)},
        seed=run.get("loop", {}).get("seed"),
        selection_split=run.get("select", {}).get("split"),
        cost=_cost(policy, seconds),
    )
    if out is not None:
        save_evaluation(out, split, result, predictions)
    return result


def _control(blind: bool, permute: bool) -> str:
    return "+".join(
        word for word, on in (("blind", blind), ("permuted instructions", permute)) if on
    )


def data_config(run: Mapping[str, Any]) -> DataConfig:
    """Return the observations that a run was trained on (from its configuration)."""
    values = dict(run.get("data", {}))
    cache = values.get("cache")
    return DataConfig(**(values | {"cache": Path(cache) if cache else None}))


def _cost(policy: DUET, seconds: float) -> dict[str, float]:
    words = policy.embeddings.word_embeddings.weight.numel()
    total = sum(p.numel() for p in policy.parameters())
    return {
        "parameters": float(total),
        "parameters_without_word_table": float(total - words),
        "seconds": seconds,
        "threads": float(torch.get_num_threads()),
    }


def permuted(episodes: list[Episode]) -> list[Episode]:
    """Give every episode the instruction of an episode of another path (half a split away)."""
    shift = len(episodes) // 2
    other = episodes[shift:] + episodes[:shift]
    return [
        replace(e, instruction=o.instruction, token_ids=o.token_ids)
        for e, o in zip(episodes, other, strict=True)
    ]


def save_evaluation(
    out: Path, split: str, result: Result, predictions: list[Prediction]
) -> tuple[Path, Path]:
    """Write ``result_<split>.json`` and ``submit_<split>.json`` into a folder."""
    files = out / f"result_{split}.json", out / f"submit_{split}.json"
    write_result(files[0], result)
    write_submission(files[1], predictions)
    return files
