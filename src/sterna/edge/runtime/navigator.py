"""One agent on its way: it reads an instruction, keeps a map, and says where to go next.

Legend: M map nodes, K slots that may be chosen, D width. Slot 0 of a graph's map axis is STOP, so
node n of the map is slot n + 1 there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sterna.edge.runtime.engine import Array, Engine
from sterna.edge.runtime.panorama import Observation, Tokens, arrival, lay_out
from sterna.edge.runtime.topomap import TopoMap
from sterna.errors import InputError
from sterna.world.geometry import Ints

AHEAD = 4
"""Places whose panoramas `Navigator.look_ahead` keeps at most; the oldest are dropped."""

STOP_POSITION = np.array([0, 1, 0, 1, 0, 0, 0], np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """What the policy makes of one observation.

    `logits` and `probabilities` [K], STOP first, then the nodes `choices` [K - 1] (slots of the
    map), those seen and not yet visited. `object_id` is the best object in sight, None without.
    """

    logits: Array
    probabilities: Array
    choices: Ints
    object_id: int | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do now.

    `stop` ends the episode. `path` are the nodes to walk through, in order; it ends at `target`
    and is empty where the agent already stands there. After a stop it leads back to the visited
    node where stopping seemed best, as DUET's walks end. `probability` is that of the choice, among
    STOP and `probabilities` (every node that could be chosen). `reason` tells why an episode
    ended: "chosen", "nothing left" to visit, or "step limit". `object_id` names the object at the
    target of a stop (REVERIE).
    """

    step: int
    node: str
    stop: bool
    target: str
    path: tuple[str, ...]
    probability: float
    stop_probability: float
    probabilities: dict[str, float]
    reason: str = ""
    object_id: int | None = None


