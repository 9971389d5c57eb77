"""Ground and frames of a scene that a simulator server holds (`sterna.envs.simulator`).

`RemoteGround` answers what `sterna.world.space.Space` answers, `RemoteFrames` draws. What a step
will be followed by (distances to the goal, the view) is asked for with it and remembered, so that
a step costs one exchange. Remembered answers are found by the exact question.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sterna.envs.continuous import Camera
from sterna.envs.simulator import Question, Simulator
from sterna.errors import InputError
from sterna.world.frames import from_habitat, to_habitat
from sterna.world.geometry import Floats
from sterna.world.space import Bools, MapTransform, Step

_KEPT = 256  # answers that are remembered


class Memory:
    """The latest answers by question."""

    def __init__(self, keep: int = _KEPT) -> None:
        self._keep = keep
        self._known: OrderedDict[Any, Any] = OrderedDict()

    def get(self, key: Any) -> Any:
        """Return an answer, or None."""
        return self._known.get(key)

    def put(self, key: Any, value: Any) -> None:
        """Remember an answer, and forget the oldest."""
        self._known[key] = value
        while len(self._known) > self._keep:
            self._known.popitem(last=False)


class RemoteFrames:
    """A `FrameSource`: draws what a camera of the protocol sees, all sensors in one exchange."""

    def __init__(self, simulator: Simulator, scenes: dict[str, str]) -> None:
        """`scenes` are the server's names of scans."""
        self.simulator, self.scenes = simulator, scenes
        self._drawn = Memory(16)

    def __call__(
        self, scan: str, eye: Floats, heading: float, camera: Camera, sensor: str
    ) -> NDArray[Any]:
        """Return "rgb" uint8 [height, width, 3] or "depth" float32 [height, width] in metres."""
        if camera != self.simulator.cameras.get(sensor):
            raise InputError(f"simulator: {sensor} is drawn by the protocol's own camera only")
        point = np.asarray(eye, np.float64)
        if self._drawn.get(_view(scan, point, heading, sensor)) is None:
            questions = self.questions({"points": to_habitat(point[None]).tolist()}, heading)
            self.keep(scan, point, heading, self.simulator.ask(self.scenes[scan], questions))
        found: NDArray[Any] = self._drawn.get(_view(scan, point, heading, sensor))
        return found

    def questions(self, where: Question, heading: float) -> list[Question]:
        """What to ask to see from `where` (its points, and how far above them the eye is)."""
        look = {"q": "look", "yaws": [-heading], "coding": self.simulator.coding, **where}
        return [{**look, "sensor": sensor} for sensor in self.simulator.sensors]

    def keep(self, scan: str, eye: Floats, heading: float, answers: Sequence[Any]) -> None:
        """Remember the frames that answer `questions`."""
        for sensor, answer in zip(self.simulator.sensors, answers, strict=True):
            frames = answer["frames"] if "frames" in answer else answer["each"]
            self._drawn.put(_view(scan, eye, heading, sensor), frames[0])


def _view(scan: str, eye: Floats, heading: float, sensor: str) -> tuple[Any, ...]:
    return scan, eye.tobytes(), float(heading), sensor


