"""Evaluation in continuous space: an agent in many environments, each episode exactly once.

All slots act in step, so which episode a slot walks does not depend on the clock, and no score
depends on how many slots or workers there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from sterna.data.episodes import Episode
from sterna.data.tracks import Track
from sterna.data.vlnce import Trajectory
from sterna.envs.continuous import Obs
from sterna.envs.slots import Maker, Roster, Slots
from sterna.errors import EpisodeError
from sterna.metrics.protocol import Protocol
from sterna.metrics.result import Result
from sterna.metrics.tracks import score_tracks
from sterna.recipes.controls import SlotAgent


@dataclass
class _Going:
    """A walk that has not ended."""

    episode: Episode
    actions: list[int] = field(default_factory=list)
    places: list[Any] = field(default_factory=list)
    headings: list[float] = field(default_factory=list)
    to_goal: list[float] = field(default_factory=list)
    collided: list[bool] = field(default_factory=list)
    reference: Any = None

    def see(self, env: Any, info: Mapping[str, Any]) -> None:
        """Note where the agent stands now."""
        pose = env.pose()
        self.places.append(np.array(pose.position, np.float64))
        self.headings.append(float(pose.heading))
        self.to_goal.append(float(info["distance_to_goal"]))

    def track(self) -> Track:
        """Return the walk as it ended."""
        answered = bool(self.episode.goal_positions)
        return Track(
            instr_id=self.episode.instr_id,
            actions=np.array(self.actions, np.int64),
            positions=np.array(self.places),
            headings=np.array(self.headings),
            collided=np.array(self.collided, np.int64),
            to_goal=np.array(self.to_goal) if answered else None,
            reference=self.reference,
        )


class Walking:
    """Walks of an agent in slots; `unscorable` says why an episode could not be walked."""

    def __init__(self, agent: SlotAgent, slots: Slots) -> None:
        self.agent, self.slots = agent, slots
        self.unscorable: dict[str, str] = {}
        self._going: dict[int, _Going] = {}
        self._seen: list[Obs | None] = [None] * len(slots)
        attach = getattr(agent, "attach", None)
        if attach is not None:
            attach(slots)

    def walk(
        self,
        episodes: Sequence[Episode],
        done: Callable[[Track], None],
        *,
        together: bool = False,
    ) -> None:
        """Walk every episode once; `done` gets each track as it ends.

        `together`: the slots of a worker stay in one scene (see `Roster`).
        """
        roster = Roster(episodes, together=together)
        while self._fill(roster):
            for slot in self._step():
                done(self._going.pop(slot).track())
                self._seen[slot] = None

    def _fill(self, roster: Roster) -> bool:
        """Begin episodes in slots that walk none; say whether any walks."""
        while True:
            begun = self._assign(roster)
            if not begun:
                return bool(self._going)
            self._begin(begun)

    def _begin(self, begun: Mapping[int, Episode]) -> None:
        """Put agents at the starts of episodes, by slot; note which cannot be walked."""
        answers = self.slots.each(list(begun), lambda slot, env: _begin(env, begun[slot]))
        good: dict[int, Obs] = {}
        for (slot, episode), answer in zip(begun.items(), answers, strict=True):
            if isinstance(answer, EpisodeError):
                self.unscorable[episode.instr_id] = str(answer)
                continue
            self._going[slot], good[slot] = answer
        self._seen = [good.get(slot, seen) for slot, seen in enumerate(self._seen)]
        if good:
            self.agent.reset(list(good), list(good.values()), [begun[slot] for slot in good])

    def _assign(self, roster: Roster) -> dict[int, Episode]:
        walking = [0] * (max(self.slots.worker_of) + 1)
        for slot in self._going:
            walking[self.slots.worker_of[slot]] += 1
        begun: dict[int, Episode] = {}
        for slot, worker in enumerate(self.slots.worker_of):
            if slot not in self._going:
                episode = roster.take(worker, walking[worker])
                if episode is not None:
                    begun[slot] = episode
                    walking[worker] += 1
        return begun

    def _step(self) -> list[int]:
        """Let every slot act once; return those whose episode ended."""
        active = np.zeros(len(self.slots), bool)
        active[list(self._going)] = True
        actions = self.agent.act(self._seen, active)
        order = sorted(self._going)

        def act(slot: int, env: Any) -> tuple[Obs, bool]:
            return _act(env, self._going[slot], int(actions[slot]))

        ended = []
        for slot, (seen, over) in zip(order, self.slots.each(order, act), strict=True):
            self._seen[slot] = seen
            if over:
                ended.append(slot)
        return ended


def _begin(env: Any, episode: Episode) -> tuple[_Going, Obs] | EpisodeError:
    try:
        seen, info = env.reset(options={"instr_id": episode.instr_id})
    except EpisodeError as error:
        return error
    going = _Going(episode)
    going.see(env, info)
    if not episode.waypoints and episode.goal_positions:
        going.reference = env.shortest_path(going.places[0], env.snap(episode.goal_positions[0]))
    return going, seen


def _act(env: Any, going: _Going, action: int) -> tuple[Obs, bool]:
    try:
        seen, _, terminated, truncated, info = env.step(action)
    except EpisodeError:  # a score that is not finite: the track says so again when it is scored
        going.actions.append(action)
        going.collided.append(False)
        going.see(env, {"distance_to_goal": math.inf})
        return {}, True
    going.actions.append(action)
    going.collided.append(bool(info["collided"]))
    going.see(env, info)
    return seen, bool(terminated or truncated)


def evaluate(
    agent: SlotAgent,
    make_envs: Maker,
    episodes: Sequence[Episode],
    protocol: Protocol,
    *,
    workers: int = 1,
    together: bool = False,
    references: Mapping[str, Trajectory] | None = None,
    walked: Sequence[Track] = (),
    done: Callable[[Track], None] | None = None,
    skip: bool = False,
    progress: bool = False,
    **about: Any,
) -> Result:
    """Walk every episode once and score all.

    `make_envs(worker)` makes the environments of each of `workers` threads; they must know all of
    `episodes`. `walked` are tracks from before, which are not walked again; `done` gets each new
    one. `references`, `skip` and `about` as in `score_tracks`; with `skip` episodes that
    cannot be scored are left out and named, without they are an `InputError`.
    """
    tracks, unscorable = walk_episodes(
        agent,
        make_envs,
        episodes,
        workers=workers,
        together=together,
        walked=walked,
        done=done,
        progress=progress,
    )
    return score_tracks(
        tracks,
        episodes,
        protocol,
        references=references,
        unscorable=unscorable,
        skip=skip,
        **about,
    )


def walk_episodes(
    agent: SlotAgent,
    make_envs: Maker,
    episodes: Sequence[Episode],
    *,
    workers: int = 1,
    together: bool = False,
    walked: Sequence[Track] = (),
    done: Callable[[Track], None] | None = None,
    progress: bool = False,
) -> tuple[list[Track], dict[str, str]]:
    """Walk every episode once; return all tracks, and why others could not be walked."""
    tracks = list(walked)
    known = {track.instr_id for track in tracks}
    left = [episode for episode in episodes if episode.instr_id not in known]
    if not left:
        return tracks, {}
    slots = Slots(make_envs, workers)
    bar = tqdm(total=len(episodes), initial=len(tracks), unit="ep", disable=not progress)

    def ended(track: Track) -> None:
        tracks.append(track)
        if done is not None:
            done(track)
        bar.update()

    try:
        walking = Walking(agent, slots)
        walking.walk(left, ended, together=together)
    finally:
        bar.close()
        slots.close()
    return tracks, walking.unscorable
