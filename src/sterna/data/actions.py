"""Actions of walks in continuous space, read from trajectory and prediction files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from sterna.data.r2r import is_whole
from sterna.data.tracks import read_tracks
from sterna.errors import InputError
from sterna.files import find_file, read_json
from sterna.world.frames import Action
from sterna.world.geometry import Ints

_NAMES = ("instr_id", "episode_id")
_KNOWN = frozenset(int(action) for action in Action)


def read_actions(path: str | os.PathLike[str]) -> dict[str, Ints]:
    """Read the actions of each episode id from a JSON file, plain or gzipped.

    Three shapes are known: a file of tracks (``.jsonl``, `sterna.data.tracks`); an object
    {episode id: {"actions": [...]}}, as a ``_gt`` file of VLN-CE (whatever else it holds is not
    looked at); a list of {"instr_id" or "episode_id": ..., "actions": [...]}. Actions are 0 stop,
    1 forward, 2 left, 3 right. `InputError` names the file and the episode.
    """
    found: dict[str, Ints] = {}
    if find_file(path).name.removesuffix(".gz").endswith(".jsonl"):
        return {track.instr_id: track.actions for track in read_tracks(path)[1]}
    for name, item in _items(read_json(path), str(path)):
        if name in found:
            raise InputError(f"{path}: episode {name} occurs twice; ids must differ")
        found[name] = _actions(item, f"{path}: episode {name}")
    return found


def _items(content: Any, where: str) -> Iterable[tuple[str, Any]]:
    if isinstance(content, dict):
        return content.items()
    if not isinstance(content, list):
        raise InputError(f"{where}: expected an object by episode id, or a list of walks")
    return [(_name(item, f"{where}: walk number {i}"), item) for i, item in enumerate(content)]


def _name(item: Any, where: str) -> str:
    for key in _NAMES:
        if isinstance(item, dict) and isinstance(item.get(key), str | int):
            return str(item[key])
    raise InputError(f"{where}: expected an object with {' or '.join(_NAMES)}")


def _actions(item: Any, where: str) -> Ints:
    actions = item.get("actions") if isinstance(item, dict) else None
    if not isinstance(actions, list) or not all(is_whole(a) and a in _KNOWN for a in actions):
        raise InputError(
            f"{where}: expected actions, a list of 0 stop, 1 forward, 2 left, 3 right"
            + ("" if actions is not None else "; the file holds none")
        )
    return np.array(actions, np.int64)
