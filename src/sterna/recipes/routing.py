"""What ActDistill's commands need of a kind of policy: its stack, its samples, its scores.

A new kind of policy is a `Subject` of its own; everything else (stages, calibration, baselines,
tables) is the same for all.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from sterna.actdistill.adapters.duet import DuetStack
from sterna.actdistill.flops import counted
from sterna.actdistill.stack import Decide, Stack
from sterna.actdistill.stages import Samples
from sterna.actdistill.walking import RoutedAgent, WalkSamples
from sterna.data.episodes import Episode
from sterna.envs.graph_env import GraphEnv, Panoramas
from sterna.files import sha256
from sterna.metrics import score_predictions
from sterna.models.agent import Agent
from sterna.models.duet import DUET
from sterna.models.pretrained import save_pretrained
from sterna.models.topomap import MapRows
from sterna.models.walk import MAX_STEPS, walk
from sterna.recipes.actdistill import DuetAct
from sterna.recipes.policies import check_fit, open_policy, policy_folder
from sterna.recipes.runs import protocol_of
from sterna.recipes.world import World
from sterna.train.evaluate import predict


@dataclass
class Walked:
    """How a policy did: scores, what ran, what it cost."""

    scores: dict[str, dict[str, float | None]]
    """`metrics.result.Estimate`s as JSON values."""
    share: float
    """FLOPs of the units that ran over those of all units on the same rows."""
    flops: float
    """FLOPs of units a decision."""
    open_: list[float]
    """Share of rows for which each unit ran."""
    counted: dict[str, float] = field(default_factory=dict)
    """FLOPs of whole walks, towers and heads included, as counted while they ran."""
    milliseconds: dict[str, float] = field(default_factory=dict)
    """Of a decision at batch 1: median and 95th percentile."""
    per_episode: dict[str, list[float]] = field(default_factory=dict)
    """Some scores episode by episode, in the order of the split, for paired comparisons."""


class Subject(Protocol):
    """A kind of policy."""

    @property
    def stack(self) -> Stack:
        """The teacher."""

    def other(self, folder: Path) -> Stack:
        """Open another policy of this kind, to be scored beside the teacher."""

    def learn(self) -> Samples:
        """Return the samples of both stages."""

    def held_out(self) -> Samples:
        """Return samples that calibrate thresholds and order the baselines."""

    def score(
        self, stack: Stack, decide: Decide, split: str, about: int | None, measured: int
    ) -> Walked:
        """Walk (or answer) a split with a policy; `measured` episodes are timed and counted."""

    def keep(self, stack: Stack, folder: Path, notes: str) -> None:
        """Write the policy without its router, as its own kind is written."""


class DuetSubject:
    """A DUET in the world of a data folder."""

    def __init__(self, config: DuetAct, root: Path) -> None:
        """Open the teacher; `InputError` where it cannot read this world."""
        self.config, self.folder = config, config.need_teacher()
        policy, _ = open_policy(self.folder)
        self.world = World(root, config.data)
        self.stack = self._stack(policy)
        self.known: Mapping[str, Sequence[int]] = {}
        """Walks of the training split that were recorded before; see `WalkSamples`."""
        self._splits: dict[tuple[str, int | None], tuple[list[Episode], Panoramas]] = {}

    def _stack(self, policy: DUET) -> DuetStack:
        found = self.config.imitation
        return DuetStack(policy.eval(), branches=found.branches, grounding=found.grounding)

    @property
    def digest(self) -> str:
        """SHA-256 of the teacher's weights."""
        return sha256(policy_folder(self.folder) / "model.safetensors")

    def other(self, folder: Path) -> DuetStack:
        """Open another policy."""
        return self._stack(open_policy(folder)[0])

    def _open(self, split: str, about: int | None) -> tuple[list[Episode], Panoramas]:
        key = (split, about)
        if key not in self._splits:
            episodes = self.world.episodes(split, about=about)
            panoramas = self.world.panoramas(episodes)
            check_fit(self.stack.model.config, panoramas, episodes, str(self.folder))
            self._splits[key] = episodes, panoramas
        return self._splits[key]

    def _recorded(
        self,
        split: str,
        about: int | None,
        walks: int,
        known: Mapping[str, Sequence[int]] | None = None,
    ) -> WalkSamples:
        episodes, panoramas = self._open(split, about)
        samples = WalkSamples(panoramas, known)
        samples.add_paths(episodes, self.config.imitation)
        agent = Agent(self.stack.eval().model, panoramas, cache=True)
        seed = self.config.loop.seed
        for number in range(walks):
            samples.add_walks(agent, episodes, self.config.imitation, seed=seed, number=number)
        return samples

    def learn(self) -> WalkSamples:
        """Return annotated paths and the teacher's walks of the training split."""
        return self._recorded("train", self.config.episodes, self.config.walks, self.known)

    def add_own(self, samples: WalkSamples, stack: DuetStack, decide: Decide) -> None:
        """Add walks of a student with its gates in the training split, labelled by the expert."""
        episodes, panoramas = self._open("train", self.config.episodes)
        samples.add_walks(
            RoutedAgent(stack.eval(), panoramas, decide),
            episodes,
            self.config.imitation,
            seed=self.config.loop.seed,
            number=self.config.walks,
            name="own",
        )

    def held_out(self) -> WalkSamples:
        """Return the same of the selection split."""
        return self._recorded(self.config.select.split, self.config.held_out, 1)

    def score(
        self, stack: Stack, decide: Decide, split: str, about: int | None, measured: int
    ) -> Walked:
        """Walk a split; the first `measured` episodes again one by one, counted and timed."""
        assert isinstance(stack, DuetStack)
        stack.eval()
        episodes, panoramas = self._open(split, about)
        protocol = protocol_of(self.config.data)
        steps = protocol.max_steps or MAX_STEPS
        with torch.inference_mode():
            agent = RoutedAgent(stack, panoramas, decide)
            size = self.config.select.batch_size
            walks = predict(agent, panoramas, episodes, batch_size=size, max_steps=steps)
        result = score_predictions(walks, episodes, self.world.layout.connectivity, protocol)
        decisions = agent.asked[stack.of_phase(1)[0]]
        return Walked(
            scores={name: dict(vars(found)) for name, found in result.scores.items()},
            share=float(agent.spent.sum() / agent.full.sum()),
            flops=float(agent.spent.sum() / max(1, decisions)),
            open_=(agent.open_ / np.maximum(agent.asked, 1)).tolist(),
            per_episode={n: list((result.per_episode or {}).get(n, ())) for n in ("SR", "SPL")},
            counted=self._counted(stack, panoramas, decide, episodes[:measured], steps),
            milliseconds=_timed(stack, panoramas, decide, episodes[:measured], steps),
        )

    def _counted(
        self,
        stack: DuetStack,
        panoramas: Panoramas,
        decide: Decide,
        episodes: Sequence[Episode],
        steps: int,
    ) -> dict[str, float]:
        """Count whole walks one by one: words, panoramas, blocks and heads."""
        agent = RoutedAgent(stack, panoramas, decide, cache=False)
        if not episodes:
            return {}

        def work() -> None:
            for episode in episodes:
                walk(agent, GraphEnv(panoramas), [episode], max_steps=steps)

        total = counted(stack, work)
        decisions = max(1.0, float(agent.asked[stack.of_phase(1)[0]]))
        return {"flops_per_decision": total / decisions, "decisions": decisions}

    def keep(self, stack: Stack, folder: Path, notes: str) -> None:
        """Write the weights as a saved policy."""
        assert isinstance(stack, DuetStack)
        save_pretrained(stack.model, folder, notes=notes)


