"""Closed-loop GRPO of a graph policy: walks drawn from it, compared within their groups.

Everything runs without dropout, so that the policy that learns is the one that walked: at the first
update of a batch its ratios are exactly 1.

Legend: B episodes, G walks an episode, N = B G walks, R distinct states, I decisions, M map slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.metrics import Protocol
from sterna.models.agent import TextReader
from sterna.models.duet import DUET
from sterna.models.topomap import MapRows
from sterna.models.walk import MAX_STEPS
from sterna.train.experts import goal_nodes, reference_nodes, shortest_path_expert
from sterna.train.grounding import IGNORED
from sterna.train.packed import PackedOutput, Shared, buckets, packed_pass
from sterna.train.task import TaskOutput
from sterna.vlnr1.objective import (
    ObjectiveConfig,
    divergence,
    entropy,
    group_advantages,
    item_weights,
    objective,
)
from sterna.vlnr1.walks import (
    Sampled,
    WalkReward,
    sample,
    scores_of,
    shared_looks,
    walk_rewards,
)
from sterna.world.atlas import Atlas
from sterna.world.geometry import Floats, Ints

_WATCHED = ("SR", "SPL", "NE", "nDTW")
"""Scores of the drawn walks that a run logs."""


@dataclass(frozen=True, kw_only=True)
class ClosedLoopConfig:
    """How a policy learns from walks of its own in the environment."""

    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    reward: WalkReward = field(default_factory=WalkReward)
    gain: float = 1.0
    """Factor on the advantages; 0: nothing but anchor and divergence (a control)."""
    updates: int = 1
    """Optimiser steps that learn from the same walks; 1: strictly on-policy."""
    temperature: float = 1.0
    """Of the softmax that walks are drawn from, and that is learnt."""
    imitation: float = 0.0
    """Weight of an anchor: cross entropy to the shortest-path expert in the states of the drawn
    walks, as DAgger's; 0: rewards alone."""
    look_back: bool = False
    """A drawn STOP ends a walk at its best place so far, as at evaluation, not where it was drawn.
    """
    max_steps: int = MAX_STEPS
    """Decisions of a walk at most."""
    buckets: int = 3
    """Groups of similar map size in the pass that learns (speed only)."""

    def __post_init__(self) -> None:
        """Check the values."""
        if not (self.temperature > 0 and self.imitation >= 0 and self.gain >= 0):
            raise InputError(
                "grpo: temperature must be positive, imitation and gain not negative, found "
                f"{self.temperature}, {self.imitation}, {self.gain}"
            )
        if min(self.updates, self.max_steps, self.buckets) < 1:
            raise InputError(
                "grpo: updates, max_steps and buckets must be at least 1, found "
                f"{self.updates}, {self.max_steps}, {self.buckets}"
            )


@dataclass(frozen=True)
class Walked:
    """What is learnt from a batch of drawn walks.

    `rows` [R], `shared`, `row` and `slot` [I] as in `Sampled`; `advantage` and `weight` [I] of each
    decision; `expert` [R] slots (`IGNORED`: no lesson) and `expert_weight` [R] of the anchor.
    `old` [I] are the log-probabilities of the walkers (None: they are those of the policy now),
    `start` [R, 1+M] those of all choices by the start policy (None: no divergence). `values` are
    worth logging.
    """

    episodes: tuple[Episode, ...]
    rows: MapRows
    shared: Shared
    row: Ints
    slot: Ints
    advantage: Floats
    weight: Floats
    expert: Ints
    expert_weight: Floats
    old: Tensor | None = None
    start: Tensor | None = None
    values: dict[str, float] = field(default_factory=dict)


