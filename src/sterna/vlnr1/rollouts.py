"""Closed-loop GRPO of a navigator: groups of walks from one start, judged by where they went.

All walks of a batch go on side by side, so that each generation serves every walk that needs an
answer. What a walk was asked, what it was shown and what it said is kept; each answer of a walk
then has the advantage of the walk.

Legend: B episodes, G walks an episode, N = B G walks, n actions an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sterna.data.ego.samples import PREVIOUS
from sterna.data.episodes import Episode
from sterna.envs.continuous import ContinuousNavEnv
from sterna.envs.crowd import Crowd, walk_crowd
from sterna.errors import InputError
from sterna.metrics import Protocol, Trace, continuous_scores
from sterna.models.navigator.agent import ActingConfig, NavigatorAgent, Observation
from sterna.models.navigator.generation import sample
from sterna.train.loop import LoopConfig, Runner
from sterna.train.schedule import OptimizerConfig
from sterna.vlnr1.answers import Answered, AnswersConfig, AnswersTask, cut, weighted
from sterna.vlnr1.objective import group_advantages
from sterna.vlnr1.offline import check_loop, draw_seed
from sterna.vlnr1.rewards import stack_answers
from sterna.vlnr1.walks import WalkReward, walk_rewards
from sterna.world.frames import Action
from sterna.world.geometry import Floats, Ints
from sterna.world.space import sample_path
from sterna.world.talk.images import Grid
from sterna.world.talk.memory import history

_WATCHED = ("SR", "SR_1m", "SPL", "NE", "nDTW", "OSR", "steps", "collisions")
"""Scores of the drawn walks that a run logs."""
_DRAWS = 6000
"""Stream of the draws that answers come from."""


@dataclass(frozen=True)
class _Asked:
    """A question of a walk; see `prompts.Asked`."""

    instruction: str
    history: Ints
    previous: Ints


@dataclass
class Kept:
    """Everything that was asked and said: one entry a question, features one entry a frame."""

    slots: list[int] = field(default_factory=list)
    questions: list[_Asked] = field(default_factory=list)
    shown: list[Ints] = field(default_factory=list)
    tokens: list[tuple[int, ...]] = field(default_factory=list)
    actions: list[Ints | None] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)
    size: Grid = (0, 0)


class KeepingAgent(NavigatorAgent):
    """Acts by drawn answers, and keeps what it was asked and what it said."""

    def __init__(self, task: AnswersTask, execute: int | None, seed: int) -> None:
        """Act with a task's policy, as the task draws answers."""
        acting = ActingConfig(
            execute=execute,
            constrained=task.config.constrained,
            temperature=task.config.temperature,
            seed=seed,
        )
        super().__init__(task.policy, acting)
        self.kept = Kept()
        self._numbers: dict[int, list[int]] = {}

    def _see(self, slots: Sequence[int], observations: Sequence[Observation | None]) -> None:
        super()._see(slots, observations)
        for slot in slots:
            self._numbers.setdefault(slot, []).append(len(self.kept.features))
            self.kept.features.append(self._slots[slot].features[-1])

    def _ask(self, slots: Sequence[int], observations: Sequence[Observation | None]) -> None:
        memory, kept = self.navigator.history, self.kept
        first = len(kept.questions)
        for slot in slots:
            taken = self._slots[slot].taken
            past = history(len(taken), memory.kind, memory.budget)
            previous = np.array(taken[-PREVIOUS:], np.int64)
            kept.questions.append(_Asked(self._slots[slot].instruction, past, previous))
            numbers = self._numbers[slot]
            kept.shown.append(np.array([*(numbers[i] for i in past), numbers[len(taken)]]))
        seen = observations[slots[0]]
        assert seen is not None
        kept.size = (int(seen["rgb"].shape[0]), int(seen["rgb"].shape[1]))
        index = np.concatenate(kept.shown[first:])
        batch = self.navigator.batch(
            kept.questions[first:],
            kept.size,
            features=torch.stack([kept.features[i] for i in index]),
        )
        answers = sample(
            self.navigator,
            batch,
            generator=self._draws,
            temperature=self.config.temperature,
            constrained=self.config.constrained,
        )
        for row, (slot, text) in enumerate(zip(slots, answers.texts, strict=True)):
            actions = self.navigator.wording.parse(text)
            self.asked += 1
            self.unread += actions is None
            planned = [int(Action.FORWARD)] if actions is None else actions[: self.execute].tolist()
            self._slots[slot].planned = planned
            kept.slots.append(slot)
            kept.tokens.append(tuple(answers.tokens(row)))
            kept.actions.append(actions)