def last_of(folder: Path) -> Path:
    """Return a folder of weights, or the `last` of a run."""
    return folder / "last" if (folder / "last").is_dir() else folder


class _Timed(RoutedAgent):
    """Notes the seconds of every decision (the words' share at the first)."""

    def reset(self, *given: Any, **more: Any) -> None:
        began = time.perf_counter()
        super().reset(*given, **more)
        self.late = time.perf_counter() - began

    def act(self, rows: MapRows) -> torch.Tensor:
        began = time.perf_counter()
        out = Agent.act(self, rows)
        self.seconds.append(time.perf_counter() - began + self.late)
        self.late = 0.0
        return out

    seconds: list[float]
    late: float = 0.0


def _timed(
    stack: DuetStack,
    panoramas: Panoramas,
    decide: Decide,
    episodes: Sequence[Episode],
    steps: int,
) -> dict[str, float]:
    """Time decisions at batch 1, a whole decision each, panorama included."""
    if not episodes:
        return {}
    agent = _Timed(stack, panoramas, decide, cache=False)
    agent.seconds = []
    with torch.inference_mode():
        for warm in (True, False):
            for episode in episodes[: 1 if warm else None]:
                walk(agent, GraphEnv(panoramas), [episode], max_steps=steps)
            if warm:
                agent.seconds.clear()
    return percentiles(agent.seconds)


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return median and 95th percentile in milliseconds, and of how many."""
    values = 1000 * np.array(seconds or [0.0])
    return {
        "median": float(np.median(values)),
        "p95": float(np.percentile(values, 95)),
        "n": float(len(seconds)),
    }
