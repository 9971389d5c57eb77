"""Imitation in DUET's way: teacher forcing plus DAgger with an expert, in one packed pass.

Every iteration learns from two batches: demonstrations (the annotated path is followed, labels are
its next nodes) and explorations (actions are drawn from the policy, labels are the expert's).

Legend: B episodes, R rows (decisions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sterna.data.episodes import Episode
from sterna.envs.graph_env import GraphEnv, Panoramas
from sterna.errors import InputError
from sterna.models.agent import Agent, TextReader
from sterna.models.duet import DUET
from sterna.models.text import TextMemory
from sterna.models.topomap import MapRows, TopoMap
from sterna.models.walk import MAX_STEPS, Choose, Walk, sample_with, walk
from sterna.train.experts import (
    follow_path,
    goal_nodes,
    ndtw_expert,
    reference_nodes,
    shortest_path_expert,
)
from sterna.train.grounding import IGNORED, grounding_loss, object_targets
from sterna.train.packed import Bucket, PackedOutput, buckets, packed_pass
from sterna.train.task import TaskOutput
from sterna.world.geometry import Floats, Ints

Expert = Literal["spl", "ndtw"]


@dataclass(frozen=True, kw_only=True)
class ImitationConfig:
    """How demonstrations and explorations make a loss."""

    ml_weight: float = 0.2
    """Weight of the demonstrations beside explorations (DUET 0.2, ScaleVLN 0.15)."""
    expert: Expert = "spl"
    """Labels of explorations: shortest way over the map to the goal, or best nDTW."""
    demonstrate: Literal["path", "expert"] = "path"
    """What demonstrations follow: the annotated path (R2R), or expert spl to its end (REVERIE)."""
    multi_endpoints: bool = False
    """Each time an episode is walked, any one of its goals is its goal, and the path a shortest one
    to it (REVERIE); off, or without goals: the end of the annotated path."""
    branches: float = 0.0
    """Factor on the cross entropies of the map's and the panorama's own logits beside that of the
    fused ones: 0 as in DUET's fine-tuning, 1 as in its pre-training. Helps models from scratch."""
    grounding: float = 1.0
    """Factor on the cross entropy of objects beside that of actions, where objects are shown."""
    max_steps: int = MAX_STEPS
    """Decisions an episode at most."""
    explore_with_dropout: bool = False
    """Draw actions from the policy in training mode, as DUET does, not from the policy itself."""
    frozen_language_layers: int = 0
    """Lowest language layers (and word embeddings) that keep their first weights: read once an
    instruction, never trained."""
    buckets: int = 3
    """Groups of similar map size in the packed pass (speed only)."""

    def __post_init__(self) -> None:
        """Check the values."""
        factors = (self.ml_weight, self.grounding, self.branches)
        if not min(factors) >= 0 or self.max_steps < 1 or self.buckets < 1:
            raise InputError(
                "imitation: ml_weight, grounding, branches must be >= 0, max_steps, buckets >= 1; "
                f"found {factors}, {self.max_steps}, {self.buckets}"
            )
        if self.demonstrate not in ("path", "expert"):
            raise InputError(
                f"imitation: demonstrate must be path or expert, found {self.demonstrate!r}"
            )
        if self.expert not in ("spl", "ndtw"):
            raise InputError(f"imitation: expert must be spl or ndtw, found {self.expert!r}")


def check_demonstrations(episodes: Sequence[Episode], config: ImitationConfig) -> None:
    """Raise `InputError` for a path that cannot be demonstrated step by step.

    A decision goes to a node not visited yet, so a path that comes back to one (R4R, players of
    NDH, followers of RxR) has no labels of its own; the expert's way to its end has.
    """
    if config.demonstrate != "path":
        return
    twice = [e.instr_id for e in episodes if len(set(e.path)) < len(e.path)]
    if twice:
        raise InputError(
            f"imitation: {len(twice)} of {len(episodes)} paths visit a viewpoint twice, first that "
            f"of episode {twice[0]}, which no decision says; demonstrate the expert's way to their "
            "ends (--imitation.demonstrate expert)"
        )


