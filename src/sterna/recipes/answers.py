"""The answers of a split, whatever the task: what `sterna score` compares a file with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sterna.data.boxes import Boxes, read_boxes
from sterna.data.episodes import Episode
from sterna.data.layout import Layout
from sterna.data.ndh import History, PathType, read_ndh
from sterna.data.r2r import read_r2r
from sterna.data.r4r import read_r4r
from sterna.data.reverie import RELEASES, read_reverie
from sterna.data.rxr import Role, read_rxr
from sterna.data.soon import read_soon
from sterna.metrics import GraphBoard, validate_file

Task = Literal["r2r", "r4r", "reverie", "reverie-v2", "rxr", "soon", "ndh"]
"""Tasks on navigation graphs, that policies are trained for and walk."""
GROUNDED_TASKS = tuple(RELEASES.values())
"""Tasks that ask for an object by its id."""
PROTOCOL_OF_TASK = {
    "r2r": "R2R_DUET",
    "r4r": "R4R_DUET",
    "reverie": "REVERIE_DUET",
    "reverie-v2": "REVERIE_V2_DUET",
    "rxr": "RXR_OFFICIAL",
    "soon": "SOON_OFFICIAL",
    "ndh": "NDH_TRUSTED",
}
"""The protocol a task is scored with when none is named (of NDH: with its trusted paths)."""
PROTOCOL_OF_PATH: dict[PathType, str] = {
    "planner_path": "NDH_PLANNER",
    "player_path": "NDH_PLAYER",
    "trusted_path": "NDH_TRUSTED",
}
"""The protocol of NDH by whose path supervises."""
BOARD_OF_TASK: dict[str, GraphBoard] = {
    "r2r": "r2r",
    "r4r": "r2r",
    "reverie": "reverie",
    "reverie-v2": "reverie",
    "rxr": "rxr",
    "soon": "soon",
    "ndh": "ndh",
}
"""The form of a task's submissions."""

_RELEASE = {name: release for release, name in RELEASES.items()}


@dataclass(frozen=True, kw_only=True)
class Which:
    """Which of a split's episodes, and what of them: for the tasks that leave it open."""

    languages: tuple[str, ...] = ()
    role: Role = "guide"
    path_type: PathType = "trusted_path"
    history: History = "all"


_ALL = Which()


def read_answers(
    layout: Layout, task: str, split: str, boxes: Boxes | None = None, which: Which = _ALL
) -> list[Episode]:
    """Read a split with all that decides its scores: for REVERIE also the viewpoints that count.

    `boxes` are read where they are not given; both releases of REVERIE take their goals from the
    boxes of the first, the only ones offered.
    """
    if task in _RELEASE:
        boxes = boxes or read_boxes(layout.boxes)
        return read_reverie(layout.root, split, release=_RELEASE[task], boxes=boxes)
    return _read(layout, task, split, which)


def check_file(
    layout: Layout,
    task: str,
    split: str,
    file: str | Path,
    *,
    which: Which = _ALL,
    partial: bool = False,
) -> int:
    """Check that a leaderboard can take a file (see `validate_file`); return its walks."""
    episodes = _read(layout, task, split, which)
    board = BOARD_OF_TASK[task]
    return validate_file(file, episodes, layout.connectivity, board=board, partial=partial)


def _read(layout: Layout, task: str, split: str, which: Which) -> list[Episode]:
    if task in _RELEASE:
        return read_reverie(layout.root, split, release=_RELEASE[task])
    if task == "rxr":
        return read_rxr(layout.root, split, role=which.role, languages=which.languages)
    if task == "ndh":
        return read_ndh(layout.root, split, path_type=which.path_type, history=which.history)
    return {"r2r": read_r2r, "r4r": read_r4r, "soon": read_soon}[task](layout.root, split)
