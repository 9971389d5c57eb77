"""Walks recorded with expert labels: demonstrations, perturbed ones, and any agent's own (DAgger).

for record in collect(None, episodes, grounds, film=film, protocol=R2R_CE):
    shard.add(record.walk, record.frames)
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sterna.data.ego.store import encode
from sterna.data.ego.writer import N_MAX, EgoWriter, Walk
from sterna.data.episodes import Episode
from sterna.data.vlnce import Trajectory
from sterna.envs.continuous import ContinuousNavEnv, Ground
from sterna.envs.expert import Expert, Route, States, labels, windows
from sterna.envs.film import Film
from sterna.envs.walkers import Walkers
from sterna.errors import InputError
from sterna.metrics import protocol as protocols
from sterna.world.follower import TURN_COST
from sterna.world.frames import Action
from sterna.world.geometry import Floats, Ints
from sterna.world.houses.dice import Dice
from sterna.world.space import Bools

_PARTS = 1_000_000  # chances are whole numbers of so many
ARRIVED = 1.0  # metres from the end of its route at which a demonstration may stop

Obs = dict[str, Any]


class Agent(Protocol):
    """Acts in many environments at once."""

    name: str

    def reset(
        self, slots: Sequence[int], observations: Sequence[Obs], episodes: Sequence[Episode]
    ) -> None:
        """Begin an episode in each of some slots."""

    def act(self, observations: Sequence[Obs], active: Bools) -> Ints:
        """Return actions [slots]; what it says for slots that are not active is ignored."""


@dataclass(frozen=True, kw_only=True)
class CollectConfig:
    """How walks are recorded."""

    route: Route = "goal"
    """Where the expert goes: the shortest way to the goal, or past the waypoints."""
    stop_within: float = 0.25
    """Metres from the end at which the expert stops."""
    turn_cost: float = TURN_COST
    """Metres a turn must be worth to the expert (`world.follower.follow`): the more, the straighter
    it walks."""
    noise: float = 0.0
    """Probability, a step, that another move than the chosen one is executed; labels stay the
    expert's."""
    beta: float = 0.0
    """Probability, a step, that the expert's action is executed instead of the agent's (DAgger)."""
    seed: int = 0
    """Of noise and beta; every episode has dice of its own."""
    n_max: int = N_MAX
    """Expert actions kept of each state."""
    quality: int = 90
    """Of JPEG, 1 to 95."""
    limit: int | None = None
    """Steps after which a walk is cut off (default: the protocol's)."""

    def __post_init__(self) -> None:
        for name in ("noise", "beta"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"walks: {name} is from 0 to 1, found {getattr(self, name)}")
        if not 0 < self.stop_within <= ARRIVED or not 0 <= self.turn_cost <= 0.1:
            raise InputError(
                f"walks: the expert stops within {ARRIVED:g} m and turns for 0 to 0.1 m, found "
                f"stop_within {self.stop_within} and turn_cost {self.turn_cost}"
            )
        if not 1 <= self.quality <= 95:
            raise InputError(f"walks: quality is from 1 to 95, found {self.quality}")
        if self.n_max < 1 or (self.limit is not None and self.limit < 1):
            raise InputError("walks: n_max and limit are 1 or more")


@dataclass(frozen=True, kw_only=True, eq=False)
class Recorded:
    """A walk, the JPEG files of its steps, and how it ended."""

    walk: Walk
    frames: list[bytes]
    left: float
    """Metres left to the end of the route where it ended; geodesic, or straight for a replay."""

    @property
    def stopped(self) -> bool:
        """Whether it ended by STOP."""
        return bool(self.walk.taken[-1] == Action.STOP)


@dataclass(eq=False)
class _Log:
    """What happened in one slot, a row a step."""

    states: list[States] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    collided: list[bool] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)


def collect(
    agent: Agent | None,
    episodes: Sequence[Episode],
    grounds: Mapping[str, Ground],
    *,
    film: Film,
    protocol: protocols.Protocol,
    config: CollectConfig | None = None,
    told: Mapping[str, Sequence[Episode]] | None = None,
    slots: int = 64,
) -> Iterator[Recorded]:
    """Walk every episode once, with an agent's actions or (None) the expert's, and label each step.

    Yields in the order of the episodes, `slots` of them walking side by side; how many changes
    nothing in what is recorded. `told` gives all the episodes that share a walk, by the `instr_id`
    of the one that is walked. An agent sees "rgb", "instruction" and "pose" as in `HouseEnv`.
    """
    config = config or CollectConfig()
    for first in range(0, len(episodes), slots):
        chunk = episodes[first : first + slots]
        crowd = _Crowd(agent, chunk, grounds, film, protocol, config)
        crowd.walk()
        yield from crowd.records(told or {})