@dataclass(frozen=True)
class Recorded:
    """Decisions to learn from: `rows` (agents count through `episodes`), `labels` [R] slots.

    `weight` [R] multiplies each row's cross entropy (roll-out weight / episodes of the roll-out).
    `row_share` [R] and `episode_share` [B] spread the roll-out weight evenly over its rows and over
    its episodes: the weights of means over decisions and over episodes. `taught` [R, 1+M] are a
    teacher's fused logits, where there is one that has seen the rows (on the CPU, float32, -inf
    where closed or padded), `taught_objects` [R, 1+T] its object logits (-inf elsewhere). `read`
    are instructions that are read beside them, without a walk, `swapped` such with words that
    nobody said. Where the rows are `unlabelled`, a teacher alone says what is right.
    """

    episodes: tuple[Episode, ...]
    rows: MapRows
    labels: Ints
    weight: Floats
    row_share: Floats
    episode_share: Floats
    taught: Tensor | None = None
    taught_objects: Tensor | None = None
    read: tuple[Episode, ...] = ()
    swapped: tuple[Episode, ...] = ()
    unlabelled: bool = False


def record(
    panoramas: Panoramas,
    episodes: Sequence[Episode],
    choose: Choose | None,
    *,
    agent: Agent | None = None,
    text: TextMemory | None = None,
    config: ImitationConfig,
) -> tuple[MapRows, Ints, Walk]:
    """Walk episodes and label every decision; returns rows, labels [R] and the walk.

    Without `choose` demonstrations are walked, and the steps they take are the labels (see
    `ImitationConfig.demonstrate`). Otherwise `agent` walks as `choose` says, and the expert labels
    each state. Episodes end on the goal, whatever is chosen, as in DUET's training.
    """
    atlas = panoramas.atlas
    references = reference_nodes(atlas, episodes)
    goals = goal_nodes(references)

    def on_goal(rows: MapRows) -> np.ndarray:
        there: np.ndarray = rows.node == goals[rows.agent]
        return there

    def at_end(rows: MapRows) -> np.ndarray:
        lengths = np.array([len(r) for r in references])
        last: np.ndarray = rows.step + 1 >= lengths[rows.agent]
        return last

    def prepare(topomap: TopoMap) -> None:
        if agent is not None:
            agent.reset(episodes, topomap, text)

    def demonstrate(rows: MapRows, logits: np.ndarray) -> Ints:
        if config.demonstrate == "path":
            return follow_path(rows, references)
        return shortest_path_expert(atlas, rows, goals)

    follow = choose is None
    done = walk(
        agent,
        GraphEnv(panoramas),
        episodes,
        choose or demonstrate,
        max_steps=max(config.max_steps, *map(len, references)) if follow else config.max_steps,
        ends_at=at_end if follow and config.demonstrate == "path" else on_goal,
        keep=True,
        prepare=prepare if agent is not None else None,
    )
    rows = MapRows.concatenate(done.rows)
    if follow:
        return rows, np.concatenate(done.choices), done
    if config.expert == "spl":
        return rows, shortest_path_expert(atlas, rows, goals), done
    walked = [
        np.concatenate([np.array(h, np.int64) for h in done.hops[a][: t + 1]])
        for a, t in zip(rows.agent, rows.step, strict=True)
    ]
    return rows, ndtw_expert(atlas, rows, references, walked), done


