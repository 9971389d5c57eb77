"""Groups of walks drawn from a policy in navigation graphs, and what they are worth.

The walks of a group begin as one and part where their choices do. DUET has no recurrent state, so
that what walks share is computed once: one state, one decision, whatever the number of walks in it.

Legend: B episodes, G walks an episode, N = B G walks, R distinct states, I decisions, P panoramas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sterna.data.episodes import Episode
from sterna.envs.graph_env import GraphEnv, Panoramas
from sterna.errors import InputError
from sterna.metrics import Protocol, navigation_scores
from sterna.metrics import Walk as ScoredWalk
from sterna.metrics.score import answer_of
from sterna.models.agent import Agent
from sterna.models.duet import DUET
from sterna.models.text import TextMemory
from sterna.models.topomap import MapRows, TopoMap
from sterna.models.walk import Walk, sample_with, walk
from sterna.train.packed import Shared
from sterna.world.atlas import Atlas
from sterna.world.geometry import VIEWS, Floats, Ints


@dataclass(frozen=True, kw_only=True)
class WalkReward:
    """What a walk in a graph is worth: a weighted sum of scores of the run's protocol."""

    success: float = 1.0
    """Weight of success at the end (SR of one walk)."""
    spl: float = 1.0
    """Weight of success by path length (SPL)."""
    success_1m: float = 0.0
    """Weight of success within 1 m, whatever the protocol's radius (SR_1m; continuous space)."""
    spl_1m: float = 0.0
    """The same by path length (SPL_1m; continuous space)."""
    progress: float = 0.0
    """Weight of the share of the geodesic distance to the goal that was covered: (d(start) -
    d(end)) / d(start), at least -1."""
    ndtw: float = 0.0
    """Weight of nDTW to the annotated path."""

    def __post_init__(self) -> None:
        """Check the values."""
        if min(vars(self).values()) < 0 or not any(vars(self).values()):
            raise InputError(
                f"reward: weights must not be negative, and one must count; found {vars(self)}"
            )


@dataclass(frozen=True)
class Sampled:
    """N walks and the states they passed, each distinct one once.

    `walks` as `models.walk` gives them. `rows` [R] are the states (`agent` counts episodes),
    `shared` how they follow from one another, `visits` [R] how many walks passed them. A decision
    [I] is taken in state `row` by walk `walk`, which chose `slot`; decisions without
    effect (the last one allowed, or nothing left to choose) are left out.
    """

    walks: Walk
    rows: MapRows
    shared: Shared
    visits: Ints
    row: Ints
    walk: Ints
    slot: Ints


class GroupAgent(Agent):
    """An agent whose first G walkers are one until their choices part, then the next G, and so on.

    `state` [N] numbers what each walker has seen so far: equal numbers, equal logits.
    """

    def __init__(self, model: DUET, panoramas: Panoramas, group: int) -> None:
        """Wrap a model whose weights do not change while it walks."""
        super().__init__(model, panoramas, cache=True)
        self.group = group
        self.state: Ints = np.zeros(0, np.int64)

    def reset(
        self, episodes: Sequence[Episode], topomap: TopoMap, text: TextMemory | None = None
    ) -> None:
        """Begin; `episodes` [N] repeats each episode G times, `text` holds each of the B once."""
        self.state = np.arange(len(episodes)) // self.group
        if text is not None:
            text = text.rows(torch.from_numpy(self.state).to(self.device))
        super().reset(episodes, topomap, text)
        self._next = len(episodes)

    def act(self, rows: MapRows) -> Tensor:
        """Return the fused logits [N', 1+M] of the walking agents; no gradient is kept."""
        _, first, back = np.unique(self.state[rows.agent], return_index=True, return_inverse=True)
        some = rows.select(first)
        with torch.no_grad():
            logits = self.navigate(some).fused
        if self.objects is not None:
            self.objects = self.objects[back]
        every, one = torch.from_numpy(rows.agent), torch.from_numpy(some.agent[back])
        for kept in (self._sums, self._counts):
            kept[every.to(self.device)] = kept[one.to(self.device)]
        return logits[torch.from_numpy(back).to(self.device)]

    def part(self, agents: Ints, choice: Ints) -> None:
        """Let walkers [N'] go on by their choices: those of one state and one choice stay one."""
        pair = self.state[agents] * (int(choice.max(initial=0)) + 1) + choice
        _, number = np.unique(pair, return_inverse=True)
        self.state[agents] = self._next + number
        self._next += len(agents)