class ClosedLoopTask(nn.Module):
    """GRPO in navigation graphs; the policy, the policy it began as, their world, the loss."""

    def __init__(
        self,
        policy: DUET,
        start: DUET | None,
        panoramas: Panoramas,
        config: ClosedLoopConfig,
        protocol: Protocol,
    ) -> None:
        """Own a policy; `start` is what the divergence is measured from, `protocol` what scores."""
        super().__init__()
        if config.objective.kl_weight and start is None:
            raise InputError("grpo: kl_weight needs the start policy; give it, or set 0")
        self.policy, self.panoramas, self.config = policy, panoramas, config
        # In a list, so that it is neither trained, nor saved, nor put in train mode.
        self._start = [] if start is None else [start.eval().requires_grad_(False)]
        self.protocol = protocol
        self.table = torch.from_numpy(panoramas.features)

    def train(self, mode: bool = True) -> ClosedLoopTask:
        """Set the mode of everything but the policy, whose dropout stays off."""
        super().train(mode)
        self.policy.eval()
        return self

    @torch.no_grad()
    def collect(self, episodes: Sequence[Episode], draws: Floats) -> Walked:
        """Draw walks and judge them; `draws` [steps, B G] are uniform numbers for the choices."""
        config = self.config
        text = TextReader(self.policy)(episodes)
        found = sample(
            self.policy.eval(),
            self.panoramas,
            text,
            episodes,
            draws,
            temperature=config.temperature,
            look_back=config.look_back,
        )
        scores = scores_of(self.panoramas.atlas, episodes, found.walks, self.protocol)
        batch = judged(self.panoramas.atlas, tuple(episodes), found, scores, config)
        if config.updates > 1:
            batch = replace(batch, old=self._chosen(self._run(self.policy, batch), batch))
        if config.objective.kl_weight:
            batch = replace(batch, start=self._all(self._run(self._begun, batch), batch))
        return batch

    @property
    def _begun(self) -> DUET:
        """The start policy, on the policy's device."""
        device = next(self.policy.parameters()).device
        return self._start[0].to(device)

    def _run(self, model: DUET, batch: Walked) -> PackedOutput:
        tokens = int(self.panoramas.lengths[batch.shared.node].max())
        groups = list(buckets(batch.rows, tokens, self.config.buckets, batch.shared))
        text = TextReader(model)(batch.episodes)
        return packed_pass(
            model, self.panoramas, self.table, text, batch.rows, groups, batch.shared
        )

    def _log_probabilities(self, logits: Tensor) -> Tensor:
        return (logits.float() / self.config.temperature).log_softmax(1)

    def _chosen(self, output: PackedOutput, batch: Walked) -> Tensor:
        """Return log-probabilities of the decisions [I], on the CPU."""
        out = torch.zeros(len(batch.row))
        for index, logits in output.fused():
            items, place = _items(batch, index)
            slot = torch.from_numpy(batch.slot[items])
            chosen = self._log_probabilities(logits)[torch.from_numpy(place), slot]
            out[torch.from_numpy(items)] = chosen.cpu()
        return out

    def _all(self, output: PackedOutput, batch: Walked) -> Tensor:
        """Return log-probabilities of all choices [R, 1+M], on the CPU; -inf where closed."""
        out = torch.full(batch.rows.nodes.shape, -torch.inf)
        for index, logits in output.fused():
            out[torch.from_numpy(index), : logits.shape[1]] = self._log_probabilities(logits).cpu()
        return out

    def forward(self, batch: Walked) -> TaskOutput:
        """Return the loss of a batch of walks, or of a piece of one."""
        output = self._run(self.policy, batch)
        items, now, flat, far = self._decisions(output, batch)

        def tensor(values: Floats) -> Tensor:
            return torch.from_numpy(values[items]).to(now.device, torch.float32)

        found = objective(
            now,
            None if batch.old is None else batch.old[torch.from_numpy(items)].to(now.device),
            tensor(batch.advantage),
            tensor(batch.weight),
            self.config.objective,
            divergences=far,
            entropies=flat,
        )
        anchor, right = anchor_loss(output, batch)
        metrics = batch.values | found.metrics | {"anchor": float(anchor.detach())}
        metrics |= {"agree": right, "rows": float(len(batch.rows))}
        weight = self.config.imitation
        return TaskOutput(found.loss + weight * anchor if weight else found.loss, metrics)

    def _decisions(
        self, output: PackedOutput, batch: Walked
    ) -> tuple[Ints, Tensor, Tensor, Tensor | None]:
        """Return decisions [I] by number: log-probabilities, entropies, divergences (or None)."""
        numbers, now, flat, far = [], [], [], []
        for index, logits in output.fused():
            items, place = _items(batch, index)
            here = torch.from_numpy(place).to(logits.device)
            every = self._log_probabilities(logits)
            numbers.append(items)
            now.append(every[here, torch.from_numpy(batch.slot[items]).to(logits.device)])
            flat.append(entropy(every)[here])
            if batch.start is not None:
                start = batch.start[torch.from_numpy(index), : every.shape[1]].to(logits.device)
                far.append(divergence(every, start)[here])
        every_far = torch.cat(far) if far else None
        return np.concatenate(numbers), torch.cat(now), torch.cat(flat), every_far


def _items(batch: Walked, index: Ints) -> tuple[Ints, Ints]:
    """Return the decisions taken in rows `index`, and the place of each one's row among them."""
    place = np.full(len(batch.rows), -1)
    place[index] = np.arange(len(index))
    items = np.flatnonzero(place[batch.row] >= 0)
    return items, place[batch.row[items]]


