"""VLN-CE in Habitat, without Habitat in this process: `HouseEnv` over a simulator server.

from sterna.envs.habitat import HabitatEnv
from sterna.envs.simulator import Simulator
env = HabitatEnv(Simulator(R2R_CE, "http://127.0.0.1:8791"), read_vlnce(file))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sterna.data.episodes import Episode
from sterna.data.vlnce import Trajectory
from sterna.envs.continuous import Obs
from sterna.envs.house import HouseEnv
from sterna.envs.remote import RemoteFrames, RemoteGround
from sterna.envs.simulator import Simulator


class HabitatEnv(HouseEnv):
    """A `ContinuousNavEnv` whose world a server simulates; all else is `HouseEnv`'s.

    Actions, observations, rewards, endings and scores are computed here by the same code as for
    houses; the server moves, measures and draws. A step is one exchange. The simulator's protocol
    is the environment's, and so are its sensors (with "pose", which needs no server).
    """

    def __init__(
        self,
        simulator: Simulator,
        episodes: Sequence[Episode],
        *,
        pose: bool = False,
        references: Mapping[str, Trajectory] | None = None,
        success_bonus: float = 10.0,
        render_mode: str | None = None,
    ) -> None:
        """Walk `episodes` in the scenes they name; `pose` adds that sensor."""
        scenes = {episode.scan: scene_of(episode) for episode in episodes}
        frames = RemoteFrames(simulator, scenes) if simulator.sensors else None
        grounds = {
            scan: RemoteGround(simulator, scan, scene, frames) for scan, scene in scenes.items()
        }
        self.simulator, self._remote = simulator, grounds
        super().__init__(
            grounds,
            episodes,
            frames=frames,
            protocol=simulator.protocol,
            sensors=(*simulator.sensors, *(("pose",) if pose or frames is None else ())),
            references=references,
            success_bonus=success_bonus,
            render_mode=render_mode,
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Any]]:
        """Begin an episode, drawn at random or named by ``options["instr_id"]``."""
        begun = super().reset(seed=seed, options=options)
        self._remote[self.episode.scan].expect(() if self._goals is None else self._goals)
        return begun

    def close(self) -> None:
        """Close the connection."""
        self.simulator.close()


def scene_of(episode: Episode) -> str:
    """Return the server's name of an episode's scene: what its file says, or Matterport3D's."""
    return episode.scene or f"mp3d/{episode.scan}/{episode.scan}.glb"
