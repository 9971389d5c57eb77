"""Walk a split greedily and score it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from sterna.data.episodes import Episode
from sterna.envs.graph_env import GraphEnv, Panoramas
from sterna.metrics import Prediction, Protocol, Result, score_predictions
from sterna.models.agent import Agent, Policy
from sterna.models.duet import DUET
from sterna.models.walk import MAX_STEPS, Walk, walk
from sterna.world.atlas import Atlas


def predictions_of(atlas: Atlas, episodes: Sequence[Episode], done: Walk) -> list[Prediction]:
    """Return a walk in submission form, with the object of its end, one prediction an episode."""
    names = atlas.viewpoints
    return [
        Prediction(
            instr_id=episode.instr_id,
            hops=tuple(tuple(names[node] for node in hop) for hop in hops if hop),
            object_id=None if found < 0 else found,
        )
        for episode, hops, found in zip(episodes, done.hops, done.found.tolist(), strict=True)
    ]


def predict(
    policy: Policy,
    panoramas: Panoramas,
    episodes: Sequence[Episode],
    *,
    batch_size: int = 64,
    max_steps: int = MAX_STEPS,
    progress: bool = True,
    each: Callable[[Sequence[Episode], Walk], None] | None = None,
) -> list[Prediction]:
    """Walk every episode once, greedily, in batches of similar instruction length.

    Results stand in the order of `episodes` and do not depend on the batch size. `each` is called
    with every batch and its walk (for pictures and step logs).
    """
    order = np.argsort([len(e.token_ids or ()) for e in episodes], kind="stable")
    env = GraphEnv(panoramas)
    out: dict[str, Prediction] = {}
    bar = tqdm(total=len(episodes), desc="walk", unit="ep", disable=not progress, leave=False)
    for begin in range(0, len(order), batch_size):
        batch = [episodes[i] for i in order[begin : begin + batch_size]]
        done = walk(policy, env, batch, max_steps=max_steps)
        for prediction in predictions_of(panoramas.atlas, batch, done):
            out[prediction.instr_id] = prediction
        if each is not None:
            each(batch, done)
        bar.update(len(batch))
    bar.close()
    return [out[episode.instr_id] for episode in episodes]


def evaluate(
    model: DUET,
    panoramas: Panoramas,
    episodes: Sequence[Episode],
    connectivity: str | Path,
    protocol: Protocol,
    *,
    batch_size: int = 64,
    progress: bool = True,
) -> tuple[Result, list[Prediction]]:
    """Walk and score a split with a model in eval mode; the mode is restored after."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            predictions = predict(
                Agent(model, panoramas),
                panoramas,
                episodes,
                batch_size=batch_size,
                max_steps=protocol.max_steps or MAX_STEPS,
                progress=progress,
            )
    finally:
        model.train(training)
    return score_predictions(predictions, episodes, connectivity, protocol), predictions
