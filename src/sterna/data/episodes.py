"""The unit of work of every task: one instruction, where it starts and where it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sterna.world.frames import Quaternion, Vec3

Direction = tuple[float, float]
"""Heading and elevation in radians."""


class Turn(NamedTuple):
    """What somebody said in a dialog: navigator or oracle, the words, the step they were said at.

    `at` counts in ``Episode.walked``.
    """

    role: str
    message: str
    at: int


class Outline(NamedTuple):
    """How a target looks from a viewpoint (SOON): its centre, and the corners around it in order.

    Corners: left top, right top, right bottom, left bottom.
    """

    viewpoint: str
    centre: Direction
    corners: tuple[Direction, Direction, Direction, Direction]


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One instruction with its reference path; every data set fills what it has of these fields.

    `path` is the annotated path (viewpoint ids; the start alone where the split is a test split),
    `heading` the initial heading in radians (0 = +y, clockwise), `distance` the stated length in
    metres. `goals` lists every viewpoint that counts as the goal; empty means ``path[-1]``.
    `sub_paths[k]` holds the first and last index into `path` of `sub_instructions[k]` (0-based).

    In continuous space (VLN-CE) `path` is empty, `distance` is the stated geodesic length, and the
    last fields are set: `position` (x, y, z) where it starts, `waypoints` of the annotated path,
    `goal_positions` with their common `goal_radius`, all in metres in the library's frame (z up),
    and what the file said word for word: `rotation` (Habitat's quaternion, of which `heading` is
    the meaning), `scene`, and RxR's `language` and `instruction_id`.

    RxR: `role` says whose path it is (guide, follower), `demonstration_id` names a follower's. NDH:
    `dialog` and `target` are what the instruction is made of, `walked` the viewpoints before,
    `planner_path` and `player_path` what may follow (`path` is one of them), `goals` the end
    region. SOON: `outlines` of the target as seen from each of `goals`, `parts` of the
    instruction; its own name for an instruction is `instruction_id`. `rest` is what else a file
    said, as JSON that writers give back.
    """

    instr_id: str
    scan: str
    path: tuple[str, ...]
    heading: float
    instruction: str
    path_id: int | str
    distance: float | None = None
    split: str | None = None
    object_id: int | None = None
    goals: tuple[str, ...] = ()
    token_ids: tuple[int, ...] | None = None
    sub_instructions: tuple[str, ...] = ()
    sub_paths: tuple[tuple[int, int], ...] = ()
    position: Vec3 | None = None
    waypoints: tuple[Vec3, ...] = ()
    goal_positions: tuple[Vec3, ...] = ()
    goal_radius: float | None = None
    rotation: Quaternion | None = None
    scene: str | None = None
    language: str | None = None
    instruction_id: str | None = None
    role: str | None = None
    demonstration_id: int | None = None
    target: str | None = None
    dialog: tuple[Turn, ...] = ()
    walked: tuple[str, ...] = ()
    planner_path: tuple[str, ...] = ()
    player_path: tuple[str, ...] = ()
    outlines: tuple[Outline, ...] = ()
    parts: tuple[str, ...] = ()
    rest: str | None = None

    @property
    def start(self) -> str:
        """Viewpoint at which the episode begins."""
        return self.path[0]

    @property
    def goal(self) -> str:
        """Last viewpoint of the annotated path."""
        return self.path[-1]

    @property
    def answered(self) -> bool:
        """Whether the file tells where to go: in test splits there is a start alone."""
        return len(self.path) > 1 or bool(self.goals)