def walk_all(
    agent: KeepingAgent,
    envs: Sequence[ContinuousNavEnv],
    episodes: Sequence[Episode],
    protocol: Protocol,
) -> list[Trace]:
    """Walk episode i in environment i, all side by side, to their ends; return the traces [N].

    They are compared with the annotated waypoints, or else the shortest way, with points in between
    as far apart as forward steps. `InputError` for a protocol of navigation graphs.
    """
    if protocol.forward_step is None:
        raise InputError(f"protocol {protocol.name} is not for continuous space")
    seen: list[Any] = []
    logs: list[_Log] = []
    for env, episode in zip(envs, episodes, strict=True):
        first, info = env.reset(options={"instr_id": episode.instr_id})
        seen.append(first)
        logs.append(_Log(env, episode, info, protocol.forward_step))
    active = np.ones(len(envs), bool)
    agent.reset(range(len(envs)), seen)
    while active.any():
        actions = agent.act(seen, active)
        for slot in np.flatnonzero(active).tolist():
            seen[slot], _, ended, cut_off, info = envs[slot].step(int(actions[slot]))
            logs[slot].add(envs[slot], int(actions[slot]), info)
            active[slot] = not (ended or cut_off)
    return [log.trace() for log in logs]


class _Log:
    """Where one walk has been."""

    def __init__(
        self, env: ContinuousNavEnv, episode: Episode, info: dict[str, Any], step: float
    ) -> None:
        self.episode = episode
        self.places = [np.asarray(env.pose().position, np.float64)]
        self.to_goal = [float(info["distance_to_goal"])]
        self.collisions, self.stopped = 0, False
        corners = np.array(episode.waypoints)
        if not episode.waypoints:
            goal = env.snap(np.array(episode.goal_positions[0]))
            corners = env.shortest_path(self.places[0], goal)
        self.reference = sample_path(corners, step)

    def add(self, env: ContinuousNavEnv, action: int, info: dict[str, Any]) -> None:
        self.places.append(np.asarray(env.pose().position, np.float64))
        self.to_goal.append(float(info["distance_to_goal"]))
        self.collisions += bool(info["collided"])
        self.stopped = action == Action.STOP

    def trace(self) -> Trace:
        length = self.episode.distance
        return Trace(
            name=self.episode.instr_id,
            positions=np.array(self.places),
            to_goal=np.array(self.to_goal),
            stopped=self.stopped,
            reference=self.reference,
            geodesic=self.to_goal[0] if length is None else float(length),
            collisions=self.collisions,
        )


def scores_of(traces: Sequence[Trace], group: int, protocol: Protocol) -> dict[str, Floats]:
    """Score N walks as the protocol's evaluator does, [B, G]; beside it `progress`.

    Progress is the share of the geodesic distance to the goal that was covered, at least -1.
    """
    scores = continuous_scores(traces, protocol)
    first = np.array([trace.to_goal[0] for trace in traces])
    covered = (first - scores["NE"]) / np.maximum(first, 1e-9)
    scores["progress"] = np.where(first > 0, np.maximum(covered, -1.0), scores["SR"])
    return {name: values.reshape(-1, group) for name, values in scores.items()}


