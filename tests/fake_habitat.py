"""A stand-in for habitat-sim's Python interface over a level floor, in its two generations.

Made to the interface as published (0.1.7 and 0.3), not by it: it finds calls of ours that no
release takes, and cannot show what a real one answers. A wall stands at x = 2.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

WALL = 2.0


class ShortestPath:
    def __init__(self) -> None:
        self.requested_start = self.requested_end = None
        self.points: list[Any] = []
        self.geodesic_distance = np.inf


class PathFinder:
    is_loaded = True

    def is_navigable(self, point: Any, max_y_delta: float = 0.5) -> bool:
        assert point.dtype == np.float32 and point.shape == (3,)
        return bool(point[0] <= WALL and abs(point[1]) <= max_y_delta)

    def snap_point(self, point: Any) -> Any:
        if point[0] > WALL + 5:
            return np.full(3, np.nan, np.float32)
        return np.array([min(point[0], WALL), 0, point[2]], np.float32)

    def try_step(self, start: Any, end: Any) -> Any:
        return np.array([min(end[0], WALL), end[1], end[2]], np.float32)

    def try_step_no_sliding(self, start: Any, end: Any) -> Any:
        return start if end[0] > WALL else end

    def find_path(self, path: ShortestPath) -> bool:
        if max(path.requested_start[0], path.requested_end[0]) > WALL:
            return False
        path.points = [path.requested_start, path.requested_end]
        path.geodesic_distance = float(np.linalg.norm(path.requested_end - path.requested_start))
        return True

    def get_topdown_view(self, meters_per_pixel: float, height: float) -> Any:
        return np.ones((int(4 / meters_per_pixel), int(6 / meters_per_pixel)), bool)

    def get_bounds(self) -> Any:
        return np.array([-3.0, 0, -1]), np.array([3.0, 2, 3])


class Agent:
    state: Any = None

    def set_state(self, state: Any, reset_sensors: bool = True) -> None:
        assert isinstance(state.rotation, list) and len(state.rotation) == 4
        self.state = state


class Simulator:
    def __init__(self, config: Any) -> None:
        self.config, self.pathfinder, self._agent = config, PathFinder(), Agent()
        (agent,) = config.agents
        if config.sim_cfg.new:
            self.pathfinder.nav_mesh_settings = SimpleNamespace(agent_radius=0.1, agent_height=1.5)
        self.specs = {spec.uuid: spec for spec in agent.sensor_specifications}

    def recompute_navmesh(self, finder: PathFinder, settings: Any) -> bool:
        finder.nav_mesh_settings = settings
        return True

    def get_agent(self, number: int) -> Agent:
        return self._agent

    def get_sensor_observations(self) -> dict[str, Any]:
        """Frames that tell where the agent stands and where it looks."""
        state, out = self._agent.state, {}
        for uuid, spec in self.specs.items():
            if spec.sensor_type == "COLOR":
                frame = np.zeros((*spec.resolution, 4), np.uint8)
                frame[..., 0] = int(10 * state.position[1])
                frame[..., 1] = int(100 * (1 + state.rotation[1]))
            else:
                frame = np.full(spec.resolution, state.position[0], np.float32)
            out[uuid] = frame
        return out

    def close(self) -> None:
        self.closed = True


def module(generation: str) -> Any:
    """Return the module of a generation, "0.1.7" or "0.3.1"."""
    new = generation.startswith("0.3")

    def spec() -> Any:
        made = SimpleNamespace(uuid="", sensor_type=None, resolution=None, position=None)
        if new:
            made.hfov = 90.0
        else:
            made.parameters = {}
        return made

    def config() -> Any:
        scene = {"scene_id": ""} if new else {"scene": SimpleNamespace(id="")}
        return SimpleNamespace(new=new, gpu_device_id=0, enable_physics=True, **scene)

    habitat = SimpleNamespace(
        __version__=generation,
        SimulatorConfiguration=config,
        Configuration=lambda sim_cfg, agents: SimpleNamespace(sim_cfg=sim_cfg, agents=agents),
        Simulator=Simulator,
        SensorType=SimpleNamespace(COLOR="COLOR", DEPTH="DEPTH"),
        ShortestPath=ShortestPath,
        AgentState=lambda: SimpleNamespace(position=None, rotation=None, sensor_states={}),
        NavMeshSettings=lambda: SimpleNamespace(set_defaults=lambda: None),
        agent=SimpleNamespace(
            AgentConfiguration=lambda: SimpleNamespace(
                radius=0.1, height=1.5, sensor_specifications=[]
            )
        ),
    )
    setattr(habitat, "CameraSensorSpec" if new else "SensorSpec", spec)
    return habitat
