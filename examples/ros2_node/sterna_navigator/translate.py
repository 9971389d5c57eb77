"""ROS messages as plain values and back. Any object with the fields of a message will do.

ROS (REP 103) measures yaw counter-clockwise from +x, sterna headings clockwise from +y.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sterna.edge.runtime import Decision
from sterna_navigator.guide import Pose


def yaw_of(rotation: Any) -> float:
    """Return the yaw of a geometry_msgs/Quaternion, radians."""
    x, y, z, w = rotation.x, rotation.y, rotation.z, rotation.w
    return math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def heading_of(yaw: float) -> float:
    """Return the heading of a yaw, and the yaw of a heading, in [-pi, pi)."""
    return (math.pi / 2 - yaw + math.pi) % (2 * math.pi) - math.pi


def point_of(point: Any) -> tuple[float, float, float]:
    """Return a geometry_msgs/Point as numbers."""
    return float(point.x), float(point.y), float(point.z)


def pose_of(pose: Any) -> Pose:
    """Return a geometry_msgs/Pose."""
    return Pose(position=point_of(pose.position), heading=heading_of(yaw_of(pose.orientation)))


def ways_of(message: Any) -> list[tuple[float, float, float]]:
    """Return the positions of a geometry_msgs/PoseArray."""
    return [point_of(pose.position) for pose in message.poses]


def views_of(message: Any) -> NDArray[np.float32]:
    """Return the features [V, F] of a std_msgs/Float32MultiArray with two dimensions.

    Raises ValueError for one whose numbers do not fill its dimensions.
    """
    sizes = [dimension.size for dimension in message.layout.dim]
    start = message.layout.data_offset
    data = np.asarray(message.data, np.float32)[start:]
    if len(sizes) != 2 or data.size != math.prod(sizes):
        raise ValueError(f"views: expected V rows of F numbers, found {data.size} for {sizes}")
    return data.reshape(sizes)


def fill_pose(message: Any, position: Sequence[float], heading: float, frame: str) -> Any:
    """Fill a geometry_msgs/PoseStamped with a goal, and return it; its time is left alone."""
    message.header.frame_id = frame
    place, turn = message.pose.position, message.pose.orientation
    place.x, place.y, place.z = (float(value) for value in position)
    half = heading_of(heading) / 2
    turn.x, turn.y, turn.z, turn.w = 0.0, 0.0, math.sin(half), math.cos(half)
    return message


def decision_text(decision: Decision) -> str:
    """Return a decision as JSON, for a std_msgs/String."""
    return json.dumps(asdict(decision))
