"""Routed DUET policies: samples to learn from, and an agent that walks with its gates.

Legend: B episodes, R rows (decisions), U units.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sterna.actdistill.adapters.duet import DuetBatch, DuetStack, DuetState
from sterna.actdistill.stack import Decide, Passed, gated
from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.files import read_json, write_json
from sterna.models.agent import Agent
from sterna.models.duet import NavigationOutput
from sterna.models.text import TextMemory
from sterna.models.topomap import MapRows, TopoMap
from sterna.models.walk import Choose, sample_with
from sterna.train.imitation import ImitationConfig, joined, record
from sterna.train.schedule import uniform_draws
from sterna.world.geometry import Floats, Ints

_WALKS = 6000
"""Stream of the draws of recorded walks."""
_TOGETHER = 128
"""Episodes that are recorded side by side."""
_FORMAT = "sterna-actdistill-walks-1"


class WalkSamples:
    """Recorded walks, one sample each: annotated paths, and walks of a policy with expert labels.

    Everything is recorded once, so that a sample is the same whenever it is met. `drawn` are the
    choices of the walks by sample id; one that is `known` is walked again by them, without its
    policy: that takes no time, and is the same walk where rounding is not (other threads, machine).
    """

    def __init__(
        self, panoramas: Panoramas, known: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        """Begin empty, in a world."""
        self.panoramas, self.table = panoramas, torch.from_numpy(panoramas.features)
        self.known: Mapping[str, Sequence[int]] = known or {}
        self.ids: list[str] = []
        self.drawn: dict[str, list[int]] = {}
        self.episodes: list[Episode] = []
        self._rows: list[MapRows] = []
        self._labels: list[Ints] = []

    def __len__(self) -> int:
        """Return the number of walks."""
        return len(self.ids)

    def add_paths(self, episodes: Sequence[Episode], config: ImitationConfig) -> None:
        """Add the demonstrations of episodes."""
        for _, some in _parts(episodes):
            rows, labels, _ = record(self.panoramas, some, None, config=config)
            self._add(some, rows, labels, "path")

    def add_walks(
        self,
        agent: Agent,
        episodes: Sequence[Episode],
        config: ImitationConfig,
        *,
        seed: int = 0,
        number: int = 0,
        name: str = "walk",
    ) -> None:
        """Add walks that a policy draws, labelled by the expert."""
        label = f"{name} {number}"
        for part, some in _parts(episodes):
            ids = [_named(episode, label) for episode in some]
            again = all(one in self.known for one in ids)
            if again:
                choose = _again([self.known[one] for one in ids], ids)
            else:
                draws = uniform_draws(seed, _WALKS + number, part, (config.max_steps, len(some)))
                choose = _drawing(draws)
            with torch.no_grad():
                walker = None if again else agent
                rows, labels, walk = record(
                    self.panoramas, some, choose, agent=walker, config=config
                )
            chosen = np.concatenate(walk.choices)
            for n, one in enumerate(ids):
                self.drawn[one] = chosen[rows.agent == n].tolist()
            self._add(some, rows, labels, label)

    def _add(self, episodes: Sequence[Episode], rows: MapRows, labels: Ints, name: str) -> None:
        for number, episode in enumerate(episodes):
            mine = np.flatnonzero(rows.agent == number)
            chosen = rows.select(mine)
            alone = MapRows(**(vars(chosen) | {"agent": np.zeros(len(mine), np.int64)}))
            self.ids.append(_named(episode, name))
            self.episodes.append(episode)
            self._rows.append(alone)
            self._labels.append(labels[mine])

    def batch(self, index: Sequence[int]) -> DuetBatch:
        """Return walks as a batch; its loss is the mean over walks of the sum over decisions."""
        parts = [(self._rows[i], self._labels[i], 1.0 / len(index), 1) for i in index]
        recorded = joined(tuple(self.episodes[i] for i in index), parts)
        return DuetBatch(recorded, self.panoramas, self.table)


class RoutedAgent(Agent):
    """An `Agent` whose blocks run as the gates say: words once an episode, the rest each decision.

    `open_` [U] counts how often each unit was open, `asked` [U] how often it could have been;
    `spent` [U] are the FLOPs of what ran, `full` [U] what they were with every gate open.
    """

    def __init__(
        self, stack: DuetStack, panoramas: Panoramas, decide: Decide, *, cache: bool = True
    ) -> None:
        """Wrap a stack in eval mode."""
        super().__init__(stack.model, panoramas, cache=cache)
        self.stack, self.decide = stack, decide
        self.open_ = np.zeros(len(stack.units))
        self.asked = np.zeros(len(stack.units))
        self.spent, self.full = np.zeros(len(stack.units)), np.zeros(len(stack.units))
        self._begun = False

    def reset(
        self, episodes: Sequence[Episode], topomap: TopoMap, text: TextMemory | None = None
    ) -> None:
        """Read the instructions with the language blocks that their gates keep."""
        self._begun = False
        with torch.no_grad():
            passed = self._pass(self.stack.reading(episodes), 0)
        self._words: DuetState = passed.state
        empty = TextMemory(self._words.words, self._words.word_mask, (), ())
        super().reset(episodes, topomap, empty)

    def navigate(self, rows: MapRows) -> NavigationOutput:
        """Run one decision of the walking agents; the full output of the model."""
        seen = self._observe(rows)
        agents = torch.from_numpy(rows.agent).to(self.device)
        state = self.stack.deciding(self._words, agents, seen, rows)
        output = self.stack.finish(self._pass(state, 1).state)
        assert isinstance(output, NavigationOutput)
        if output.object_logits is not None:
            self.objects = self._best_objects(rows, output.object_logits)
        return output

    def _pass(self, state: DuetState, phase: int) -> Passed:
        units = self.stack.of_phase(phase)
        for unit in units:
            # Keys and values of the words are made once an episode.
            words = self._begun and unit not in state.memory
            made = self.stack.memory_cost(state) if words else 0.0
            self.full[unit] += self.stack.cost(unit, state) - made
        self._begun = phase == 1

        def meter(unit: int, cost: float) -> None:
            self.spent[unit] += cost

        passed = gated(self.stack, state, self.decide, skip=True, phases=(phase,), meter=meter)
        (gates,) = passed.gates
        self.open_[units] += _summed(gates)
        self.asked[units] += len(gates)
        return passed


def write_walks(file: Path, walks: Mapping[str, Sequence[int]], teacher: str) -> None:
    """Write the choices of walks by sample id (`WalkSamples.drawn`) and whose they are."""
    write_json(file, {"format": _FORMAT, "teacher": teacher, "walks": dict(walks)})


def read_walks(file: Path, teacher: str) -> dict[str, list[int]]:
    """Return what `write_walks` wrote; `InputError` for another file, or another's walks."""
    found = read_json(file)
    walks = found.get("walks") if isinstance(found, dict) else None
    if not isinstance(walks, dict) or found.get("format") != _FORMAT:
        raise InputError(f"{file}: not {_FORMAT}; probe the teacher again")
    for name, chosen in walks.items():
        if not isinstance(chosen, list) or not all(type(one) is int for one in chosen):
            raise InputError(f"{file}: walk {name!r} is no list of choices; probe again")
    if found.get("teacher") != teacher:
        raise InputError(
            f"{file}: walks of another teacher (weights {str(found.get('teacher'))[:12]}, those of "
            f"--teacher are {teacher[:12]}); probe this teacher"
        )
    return walks


