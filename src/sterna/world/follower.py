"""The shortest-path follower: which of VLN-CE's actions brings an agent nearer to its goal."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from sterna.errors import InputError
from sterna.world.frames import Action
from sterna.world.geometry import Floats, Ints
from sterna.world.space import Step

TURN_COST = 0.004  # metres a turn must be worth, unless told otherwise
_GAIN = 1e-3  # metres nearer to the goal that count as progress
_MOVED = 0.01  # metres a first step of two must lead, lest the agent pushes at a wall for ever


class Walkable(Protocol):
    """What a follower asks of a world."""

    def move(
        self, positions: ArrayLike, headings: ArrayLike, distance: float, *, sliding: bool = True
    ) -> Step:
        """Walk; see `sterna.world.space.Space.move`."""

    def distances(self, points: ArrayLike, goal: ArrayLike) -> Floats:
        """Geodesic metres from points [n, 3] to a goal [3], or each to its own [n, 3]."""


def follow(
    space: Walkable,
    positions: ArrayLike,
    headings: ArrayLike,
    goal: ArrayLike,
    *,
    forward_step: float = 0.25,
    turn_angle: float = math.radians(15),
    sliding: bool = True,
    stop_within: float = 0.25,
    turn_cost: float = TURN_COST,
) -> Ints:
    """Return the greedy actions [n] of agents at positions [n, 3] with headings [n].

    Every heading that turns can reach is tried: the best is the one after whose forward step the
    geodesic distance to the goal is least ([3] for all agents, or [n, 3]). The agent turns towards
    it by the shorter side, or goes forward if it has it. Where no step brings it nearer, two steps
    are tried. A turn must be worth `turn_cost` metres. Within `stop_within` metres, or where those
    do not help either, it stops. Angles in radians, lengths in metres. `InputError` if turns do not
    divide a full circle.
    """
    count = round(2 * math.pi / turn_angle)
    if abs(count * turn_angle - 2 * math.pi) > 1e-6:
        raise InputError(
            f"follower: turns of {math.degrees(turn_angle):.3f} degrees do not divide 360"
        )
    p, heading = np.asarray(positions, np.float64), np.asarray(headings, np.float64)
    goals = np.asarray(goal, np.float64)
    each = goals.ndim == 2
    now = space.distances(p, goals)
    turns = np.arange(count)
    turns = np.where(turns > count // 2, turns - count, turns)

    def ends(points: Floats, angles: Floats) -> Floats:
        """Where forward steps from points [m, 3] end, with each of the headings: [m * count, 3]."""
        tried = (angles[:, None] + turns * turn_angle).ravel()
        starts = np.repeat(points, count, axis=0)
        return space.move(starts, tried, forward_step, sliding=sliding).positions

    def left(points: Floats, agents: Ints) -> Floats:
        """Metres left of points, as many for each of some agents, [agents, points each]."""
        own = np.repeat(goals[agents], len(points) // len(agents), axis=0) if each else goals
        return space.distances(points, own).reshape(len(agents), -1)

    reached = ends(p, heading)
    after = left(reached, np.arange(len(p)))
    stuck = np.flatnonzero((after.min(1) > now - _GAIN) & (now >= stop_within))
    if len(stuck):
        first = reached.reshape(len(p), count, 3)[stuck].reshape(-1, 3)
        second = ends(first, np.repeat(heading[stuck], count))
        best = left(second, stuck).reshape(len(stuck), count, count).min(2)
        moved = np.linalg.norm(first.reshape(len(stuck), count, 3) - p[stuck, None], axis=2)
        after[stuck] = np.where(moved > _MOVED, best, np.inf)
    # What brings nothing is no choice, however little it would have to turn.
    after[after > now[:, None] - _GAIN] = np.inf
    chosen = turns[(after + turn_cost * np.abs(turns)).argmin(1)]
    action = np.where(chosen > 0, Action.RIGHT, np.where(chosen < 0, Action.LEFT, Action.FORWARD))
    lost = np.isinf(after.min(1))
    return np.where((now < stop_within) | lost, Action.STOP, action).astype(np.int64)
