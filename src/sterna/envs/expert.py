"""The expert that labels walks: the shortest-path follower along each episode's route, in batches.

A state is a position, a heading and a stage: which target of the route is next. What the expert
does depends on nothing else, so a state's next actions can be worked out from anywhere.

Legend: n states, E episodes, n_max actions ahead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from sterna.data.episodes import Episode
from sterna.envs.continuous import Ground
from sterna.errors import InputError
from sterna.metrics.protocol import Protocol
from sterna.world.follower import TURN_COST, follow
from sterna.world.frames import Action, turned
from sterna.world.geometry import Floats, Ints

Route = Literal["goal", "waypoints"]

NEAR = 0.5  # metres from a waypoint at which a walker turns to the next
_ASIDE = 1.0  # metres a target may be moved to where an agent can stand
_AT_ONCE = 256  # states looked ahead from at a time; bounds memory


class States(NamedTuple):
    """Where agents stand: `episode` [n] numbers, positions [n, 3], headings [n], `stage` [n]."""

    episode: Ints
    position: Floats
    heading: Floats
    stage: Ints

    def take(self, rows: Ints) -> States:
        """Return some of them."""
        return States(self.episode[rows], self.position[rows], self.heading[rows], self.stage[rows])


class Expert:
    """Walks episodes the way their instructions mean.

    `route` "goal": the shortest way to the first goal, as `HouseEnv.expert_action`; "waypoints":
    past every waypoint to within 0.5 m, then to the last, as the reference trajectories of houses.
    `InputError` for an episode without such points, or with one where no agent can stand.
    """

    def __init__(
        self,
        grounds: Mapping[str, Ground],
        protocol: Protocol,
        episodes: Sequence[Episode],
        *,
        route: Route = "goal",
        stop_within: float = 0.25,
        turn_cost: float = TURN_COST,
    ) -> None:
        if protocol.forward_step is None or protocol.turn_angle is None or protocol.sliding is None:
            raise InputError(f"protocol {protocol.name}: it does not say how to move")
        self.forward_step, self.sliding = protocol.forward_step, protocol.sliding
        self.turn_angle, self.stop_within = math.radians(protocol.turn_angle), stop_within
        self.turn_cost = turn_cost
        targets = [_targets(grounds, episode, route) for episode in episodes]
        self.last = np.array([len(t) - 1 for t in targets])
        # Routes are padded with their ends.
        longest = int(self.last.max(initial=0)) + 1
        self.targets = np.array(
            [[*t, *[t[-1]] * (longest - len(t))] for t in targets], np.float64
        ).reshape(-1, longest, 3)
        names = [episode.scan for episode in episodes]
        scans = list(dict.fromkeys(names))
        self._grounds = [grounds[scan] for scan in scans]
        self._scan = np.array([scans.index(name) for name in names])

    def act(self, states: States) -> tuple[Ints, Ints]:
        """Return the expert's actions [n], and the stage [n] that each state thereby is at."""
        stage = self._arrived(states)
        actions = self._follow(states, stage, np.arange(len(stage)))
        while True:
            # No step brings it nearer to this waypoint: the next one.
            stuck = np.flatnonzero((actions == Action.STOP) & (stage < self.last[states.episode]))
            if not len(stuck):
                return actions, stage
            stage[stuck] += 1
            stage[stuck] = self._arrived(states.take(stuck)._replace(stage=stage[stuck]))
            actions[stuck] = self._follow(states, stage, stuck)

    def ahead(self, states: States, n_max: int) -> Ints:
        """Return the expert's next actions [n, n_max] from each state; STOP after a STOP."""
        out = np.full((len(states.stage), n_max), Action.STOP, np.int64)
        for first in range(0, len(out), _AT_ONCE):
            rows = np.arange(first, min(first + _AT_ONCE, len(out)))
            self._look(states.take(rows), out[first : first + _AT_ONCE])
        return out

    def _look(self, states: States, out: Ints) -> None:
        rows = np.arange(len(out))
        for k in range(out.shape[1]):
            actions, stage = self.act(states)
            out[rows, k] = actions
            going = np.flatnonzero(actions != Action.STOP)
            rows, actions = rows[going], actions[going]
            if not len(rows) or k + 1 == out.shape[1]:
                return
            states = self._step(states.take(going)._replace(stage=stage[going]), actions)

    def _step(self, states: States, actions: Ints) -> States:
        heading = np.where(
            actions >= Action.LEFT,
            turned(states.heading, actions, self.turn_angle),
            states.heading,
        )
        position = states.position.copy()
        forward = actions == Action.FORWARD
        for ground, members in self._by_ground(states.episode):
            moving = members[forward[members]]
            if len(moving):
                position[moving] = ground.move(
                    position[moving], heading[moving], self.forward_step, sliding=self.sliding
                ).positions
        return states._replace(position=position, heading=heading)

    def _by_ground(self, episode: Ints) -> list[tuple[Ground, Ints]]:
        scan = self._scan[episode]
        return [(self._grounds[s], np.flatnonzero(scan == s)) for s in np.unique(scan).tolist()]

    def _arrived(self, states: States) -> Ints:
        """Pass the waypoints that are reached."""
        stage, rows = states.stage.copy(), np.arange(len(states.stage))
        while True:
            rows = rows[stage[rows] < self.last[states.episode[rows]]]
            if len(rows):
                rows = rows[self._left(states, stage, rows) < NEAR]
            if not len(rows):
                return stage
            stage[rows] += 1

    def _left(self, states: States, stage: Ints, rows: Ints) -> Floats:
        """Geodesic metres to the next targets, of some rows."""
        goals = self.targets[states.episode[rows], stage[rows]]
        out = np.empty(len(rows))
        for ground, members in self._by_ground(states.episode[rows]):
            out[members] = ground.distances(states.position[rows[members]], goals[members])
        return out

    def _follow(self, states: States, stage: Ints, rows: Ints) -> Ints:
        goals = self.targets[states.episode[rows], stage[rows]]
        out = np.empty(len(rows), np.int64)
        for ground, members in self._by_ground(states.episode[rows]):
            out[members] = follow(
                ground,
                states.position[rows[members]],
                states.heading[rows[members]],
                goals[members],
                forward_step=self.forward_step,
                turn_angle=self.turn_angle,
                sliding=self.sliding,
                stop_within=self.stop_within,
                turn_cost=self.turn_cost,
            )
        return out


