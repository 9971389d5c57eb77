"""A saved policy walks a split: scored with its controls, or unscored for a leaderboard."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sterna import processes
from sterna.data.episodes import Episode
from sterna.data.objects import ObjectStore
from sterna.edge.runtime.folder import (
    ENGINES,
    ROUTED_ENGINES,
    Manifest,
    is_export,
    read_manifest,
)
from sterna.edge.walks import walk_all
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.metrics import (
    Prediction,
    Protocol,
    Result,
    find_protocol,
    score_predictions,
    write_graph_board,
    write_result,
)
from sterna.metrics.graphboards import board_file
from sterna.models.agent import Agent
from sterna.models.config import DuetConfig
from sterna.models.duet import DUET
from sterna.models.walk import MAX_STEPS
from sterna.recipes.answers import BOARD_OF_TASK
from sterna.recipes.config import EvalConfig
from sterna.recipes.policies import check_fit, data_config, open_policy
from sterna.recipes.rooms import rooms_of
from sterna.recipes.runs import protocol_of
from sterna.recipes.world import World, open_world
from sterna.train.evaluate import evaluate, predict

TORCH = "torch"


@dataclass(frozen=True, kw_only=True)
class Power:
    """What computes, and with how much of the machine.

    `engine` is torch for saved policies, for exported folders one of theirs (onnx, onnx-int8;
    static ones of routed policies), which `workers` processes walk (None: cores / threads), each
    with `threads` threads.
    """

    engine: str = TORCH
    workers: int | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        """Check the values."""
        if self.engine not in (TORCH, *ENGINES, *ROUTED_ENGINES):
            known = ", ".join((TORCH, *ENGINES, *ROUTED_ENGINES))
            raise InputError(f"engine {self.engine!r} is unknown; choose one of {known}")
        if self.engine != TORCH and not processes.alone():
            raise InputError(
                f"engine {self.engine} shares episodes among --workers of its own; start it "
                "without accelerate launch"
            )
        if self.workers is not None and self.engine == TORCH:
            raise InputError("workers share the episodes of an exported policy; give --engine onnx")

    @property
    def processes(self) -> int:
        """Number of worker processes."""
        if self.workers is not None:
            return self.workers
        return max(1, (os.cpu_count() or 1) // self.threads)


_ALONE = Power()
_SAME: Mapping[str, Any] = {}


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """A policy in front of the split it is to walk."""

    folder: Path
    policy: DUET | Manifest
    run: dict[str, Any]
    world: World
    episodes: list[Episode]
    panoramas: Panoramas
    objects: ObjectStore | None = None
    """Objects to point at (SOON), for a policy that chooses one."""


def _prepare(
    folder: Path,
    root: Path,
    select: EvalConfig,
    *,
    views: str | None,
    objects: str | None,
    power: Power,
    data: Mapping[str, Any] = _SAME,
    permute: bool = False,
    blind: bool = False,
) -> _Ready:
    policy, sizes, run = _open(folder, power.engine)
    config = replace(data_config(run), **data)
    config = replace(
        config,
        views=views or config.views,
        objects=objects or config.objects,
        blind=blind or config.blind,
    )
    world = open_world(root, config)
    episodes = world.episodes(select.split, about=select.episodes)
    if permute:
        episodes = permuted(episodes)
    panoramas, things = world.panoramas(episodes), None
    if config.task == "soon" and sizes.object_size is not None and power.engine == TORCH:
        panoramas, things = world.pointing_panoramas(episodes)
    check_fit(sizes, panoramas, episodes, str(folder))
    return _Ready(
        folder=folder,
        policy=policy,
        run=run,
        world=world,
        episodes=episodes,
        panoramas=panoramas,
        objects=things,
    )


def _open(folder: Path, engine: str) -> tuple[DUET | Manifest, DuetConfig, dict[str, Any]]:
    """Open a saved policy, or prove an exported one; with its sizes and its run."""
    if engine == TORCH:
        if is_export(folder):
            raise InputError(f"{folder}: an exported folder; give --engine onnx or onnx-int8")
        policy, run = open_policy(folder)
        return policy, policy.config, run
    manifest = read_manifest(folder)
    manifest.graph(engine, "step")  # refuses an engine that was not exported
    return manifest, DuetConfig(**manifest.sizes), dict(manifest.about["run"])


def _walk_export(ready: _Ready, power: Power, max_steps: int | None) -> list[Prediction]:
    return walk_all(
        ready.folder,
        power.engine,
        rooms_of(ready.world, ready.panoramas),
        ready.episodes,
        workers=power.processes,
        threads=power.threads,
        max_steps=max_steps or MAX_STEPS,
    )


def run_eval(
    folder: Path,
    root: Path,
    split: str,
    *,
    views: str | None = None,
    objects: str | None = None,
    protocol: str | None = None,
    data: Mapping[str, Any] = _SAME,
    permute: bool = False,
    blind: bool = False,
    batch_size: int = 64,
    about: int | None = None,
    out: Path | None = None,
    power: Power = _ALONE,
) -> Result:
    """Walk a split with a saved policy and score it; writes result and submission into `out`.

    `permute` gives every episode another episode's instruction (control), `blind` zeroes the views
    (control), `about` walks every k-th episode. Observations default to those of the policy's run;
    `data` names settings of it (`DataConfig`) that are others here, such as the task.
    `power` says what computes: an exported folder is walked by the runtime, in many processes.
    Processes of `accelerate launch` share the split, and the main one writes what one would write.
    Raises `InputError` for a split without answers (see `run_submit`).
    """
    rule = find_protocol(protocol) if protocol else None
    select = EvalConfig(split=split, episodes=about, batch_size=batch_size)
    with processes.main_first():
        ready = _prepare(
            folder,
            root,
            select,
            views=views,
            objects=objects,
            power=power,
            data=data,
            permute=permute,
            blind=blind,
        )
    if not any(episode.answered for episode in ready.episodes):
        raise InputError(
            f"{split}: the split holds no answers to score with; --submit writes the walks alone"
        )
    began = time.perf_counter()
    result, predictions = _score(
        ready, rule or protocol_of(ready.world.config), power, batch_size=batch_size
    )
    seconds = time.perf_counter() - began
    run = ready.run
    named = {} if power.engine == TORCH else {"engine": power.engine}
    result = replace(
        result,
        split=split,
        config={**run, "control": _control(ready.world.config.blind, permute), **named},
        seed=run.get("loop", {}).get("seed"),
        selection_split=run.get("select", {}).get("split"),
        cost=_cost(ready.policy, seconds, power),
    )
    if out is not None and processes.is_main():
        save_evaluation(out, split, result, predictions, ready.episodes, ready.world.config.task)
    return result


def _score(
    ready: _Ready, protocol: Protocol, power: Power, *, batch_size: int
) -> tuple[Result, list[Prediction]]:
    connectivity = ready.world.layout.connectivity
    if isinstance(ready.policy, DUET):
        result, predictions = evaluate(
            ready.policy,
            ready.panoramas,
            ready.episodes,
            connectivity,
            protocol,
            batch_size=batch_size,
            share=True,
        )
        if ready.objects is None:
            return result, predictions
    else:
        predictions = _walk_export(ready, power, protocol.max_steps)
    predictions = _pointed(ready, predictions)
    return score_predictions(predictions, ready.episodes, connectivity, protocol), predictions


def _pointed(ready: _Ready, predictions: list[Prediction]) -> list[Prediction]:
    """Point at the middle of the objects that were chosen, from where the walks end (SOON)."""
    if ready.objects is None:
        return predictions
    done = []
    for prediction, episode in zip(predictions, ready.episodes, strict=True):
        seen = ready.objects.at(f"{episode.scan}_{prediction.path[-1]}")
        chosen = seen.directions[seen.ids == prediction.object_id]
        if len(chosen):
            prediction = replace(prediction, direction=(float(chosen[0, 0]), float(chosen[0, 1])))
        done.append(prediction)
    return done


def run_submit(
    folder: Path,
    root: Path,
    split: str,
    out: Path,
    *,
    views: str | None = None,
    objects: str | None = None,
    data: Mapping[str, Any] = _SAME,
    batch_size: int = 64,
    power: Power = _ALONE,
) -> Path:
    """Walk a split and write its leaderboard file ``submit_<split>.json[l]`` into `out`, unscored.

    `data` as in `run_eval`.
    """
    select = EvalConfig(split=split, batch_size=batch_size)
    with processes.main_first():
        ready = _prepare(folder, root, select, views=views, objects=objects, power=power, data=data)
    if isinstance(ready.policy, DUET):
        with torch.inference_mode():
            agent = Agent(ready.policy, ready.panoramas)
            predictions = predict(
                agent, ready.panoramas, ready.episodes, batch_size=batch_size, share=True
            )
    else:
        predictions = _walk_export(ready, power, None)
    predictions = _pointed(ready, predictions)
    return _write_submission(out, split, predictions, ready.episodes, ready.world.config.task)


def _control(blind: bool, permute: bool) -> str:
    return "+".join(
        word for word, on in (("blind", blind), ("permuted instructions", permute)) if on
    )


def _cost(policy: DUET | Manifest, seconds: float, power: Power) -> dict[str, float]:
    if isinstance(policy, Manifest):
        width = policy.sizes.get("word_size") or policy.sizes["hidden_size"]
        words = policy.sizes["vocab_size"] * width
        total = policy.about["parameters"]
        return {
            "parameters": float(total),
            "parameters_without_word_table": float(total - words),
            "seconds": seconds,
            "threads": float(power.threads),
            "workers": float(power.processes),
        }
    words = policy.embeddings.word_embeddings.weight.numel()
    total = sum(p.numel() for p in policy.parameters())
    shared = {} if processes.alone() else {"processes": float(processes.count())}
    return shared | {
        "parameters": float(total),
        "parameters_without_word_table": float(total - words),
        "seconds": seconds,
        "threads": float(torch.get_num_threads()),
    }


def permuted(episodes: Sequence[Episode]) -> list[Episode]:
    """Give every episode the instruction of an episode of another path (half a split away)."""
    shift = len(episodes) // 2
    other = [*episodes[shift:], *episodes[:shift]]
    if any(e.path_id == o.path_id for e, o in zip(episodes, other, strict=True)):
        raise InputError("--permute needs a split of several paths; too few episodes are walked")
    return [
        replace(e, instruction=o.instruction, token_ids=o.token_ids)
        for e, o in zip(episodes, other, strict=True)
    ]


def save_evaluation(
    out: Path,
    split: str,
    result: Result,
    predictions: Sequence[Prediction],
    episodes: Sequence[Episode],
    task: str,
) -> tuple[Path, Path]:
    """Write ``result_<split>.json`` and the task's ``submit_<split>.json[l]`` into a folder."""
    file = out / f"result_{split}.json"
    write_result(file, result)
    return file, _write_submission(out, split, predictions, episodes, task)


def _write_submission(
    out: Path,
    split: str,
    predictions: Sequence[Prediction],
    episodes: Sequence[Episode],
    task: str,
) -> Path:
    # No leaderboard asks for walks of RxR's followers, of which one instruction may have several.
    followers = any(episode.role == "follower" for episode in episodes)
    board = "r2r" if followers else BOARD_OF_TASK[task]
    file = out / board_file(board, split)
    if processes.is_main():
        write_graph_board(file, board, predictions, episodes)
    return file