def sample(
    model: DUET,
    panoramas: Panoramas,
    text: TextMemory,
    episodes: Sequence[Episode],
    draws: Floats,
    *,
    temperature: float = 1.0,
    look_back: bool = False,
) -> Sampled:
    """Walk each of B episodes G times; `draws` [steps, B G] are the uniform numbers of the choices.

    `text` holds the B instructions, as the model reads them now. A walk ends where STOP is drawn;
    with `look_back` it then goes back to the visited place with the highest probability of STOP, as
    at evaluation. At the last step, or with nothing left to visit, it always does.
    """
    group = draws.shape[1] // len(episodes)
    agent = GroupAgent(model, panoramas, group)
    states: list[Ints] = []

    def choose(rows: MapRows, logits: NDArray[np.float32]) -> Ints:
        states.append(agent.state[rows.agent])
        choice = sample_with(lambda n: draws[int(rows.step[0]), rows.agent])(
            rows, logits / temperature
        )
        agent.part(rows.agent, choice)
        return choice

    every = [episode for episode in episodes for _ in range(group)]
    done = walk(
        agent,
        GraphEnv(panoramas),
        every,
        choose,
        max_steps=len(draws),
        ends_at=None if look_back else lambda rows: np.zeros(len(rows), bool),
        keep=True,
        prepare=lambda topomap: agent.reset(every, topomap, text),
    )
    return _shared(done, states, group, len(draws))


def _shared(done: Walk, states: list[Ints], group: int, steps: int) -> Sampled:
    """Keep each state of the walks once."""
    firsts, parts, count = [], [], 0
    number = np.full((len(done.hops), len(done.rows)), -1)
    for step, (rows, state) in enumerate(zip(done.rows, states, strict=True)):
        _, first, back = np.unique(state, return_index=True, return_inverse=True)
        number[rows.agent, step] = count + back
        firsts.append(rows.agent[first])
        parts.append(rows.select(first))
        count += len(first)
    rows = MapRows.concatenate(parts)
    trail = number[np.concatenate(firsts)]
    trail = np.where(np.arange(trail.shape[1]) <= rows.step[:, None], trail, -1)
    agent = np.concatenate([r.agent for r in done.rows])
    moment = np.concatenate([r.step for r in done.rows])
    row, slot = number[agent, moment], np.concatenate(done.choices)
    free = (rows.mask & ~rows.visited)[:, 1:].any(1) & (rows.step < steps - 1)
    counts = free[row]
    return Sampled(
        walks=done,
        rows=MapRows(**(vars(rows) | {"agent": rows.agent // group})),
        shared=shared_looks(rows, trail),
        visits=np.bincount(row, minlength=count),
        row=row[counts],
        walk=agent[counts],
        slot=slot[counts],
    )


def shared_looks(rows: MapRows, trail: Ints) -> Shared:
    """Return what rows share: the way that led to each, and each (viewpoint, pose) once."""
    looks, look = np.unique(rows.node * VIEWS + rows.pose, return_inverse=True)
    return Shared(trail=trail, look=look, node=looks // VIEWS, pose=looks % VIEWS)


def scores_of(
    atlas: Atlas, episodes: Sequence[Episode], done: Walk, protocol: Protocol
) -> dict[str, Floats]:
    """Score N walks of B episodes (G each, side by side) as the protocol's evaluator does, [B, G].

    Beside the evaluator's scores: `progress`, the share of the distance to the goal covered.
    """
    group = len(done.hops) // len(episodes)
    scored = [
        _scored(atlas, episodes[i // group], hops, protocol) for i, hops in enumerate(done.hops)
    ]
    scores = navigation_scores(scored, protocol)
    first = np.array([w.graph.distances[w.reference[0], w.reference[-1]] for w in scored])
    covered = (first - scores["NE"]) / np.maximum(first, 1e-9)
    scores["progress"] = np.where(first > 0, np.maximum(covered, -1.0), scores["SR"])
    return {name: values.reshape(-1, group) for name, values in scores.items()}


def _scored(
    atlas: Atlas, episode: Episode, hops: list[list[int]], protocol: Protocol
) -> ScoredWalk:
    number = atlas.scan_number[episode.scan]
    graph, base = atlas.graphs[number], int(atlas.offset[number])
    nodes = np.array([node for hop in hops for node in hop]) - base
    path = nodes[np.concatenate([[True], nodes[1:] != nodes[:-1]])]
    return ScoredWalk(path=path, action_steps=len(hops) - 1, **answer_of(episode, graph, protocol))


def walk_rewards(scores: dict[str, Floats], config: WalkReward) -> Floats:
    """Return the reward of every walk [B, G]: the weighted sum that `config` names.

    `InputError` for a weight of a score that the world does not give.
    """
    near = {"SR_1m": config.success_1m, "SPL_1m": config.spl_1m}
    missing = [name for name, weight in near.items() if weight and name not in scores]
    if missing:
        raise InputError(f"reward: {missing[0]} is a score of continuous space; weigh SR and SPL")
    out: Floats = sum(
        (weight * scores[name] for name, weight in near.items() if weight),
        np.zeros_like(scores["SR"]),
    ) + (
        config.success * scores["SR"]
        + config.spl * scores["SPL"]
        + config.progress * scores["progress"]
        + config.ndtw * scores["nDTW"]
    )
    return out