class Navigator:
    """A policy that stands somewhere. `start` an instruction, then `step` from view to view.

    The robot decides where it really goes: the next observation may be of any node. The same
    observations give the same decisions.
    """

    def __init__(self, engine: Engine, *, max_steps: int | None = None) -> None:
        """Use an opened engine; `max_steps` decisions an episode (default: the manifest's)."""
        self.engine = engine
        self.max_steps = engine.manifest.max_steps if max_steps is None else max_steps
        most = int(engine.manifest.sizes["max_steps"]) - 1
        if not 1 <= self.max_steps <= most:
            raise InputError(f"max_steps: expected 1 to {most}, found {self.max_steps}")
        views = engine.manifest
        self._views = np.asarray(views.headings), np.asarray(views.elevations)
        self._memory: dict[str, Array] | None = None
        self.ended = True

    def start(self, instruction: str | Sequence[int]) -> None:
        """Begin an episode with an instruction, as text or as word ids; the old map is dropped."""
        ids = self.engine.words(instruction) if isinstance(instruction, str) else instruction
        self._memory = self.engine.read(ids)
        self.map, self.ended, self.steps = TopoMap(), False, 0
        self._here = self._first = -1
        self._sums: Array = np.zeros((1, self.engine.width), np.float32)
        self._counts: Array = np.ones((1, 1), np.float32)
        self._stop: list[float] = []
        self._objects: list[int | None] = []
        self._ahead: dict[str, tuple[Tokens, tuple[Array, Array]]] = {}

    def look_ahead(self, seen: Observation) -> None:
        """Encode what will be seen at a node, while the agent is still on its way there.

        `step` with the same observation then finds its panorama encoded; with another it encodes
        anew, so decisions never depend on this call. The map stays as it is. Raises `InputError` as
        `score` does; without a heading the agent is taken to come from the last node of `step`.
        """
        self._check_under_way()
        tokens = self._lay_out(seen, self._arrive(seen))
        self._ahead.pop(seen.node, None)
        self._ahead[seen.node] = tokens, self.engine.look(tokens)
        if len(self._ahead) > AHEAD:
            del self._ahead[next(iter(self._ahead))]

    def step(self, seen: Observation) -> Decision:
        """Take in what is seen and decide; raises `InputError` after the end of an episode."""
        scores = self.score(seen)
        choice = int(scores.logits.argmax())
        reason = self._end(choice, scores)
        self.ended = bool(reason)
        here = self._here
        target = self._best_stop() if reason else int(scores.choices[choice - 1])
        names = self.map.named(scores.choices.tolist())
        chances = scores.probabilities.tolist()
        return Decision(
            step=self.steps - 1,
            node=self.map.names[here],
            stop=self.ended,
            target=self.map.names[target],
            path=self.map.named(self.map.path(here, target)),
            probability=chances[choice],
            stop_probability=chances[0],
            probabilities=dict(zip(names, chances[1:], strict=True)),
            reason=reason,
            object_id=self._objects[self.map.last_visit[target]] if reason else None,
        )

    def score(self, seen: Observation) -> Scores:
        """Take in what is seen and score STOP and every open node, without deciding.

        Raises `InputError` before `start`, after the end, or for an observation that does not fit.
        """
        self._check_under_way()
        pose = self._arrive(seen)
        tokens = self._lay_out(seen, pose)
        near = self._map(seen)
        panorama, mean = self._look(seen.node, tokens)
        self._remember(near, panorama, mean)
        scores = self._decide(panorama, near, tokens, pose)
        self._stop.append(float(scores.probabilities[0]))
        self._objects.append(scores.object_id)
        self.steps += 1
        return scores

    def _check_under_way(self) -> None:
        if self.ended or self._memory is None:
            raise InputError("navigator: no episode is under way; call start(instruction) first")
        if self.steps >= self.max_steps:
            raise InputError(f"navigator: the episode is {self.max_steps} steps long; start anew")

    def _look(self, node: str, tokens: Tokens) -> tuple[Array, Array]:
        ahead = self._ahead.pop(node, None)
        if ahead is not None and ahead[0].same(tokens):
            return ahead[1]
        return self.engine.look(tokens)

    def _arrive(self, seen: Observation) -> tuple[float, float]:
        """Return the pose; where it is not told, that of the last hop, as in training."""
        if seen.heading is not None:
            return seen.heading, seen.elevation
        here = self.map.slot.get(seen.node, -1)
        if here < 0 or self._here in (-1, here):
            raise InputError(
                f"node {seen.node!r}: give a heading; it follows from the last hop only where the "
                "agent came from another node over known edges"
            )
        way = [self._here, *self.map.path(self._here, here)]
        return arrival(self.map.positions[here] - self.map.positions[way[-2]])

    def _lay_out(self, seen: Observation, pose: tuple[float, float]) -> Tokens:
        headings, elevations = self._views
        if seen.view_headings is not None:
            headings = np.asarray(seen.view_headings, np.float64)
            level = np.zeros(len(headings))
            tilt = seen.view_elevations
            elevations = level if tilt is None else np.asarray(tilt, np.float64)
        sizes = self.engine.feature_size, self.engine.object_size
        return lay_out(seen, headings, elevations, pose, sizes)

    def _map(self, seen: Observation) -> Ints:
        """Put the node and its neighbours on the map; returns the neighbours' slots."""
        names = {n.name for n in seen.neighbours}
        if len(names) != len(seen.neighbours) or seen.node in names:
            raise InputError(f"node {seen.node!r}: its neighbours must differ, and from itself")
        self._here = self.map.add_node(seen.node, seen.position)
        if self._first < 0:
            self._first = self._here
        slots = [self.map.add_node(n.name, n.position) for n in seen.neighbours]
        for slot, near in zip(slots, seen.neighbours, strict=True):
            self.map.add_edge(self._here, slot, near.distance)
        self.map.visit(self._here, self.steps)
        return np.array(slots, np.int64)

    def _remember(self, near: Ints, panorama: Array, mean: Array) -> None:
        """Keep node features: a visited node its panorama's mean, others a running mean.

        Row 0 is STOP's, and stays zero.
        """
        if (extra := 1 + len(self.map) - len(self._sums)) > 0:
            width = self._sums.shape[1]
            self._sums = np.concatenate([self._sums, np.zeros((extra, width), np.float32)])
            self._counts = np.concatenate([self._counts, np.zeros((extra, 1), np.float32)])
        self._sums[1 + self._here], self._counts[1 + self._here] = mean, 1.0
        fresh = np.flatnonzero(self.map.last_visit[near] < 0)
        self._sums[1 + near[fresh]] += panorama[fresh]
        self._counts[1 + near[fresh]] += 1.0

    def _decide(
        self, panorama: Array, near: Ints, tokens: Tokens, pose: tuple[float, float]
    ) -> Scores:
        first_object = len(tokens.views)
        read = np.arange(1 + len(near)), 1 + first_object + np.arange(len(tokens.ids))
        feed = self._map_inputs(near, pose)
        feed |= {"panorama": panorama, "near": np.concatenate(read)}
        logits, of_near = self.engine.decide(feed)
        chances = np.exp(logits - logits.max())
        best = None
        if of_near is not None and len(tokens.ids):
            best = int(tokens.ids[of_near[1 + len(near) :].argmax()])
        return Scores(
            logits=logits,
            probabilities=chances / chances.sum(),
            choices=feed["choices"][1:] - 1,
            object_id=best,
        )

    def _map_inputs(self, near: Ints, pose: tuple[float, float]) -> dict[str, NDArray[Any]]:
        last = self.map.last_visit
        positions = self.map.seen_from(self._here, *pose)
        between = self.map.distances
        distances = np.zeros((1 + len(last), 1 + len(last)), np.float32)
        distances[1:, 1:] = np.where(np.isfinite(between), between, 0.0)
        local = np.zeros((1 + len(near), 14), np.float32)
        local[:, :7] = positions[self._first]
        local[1:, 7:] = positions[near]
        visited = np.concatenate([[False], last >= 0])
        assert self._memory is not None
        return {
            **self._memory,
            "local_positions": local,
            "candidates": near + 1,
            "features": self._sums / np.maximum(self._counts, 1.0),
            "steps": np.concatenate([[0], last + 1]),
            "positions": np.concatenate([STOP_POSITION[None], positions]),
            "distances": distances,
            "visited": visited,
            "choices": np.flatnonzero(~visited & np.concatenate([[True], self._reached()])),
        }

    def _end(self, choice: int, scores: Scores) -> str:
        if not len(scores.choices):
            return "nothing left"
        if choice == 0:
            return "chosen"
        return "step limit" if self.steps == self.max_steps else ""

    def _reached(self) -> NDArray[np.bool_]:
        """Say which nodes a known way leads to; not all, where the robot was carried somewhere."""
        reached: NDArray[np.bool_] = np.isfinite(self.map.distances[self._here])
        return reached

    def _best_stop(self) -> int:
        """Return the visited node where STOP was likeliest at its last visit, the first on ties."""
        last = self.map.last_visit
        slots = np.flatnonzero((last >= 0) & self._reached())
        slots = slots[np.argsort(last[slots], kind="stable")]
        return int(slots[np.array(self._stop)[last[slots]].argmax()])
