"""A saved policy walks a split: scored with its controls, or unscored for a leaderboard."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.metrics import (
    Prediction,
    Result,
    find_protocol,
    write_result,
    write_submission,
)
from sterna.models.agent import Agent
from sterna.models.duet import DUET
from sterna.recipes.config import EvalConfig
from sterna.recipes.policies import check_fit, data_config, open_policy
from sterna.recipes.runs import protocol_of
from sterna.recipes.world import World
from sterna.train.evaluate import evaluate, predict


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """A policy in front of the split it is to walk."""

    policy: DUET
    run: dict[str, Any]
    world: World
    episodes: list[Episode]
    panoramas: Panoramas


def _prepare(
    folder: Path,
    root: Path,
    select: EvalConfig,
    *,
    views: str | None,
    objects: str | None,
    permute: bool = False,
    blind: bool = False,
) -> _Ready:
    policy, run = open_policy(folder)
    config = data_config(run)
    config = replace(
        config,
        views=views or config.views,
        objects=objects or config.objects,
        blind=blind or config.blind,
    )
    world = World(root, config)
    episodes = world.episodes(select.split, about=select.episodes)
    if permute:
        episodes = permuted(episodes)
    panoramas = world.panoramas(episodes)
    check_fit(policy.config, panoramas, episodes, str(folder))
    return _Ready(policy=policy, run=run, world=world, episodes=episodes, panoramas=panoramas)


def run_eval(
    folder: Path,
    root: Path,
    split: str,
    *,
    views: str | None = None,
    objects: str | None = None,
    protocol: str | None = None,
    permute: bool = False,
    blind: bool = False,
    batch_size: int = 64,
    about: int | None = None,
    out: Path | None = None,
) -> Result:
    """Walk a split with a saved policy and score it; writes result and submission into `out`.

    `permute` gives every episode another episode's instruction (control), `blind` zeroes the views
    (control), `about` walks every k-th episode. Observations default to those of the policy's run.
    Raises `InputError` for a split without answers (see `run_submit`).
    """
    rule = find_protocol(protocol) if protocol else None
    select = EvalConfig(split=split, episodes=about, batch_size=batch_size)
    ready = _prepare(
        folder, root, select, views=views, objects=objects, permute=permute, blind=blind
    )
    if all(len(episode.path) < 2 for episode in ready.episodes):
        raise InputError(
            f"{split}: the split holds no answers to score with; --submit writes the walks alone"
        )
    began = time.perf_counter()
    result, predictions = evaluate(
        ready.policy,
        ready.panoramas,
        ready.episodes,
        ready.world.layout.connectivity,
        rule or protocol_of(ready.world.config),
        batch_size=batch_size,
    )
    seconds = time.perf_counter() - began
    run = ready.run
    result = replace(
        result,
        split=split,
        config={**run, "control": _control(ready.world.config.blind, permute)},
        seed=run.get("loop", {}).get("seed"),
        selection_split=run.get("select", {}).get("split"),
        cost=_cost(ready.policy, seconds),
    )
    if out is not None:
        save_evaluation(out, split, result, predictions)
    return result


def run_submit(
    folder: Path,
    root: Path,
    split: str,
    out: Path,
    *,
    views: str | None = None,
    objects: str | None = None,
    batch_size: int = 64,
) -> Path:
    """Walk a split and write its leaderboard file ``submit_<split>.json`` into `out`, unscored."""
    select = EvalConfig(split=split, batch_size=batch_size)
    ready = _prepare(folder, root, select, views=views, objects=objects)
    with torch.inference_mode():
        agent = Agent(ready.policy, ready.panoramas)
        predictions = predict(agent, ready.panoramas, ready.episodes, batch_size=batch_size)
    file = out / f"submit_{split}.json"
    write_submission(file, predictions, objects=ready.world.config.grounded)
    return file


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
    out: Path, split: str, result: Result, predictions: list[Prediction]
) -> tuple[Path, Path]:
    """Write ``result_<split>.json`` and ``submit_<split>.json`` into a folder.

    Where objects were asked for (REVERIE) the latter says which was chosen.
    """
    files = out / f"result_{split}.json", out / f"submit_{split}.json"
    write_result(files[0], result)
    write_submission(files[1], predictions, objects="RGS" in result.scores)
    return files
