"""Walk a split greedily and score it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from sterna import processes
from sterna.data.episodes import Episode
from sterna.envs.graph_env import GraphEnv, Panoramas
from sterna.errors import InputError
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
    share: bool = False,
) -> list[Prediction]:
    """Walk every episode once, greedily, in batches of similar instruction length.

    Results stand in the order of `episodes` and do not depend on the batch size. `each` is called
    with every batch and its walk (for pictures and step logs). With `share` the processes of a run
    take whole batches in turn, those that one process would walk, so that even their rounding is
    its own; all of them get all predictions.
    """
    order = np.argsort([len(e.token_ids or ()) for e in episodes], kind="stable")
    env = GraphEnv(panoramas)
    out: dict[str, Prediction] = {}
    quiet = not progress or (share and not processes.is_main())
    bar = tqdm(total=len(episodes), desc="walk", unit="ep", disable=quiet, leave=False)
    begins = list(range(0, len(order), batch_size))
    for begin in begins[processes.number() :: processes.count()] if share else begins:
        batch = [episodes[i] for i in order[begin : begin + batch_size]]
        done = walk(policy, env, batch, max_steps=max_steps)
        for prediction in predictions_of(panoramas.atlas, batch, done):
            out[prediction.instr_id] = prediction
        if each is not None:
            each(batch, done)
        bar.update(len(batch))
    bar.close()
    if share and not processes.alone():
        out = _everyones(out)
    return [out[episode.instr_id] for episode in episodes]


def _everyones(own: dict[str, Prediction]) -> dict[str, Prediction]:
    """Put the predictions of all processes together."""
    every = processes.everyones([[p.instr_id, p.hops, p.object_id] for p in own.values()])
    items = [item for one in every for item in one]
    out = {
        name: Prediction(instr_id=name, hops=tuple(map(tuple, hops)), object_id=found)
        for name, hops, found in items
    }
    if len(out) != len(items):
        raise InputError("processes: an episode was walked twice; all must read the same data")
    return out


def evaluate(
    model: DUET,
    panoramas: Panoramas,
    episodes: Sequence[Episode],
    connectivity: str | Path,
    protocol: Protocol,
    *,
    batch_size: int = 64,
    progress: bool = True,
    share: bool = False,
) -> tuple[Result, list[Prediction]]:
    """Walk and score a split with a model in eval mode; the mode is restored after.

    `share` as in `predict`.
    """
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
                share=share,
            )
    finally:
        model.train(training)
    return score_predictions(predictions, episodes, connectivity, protocol), predictions
