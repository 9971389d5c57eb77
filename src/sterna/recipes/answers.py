"""The answers of a split, whatever the task: what `sterna score` compares a file with."""

from __future__ import annotations

from pathlib import Path

from sterna.data.boxes import Boxes, read_boxes
from sterna.data.episodes import Episode
from sterna.data.layout import Layout
from sterna.data.r2r import read_r2r
from sterna.data.r4r import read_r4r
from sterna.data.reverie import RELEASES, read_reverie
from sterna.metrics import validate_file

PROTOCOL_OF_TASK = {
    "r2r": "R2R_DUET",
    "r4r": "R4R_DUET",
    "reverie": "REVERIE_DUET",
    "reverie-v2": "REVERIE_V2_DUET",
}
"""The protocol a task is scored with when none is named."""

_RELEASE = {name: release for release, name in RELEASES.items()}


def read_answers(
    layout: Layout, task: str, split: str, boxes: Boxes | None = None
) -> list[Episode]:
    """Read a split with all that decides its scores: for REVERIE also the viewpoints that count.

    `boxes` are read where they are not given; both releases of REVERIE take their goals from the
    boxes of the first, the only ones offered.
    """
    if task in _RELEASE:
        boxes = boxes or read_boxes(layout.boxes)
        return read_reverie(layout.root, split, release=_RELEASE[task], boxes=boxes)
    return _read(layout, task, split)


def check_file(
    layout: Layout, task: str, split: str, file: str | Path, *, partial: bool = False
) -> int:
    """Check that a leaderboard can take a file (see `validate_file`); return its walks."""
    episodes = _read(layout, task, split)
    return validate_file(
        file, episodes, layout.connectivity, objects=task in _RELEASE, partial=partial
    )


def _read(layout: Layout, task: str, split: str) -> list[Episode]:
    if task in _RELEASE:
        return read_reverie(layout.root, split, release=_RELEASE[task])
    return {"r2r": read_r2r, "r4r": read_r4r}[task](layout.root, split)
