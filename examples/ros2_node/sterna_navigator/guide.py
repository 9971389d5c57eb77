"""What the node does, without ROS: it asks for a look, decides, and leads the robot there.

idle --instruct--> looking --views and ways--> going --arrival--> looking ... --stop--> done
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sterna.edge.runtime import Decision, Neighbour, Observation
from sterna_navigator.places import Places

State = Literal["idle", "looking", "going", "done"]


class Thinker(Protocol):
    """Who decides: `sterna.edge.runtime.Navigator`, or `sterna_navigator.remote.Remote`."""

    def start(self, instruction: str) -> None:
        """Begin an episode."""

    def step(self, seen: Observation) -> Decision:
        """Decide."""


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where the robot stands and looks: metres; radians, clockwise from +y."""

    position: tuple[float, float, float]
    heading: float


class Guide:
    """One robot on its way. The node tells it what arrives and does what `state` and `goal` say."""

    def __init__(
        self,
        thinker: Thinker,
        *,
        radius: float = 0.5,
        tolerance: float = 0.4,
        camera_headings: Sequence[float] | None = None,
    ) -> None:
        """Decide with a thinker.

        Points within `radius` metres are one place; a goal is reached within `tolerance` metres.
        `camera_headings` (radians, clockwise) are those of the views relative to the robot; without
        them views look to the fixed directions of the map that the policy was trained on.
        """
        self.thinker, self.tolerance, self.radius = thinker, tolerance, radius
        self.state: State = "idle"
        self.pose: Pose | None = None
        self.decision: Decision | None = None
        self._cameras = None if camera_headings is None else np.asarray(camera_headings)
        self._forget()

    def _forget(self) -> None:
        self.places = Places(self.radius)
        self._way: list[str] = []
        self._look_again()

    def _look_again(self) -> None:
        self._views: NDArray[np.float32] | None = None
        self._ways: list[NDArray[np.float64]] | None = None

    @property
    def goal(self) -> NDArray[np.float64] | None:
        """The next position to drive to, [3] metres; None where there is none."""
        return self.places.position(self._way[0]) if self._way else None

    @property
    def next_heading(self) -> float:
        """The heading at which the goal is reached: that of the way to it."""
        if self.goal is None or self.pose is None:
            return 0.0
        east, north = (self.goal - np.asarray(self.pose.position))[:2]
        return math.atan2(east, north)

    def instruct(self, instruction: str) -> None:
        """Begin an episode; what was known of the house is forgotten, as in training."""
        self.thinker.start(instruction)
        self.decision = None
        self._forget()
        self.state = "looking"

    def moved(self, pose: Pose) -> bool:
        """Take in where the robot is; True if it reached its goal just now."""
        self.pose = pose
        reached = self.goal is not None and self._near(self.goal)
        if not reached:
            return False
        self._way.pop(0)
        if not self._way:
            self._arrived()
        return True

    def _near(self, goal: NDArray[np.float64]) -> bool:
        assert self.pose is not None
        return bool(np.linalg.norm(goal - np.asarray(self.pose.position)) <= self.tolerance)

    def _arrived(self) -> None:
        ended = self.decision is not None and self.decision.stop
        self.state = "done" if ended else "looking"
        self._look_again()

    def blocked(self) -> None:
        """Give up the goal: look where the robot stands and decide again (`done` after a stop)."""
        if self.state == "going":
            self._way = []
            self._arrived()

    def views(self, features: NDArray[np.float32]) -> Decision | None:
        """Take in the features of all views, [V, F]; decides once the ways are known too."""
        self._views = features if self.state == "looking" else None
        return self._decide()

    def ways(self, positions: Sequence[ArrayLike]) -> Decision | None:
        """Take in the positions that can be driven to from here in one go; decides as `views`."""
        found = [np.asarray(position, np.float64).reshape(3) for position in positions]
        self._ways = found if self.state == "looking" else None
        return self._decide()

    def _decide(self) -> Decision | None:
        if self._views is None or self._ways is None or self.pose is None:
            return None
        decision = self.thinker.step(self._observation(self.pose, self._views, self._ways))
        self.decision, self._way = decision, list(decision.path)
        self.state = "going"
        if not self._way:
            self._arrived()
        return decision

    def _observation(
        self, pose: Pose, views: NDArray[np.float32], ways: Sequence[NDArray[np.float64]]
    ) -> Observation:
        node = self.places.name(pose.position)
        names = {self.places.name(way): None for way in ways}  # in order, each once
        names.pop(node, None)
        cameras = self._cameras
        return Observation(
            node=node,
            position=self.places.position(node),
            heading=pose.heading,
            views=views,
            view_headings=None if cameras is None else cameras + pose.heading,
            neighbours=[
                Neighbour(name=name, position=self.places.position(name)) for name in names
            ],
        )
