"""What one agent did in continuous space, step by step: recorded actions or the follower."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sterna.data.episodes import Episode
from sterna.envs.continuous import Ground
from sterna.envs.walkers import Walkers
from sterna.errors import InputError
from sterna.metrics.protocol import Protocol
from sterna.world.frames import Action
from sterna.world.geometry import Floats, Ints
from sterna.world.space import Bools


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """A walk of A actions; metres, radians.

    `positions` [A + 1, 3] and `headings` [A + 1] are the start and what each action led to,
    `collided` [A] whether it met something. `to_goal` [A + 1] is the geodesic distance to the
    nearest goal, `goals` [k, 3] (nothing and k = 0 in a test split). `reference` [R, 3] is the
    path to compare with.
    """

    episode: Episode
    protocol: Protocol
    actions: Ints
    collided: Bools
    positions: Floats
    headings: Floats
    goals: Floats
    to_goal: Floats | None
    reference: Floats

    @property
    def stopped(self) -> bool:
        """Whether the walk ended by STOP."""
        return len(self.actions) > 0 and int(self.actions[-1]) == Action.STOP

    @property
    def success(self) -> bool | None:
        """Whether it stopped within the protocol's radius; None where the goal is not known."""
        if self.to_goal is None:
            return None
        return self.stopped and bool(self.protocol.near(self.to_goal[-1]))


def record(
    episode: Episode,
    ground: Ground,
    protocol: Protocol,
    actions: Sequence[int] | Ints | None = None,
) -> Recording:
    """Play an episode's `actions`, or let the shortest-path follower walk it (None).

    What follows STOP or the protocol's last step is not played. `InputError` for an episode that
    does not fit the world, or a number that is no action.
    """
    walkers = Walkers({episode.scan: ground}, protocol)
    walkers.reset([episode])
    if actions is None and not math.isfinite(ground.geodesic(walkers.position[0], _goal(walkers))):
        raise InputError(f"episode {episode.instr_id}: no way leads from its start to its goal")
    played, collided, positions, headings = _play(walkers, actions)
    goals = walkers.goals(0) if episode.goal_positions else np.empty((0, 3))
    to_goal = [ground.distances(positions, goal) for goal in goals]
    return Recording(
        episode=episode,
        protocol=protocol,
        actions=played,
        collided=collided,
        positions=positions,
        headings=headings,
        goals=goals,
        to_goal=np.min(to_goal, axis=0) if to_goal else None,
        reference=_reference(episode, ground, positions[0], goals),
    )


def _play(
    walkers: Walkers, actions: Sequence[int] | Ints | None
) -> tuple[Ints, Bools, Floats, Floats]:
    """Walk to the end; returns actions, whether each met something, positions and headings."""
    played, met = list[int](), list[bool]()
    places, headings = [walkers.position[0]], [float(walkers.heading[0])]
    while not walkers.done[0] and (actions is None or len(played) < len(actions)):
        action = walkers.follower_actions()[0] if actions is None else actions[len(played)]
        walkers.step(np.array([action]))
        played.append(int(action))
        met.append(bool(walkers.collided[0]))
        places.append(walkers.position[0])
        headings.append(float(walkers.heading[0]))
    walked = np.array(places), np.array(headings)
    return np.array(played, np.int64), np.array(met, bool), *walked


def _goal(walkers: Walkers) -> Floats:
    goal: Floats = walkers.goals(0)[0]
    return goal


def _reference(episode: Episode, ground: Ground, start: Floats, goals: Floats) -> Floats:
    """Return the annotated waypoints, else the shortest path, else nothing."""
    if episode.waypoints:
        return np.array(episode.waypoints, np.float64)
    return ground.shortest_path(start, goals[0]) if len(goals) else np.empty((0, 3))