def judged(
    atlas: Atlas,
    episodes: tuple[Episode, ...],
    found: Sampled,
    scores: dict[str, Floats],
    config: ClosedLoopConfig,
) -> Walked:
    """Turn walks and their scores [B, G] into decisions with advantages and weights."""
    rewards = walk_rewards(scores, config.reward)
    advantages = config.gain * group_advantages(rewards, config.objective.scale)
    lengths = np.bincount(found.walk, minlength=rewards.size)
    weights = item_weights(lengths, config.objective.mean, config.max_steps)
    expert, lesson = lessons(atlas, episodes, found.rows)
    values = {name: float(scores[name].mean()) for name in _WATCHED}
    values["reward"] = float(rewards.mean())
    values["equal_groups"] = float((rewards.max(1) == rewards.min(1)).mean())
    values["states"] = len(found.rows) / max(1, int(found.visits.sum()))
    return Walked(
        episodes=episodes,
        rows=found.rows,
        shared=found.shared,
        row=found.row,
        slot=found.slot,
        advantage=advantages.ravel()[found.walk],
        weight=weights[found.walk],
        expert=np.where(lesson, expert, IGNORED),
        expert_weight=found.visits / rewards.size,
        values=values,
    )


def lessons(atlas: Atlas, episodes: Sequence[Episode], rows: MapRows) -> tuple[Ints, np.ndarray]:
    """Return the expert's slots [R], and where it has something to say [R].

    It has not where the goal was left behind: it may not be chosen again.
    """
    goals = goal_nodes(reference_nodes(atlas, episodes))
    goal = goals[rows.agent]
    passed = ((rows.nodes == goal[:, None]) & rows.visited).any(1) & (rows.node != goal)
    return shortest_path_expert(atlas, rows, goals), ~passed


def anchor_loss(output: PackedOutput, batch: Walked) -> tuple[Tensor, float]:
    """Return DAgger's loss in the states of the walks, and how often the best choice is right.

    Loss = mean over walks of the sum over their states of CE(logits, expert).
    """
    losses, right, asked = [], 0.0, 0
    for index, logits in output.fused():
        label = torch.from_numpy(batch.expert[index]).to(logits.device)
        weight = torch.from_numpy(batch.expert_weight[index]).to(logits.device, torch.float32)
        each = functional.cross_entropy(
            logits.float(), label, reduction="none", ignore_index=IGNORED
        )
        losses.append((each * weight).sum())
        right += float((logits.detach().argmax(1) == label).sum())
        asked += int((label != IGNORED).sum())
    return torch.stack(losses).sum(), right / max(1, asked)


def cut(batch: Walked, count: int) -> list[Walked]:
    """Cut a batch into up to `count` groups of episodes; losses and gradients add up to its own."""
    if count == 1:
        return [batch]
    lengths = np.array([len(e.token_ids or ()) for e in batch.episodes])
    groups = np.array_split(np.argsort(lengths, kind="stable"), min(count, len(lengths)))
    first, *rest = (_take(batch, group) for group in groups)
    silent = dict.fromkeys(batch.values, 0.0)  # metrics of pieces are added
    return [first, *(replace(piece, values=silent) for piece in rest)]


def _take(batch: Walked, group: Ints) -> Walked:
    rows = np.flatnonzero(np.isin(batch.rows.agent, group))
    place = np.full(len(batch.rows) + 1, -1)  # the last: rows that pad trails
    place[rows] = np.arange(len(rows))
    number = np.full(len(batch.episodes), -1)
    number[group] = np.arange(len(group))
    chosen = batch.rows.select(rows)
    chosen = MapRows(**(vars(chosen) | {"agent": number[chosen.agent]}))
    items = np.flatnonzero(place[batch.row] >= 0)
    kept, every = torch.from_numpy(items), torch.from_numpy(rows)
    return replace(
        batch,
        episodes=tuple(batch.episodes[i] for i in group),
        rows=chosen,
        shared=shared_looks(chosen, place[batch.shared.trail[rows]]),
        row=place[batch.row[items]],
        slot=batch.slot[items],
        advantage=batch.advantage[items],
        weight=batch.weight[items],
        expert=batch.expert[rows],
        expert_weight=batch.expert_weight[rows],
        old=None if batch.old is None else batch.old[kept],
        start=None if batch.start is None else batch.start[every, : chosen.nodes.shape[1]],
    )
