"""The walk itself: decide, move, end, and at the end look back for the best place to stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sterna.data.episodes import Episode
from sterna.envs.graph_env import GraphEnv
from sterna.models.agent import Grounding, Policy
from sterna.models.topomap import MapRows, TopoMap
from sterna.world.geometry import Floats, Ints

MAX_STEPS = 15  # decisions an episode, DUET's max_action_len

Choose = Callable[[MapRows, NDArray[np.float32]], Ints]
EndsAt = Callable[[MapRows], NDArray[np.bool_]]


@dataclass
class Walk:
    """What B agents did.

    `hops[i]` are DUET's segments of episode i in atlas nodes: the start alone, then the nodes of
    each decision (several where it jumped), last the way back to the best place to stop.
    `objects` [B, steps] is the best object of each decision, `found` [B] that of the place where
    the walk ends (its last visit); -1 for none. `rows` are all decisions, `stop_scores` [B, steps]
    softmax probabilities of STOP (-inf: none), `looked_back` [B] tells whether the last segment is
    a walk-back.
    """

    hops: list[list[list[int]]]
    stop_scores: Floats
    looked_back: NDArray[np.bool_]
    objects: Ints
    found: Ints
    rows: list[MapRows] = field(default_factory=list)
    logits: list[NDArray[np.float32]] = field(default_factory=list)
    choices: list[Ints] = field(default_factory=list)


def greedy(rows: MapRows, logits: NDArray[np.float32]) -> Ints:
    """Choose the best slot."""
    best: Ints = logits.argmax(1)
    return best


def sample_with(draw: Callable[[int], Floats]) -> Choose:
    """Choose slots from the softmax of the logits; `draw(n)` gives n uniform numbers in [0, 1)."""

    def choose(rows: MapRows, logits: NDArray[np.float32]) -> Ints:
        weights = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
        total = np.cumsum(weights, 1)
        picked: Ints = (total <= draw(len(rows))[:, None] * total[:, -1:]).sum(1)
        return np.minimum(picked, _last_possible(weights))

    return choose


def _last_possible(weights: Floats) -> Ints:
    last: Ints = weights.shape[1] - 1 - (weights[:, ::-1] > 0).argmax(1)
    return last


def _softmax_stop(logits: NDArray[np.float32]) -> Floats:
    weights = np.exp(logits - logits.max(1, keepdims=True))
    out: Floats = (weights[:, 0] / weights.sum(1)).astype(np.float64)
    return out


def walk(
    policy: Policy | None,
    env: GraphEnv,
    episodes: Sequence[Episode],
    choose: Choose = greedy,
    *,
    max_steps: int = MAX_STEPS,
    ends_at: EndsAt | None = None,
    keep: bool = False,
    prepare: Callable[[TopoMap], None] | None = None,
) -> Walk:
    """Walk a batch of episodes to their ends.

    An episode ends where the choice is STOP, where nothing unvisited is left, or after `max_steps`
    decisions; then the agent goes back to the visited node with the highest probability of STOP.
    With `ends_at` (training) it also ends where that says so, and a STOP elsewhere ends it without
    a walk-back, as in DUET's roll-outs. `policy=None` walks by `choose` alone, without logits;
    `prepare` replaces the policy's reset. `keep` records rows, logits and choices.
    """
    env.reset(episodes)
    topomap = TopoMap(env.atlas, env.node)
    if policy is not None:
        policy.reset(episodes, topomap) if prepare is None else prepare(topomap)
    result = Walk(
        hops=[[[int(n)]] for n in env.node],
        stop_scores=np.full((len(episodes), max_steps), -np.inf),
        looked_back=np.zeros(len(episodes), bool),
        objects=np.full((len(episodes), max_steps), -1),
        found=np.full(len(episodes), -1),
    )
    for step in range(max_steps):
        agents = np.flatnonzero(~env.ended)
        if not len(agents):
            break
        rows = topomap.observe(agents, env.node[agents], env.pose[agents], step)
        logits = _logits(policy, rows)
        if isinstance(policy, Grounding) and policy.objects is not None:
            result.objects[agents, step] = policy.objects
        choice = choose(rows, logits)
        if policy is not None:
            result.stop_scores[agents, step] = _softmax_stop(logits)
        if keep:
            result.rows.append(rows)
            result.logits.append(logits)
            result.choices.append(choice)
        ends = ~(rows.mask & ~rows.visited)[:, 1:].any(1) | (step == max_steps - 1)
        ends |= (choice <= 0) if ends_at is None else ends_at(rows)
        _move(env, topomap, rows, choice, ends, result)
    return result


def _logits(policy: Policy | None, rows: MapRows) -> NDArray[np.float32]:
    if policy is None:
        return np.zeros(rows.mask.shape, np.float32)
    out: Tensor = policy.act(rows)
    return out.detach().to("cpu", torch.float32).numpy()


def _move(
    env: GraphEnv,
    topomap: TopoMap,
    rows: MapRows,
    choice: Ints,
    ends: NDArray[np.bool_],
    result: Walk,
) -> None:
    # `ends` are regular ends; a STOP that is not one of them (training) ends without looking back.
    slots = np.maximum(choice - 1, 0)
    here = topomap.slots(rows.agent, rows.node)
    target = np.full(len(env.node), -1, np.int64)
    last = env.node.copy()
    going = ~ends & (choice > 0)
    target[rows.agent[going]] = topomap.nodes[rows.agent, slots][going]
    last[rows.agent[going]] = topomap.hop_before(rows.agent, here, slots)[going]
    for i in np.flatnonzero(going):
        agent = int(rows.agent[i])
        result.hops[agent].append(topomap.path(agent, int(here[i]), int(slots[i])))
    for i in np.flatnonzero(ends):
        _look_back(topomap, int(rows.agent[i]), int(here[i]), result)
    env.step(target, last)


def _look_back(topomap: TopoMap, agent: int, here: int, result: Walk) -> None:
    """Append the way to the visited node with the highest stored probability of STOP (if any)."""
    scores = result.stop_scores[agent]
    if not np.isfinite(scores).any():
        return
    best_slot = _best_stop(topomap, agent, scores)
    result.found[agent] = result.objects[agent, topomap.last_visit[agent, best_slot]]
    if best_slot != here:
        result.hops[agent].append(topomap.path(agent, here, best_slot))
        result.looked_back[agent] = True


def _best_stop(topomap: TopoMap, agent: int, scores: Floats) -> int:
    # A node's score is that of its last visit; the earlier node wins ties, as in DUET.
    last = topomap.last_visit[agent]
    slots = np.flatnonzero(last >= 0)
    first_order = np.argsort(last[slots], kind="stable")
    slots = slots[first_order]
    return int(slots[scores[last[slots]].argmax()])
