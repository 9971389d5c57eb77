"""One agent on a navigation graph as a Gymnasium environment.

Importing this module registers ``sterna/R2R-v0`` (15 decisions an episode) and ``sterna/R4R-v0``
(30, its paths being two R2R paths)::

    import gymnasium, sterna.envs.gym
    env = gymnasium.make("sterna/R2R-v0", data="data", views="features.hdf5", split="val_seen")

Legend: T panorama tokens of the largest panorama, F feature width, L longest instruction, C most
candidates of a viewpoint.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from sterna.data.episodes import Episode
from sterna.data.r2r import read_r2r
from sterna.data.views import ViewStore
from sterna.envs.graph_env import OBJECT, GraphEnv, Panoramas
from sterna.errors import InputError
from sterna.world.atlas import Atlas
from sterna.world.geometry import Ints
from sterna.world.graph import connectivity_dir

STOP = 0

Arrays = dict[str, Any]


class NavigationEnv(gymnasium.Env[Arrays, np.int64]):
    """Follow an instruction by choosing among the candidates of the current panorama.

    Actions, Discrete(1 + C): 0 stops, k goes to candidate k, which is panorama token k - 1. An
    index that has no candidate here leaves the agent where it is; the decision counts, nothing is
    penalised. ``info["action_mask"]`` (int8 [1 + C]) tells which actions do something.

    Observation: `features` [T, F] and `locations` [T, 7] float32, `nav_types`, `mask` [T] and
    `instruction` [L] (word ids, 0 pads; all 0 where episodes hold no ids) int64.

    Reward = geodesic metres gained towards the (nearest) goal, plus `success_bonus` for a STOP
    that succeeds: within `success_radius` metres of the goal (strictly), or, where the episode
    lists `goals`, on one of them. An episode terminates at STOP and is truncated after `max_steps`
    decisions.

    ``info``: instr_id, viewpoint, distance_to_goal (metres), success (would a STOP here succeed),
    action_mask. Episodes are drawn uniformly with the seed given to `reset`;
    ``reset(options={"instr_id": ...})`` chooses one. `InputError` for episodes that cannot be
    walked.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - gymnasium's own declaration

    def __init__(
        self,
        panoramas: Panoramas | None = None,
        episodes: Sequence[Episode] | None = None,
        *,
        data: str | os.PathLike[str] | None = None,
        views: str | os.PathLike[str] | None = None,
        split: str = "train",
        max_steps: int = 15,
        success_radius: float = 3.0,
        success_bonus: float = 10.0,
        render_mode: str | None = None,
    ) -> None:
        """Build on `panoramas` and `episodes`, or read them: `data` folder, `views` file, `split`.

        `render_mode` must be None: pictures are made one floor up, by `sterna show`.
        """
        if panoramas is None or episodes is None:
            panoramas, episodes = _read(data, views, split)
        if not episodes:
            raise InputError("environment: expected at least one episode, found none")
        if render_mode is not None or max_steps < 1:
            raise InputError(
                "environment: render_mode must be None and max_steps at least 1, found "
                f"{render_mode!r} and {max_steps}"
            )
        self.render_mode = render_mode
        self.episodes, self.max_steps = tuple(episodes), max_steps
        self.success_radius, self.success_bonus = success_radius, success_bonus
        self._world = GraphEnv(panoramas)
        self._by_id = {episode.instr_id: i for i, episode in enumerate(self.episodes)}
        self._goals = [_goal_nodes(panoramas.atlas, episode) for episode in self.episodes]
        self._make_spaces(panoramas)
        self._current, self._steps = 0, 0

    def _make_spaces(self, panoramas: Panoramas) -> None:
        if panoramas.object_size is not None:
            raise InputError("environment: it shows views alone; lay the panoramas out bare")
        tokens, size = panoramas.token_rows.shape[1], panoramas.size
        table = panoramas.features
        top = max(1.0, float(table.max()), -float(table.min()))
        words = max(1, max(len(e.token_ids or ()) for e in self.episodes))
        largest = max(1, max(max(e.token_ids or (0,)) for e in self.episodes))
        self.action_space = spaces.Discrete(1 + panoramas.atlas.candidates.shape[1])
        self.observation_space = spaces.Dict(
            {
                "features": spaces.Box(-top, top, (tokens, size), np.float32),
                "locations": spaces.Box(-1.0, 1.0, (tokens, 7), np.float32),
                "nav_types": spaces.Box(0, OBJECT, (tokens,), np.int64),
                "mask": spaces.Box(0, 1, (tokens,), np.int64),
                "instruction": spaces.Box(0, largest, (words,), np.int64),
            }
        )
        self._tokens, self._words = tokens, words

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Arrays, dict[str, Any]]:
        """Begin an episode, drawn at random or named by ``options["instr_id"]``."""
        super().reset(seed=seed)
        wanted = (options or {}).get("instr_id")
        if wanted is None:
            self._current = int(self.np_random.integers(len(self.episodes)))
        elif wanted in self._by_id:
            self._current = self._by_id[wanted]
        else:
            raise InputError(
                f"environment: no episode {wanted!r} among the {len(self.episodes)} given"
            )
        self._steps = 0
        self._world.reset([self.episodes[self._current]])
        return self._observation(), self._info()

    def step(self, action: np.int64 | int) -> tuple[Arrays, float, bool, bool, dict[str, Any]]:
        """Stop, or go to a candidate; returns observation, reward, terminated, truncated, info."""
        before = self._distance()
        node = self._world.node
        target = self._world.atlas.candidates[node[0], action - 1] if action > STOP else -1
        if target >= 0:
            self._world.step(np.array([target]), node)
        self._steps += 1
        stopped = bool(action == STOP)
        reward = before - self._distance()
        if stopped and self._success():
            reward += self.success_bonus
        truncated = not stopped and self._steps >= self.max_steps
        return self._observation(), float(reward), stopped, truncated, self._info()

    def _distance(self) -> float:
        goals = self._goals[self._current]
        return float(self._world.atlas.distance(self._world.node, goals).min())

    def _success(self) -> bool:
        if self.episodes[self._current].goals:
            return bool((self._goals[self._current] == self._world.node[0]).any())
        return self._distance() < self.success_radius

    def _info(self) -> dict[str, Any]:
        atlas, node = self._world.atlas, int(self._world.node[0])
        mask = np.concatenate([[True], atlas.candidates[node] >= 0]).astype(np.int8)
        return {
            "instr_id": self.episodes[self._current].instr_id,
            "viewpoint": atlas.viewpoints[node],
            "distance_to_goal": self._distance(),
            "success": self._success(),
            "action_mask": mask,
        }

    def _observation(self) -> Arrays:
        seen = self._world.observe()
        assert seen.features is not None
        ids = np.array(self.episodes[self._current].token_ids or (), np.int64)
        return {
            "features": _padded(seen.features[0].astype(np.float32), self._tokens),
            "locations": _padded(seen.locations[0].clip(-1.0, 1.0), self._tokens),
            "nav_types": _padded(seen.nav_types[0], self._tokens),
            "mask": _padded(seen.mask[0].astype(np.int64), self._tokens),
            "instruction": _padded(ids, self._words),
        }


