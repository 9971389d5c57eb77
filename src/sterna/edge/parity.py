"""Does an exported policy do what the trained one does? Numbers for the card.

Legend: L words, V views, M map nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sterna.data.episodes import Episode
from sterna.edge.runtime import Engine, Navigator
from sterna.edge.runtime.panorama import Tokens
from sterna.edge.walks import Rooms, start_heading, words_of
from sterna.envs.graph_env import GraphEnv, Panoramas
from sterna.models.agent import Agent
from sterna.models.duet import DUET
from sterna.models.topomap import MapRows
from sterna.models.walk import walk

SIZES = ((1, 1, 1), (12, 9, 20), (44, 41, 60), (80, 60, 200))
"""Words, views and map nodes of the four sizes at which outputs are compared."""


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """One decision of random content: words, a panorama, a map."""

    ids: NDArray[np.int64]
    tokens: Tokens
    feed: dict[str, NDArray[Any]]


def random_state(model: DUET, words: int, views: int, nodes: int, seed: int = 0) -> State:
    """Return a state of given sizes: a third of the nodes visited, up to five candidates."""
    config, rng = model.config, np.random.default_rng(seed)

    def noise(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal(shape).astype(np.float32)

    near = min(5, views, nodes)
    things = 0 if config.object_size is None else 3
    visited = np.zeros(1 + nodes, bool)
    visited[1 : 1 + max(1, nodes // 3)] = True
    metres = np.abs(noise(1 + nodes, 1 + nodes)) * 9
    metres = metres + metres.T
    metres[0], metres[:, 0] = 0, 0
    tokens = Tokens(
        views=noise(views, config.feature_size),
        locations=noise(views + things, 7),
        kinds=(np.arange(views) < near).astype(np.int64),
        objects=noise(things, config.object_size or 0),
        ids=np.arange(things),
    )
    feed = {
        "local_positions": noise(1 + near, 14),
        "candidates": rng.permutation(nodes)[:near].astype(np.int64) + 1,
        "near": np.concatenate([np.arange(1 + near), 1 + views + np.arange(things)]),
        "features": noise(1 + nodes, config.hidden_size) * (np.arange(1 + nodes) > 0)[:, None],
        "steps": np.where(visited, np.arange(1 + nodes) % (config.max_steps - 1) + 1, 0),
        "positions": noise(1 + nodes, 7),
        "distances": metres,
        "visited": visited,
        "choices": np.flatnonzero(~visited),
    }
    return State(ids=rng.integers(0, config.vocab_size, words), tokens=tokens, feed=feed)


def outputs_of_torch(model: DUET, state: State) -> dict[str, NDArray[np.float32]]:
    """Run a state through the model as an agent of `sterna.models.agent` would."""

    def row(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array))[None]

    feed, seen = state.feed, state.tokens
    views, things = len(seen.views), len(seen.ids)
    kinds = np.concatenate([seen.kinds, np.full(things, 2, np.int64)])
    is_object = np.pad(kinds == 2, (1, 0))
    every = torch.ones(1, views + things, dtype=torch.bool)
    read = model.config.object_size is not None
    with torch.inference_mode():
        text = model.encode_text(row(state.ids), torch.ones(1, len(state.ids), dtype=torch.bool))
        panorama = model.encode_panorama(
            row(seen.views),
            row(seen.locations),
            row(kinds),
            every,
            row(seen.objects) if read else None,
        )
        out = model.navigate(
            text,
            panorama.embeds,
            every,
            row(feed["local_positions"]),
            row(feed["candidates"]),
            row(feed["features"]),
            row(feed["steps"]),
            row(feed["positions"]),
            row(feed["distances"]),
            torch.ones(1, len(feed["visited"]), dtype=torch.bool),
            row(feed["visited"]),
            decide=True,
            object_mask=row(is_object) if read else None,
        )
    found = {
        "panorama": panorama.embeds[0],
        "mean": panorama.mean[0],
        "logits": out.fused[0, torch.from_numpy(feed["choices"])],
    }
    if out.object_logits is not None:
        found["objects"] = out.object_logits[0, torch.from_numpy(is_object)]
    return {name: value.numpy() for name, value in found.items()}


def outputs_of_engine(engine: Engine, state: State) -> dict[str, NDArray[np.float32]]:
    """Run a state through an exported policy."""
    words = engine.read(state.ids.tolist())
    panorama, mean = engine.look(state.tokens)
    logits, near = engine.decide(state.feed | words | {"panorama": panorama})
    found = {"panorama": panorama, "mean": mean, "logits": logits}
    if near is not None:
        found["objects"] = near[len(state.feed["candidates"]) + 1 :]
    return found


def size_differences(model: DUET, engine: Engine) -> list[dict[str, Any]]:
    """Return the largest absolute difference of every output at each of `SIZES`."""
    rows = []
    for words, views, nodes in SIZES:
        state = random_state(model, words, views, nodes)
        ours, theirs = outputs_of_torch(model, state), outputs_of_engine(engine, state)
        row: dict[str, Any] = {"words": words, "views": views, "nodes": nodes}
        rows.append(row | {k: float(np.abs(v - theirs[k]).max()) for k, v in ours.items()})
    return rows


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How often an exported policy decides as torch does, on torch's own walks."""

    decisions: int
    agreed: int
    largest_difference: float
    """Of a probability."""

    @property
    def share(self) -> float:
        """Share of equal decisions."""
        return self.agreed / max(1, self.decisions)


