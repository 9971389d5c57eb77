"""Many agents in houses at once: moves, frames and distances in batches, no environment each.

What `HouseEnv` does for one episode, for practice and evaluation, where hundreds are walked; tests
hold the two to the same tracks.

Legend: n agents, one an episode; A actions of a walk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sterna.data.episodes import Episode
from sterna.data.tracks import Track
from sterna.envs.continuous import Camera, cameras_of
from sterna.envs.house_worlds import HouseWorlds
from sterna.envs.walkers import Walkers
from sterna.errors import EpisodeError
from sterna.metrics.continuous import Trace
from sterna.metrics.protocol import Protocol
from sterna.world.geometry import Floats, Ints
from sterna.world.houses.render import Camera as Lens
from sterna.world.space import Bools

Obs = dict[str, Any]
_AT_ONCE = 64  # frames rendered in one go; bounds memory


class Crowd:
    """Agents that walk side by side; `seen` [n] is what each sees, None where it has ended.

    An observation holds "instruction" and, with `frames`, "rgb" uint8 [h, w, 3]; with `black`
    nothing is rendered and every frame is black (a control).
    """

    def __init__(
        self,
        worlds: HouseWorlds,
        protocol: Protocol,
        *,
        frames: bool = True,
        black: bool = False,
    ) -> None:
        self.worlds, self.protocol, self.black = worlds, protocol, black
        self.camera: Camera | None = cameras_of(protocol)["rgb"] if frames else None
        self.walkers = Walkers(worlds, protocol)
        self.seen: list[Obs | None] = []

    def begin(self, episodes: Sequence[Episode]) -> None:
        """Put an agent at the start of each episode.

        `EpisodeError` for one whose goal no way leads to.
        """
        self.walkers.reset(episodes)
        self._taken: list[Ints] = []
        self._hit: list[Bools] = []
        self._headings: list[Floats] = [self.walkers.heading]
        self._positions: list[Floats] = [self.walkers.position]
        self.seen = [None] * len(episodes)
        self._look()

    @property
    def active(self) -> Bools:
        """Agents [n] that have not ended."""
        return ~self.walkers.done

    def step(self, actions: Ints) -> None:
        """Take one action each; those of agents that have ended are ignored."""
        self._taken.append(np.where(self.active, actions, -1))
        self.walkers.step(np.where(self.active, actions, 0))
        self._hit.append(self.walkers.collided.copy())
        self._headings.append(self.walkers.heading)
        self._positions.append(self.walkers.position)
        self._look()

    def _look(self) -> None:
        w = self.walkers
        rows = np.flatnonzero(self.active)
        self.seen = [None] * len(w.episodes)
        for row in rows.tolist():
            self.seen[row] = {"instruction": w.episodes[row].instruction}
        if self.camera is None:
            return
        camera = self.camera
        if self.black:
            for seen in filter(None, self.seen):
                seen["rgb"] = np.zeros((camera.height, camera.width, 3), np.uint8)
            return
        lens = Lens(width=camera.width, height=camera.height, hfov=camera.hfov)
        eyes = w.position + np.array([0.0, 0.0, camera.elevation])
        by_scan: dict[str, list[int]] = {}
        for row in rows.tolist():
            by_scan.setdefault(w.episodes[row].scan, []).append(row)
        for scan, own in by_scan.items():
            renderer = self.worlds.renderer(scan)
            for first in range(0, len(own), _AT_ONCE):
                part = own[first : first + _AT_ONCE]
                frames = renderer.render(lens, eyes[part], w.heading[part]).rgb
                for row, frame in zip(part, frames, strict=True):
                    observation = self.seen[row]
                    assert observation is not None
                    observation["rgb"] = frame

    def traces(self) -> list[Trace]:
        """Return what every agent walked, for `continuous_scores`."""
        return self.walkers.traces()

    def track(self, agent: int) -> Track:
        """Return the walk of an agent that has ended, with the distances at each place.

        `EpisodeError` where no way leads from its start to its goal.
        """
        w = self.walkers
        episode, count = w.episodes[agent], int(w.steps[agent])
        positions = np.array([places[agent] for places in self._positions[: count + 1]])
        to_goal = reference = None
        if episode.goal_positions:
            ground, goals = w.grounds[episode.scan], w.goals(agent)
            to_goal = np.min([ground.distances(positions, goal) for goal in goals], axis=0)
            if not math.isfinite(to_goal[0]):
                raise EpisodeError(
                    f"episode {episode.instr_id}: no way leads from its start to its goal; leave "
                    "the episode out"
                )
            if not episode.waypoints:
                reference = ground.shortest_path(positions[0], goals[0])
        return Track(
            instr_id=episode.instr_id,
            actions=np.array([row[agent] for row in self._taken[:count]], np.int64),
            positions=positions,
            headings=np.array([row[agent] for row in self._headings[: count + 1]]),
            collided=np.array([row[agent] for row in self._hit[:count]], np.int64),
            to_goal=to_goal,
            reference=reference,
        )


def walk_crowd(agent: Any, crowd: Crowd, episodes: Sequence[Episode]) -> None:
    """Walk episode i as agent i of a crowd, all to their ends."""
    crowd.begin(episodes)
    agent.reset(range(len(episodes)), crowd.seen, episodes)
    while crowd.active.any():
        crowd.step(agent.act(crowd.seen, crowd.active))


def walk_houses(
    agent: Any,
    crowd: Crowd,
    episodes: Sequence[Episode],
    done: Callable[[Track], None],
    *,
    slots: int = 64,
) -> dict[str, str]:
    """Walk every episode once, `slots` at a time, house by house; `done` gets each track.

    Returns why others could not be walked, by their ids.
    """
    ordered = sorted(episodes, key=lambda episode: episode.scan)
    unscorable: dict[str, str] = {}
    for first in range(0, len(ordered), slots):
        some = ordered[first : first + slots]
        walk_crowd(agent, crowd, some)
        for number, episode in enumerate(some):
            try:
                done(crowd.track(number))
            except EpisodeError as error:
                unscorable[episode.instr_id] = str(error)
    return unscorable