class _Crowd:
    """Episodes that are walked side by side."""

    def __init__(
        self,
        agent: Agent | None,
        episodes: Sequence[Episode],
        grounds: Mapping[str, Ground],
        film: Film,
        protocol: protocols.Protocol,
        config: CollectConfig,
    ) -> None:
        self.agent, self.episodes, self.film, self.config = agent, episodes, film, config
        self.walkers = Walkers(grounds, protocol)
        self.walkers.reset(episodes)
        self.expert = Expert(
            grounds,
            protocol,
            episodes,
            route=config.route,
            stop_within=config.stop_within,
            turn_cost=config.turn_cost,
        )
        self.stage = np.zeros(len(episodes), np.int64)
        self.logs = [_Log() for _ in episodes]
        self.dice = [Dice(config.seed, zlib.crc32(e.instr_id.encode())) for e in episodes]
        self._observations: list[Obs] = [{} for _ in episodes]

    def walk(self) -> None:
        """Walk until all have ended."""
        limit = self.config.limit or np.inf
        while True:
            active = ~self.walkers.done & (self.walkers.steps < limit)
            rows = np.flatnonzero(active)
            if not len(rows):
                return
            first = self._ask_expert(rows)
            chosen = first if self.agent is None else self._ask_agent(active)
            actions = np.full(len(active), Action.STOP, np.int64)
            for row in rows.tolist():
                actions[row] = self._executed(row, int(first[row]), int(chosen[row]))
                self.logs[row].taken.append(int(actions[row]))
            self.walkers.step(actions)

    def _ask_expert(self, rows: Ints) -> Ints:
        w = self.walkers
        states = States(rows, w.position[rows], w.heading[rows], self.stage[rows])
        actions, stage = self.expert.act(states)
        self.stage[rows] = stage
        for i, row in enumerate(rows.tolist()):
            log = self.logs[row]
            log.states.append(states._replace(stage=stage).take(np.array([i])))
            log.first.append(int(actions[i]))
            log.collided.append(bool(w.collided[row]))
        out = np.full(len(self.episodes), Action.STOP, np.int64)
        out[rows] = actions
        return out

    def _ask_agent(self, active: Bools) -> Ints:
        assert self.agent is not None
        rows = np.flatnonzero(active)
        for row, frame in zip(rows.tolist(), self._see(rows), strict=True):
            pose = np.append(self.walkers.position[row], self.walkers.heading[row])
            text = self.episodes[row].instruction
            self._observations[row] = {"instruction": text, "rgb": frame, "pose": pose}
            self.logs[row].frames.append(encode(frame, self.config.quality))
        if len(self.logs[rows[0]].taken) == 0:
            self.agent.reset(range(len(active)), self._observations, self.episodes)
        return np.asarray(self.agent.act(self._observations, active), np.int64)

    def _see(self, rows: Ints) -> NDArray[np.uint8]:
        camera, w = self.film.camera, self.walkers
        out = np.empty((len(rows), camera.height, camera.width, 3), np.uint8)
        scans = np.array([self.episodes[row].scan for row in rows.tolist()])
        for scan in dict.fromkeys(scans.tolist()):
            own = np.flatnonzero(scans == scan)
            out[own] = self.film(scan, w.position[rows[own]], w.heading[rows[own]])
        return out

    def _executed(self, row: int, first: int, chosen: int) -> int:
        config, dice = self.config, self.dice[row]
        if config.beta and dice.below(_PARTS) < round(config.beta * _PARTS):
            chosen = first
        if config.noise and dice.below(_PARTS) < round(config.noise * _PARTS):
            others = [a for a in (Action.FORWARD, Action.LEFT, Action.RIGHT) if a != chosen]
            chosen = int(dice.pick(others))
        return chosen

    def records(self, told: Mapping[str, Sequence[Episode]]) -> Iterator[Recorded]:
        """Return what was walked."""
        walks = [
            (
                States(*(np.concatenate(column) for column in zip(*log.states, strict=True))),
                np.array(log.taken),
                np.array(log.first),
            )
            for log in self.logs
        ]
        expert = labels(self.expert, walks, self.config.n_max)
        left = self._left()
        for row, (log, (states, taken, _)) in enumerate(zip(self.logs, walks, strict=True)):
            episode = self.episodes[row]
            walk = Walk(
                episodes=tuple(told.get(episode.instr_id, (episode,))),
                taken=taken,
                expert=expert[row],
                poses=np.column_stack([states.position, states.heading]),
                collided=np.array(log.collided),
                source="expert" if self.agent is None else self.agent.name,
            )
            yield Recorded(walk=walk, frames=log.frames or self._shoot(walk), left=left[row])

    def _left(self) -> list[float]:
        w, expert = self.walkers, self.expert
        ends = expert.targets[np.arange(len(expert.last)), expert.last]
        return [
            w.grounds[episode.scan].geodesic(w.position[i], ends[i])
            for i, episode in enumerate(self.episodes)
        ]

    def _shoot(self, walk: Walk) -> list[bytes]:
        return shoot(self.film, walk, self.config.quality)