class ImitationTask(nn.Module):
    """Imitation of the expert; the policy, its world, and the loss."""

    def __init__(self, policy: DUET, panoramas: Panoramas, config: ImitationConfig) -> None:
        """Own a policy; `panoramas` is the world of the training scans."""
        super().__init__()
        self.policy, self.panoramas, self.config = policy, panoramas, config
        self.table = torch.from_numpy(panoramas.features)
        self.done = 0.0  # share of the run that is behind, for what changes on the way
        self._reader = TextReader(policy, config.frozen_language_layers)
        for parameter in self._reader.parameters():
            parameter.requires_grad_(False)

    def drawn_texts(self, seed: int, iteration: int) -> tuple[Episode, ...]:
        """Return instructions that an iteration reads beside its walks: none."""
        return ()

    def swapped_texts(self, seed: int, iteration: int) -> tuple[Episode, ...]:
        """Return such instructions with words that nobody said: none."""
        return ()

    def followed(self, seed: int, iteration: int) -> Recorded | None:
        """Return the walks without labels that an iteration learns from beside its own: none."""
        return None

    def collect(
        self, demonstrations: Sequence[Episode], explorations: Sequence[Episode], draws: Floats
    ) -> Recorded:
        """Record both roll-outs; `draws` [max_steps, B] are uniform numbers for the actions."""
        return self.collect_together([(demonstrations, explorations, draws)])[0]

    def collect_together(
        self, batches: Sequence[tuple[Sequence[Episode], Sequence[Episode], Floats]]
    ) -> list[Recorded]:
        """Record several batches (see `collect`); their explorations are one walk (cheaper).

        Each batch is what `collect` records of it alone, but for rounding.
        """
        every = [episode for _, explorations, _ in batches for episode in explorations]
        walked: list[tuple[MapRows, Ints]] = []
        if every:
            drawn = [draws[:, : len(tried)] for _, tried, draws in batches]
            rows, labels = self._explore(every, np.concatenate(drawn, axis=1))
            walked = _apart(rows, labels, [len(tried) for _, tried, _ in batches])
        out = []
        for number, (demonstrations, explorations, draws) in enumerate(batches):
            parts: list[tuple[MapRows, Ints, float, int]] = []
            if demonstrations:
                rows, labels, _ = record(self.panoramas, demonstrations, None, config=self.config)
                weight = self.config.ml_weight if explorations else 1.0
                parts.append((rows, labels, weight, len(demonstrations)))
            if explorations:
                parts.append((*walked[number], 1.0, len(explorations)))
            batch = joined((*demonstrations, *explorations), parts)
            out.append(self.corrected(batch, len(demonstrations), draws))
        return out

    def corrected(self, batch: Recorded, demonstrations: int, draws: Floats) -> Recorded:
        """Return a new batch as it is to be learnt from; its first episodes are demonstrations."""
        return batch

    def _explore(self, episodes: Sequence[Episode], draws: Floats) -> tuple[MapRows, Ints]:
        def choose(rows: MapRows, logits: np.ndarray) -> Ints:
            return sample_with(lambda n: draws[int(rows.step[0]), rows.agent])(rows, logits)

        training = self.policy.training
        self.policy.train(training and self.config.explore_with_dropout)
        with torch.no_grad():
            rows, labels, _ = record(
                self.panoramas,
                episodes,
                choose,
                agent=Agent(self.policy, self.panoramas, cache=False),
                text=self._reader(episodes),
                config=self.config,
            )
        self.policy.train(training)
        return rows, labels

    def prepare(self, batch: Recorded) -> Recorded:
        """Add what is worth computing once to a batch that may be learnt from several times."""
        return batch

    def groups(self, batch: Recorded) -> list[Bucket]:
        """Put the rows of a batch into buckets."""
        tokens = int(self.panoramas.lengths[batch.rows.node].max())
        return list(buckets(batch.rows, tokens, self.config.buckets))

    def run(self, batch: Recorded) -> tuple[PackedOutput, TextMemory, list[Bucket]]:
        """Run the policy over recorded rows, with gradient."""
        text, groups = self._reader(batch.episodes), self.groups(batch)
        output = packed_pass(self.policy, self.panoramas, self.table, text, batch.rows, groups)
        return output, text, groups

    def forward(self, batch: Recorded) -> TaskOutput:
        """Return the imitation loss of recorded rows."""
        output, _, _ = self.run(batch)
        return self.imitate(output, batch)

    def imitate(self, output: PackedOutput, batch: Recorded) -> TaskOutput:
        """Return the loss of actions, plus that of objects where they are shown."""
        loss, right = action_loss(output, batch, self.config.branches)
        metrics = {"action": float(loss.detach()), "agree": right, "rows": float(len(batch.rows))}
        if self.panoramas.object_size is not None and self.config.grounding:
            targets = object_targets(self.panoramas, batch.episodes, batch.rows)
            found = grounding_loss(output, batch, targets)
            metrics["grounding"] = float(found.detach())
            loss = loss + self.config.grounding * found
        return TaskOutput(loss, metrics)


