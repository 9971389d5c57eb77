"""Many agents in continuous space at once, as arrays: VLN-CE's actions without any picture.

Legend: n agents, one an episode; T positions walked so far.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from sterna.data.episodes import Episode
from sterna.data.vlnce import Trajectory
from sterna.envs.continuous import Ground
from sterna.errors import EpisodeError, InputError
from sterna.metrics.continuous import Trace
from sterna.metrics.protocol import Protocol
from sterna.world.follower import follow
from sterna.world.frames import Action, Vec3, turned
from sterna.world.geometry import Floats, Ints
from sterna.world.space import Bools, sample_path

_ASIDE = 1.0  # metres a start or a goal may be moved to where the agent can stand


class Walkers:
    """A batch of agents, each with an episode, in the worlds of their scans.

    `position` [n, 3], `heading` [n], `collided` [n] (the last action met something), `stopped` [n],
    `steps` [n] (actions taken), `collisions` [n]. An agent that has stopped, or has used up the
    protocol's steps, is `done` and ignores further actions.
    """

    def __init__(self, grounds: Mapping[str, Ground], protocol: Protocol) -> None:
        """Take the world of every scan; `InputError` for a protocol that does not say how to move.

        `InputError` also if turns or sliding are not fixed.
        """
        if protocol.forward_step is None or protocol.turn_angle is None or protocol.sliding is None:
            raise InputError(
                f"protocol {protocol.name}: it must fix forward_step, turn_angle and sliding to "
                "walk in continuous space"
            )
        self.grounds, self.protocol = grounds, protocol
        self.forward_step, self.sliding = protocol.forward_step, protocol.sliding
        self.turn_angle = math.radians(protocol.turn_angle)

    def reset(self, episodes: Sequence[Episode]) -> None:
        """Put an agent at the start of each episode.

        Starts and goals are drawn to where an agent can stand, by at most 1 m. `InputError` names
        an episode without a position, or in a world that is not given.
        """
        self.episodes = tuple(episodes)
        scans = [episode.scan for episode in self.episodes]
        for episode in self.episodes:
            if episode.scan not in self.grounds:
                raise InputError(f"episode {episode.instr_id}: no world for scan {episode.scan!r}")
        self._groups = [
            (self.grounds[scan], np.flatnonzero([name == scan for name in scans]))
            for scan in dict.fromkeys(scans)
        ]
        self.position = np.array([self._start(episode) for episode in self.episodes])
        self.heading = np.array([episode.heading for episode in self.episodes]) % (2 * math.pi)
        count = len(self.episodes)
        self.collided, self.stopped = np.zeros(count, bool), np.zeros(count, bool)
        self.steps, self.collisions = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self._walked = [self.position]
        self._goals: dict[int, Floats] = {}

    def _start(self, episode: Episode) -> Floats:
        if episode.position is None:
            raise InputError(
                f"episode {episode.instr_id}: it has no position in continuous space; read "
                "episodes of VLN-CE"
            )
        return self._placed(episode, episode.position)

    def _placed(self, episode: Episode, point: Vec3) -> Floats:
        placed = self.grounds[episode.scan].snap(point)
        if np.linalg.norm(placed - point) > _ASIDE:
            raise EpisodeError(
                f"episode {episode.instr_id}: {point} is more than {_ASIDE} m away from where an "
                f"agent can stand in {episode.scan}"
            )
        return placed

    def goals(self, agent: int) -> Floats:
        """Goals [k, 3] of an agent, drawn to where it can stand; `InputError` if it has none."""
        if agent not in self._goals:
            self._goals[agent] = self._find_goals(self.episodes[agent])
        return self._goals[agent]

    def _find_goals(self, episode: Episode) -> Floats:
        if not episode.goal_positions:
            raise InputError(
                f"episode {episode.instr_id}: it has no goal in continuous space; a test split is "
                "scored by its leaderboard"
            )
        return np.array([self._placed(episode, goal) for goal in episode.goal_positions])

    @property
    def done(self) -> Bools:
        """Agents [n] that ignore further actions."""
        limit = self.protocol.max_steps
        return self.stopped | (self.steps >= (np.inf if limit is None else limit))

    def step(self, actions: ArrayLike) -> None:
        """Take one `Action` [n] each; `InputError` for a number that is none."""
        action = np.asarray(actions)
        if ((action < 0) | (action > Action.RIGHT)).any():
            raise InputError(f"walkers: actions are 0 to 3, found {action.min()} to {action.max()}")
        going = ~self.done
        self.stopped = self.stopped | (going & (action == Action.STOP))
        turning = going & (action >= Action.LEFT)
        self.heading = np.where(
            turning, turned(self.heading, action, self.turn_angle), self.heading
        )
        forward = going & (action == Action.FORWARD)
        self.collided = np.where(going, False, self.collided)
        self._advance(forward)
        self.steps = self.steps + going
        self.collisions = self.collisions + (forward & self.collided)
        self._walked.append(self.position)

    def _advance(self, forward: Bools) -> None:
        self.position = self.position.copy()
        for ground, members in self._groups:
            moving = members[forward[members]]
            if len(moving):
                self.position[moving], self.collided[moving] = ground.move(
                    self.position[moving],
                    self.heading[moving],
                    self.forward_step,
                    sliding=self.sliding,
                )

    def follower_actions(self, stop_within: float = 0.25) -> Ints:
        """Actions [n] of the shortest-path follower towards each agent's first goal."""
        actions = np.full(len(self.episodes), Action.STOP, np.int64)
        settings = {"forward_step": self.forward_step, "turn_angle": self.turn_angle}
        going = ~self.done
        goals: dict[tuple[str, tuple[float, ...]], list[int]] = {}
        for i in np.flatnonzero(going).tolist():
            goals.setdefault((self.episodes[i].scan, tuple(self.goals(i)[0])), []).append(i)
        for (scan, goal), members in goals.items():
            actions[members] = follow(
                self.grounds[scan],
                self.position[members],
                self.heading[members],
                goal,
                sliding=self.sliding,
                stop_within=stop_within,
                **settings,
            )
        return actions

    def traces(self, references: Mapping[str, Trajectory] | None = None) -> list[Trace]:
        """What every agent walked, ready for `continuous_scores`.

        `references` are reference trajectories by episode id. Without one of its own an episode is
        compared with its annotated waypoints, and without those with the shortest path, both with
        points in between as far apart as forward steps.
        """
        walked = np.stack(self._walked)  # [T, n, 3]
        known = references or {}
        return [
            self._trace(i, walked[: self.steps[i] + 1, i], known.get(episode.instr_id))
            for i, episode in enumerate(self.episodes)
        ]

    def _trace(self, i: int, positions: Floats, reference: Trajectory | None) -> Trace:
        episode = self.episodes[i]
        ground, goals = self.grounds[episode.scan], self.goals(i)
        to_goal = np.min([ground.distances(positions, goal) for goal in goals], axis=0)
        if reference is not None:
            way = reference.positions
        elif episode.waypoints:
            way = sample_path(np.array(episode.waypoints), self.forward_step)
        else:
            way = sample_path(ground.shortest_path(positions[0], goals[0]), self.forward_step)
        return Trace(
            name=episode.instr_id,
            positions=positions,
            to_goal=to_goal,
            stopped=bool(self.stopped[i]),
            reference=way,
            geodesic=float(to_goal[0]) if episode.distance is None else episode.distance,
            collisions=int(self.collisions[i]),
        )


def replay(episodes: Sequence[Episode], walks: Sequence[Trajectory], walkers: Walkers) -> Floats:
    """Play recorded actions; return the positions [F + 1, n, 3] after each forward step.

    F is the most forward steps of a walk; shorter walks repeat their last position.
    """
    walkers.reset(episodes)
    longest = max(len(walk.actions) for walk in walks)
    table = np.full((longest, len(walks)), Action.STOP, np.int64)
    for i, walk in enumerate(walks):
        table[: len(walk.actions), i] = walk.actions
    count = (table == Action.FORWARD).cumsum(0)
    places = np.repeat(walkers.position[None], count[-1].max() + 1, axis=0)
    agents = np.arange(len(walks))
    for actions, taken in zip(table, count, strict=True):
        walkers.step(actions)
        places[taken, agents] = walkers.position
    taken = np.minimum(np.arange(len(places))[:, None], count[-1])
    out: Floats = places[taken, agents]
    return out