def record(
    writer: EgoWriter, name: str, records: Iterable[Recorded], *, arrived: float | None = None
) -> None:
    """Write walks as the shard `name`, unless it is there already.

    Demonstrations that do not stop within `arrived` metres of their end are left out and named in
    the shard; None keeps all, as DAgger must.
    """
    if writer.has(name):
        return
    with writer.shard(name) as shard:
        for one in records:
            if arrived is None or (one.stopped and one.left <= arrived):
                shard.add(one.walk, one.frames)
            else:
                shard.leave_out(one.walk)


def shoot(film: Film, walk: Walk, quality: int) -> list[bytes]:
    """Return the JPEG files of a walk's steps."""
    frames = film(walk.episodes[0].scan, walk.poses[:, :3], walk.poses[:, 3])
    return [encode(frame, quality) for frame in frames]


def replay(
    episodes: Sequence[Episode],
    references: Mapping[str, Trajectory],
    grounds: Mapping[str, Ground],
    *,
    film: Film,
    protocol: protocols.Protocol,
    config: CollectConfig | None = None,
    told: Mapping[str, Sequence[Episode]] | None = None,
) -> Iterator[Recorded]:
    """Play reference trajectories, which are the labels too; all of them side by side.

    `InputError` names an episode without a trajectory.
    """
    config = config or CollectConfig()
    walkers = Walkers(grounds, protocol)
    walkers.reset(episodes)
    actions = [_reference(references, episode).actions for episode in episodes]
    table = np.full((max(map(len, actions), default=0), len(actions)), Action.STOP, np.int64)
    for i, own in enumerate(actions):
        table[: len(own), i] = own
    poses, collided = list[Floats](), list[Bools]()
    for row in table:
        poses.append(np.column_stack([walkers.position, walkers.heading]))
        collided.append(walkers.collided)
        walkers.step(row)
    for i, (episode, taken) in enumerate(zip(episodes, actions, strict=True)):
        walk = Walk(
            episodes=tuple((told or {}).get(episode.instr_id, (episode,))),
            taken=taken,
            expert=windows(taken, config.n_max),
            poses=np.array([pose[i] for pose in poses[: len(taken)]]),
            collided=np.array([hit[i] for hit in collided[: len(taken)]]),
            source="reference",
        )
        left = _astray(references[episode.instr_id], walk.poses[-1, :3])
        yield Recorded(walk=walk, frames=shoot(film, walk, config.quality), left=left)


def replay_in(
    env: ContinuousNavEnv,
    episode: Episode,
    reference: Trajectory,
    *,
    config: CollectConfig | None = None,
) -> Recorded:
    """Play a reference trajectory in any environment in continuous space that shows "rgb"."""
    config = config or CollectConfig()
    reference = _reference({episode.instr_id: reference}, episode)
    seen, _ = env.reset(options={"instr_id": episode.instr_id})
    if "rgb" not in seen:
        raise InputError(f"environment: expected the sensor rgb, found {', '.join(seen)}")
    frames, poses, collided = list[bytes](), list[Floats](), list[bool]()
    for number, action in enumerate(reference.actions.tolist()):
        pose = env.pose()
        poses.append(np.append(pose.position, pose.heading))
        collided.append(number > 0 and env.collided())
        frames.append(encode(np.asarray(seen["rgb"], np.uint8), config.quality))
        seen, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            break
    taken = reference.actions[: len(frames)]
    walk = Walk(
        episodes=(episode,),
        taken=taken,
        expert=windows(taken, config.n_max),
        poses=np.array(poses),
        collided=np.array(collided),
        source="reference",
    )
    return Recorded(walk=walk, frames=frames, left=_astray(reference, poses[-1][:3]))


def _reference(references: Mapping[str, Trajectory], episode: Episode) -> Trajectory:
    found = references.get(episode.instr_id)
    if found is None or not len(found.actions):
        raise InputError(f"episode {episode.instr_id}: no reference trajectory in the _gt file")
    if found.actions.max() > max(Action):
        raise InputError(
            f"episode {episode.instr_id}: its reference trajectory tilts the camera, which is no "
            "action here; let the expert walk instead (--noise above 0)"
        )
    return found


def _astray(reference: Trajectory, end: Floats) -> float:
    return float(np.linalg.norm(reference.positions[-1] - end))