def _apart(rows: MapRows, labels: Ints, counts: Sequence[int]) -> list[tuple[MapRows, Ints]]:
    """Take the rows of a walk of several batches apart; agents count anew in each."""
    ends = np.cumsum(counts)
    out = []
    for first, end in zip(ends - counts, ends, strict=True):
        mine = np.flatnonzero((rows.agent >= first) & (rows.agent < end))
        chosen = rows.select(mine)
        out.append((MapRows(**vars(chosen) | {"agent": chosen.agent - first}), labels[mine]))
    return out


def joined(
    episodes: tuple[Episode, ...], parts: list[tuple[MapRows, Ints, float, int]]
) -> Recorded:
    """Put roll-outs (rows, labels, weight, number of episodes) behind each other."""
    shifted, weights, row_shares, shares, first = [], [], [], [], 0
    for rows, _, weight, count in parts:
        fields = vars(rows) | {"agent": rows.agent + first}
        shifted.append(MapRows(**fields))
        weights.append(np.full(len(rows), weight / count))
        row_shares.append(np.full(len(rows), weight / len(rows)))
        shares.append(np.full(count, weight / count))
        first += count
    return Recorded(
        episodes=episodes,
        rows=MapRows.concatenate(shifted),
        labels=np.concatenate([labels for _, labels, _, _ in parts]),
        weight=np.concatenate(weights),
        row_share=np.concatenate(row_shares),
        episode_share=np.concatenate(shares),
    )


def action_loss(
    output: PackedOutput, batch: Recorded, branches: float = 0.0
) -> tuple[Tensor, float]:
    """Return DUET's loss and the share of decisions that agree with the labels.

    Loss = sum over roll-outs of weight * sum over steps of CE(fused logits, label) / batch size;
    with `branches` times CE(map logits, label) + CE(panorama logits, label) inside the inner sum,
    the latter where the label is STOP or a candidate.
    """
    losses, right = [], 0.0
    for bucket, out in output.parts:
        labels, device = batch.labels[bucket.index], out.fused.device
        weight = torch.from_numpy(batch.weight[bucket.index]).to(device, torch.float32)
        of_map = torch.from_numpy(labels).to(device)
        entropy = _entropy(out.fused, of_map)
        if branches:
            near = torch.from_numpy(local_labels(batch.rows.candidates[bucket.index], labels))
            beside = _entropy(out.global_, of_map) + _entropy(out.local, near.to(device))
            entropy = entropy + branches * beside
        losses.append((entropy * weight).sum())
        right += float((out.fused.detach().argmax(1) == of_map).sum())
    return torch.stack(losses).sum(), right / len(batch.rows)


def _entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits.float(), labels, reduction="none", ignore_index=IGNORED)


def local_labels(candidates: Ints, labels: Ints) -> Ints:
    """Return the panorama's slots of labels [R] on the map: STOP 0, candidate c is c + 1.

    `candidates` [R, C] are map slots (0 pads); a label that is neither becomes `IGNORED`.
    """
    near = candidates == labels[:, None]
    found = np.where(near.any(1), near.argmax(1) + 1, IGNORED)
    slots: Ints = np.where(labels == 0, 0, found)
    return slots