def _padded(array: NDArray[Any], length: int) -> NDArray[Any]:
    out = np.zeros((length, *array.shape[1:]), array.dtype)
    out[: len(array)] = array
    return out


def _goal_nodes(atlas: Atlas, episode: Episode) -> Ints:
    """Return the atlas nodes that count as the goal; `InputError` if none can be reached."""
    names = episode.goals or (episode.goal,)
    goals = np.array([atlas.node(episode.scan, name) for name in names], np.int64)
    start = np.array([atlas.node(episode.scan, episode.start)])
    if not np.isfinite(atlas.distance(start, goals)).any():
        raise InputError(
            f"episode {episode.instr_id}: no path leads from {episode.start} to its goal; "
            "leave the episode out"
        )
    return goals


def _read(
    data: str | os.PathLike[str] | None, views: str | os.PathLike[str] | None, split: str
) -> tuple[Panoramas, list[Episode]]:
    if data is None or views is None:
        raise InputError(
            "environment: give panoramas and episodes, or data (a folder) and views (an HDF5 file)"
        )
    episodes = read_r2r(data, split)
    atlas = Atlas.load(connectivity_dir(Path(data)), {episode.scan for episode in episodes})
    with ViewStore.open(views) as store:
        return Panoramas(atlas, store), episodes


for _name, _steps in (("sterna/R2R-v0", 15), ("sterna/R4R-v0", 30)):
    if _name not in gymnasium.registry:
        gymnasium.register(
            id=_name, entry_point="sterna.envs.gym:NavigationEnv", kwargs={"max_steps": _steps}
        )