def torch_walks(
    model: DUET,
    panoramas: Panoramas,
    episodes: Sequence[Episode],
    *,
    batch_size: int,
    steps: int,
    agent: Agent | None = None,
) -> Iterator[tuple[Episode, list[tuple[int, NDArray[np.float32]]]]]:
    """Yield every episode with its decisions: node, and probabilities [1 + M] with STOP first.

    `agent` walks in place of the whole model (a routed one).
    """
    env, agent = GraphEnv(panoramas), agent or Agent(model, panoramas)
    for begin in range(0, len(episodes), batch_size):
        batch = episodes[begin : begin + batch_size]
        with torch.inference_mode():
            done = walk(agent, env, batch, max_steps=steps, keep=True)
        told: list[list[tuple[int, NDArray[np.float32]]]] = [[] for _ in batch]
        for rows, logits in zip(done.rows, done.logits, strict=True):
            for i, number in enumerate(rows.agent.tolist()):
                told[number].append((int(rows.node[i]), _chances(rows, logits, i)))
        yield from zip(batch, told, strict=True)


def _chances(rows: MapRows, logits: NDArray[np.float32], row: int) -> NDArray[np.float32]:
    open_ = logits[row][rows.mask[row]]
    weights = np.exp(open_ - open_.max())
    out: NDArray[np.float32] = weights / weights.sum()
    return out


def agreement(
    walks: Sequence[tuple[Episode, list[tuple[int, NDArray[np.float32]]]]],
    rooms: Rooms,
    engine: Engine,
) -> Agreement:
    """Let an exported policy score every state of torch's walks (see `torch_walks`)."""
    navigator, decisions, agreed, worst = Navigator(engine), 0, 0, 0.0
    for episode, told in walks:
        navigator.start(words_of(episode))
        for number, (node, wanted) in enumerate(told):
            heading = None if number else start_heading(episode)
            scores = navigator.score(rooms.observation(node, heading))
            found = np.zeros_like(wanted)
            found[np.concatenate([[0], scores.choices + 1])] = scores.probabilities
            decisions += 1
            agreed += int(found.argmax() == wanted.argmax())
            worst = max(worst, float(np.abs(found - wanted).max()))
    return Agreement(decisions=decisions, agreed=agreed, largest_difference=worst)
