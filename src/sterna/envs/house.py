"""An agent in continuous space as a Gymnasium environment: VLN-CE's actions, sensors and scores.

Importing this module registers ``sterna/House-v0``::

    import gymnasium, sterna.envs.house
    env = gymnasium.make("sterna/House-v0", grounds={"home": space}, episodes=episodes)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from sterna.data.episodes import Episode
from sterna.data.vlnce import Trajectory
from sterna.envs.continuous import Camera, FrameSource, Ground, Obs, cameras_of
from sterna.envs.walkers import Walkers
from sterna.errors import EpisodeError, InputError
from sterna.metrics.continuous import continuous_scores
from sterna.metrics.protocol import R2R_CE, Protocol
from sterna.world.frames import Action, Pose
from sterna.world.geometry import Floats
from sterna.world.space import Bools, MapTransform

SENSORS = ("rgb", "depth", "pose")

_FAR = 1e4  # metres from the origin within which poses lie


class HouseEnv(gymnasium.Env[Obs, np.int64]):
    """Follow an instruction through a house by STOP, FORWARD, LEFT and RIGHT.

    Actions are `Action`, Discrete(4); how far they go, whether the agent slides along walls and
    when the episode is cut off say the `protocol`'s fields.

    Observation: `instruction` (text) and the chosen `sensors`: "rgb" uint8 [height, width, 3];
    "depth" float32 [height, width, 1] in metres, clipped to the protocol's range; "pose" float64
    [4] (x, y, z in metres, heading in radians).

    Reward = geodesic metres gained towards the nearest goal, plus `success_bonus` for a STOP
    strictly within the protocol's radius; 0 in test splits, which have no goals (their
    distance_to_goal is NaN, and there are no scores). An episode terminates at STOP and is
    truncated after the protocol's steps. ``info``: instr_id, distance_to_goal (metres), collided,
    success (would a STOP here succeed), steps; at the end also `scores` (`continuous_scores`).

    Episodes are drawn uniformly with the seed given to `reset`;
    ``reset(options={"instr_id": ...})`` chooses one. `InputError` for episodes that
    cannot be walked. It is a `ContinuousNavEnv`.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self,
        grounds: Mapping[str, Ground],
        episodes: Sequence[Episode],
        *,
        frames: FrameSource | None = None,
        protocol: Protocol = R2R_CE,
        sensors: Sequence[str] | None = None,
        references: Mapping[str, Trajectory] | None = None,
        success_bonus: float = 10.0,
        render_mode: str | None = None,
    ) -> None:
        """Build on the worlds of the episodes' scans.

        `frames` draws pictures; without it the only sensor is "pose". `references` are reference
        trajectories by episode id, for nDTW. `render_mode` "rgb_array" needs `frames`.
        """
        if not episodes:
            raise InputError("environment: expected at least one episode, found none")
        if sensors is None:
            sensors = ("pose",) if frames is None else ("rgb", "depth")
        _check_sensors(sensors, frames, render_mode)
        self.render_mode, self.protocol = render_mode, protocol
        self.grounds, self.episodes = grounds, tuple(episodes)
        self.sensors, self.success_bonus = tuple(sensors), success_bonus
        self._frames, self._references = frames, references
        self._walkers = Walkers(grounds, protocol)
        self._by_id = {episode.instr_id: i for i, episode in enumerate(self.episodes)}
        self._cameras = dict(cameras_of(protocol)) if frames is not None else {}
        self.action_space = spaces.Discrete(len(Action))
        self.observation_space = self._spaces()

    def _spaces(self) -> spaces.Dict:
        texts = [episode.instruction for episode in self.episodes]
        letters = frozenset("".join(texts)) or frozenset(" ")
        longest = max(1, *map(len, texts))
        parts: dict[str, spaces.Space[Any]] = {
            "instruction": spaces.Text(longest, min_length=0, charset=letters)
        }
        for name in self.sensors:
            if name == "pose":
                low, high = np.array([-_FAR] * 3 + [0.0]), np.array([_FAR] * 3 + [2 * math.pi])
                parts[name] = spaces.Box(low, high, dtype=np.float64)
                continue
            camera = self._cameras[name]
            shape = (camera.height, camera.width)
            parts[name] = (
                spaces.Box(0, 255, (*shape, 3), np.uint8)
                if name == "rgb"
                else spaces.Box(camera.near, camera.far, (*shape, 1), np.float32)
            )
        return spaces.Dict(parts)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Any]]:
        """Begin an episode, drawn at random or named by ``options["instr_id"]``."""
        super().reset(seed=seed)
        wanted = (options or {}).get("instr_id")
        if wanted is None:
            index = int(self.np_random.integers(len(self.episodes)))
        elif wanted in self._by_id:
            index = self._by_id[wanted]
        else:
            raise InputError(
                f"environment: no episode {wanted!r} among the {len(self.episodes)} given"
            )
        self.episode = self.episodes[index]
        self._walkers.reset([self.episode])
        answered = bool(self.episode.goal_positions)
        self._goals = self._walkers.goals(0) if answered else None
        self._distance = self._to_goal()
        if answered and not math.isfinite(self._distance):
            raise EpisodeError(
                f"episode {self.episode.instr_id}: no way leads from its start to its goal; leave "
                "the episode out"
            )
        return self.observe_at(self.pose()), self._info()

    def step(self, action: np.int64 | int) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Act; returns observation, reward, terminated, truncated, info."""
        before = self._distance
        self._walkers.step(np.array([action]))
        self._distance = self._to_goal()
        stopped = bool(self._walkers.stopped[0])
        reward = 0.0 if self._goals is None else before - self._distance
        if stopped and self._success():
            reward += self.success_bonus
        truncated = not stopped and bool(self._walkers.done[0])
        info = self._info()
        if (stopped or truncated) and self._goals is not None:
            scores = continuous_scores(self._walkers.traces(self._references), self.protocol)
            info["scores"] = {name: float(values[0]) for name, values in scores.items()}
        return self.observe_at(self.pose()), float(reward), stopped, truncated, info

    def _to_goal(self) -> float:
        if self._goals is None:
            return math.nan
        return self._ground.geodesic(self._walkers.position[0], self._goals)

    def _success(self) -> bool:
        return bool(self.protocol.near(self._distance))

    def _info(self) -> dict[str, Any]:
        return {
            "instr_id": self.episode.instr_id,
            "distance_to_goal": self._distance,
            "collided": self.collided(),
            "success": self._success(),
            "steps": int(self._walkers.steps[0]),
        }

    @property
    def _ground(self) -> Ground:
        return self.grounds[self.episode.scan]

    def pose(self) -> Pose:
        """Where the agent stands."""
        return Pose(self._walkers.position[0].copy(), float(self._walkers.heading[0]))

    def collided(self) -> bool:
        """Whether the last action met something."""
        return bool(self._walkers.collided[0])

    def observe_at(self, pose: Pose) -> Obs:
        """What the agent would observe at a pose, without moving."""
        seen: Obs = {"instruction": self.episode.instruction}
        for name in self.sensors:
            if name == "pose":
                seen[name] = np.append(np.asarray(pose.position, np.float64), pose.heading)
            else:
                seen[name] = self._frame(name, pose)
        return seen

    def _frame(self, sensor: str, pose: Pose) -> NDArray[Any]:
        assert self._frames is not None
        camera = self._cameras[sensor]
        eye = np.asarray(pose.position, np.float64) + np.array([0.0, 0.0, camera.elevation])
        frame = self._frames(self.episode.scan, eye, pose.heading, camera, sensor)
        expected = (camera.height, camera.width)
        if frame.shape[:2] != expected:
            raise InputError(
                f"frames: expected {sensor} of {expected} pixels (rows, columns), found "
                f"{frame.shape[:2]}"
            )
        return frame if sensor == "rgb" else _in_range(frame, camera)

    def render(self) -> Any:
        """Return the present view, uint8 [height, width, 3]; None without a render mode."""
        return None if self.render_mode is None else self._frame("rgb", self.pose())

    def geodesic(self, a: ArrayLike, b: ArrayLike) -> float:
        """Geodesic metres from a [3] to b [3], or to the nearest of b [k, 3]; may be infinite."""
        return self._ground.geodesic(a, b)

    def shortest_path(self, a: ArrayLike, b: ArrayLike) -> Floats:
        """Corners [m, 3] of the shortest way."""
        return self._ground.shortest_path(a, b)

    def is_navigable(self, point: ArrayLike) -> bool:
        """Whether the agent may be at a point [3]."""
        return bool(self._ground.is_navigable(point))

    def snap(self, point: ArrayLike) -> Floats:
        """Nearest point [3] where the agent may be."""
        return self._ground.snap(point)

    def topdown(self, height: float, metres_per_pixel: float = 0.05) -> tuple[Bools, MapTransform]:
        """Walkable area around a height as a map, and where its pixels are."""
        return self._ground.topdown(height, metres_per_pixel)

    def expert_action(self, stop_within: float = 0.25) -> int:
        """Return the action of the shortest-path follower here."""
        return int(self._walkers.follower_actions(stop_within)[0])


def _in_range(depth: NDArray[Any], camera: Camera) -> NDArray[np.float32]:
    """Metres [height, width, 1] within the camera's range; what it cannot see is far away."""
    metres = np.nan_to_num(depth, nan=camera.far, posinf=camera.far).astype(np.float32)
    out: NDArray[np.float32] = metres.clip(camera.near, camera.far)
    return out.reshape(*metres.shape[:2], 1)


def _check_sensors(
    sensors: Sequence[str], frames: FrameSource | None, render_mode: str | None
) -> None:
    unknown = [name for name in sensors if name not in SENSORS]
    if unknown:
        raise InputError(f"environment: no sensor {unknown[0]!r}; there are {', '.join(SENSORS)}")
    if render_mode not in (None, "rgb_array"):
        raise InputError(
            f"environment: render_mode must be rgb_array or None, found {render_mode!r}"
        )
    if frames is None and (set(sensors) - {"pose"} or render_mode is not None):
        raise InputError(
            'environment: rgb, depth and render_mode need frames=...; without, take ("pose",)'
        )


if "sterna/House-v0" not in gymnasium.registry:
    gymnasium.register(id="sterna/House-v0", entry_point="sterna.envs.house:HouseEnv")