def judged(
    agent: KeepingAgent, scores: dict[str, Floats], reward: WalkReward, config: AnswersConfig
) -> Answered:
    """Return all answers of N walks with the advantages of their walks; `scores` are [B, G]."""
    kept, n = agent.kept, agent.navigator.wording.actions
    values = walk_rewards(scores, reward)
    advantage = group_advantages(values, config.objective.scale).ravel()
    walk = np.array(kept.slots)
    watched = {name: float(scores[name].mean()) for name in _WATCHED if name in scores}
    watched |= {
        "reward": float(values.mean()),
        "read": 1.0 - agent.unread / max(1, agent.asked),
        "equal_groups": float((values.max(1) == values.min(1)).mean()),
        "answers": len(walk) / values.size,
    }
    given = Answered(
        questions=tuple(kept.questions),
        images=torch.stack(kept.features),
        size=kept.size,
        shown=tuple(kept.shown),
        question=np.arange(len(walk)),
        tokens=tuple(kept.tokens),
        actions=stack_answers(kept.actions, n),
        advantage=advantage[walk],
        weight=np.zeros(len(walk)),
        values=watched,
    )
    items = [n if config.constrained else len(tokens) for tokens in kept.tokens]
    longest = int(np.bincount(walk, items).max())
    return weighted(given, walk, values.size, config, longest=longest)


MakeEnvs = Callable[[int], Sequence[ContinuousNavEnv] | Crowd]
"""Makes that many environments, each of which knows all episodes; or a crowd in houses."""


class RolloutRunner(Runner):
    """Runs closed-loop GRPO of a navigator; see `Runner`. An iteration is one optimiser step.

    The vision tower stays frozen: a walk keeps what it saw, not its pictures. The training state is
    written where a batch of walks has been learnt from to the end.
    """

    def __init__(
        self,
        task: AnswersTask,
        make_envs: MakeEnvs,
        protocol: Protocol,
        reward: WalkReward,
        episodes: Sequence[Episode],
        folder: str | Path,
        loop: LoopConfig,
        optimizer: OptimizerConfig,
        *,
        execute: int | None = None,
        **more: Any,
    ) -> None:
        """Prepare a run in `folder`; `execute` actions of an answer are done before looking again.

        `InputError` for settings that do not fit one another, and for a tower that is trained.
        """
        check_loop(loop, task.config)
        if not task.policy.frozen_tower:
            raise InputError("grpo: walks keep what a frozen tower saw; freeze the vision tower")
        super().__init__(task, episodes, folder, loop, optimizer, **more)
        self.task, self.protocol, self.reward, self.execute = task, protocol, reward, execute
        here = loop.batch_size // self.accelerator.num_processes
        envs = make_envs(here * task.config.objective.group)
        self.envs = envs if isinstance(envs, Crowd) else list(envs)
        self._batch: Answered | None = None

    @property
    def cycle(self) -> int:
        """Iterations that learn from the same walks."""
        return self.task.config.updates

    def _pieces(self, iteration: int) -> Sequence[Answered]:
        turn, again = divmod(iteration, self.cycle)
        if not again:
            with self.accelerator.autocast():
                self._batch = self._walk(turn)
            # The walkers are the policy itself: its ratios are 1, not 1 to within rounding.
            return cut(replace(self._batch, old=None), self.loop.pieces)
        assert self._batch is not None
        return cut(self._batch, self.loop.pieces)

    def agent_of(self, turn: int) -> KeepingAgent:
        """Return who walks a batch."""
        seed = draw_seed(self.loop.seed, _DRAWS + self.accelerator.process_index, turn)
        return KeepingAgent(self.task, self.execute, seed)

    def _walk(self, turn: int) -> Answered:
        group, agent = self.task.config.objective.group, self.agent_of(turn)
        episodes = [e for e in self.shown[turn] for _ in range(group)]
        if isinstance(self.envs, Crowd):
            walk_crowd(agent, self.envs, episodes)
            traces = self.envs.traces()
        else:
            traces = walk_all(agent, self.envs, episodes, self.protocol)
        scores = scores_of(traces, group, self.protocol)
        given = judged(agent, scores, self.reward, self.task.config)
        return self.task.complete(given, self.loop.pieces)