def _named(episode: Episode, walk: str) -> str:
    return f"{episode.instr_id} {walk}"


def _drawing(draws: Floats) -> Choose:
    """Return a choice by draws in [0, 1), [steps, B]."""

    def drawn(rows: MapRows, logits: np.ndarray) -> Ints:
        return sample_with(lambda n: draws[int(rows.step[0]), rows.agent])(rows, logits)

    return drawn


def _again(walks: Sequence[Sequence[int]], ids: Sequence[str]) -> Choose:
    """Return a choice by what was chosen before, B walks; `InputError` where it cannot be made."""

    def known(rows: MapRows, logits: np.ndarray) -> Ints:
        out = np.empty(len(rows.agent), np.int64)
        for row, (agent, step) in enumerate(zip(rows.agent, rows.step, strict=True)):
            chosen = walks[agent][step] if step < len(walks[agent]) else -1
            if not 0 <= chosen < rows.mask.shape[1] or not rows.mask[row, chosen]:
                raise InputError(
                    f"recorded walk {ids[agent]!r}: decision {step} cannot be made here; the "
                    "episodes or their world have changed, probe again"
                )
            out[row] = chosen
        return out

    return known


def _parts(episodes: Sequence[Episode]) -> Iterator[tuple[int, Sequence[Episode]]]:
    """Yield episodes in parts that are walked side by side: maps of thousands would fill memory."""
    for number, begin in enumerate(range(0, len(episodes), _TOGETHER)):
        yield number, episodes[begin : begin + _TOGETHER]


def _summed(gates: Tensor) -> np.ndarray:
    total: np.ndarray = gates.double().sum(0).cpu().numpy()
    return total
