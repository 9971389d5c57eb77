"""What the commands do: train, distil, evaluate; each resumable, each leaving a result file."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeGuard

import torch

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.files import write_json
from sterna.metrics import (
    R2R_DUET,
    R4R_DUET,
    Prediction,
    Protocol,
    Result,
    find_protocol,
    write_result,
    write_submission,
)
from sterna.minivln.stage2 import DistillTask
from sterna.models.duet import DUET
from sterna.models.pretrained import save_pretrained
from sterna.recipes.config import DataConfig, DistillRun, TrainConfig
from sterna.recipes.policies import check_fit, data_config, open_policy, policy_folder
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
    if needs_teacher(config):
        policy_folder(config.need_teacher())  # before minutes are spent on reading data
    world = World(root, config.data)
    episodes = world.episodes("train")
    chosen = world.episodes(config.select.split, about=config.select.episodes)
    panoramas = world.panoramas([*episodes, *chosen])
    config = _fit(config, panoramas.size)
    policy = begin(config.model, config.start, config.loop.seed, world)
    check_fit(policy.config, panoramas, [*episodes, *chosen], "model")
    task = _task(config, policy, panoramas, episodes)
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


def needs_teacher(config: TrainConfig) -> TypeGuard[DistillRun]:
    """Return whether a run has a teacher: a distillation whose weight is not 0."""
    return isinstance(config, DistillRun) and config.distill.weight > 0


def _task(
    config: TrainConfig, policy: DUET, panoramas: Panoramas, episodes: Sequence[Episode]
) -> ImitationTask:
    if not needs_teacher(config):
        return ImitationTask(policy, panoramas, config.imitation)
    folder = config.need_teacher()
    teacher, _ = open_policy(folder)
    check_fit(teacher.config, panoramas, episodes, str(folder))
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
    rule = find_protocol(protocol) if protocol else None
    policy, run = open_policy(folder)
    config = data or data_config(run)
    if blind:
        config = replace(config, blind=True)
    world = World(root, config)
    episodes = world.episodes(split, about=about)
    walked = permuted(episodes) if permute else episodes
    panoramas = world.panoramas(episodes)
    check_fit(policy.config, panoramas, walked, str(folder))
    began = time.perf_counter()
    result, predictions = evaluate(
        policy,
        panoramas,
        walked,
        world.layout.connectivity,
        rule or protocol_of(config),
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