def _targets(grounds: Mapping[str, Ground], episode: Episode, route: Route) -> list[Floats]:
    points = episode.waypoints[1:] if route == "waypoints" else episode.goal_positions[:1]
    if not points:
        raise InputError(
            f"episode {episode.instr_id}: the expert needs "
            + ("waypoints behind the start" if route == "waypoints" else "a goal")
        )
    snapped = [grounds[episode.scan].snap(point) for point in points]
    for point, place in zip(points, snapped, strict=True):
        if np.linalg.norm(place - point) > _ASIDE:
            raise InputError(
                f"episode {episode.instr_id}: no agent can stand within {_ASIDE} m of {point}"
            )
    return snapped


Walked = tuple[States, Ints, Ints]


def labels(expert: Expert, walks: Sequence[Walked], n_max: int) -> list[Ints]:
    """Return for each walk the expert's next actions [T, n_max] from its T states.

    A walk is its states in order (with the stages that `Expert.act` gave back), the actions taken
    [T], and the expert's own there [T]. Where the two agree the rest follows from the next state,
    so only where a walk left the expert's way is looked ahead anew, for all walks at once.
    """
    own = [_off(taken, first) for _, taken, first in walks]
    parts = [states.take(rows) for (states, _, _), rows in zip(walks, own, strict=True)]
    every = States(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    looked = expert.ahead(every, n_max)
    ends = np.cumsum([len(rows) for rows in own])
    out = []
    for (_, _, first), rows, end in zip(walks, own, ends.tolist(), strict=True):
        table = np.full((len(first), n_max), Action.STOP, np.int64)
        table[rows] = looked[end - len(rows) : end]
        known = np.zeros(len(first), bool)
        known[rows] = True
        for t in np.flatnonzero(~known)[::-1].tolist():
            table[t, 0] = first[t]
            if first[t] != Action.STOP:
                table[t, 1:] = table[t + 1, :-1]
        out.append(table)
    return out


def _off(taken: Ints, first: Ints) -> Ints:
    """Steps whose labels do not follow from the step after."""
    off = taken != first
    if len(off) and first[-1] != Action.STOP:
        off[-1] = True  # the walk was cut off here
    return np.flatnonzero(off)


def windows(actions: Ints, n_max: int) -> Ints:
    """Return the actions [T, n_max] from each step of a walk [T] on; STOP behind its end."""
    padded = np.append(actions, np.full(n_max, Action.STOP, np.int64))
    return np.lib.stride_tricks.sliding_window_view(padded, n_max)[: len(actions)].copy()