class RemoteGround:
    """A `Ground` behind a server."""

    def __init__(
        self, simulator: Simulator, scan: str, scene: str, frames: RemoteFrames | None = None
    ) -> None:
        """Take the scan's name at the server; with `frames` a step brings its view with it."""
        self.simulator, self.scan, self.scene = simulator, scan, scene
        self._frames = frames
        self._goals: Floats = np.empty((0, 3))
        self._known = Memory()

    def expect(self, goals: ArrayLike) -> None:
        """Say that steps will be followed by distances to goals [k, 3]."""
        self._goals = np.asarray(goals, np.float64).reshape(-1, 3)

    def _ask(self, *questions: Question) -> list[dict[str, Any]]:
        return self.simulator.ask(self.scene, questions)

    def is_navigable(self, points: ArrayLike) -> Bools:
        """Whether an agent may be at each point [..., 3]."""
        p = np.asarray(points, np.float64)
        (answer,) = self._ask({"q": "navigable", "points": _sent(p)})
        return np.array(answer["navigable"], bool).reshape(p.shape[:-1])

    def snap(self, points: ArrayLike) -> Floats:
        """Nearest points [..., 3] where an agent may be."""
        p = np.asarray(points, np.float64)
        (answer,) = self._ask({"q": "snap", "points": _sent(p)})
        return _read(answer["points"]).reshape(p.shape)

    def move(
        self, positions: ArrayLike, headings: ArrayLike, distance: float, *, sliding: bool = True
    ) -> Step:
        """Walk `distance` metres along headings [n] from positions [n, 3]."""
        p, heading = np.asarray(positions, np.float64), np.asarray(headings, np.float64)
        step = {
            **{"q": "move", "points": _sent(p), "yaws": (-heading).reshape(-1).tolist()},
            **{"distance": float(distance), "sliding": bool(sliding)},
        }
        single = len(p) == 1 and len(self._goals) > 0
        more = self._then(float(heading.reshape(-1)[0])) if single else []
        moved, *answers = self._ask(step, *more)
        ends = _read(moved["points"])
        if single:
            self._remember(ends, float(heading.reshape(-1)[0]), answers)
        return Step(ends, np.array(moved["collided"], bool))

    def _then(self, heading: float) -> list[Question]:
        ends = {"points": {"of": 0}}
        asked: list[Question] = [
            {"q": "distances", **ends, "goal": goal} for goal in _sent(self._goals)
        ]
        if self._frames is not None:
            asked += self._frames.questions({**ends, "rise": self._rise}, heading)
        return asked

    @property
    def _rise(self) -> float:
        return self.simulator.cameras["rgb"].elevation

    def _remember(self, ends: Floats, heading: float, answers: list[dict[str, Any]]) -> None:
        count = len(self._goals)
        for goal, answer in zip(self._goals, answers[:count], strict=True):
            self._known.put((ends.tobytes(), goal.tobytes()), _metres(answer))
        if self._frames is not None:
            eye = ends[0] + np.array([0.0, 0.0, self._rise])
            self._frames.keep(self.scan, eye, heading, answers[count:])

    def distances(self, points: ArrayLike, goal: ArrayLike) -> Floats:
        """Geodesic metres from points [n, 3] to a goal [3]; infinite where no way leads."""
        goals = np.asarray(goal, np.float64).reshape(1, 3)
        return self._distances(np.asarray(points, np.float64), goals)[0]

    def _distances(self, points: Floats, goals: Floats) -> list[Floats]:
        """Metres [n] to each of the goals [k, 3]; those not remembered in one exchange."""
        keys = [(points.tobytes(), goal.tobytes()) for goal in goals]
        missing = [i for i, key in enumerate(keys) if self._known.get(key) is None]
        if missing:
            sent = _sent(points)
            asked = [{"q": "distances", "points": sent, "goal": _sent(goals)[i]} for i in missing]
            for i, answer in zip(missing, self._ask(*asked), strict=True):
                self._known.put(keys[i], _metres(answer))
        return [self._known.get(key) for key in keys]

    def geodesic(self, a: ArrayLike, b: ArrayLike) -> float:
        """Geodesic metres from a [3] to b [3], or to the nearest of b [k, 3]."""
        start = np.asarray(a, np.float64).reshape(1, 3)
        goals = np.asarray(b, np.float64).reshape(-1, 3)
        return float(min(metres[0] for metres in self._distances(start, goals)))

    def shortest_path(self, a: ArrayLike, b: ArrayLike) -> Floats:
        """Corners [m, 3] of the shortest way, both ends included; [0, 3] if there is none."""
        ends = _sent(np.array([a, b], np.float64))
        (answer,) = self._ask({"q": "path", "a": ends[0], "b": ends[1]})
        return _read(answer["points"])

    def topdown(self, height: float, metres_per_pixel: float = 0.05) -> tuple[Bools, MapTransform]:
        """Walkable area around a height as a map, and where its pixels are."""
        asked = {"q": "topdown", "height": height, "metres_per_pixel": metres_per_pixel}
        (answer,) = self._ask(asked)
        where = MapTransform(
            west=answer["x"], north=-answer["z"], metres_per_pixel=metres_per_pixel
        )
        return answer["area"].astype(bool), where


def _sent(points: Floats) -> list[list[float]]:
    sent: list[list[float]] = to_habitat(points).reshape(-1, 3).tolist()
    return sent


def _read(points: Any) -> Floats:
    return from_habitat(np.array(points, np.float64).reshape(-1, 3))


def _metres(answer: dict[str, Any]) -> Floats:
    return np.array([np.inf if m is None else m for m in answer["metres"]])
