"""Tracks: what agents did in continuous space, one JSON line an episode, written as they end.

A file begins with a line that says what it is and under which settings it was walked. An evaluation
that was stopped goes on behind the last whole line. Positions and headings are in Habitat's frame
in the file (y up; yaw in radians about +y) and in the library's here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sterna.errors import InputError
from sterna.files import read_bytes
from sterna.world.frames import Action, from_habitat, to_habitat
from sterna.world.geometry import Floats, Ints

KIND = "sterna-tracks"
_KEYS = ("instr_id", "actions", "locations", "yaws", "to_goal", "collided", "reference")
_KNOWN = frozenset(int(action) for action in Action)


@dataclass(frozen=True, kw_only=True, eq=False)
class Track:
    """One walk of A actions; metres, radians.

    `positions` [A + 1, 3] and `headings` [A + 1]: the start, and what each action led to.
    `to_goal` [A + 1]: geodesic distances to the nearest goal, None in a test split. `collided` [A]:
    which actions met something. `reference` [R, 3]: the path to compare with, where the episode
    has none of its own.
    """

    instr_id: str
    actions: Ints
    positions: Floats
    headings: Floats
    collided: Ints
    to_goal: Floats | None = None
    reference: Floats | None = None

    @property
    def stopped(self) -> bool:
        """Whether it ended with STOP."""
        return len(self.actions) > 0 and int(self.actions[-1]) == Action.STOP


def track_line(track: Track) -> str:
    """Return a track as one line of JSON; reading it back gives the same numbers."""
    item = {
        "instr_id": track.instr_id,
        "actions": track.actions.tolist(),
        "locations": to_habitat(track.positions).tolist(),
        "yaws": (-track.headings).tolist(),
        "to_goal": None if track.to_goal is None else track.to_goal.tolist(),
        "collided": track.collided.astype(int).tolist(),
        "reference": None if track.reference is None else to_habitat(track.reference).tolist(),
    }
    return json.dumps(item)  # an infinite distance is kept: scoring names its episode


def read_tracks(path: str | os.PathLike[str]) -> tuple[dict[str, Any], list[Track]]:
    """Read a file of tracks: its first line, and the tracks; `InputError` names a wrong line."""
    lines = read_bytes(path).split(b"\n")
    header = _parsed(lines[0], f"{path}: line 1")
    if header.get("kind") != KIND:
        raise InputError(f"{path}: no file of tracks; its first line must say {KIND!r}")
    tracks, seen = [], set()
    for number, line in enumerate(lines[1:], 2):
        if not line:
            continue
        where = f"{path}: line {number}"
        track = _track(_parsed(line, where), where)
        if track.instr_id in seen:
            raise InputError(f"{where}: episode {track.instr_id} occurs twice; ids must differ")
        seen.add(track.instr_id)
        tracks.append(track)
    return header, tracks


class TrackFile:
    """A file of tracks that grows; `tracks` are those it held when it was opened."""

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        """Begin a file, or go on with one of the same settings.

        `InputError` if the file was walked under other settings. A last line that was cut short is
        taken off.
        """
        self.path = Path(path)
        header = json.loads(json.dumps({"kind": KIND, **settings}))
        self.tracks: list[Track] = []
        if self.path.is_file() and b"\n" in self.path.read_bytes():
            _cut(self.path)
            found, self.tracks = read_tracks(self.path)
            _check_same(self.path, found, header)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(header) + "\n", encoding="utf-8")

    def add(self, track: Track) -> None:
        """Append a track; it is on disk when this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(track_line(track) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _cut(path: Path) -> None:
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def _check_same(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    differ = sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k))
    if differ:
        have, want = (str(side.get(differ[0]))[:80] for side in (found, wanted))
        raise InputError(
            f"{path}: it was walked with {differ[0]} {have}, asked is {want}; give another --out, "
            "or delete the file"
        )


def _parsed(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected one JSON object a line")
    return value


def _track(item: dict[str, Any], where: str) -> Track:
    missing = [key for key in _KEYS if key not in item]
    if missing or not isinstance(item.get("instr_id"), str):
        raise InputError(f"{where}: a track needs {', '.join(_KEYS)}; missing {missing}")
    where = f"{where} (episode {item['instr_id'][:60]})"
    actions = item["actions"]
    if not isinstance(actions, list) or any(type(a) is not int or a not in _KNOWN for a in actions):
        raise InputError(f"{where}: actions are 0 stop, 1 forward, 2 left, 3 right")
    count = len(actions)
    optional = {
        "to_goal": (count + 1,),
        "reference": (None, 3),
    }
    parts = {
        name: None if item[name] is None else _numbers(item[name], f"{where}: {name}", shape)
        for name, shape in optional.items()
    }
    reference = parts["reference"]
    return Track(
        instr_id=item["instr_id"],
        actions=np.array(actions, np.int64),
        positions=from_habitat(_numbers(item["locations"], f"{where}: locations", (count + 1, 3))),
        headings=-_numbers(item["yaws"], f"{where}: yaws", (count + 1,)),
        collided=_numbers(item["collided"], f"{where}: collided", (count,)).astype(np.int64),
        to_goal=parts["to_goal"],
        reference=None if reference is None else from_habitat(reference),
    )


def _numbers(value: Any, where: str, shape: tuple[int | None, ...]) -> Floats:
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    same = len(array.shape) == len(shape) and all(
        want is None or want == have for want, have in zip(shape, array.shape, strict=True)
    )
    if not same or np.isnan(array).any():
        raise InputError(f"{where}: expected numbers {list(shape)}, found {list(array.shape)}")
    return array
