"""Submission files of the leaderboards in continuous space, written and checked.

R2R-CE (EvalAI 719) takes ``{episode_id: [{"position", "heading", "stop"}, ...]}``, the start and
what each action led to. RxR-CE (RxR-Habitat) takes one JSON line an instruction,
``{"instruction_id", "path"}``, the positions that differ from the one before. Positions are in
Habitat's frame (y up), headings radians about +y in (-pi, pi]. Source: the inference code of VLN-CE
and of its RxR challenge.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sterna.data.episodes import Episode
from sterna.data.tracks import Track
from sterna.errors import InputError
from sterna.files import read_bytes, write_text
from sterna.metrics.protocol import Protocol
from sterna.world.frames import to_habitat
from sterna.world.geometry import Floats

Board = Literal["r2r-ce", "rxr-ce"]

_START = 0.25  # metres a walk may begin beside its episode's start: simulators draw it to a floor
_SLACK = 1.5  # a step on stairs is longer than on the flat


def write_board(
    path: str | Path, board: Board, tracks: Iterable[Track], episodes: Sequence[Episode]
) -> None:
    """Write tracks as a leaderboard takes them; `InputError` for an episode without its id."""
    if board == "r2r-ce":
        write_text(path, json.dumps({track.instr_id: _poses(track) for track in tracks}))
        return
    ids = {episode.instr_id: _instruction_id(episode) for episode in episodes}
    items = [{"instruction_id": ids[t.instr_id], "path": _moved(t.positions)} for t in tracks]
    items.sort(key=lambda item: int(str(item["instruction_id"])))
    write_text(path, "".join(json.dumps(item) + "\n" for item in items))


def _poses(track: Track) -> list[dict[str, Any]]:
    yaws = np.pi - (np.pi + track.headings) % (2 * np.pi)  # of -heading, in (-pi, pi]
    places = to_habitat(track.positions).tolist()
    stops = [False] * len(track.actions) + [track.stopped]
    return [
        {"position": place, "heading": yaw, "stop": stop}
        for place, yaw, stop in zip(places, yaws.tolist(), stops, strict=True)
    ]


def _moved(positions: Floats) -> list[list[float]]:
    changed = np.any(np.diff(positions, axis=0) != 0, axis=1)
    places: list[list[float]] = to_habitat(positions[np.append(True, changed)]).tolist()
    return places


def _instruction_id(episode: Episode) -> int:
    name = episode.instruction_id
    if name is None or not name.isdecimal():
        raise InputError(
            f"episode {episode.instr_id}: instruction_id is {name!r}; RxR-CE's files give each "
            "instruction a number, under which its leaderboard wants the answer"
        )
    return int(name)


def check_board(
    path: str | Path,
    board: Board,
    episodes: Sequence[Episode],
    protocol: Protocol,
    *,
    partial: bool = False,
) -> int:
    """Check that a leaderboard can take a file; return its number of walks.

    Every episode must be answered exactly once (`partial`: at most once), begin at its start, move
    no further a step than `protocol` allows, hold finite numbers, and for R2R-CE at most the
    protocol's actions with a stop at the last place only. `InputError` names file and episode.
    """
    if board == "r2r-ce":
        named = {e.instr_id: e for e in episodes}
        walks = _read_poses(path, protocol)
    else:
        named = {str(_instruction_id(e)): e for e in episodes}
        walks = _read_paths(path)
    if len(named) != len(episodes):
        raise InputError("the episodes hold an id twice; check the annotation files")
    stray = next((name for name in walks if name not in named), None)
    if stray is not None:
        raise InputError(f"{path}: {stray[:60]!r} is no episode of this split")
    missing = [name for name in named if name not in walks]
    if missing and not partial:
        raise InputError(
            f"{path}: {len(missing)} of {len(named)} episodes have no walk, first {missing[0]}"
        )
    for name, places in walks.items():
        _check_walk(places, named[name], protocol, f"{path}: {name}")
    return len(walks)


def _read_poses(path: str | Path, protocol: Protocol) -> dict[str, Floats]:
    content = _parsed(read_bytes(path), str(path))
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected an object of walks by episode id")
    walks = {}
    for name, poses in content.items():
        where = f"{path}: {name[:60]}"
        if not isinstance(poses, list) or not all(_is_pose(pose) for pose in poses):
            raise InputError(f"{where}: expected a list of {{position, heading, stop}}")
        if any(pose["stop"] for pose in poses[:-1]):
            raise InputError(f"{where}: it goes on after a stop")
        if protocol.max_steps is not None and len(poses) > protocol.max_steps + 1:
            raise InputError(f"{where}: {len(poses) - 1} actions, allowed {protocol.max_steps}")
        walks[name] = _places([pose["position"] for pose in poses], where)
    return walks


def _is_pose(pose: Any) -> bool:
    if not isinstance(pose, dict) or set(pose) != {"position", "heading", "stop"}:
        return False
    heading = pose["heading"]
    good = isinstance(heading, int | float) and not isinstance(heading, bool)
    return good and math.isfinite(heading) and isinstance(pose["stop"], bool)


def _read_paths(path: str | Path) -> dict[str, Floats]:
    walks: dict[str, Floats] = {}
    for number, line in enumerate(read_bytes(path).splitlines(), 1):
        where = f"{path}: line {number}"
        item = _parsed(line, where)
        if not isinstance(item, dict) or set(item) != {"instruction_id", "path"}:
            raise InputError(f"{where}: expected an object of instruction_id and path")
        if type(item["instruction_id"]) is not int:
            raise InputError(f"{where}: instruction_id must be a whole number")
        name = str(item["instruction_id"])
        if name in walks:
            raise InputError(f"{where}: instruction {name} is answered twice")
        walks[name] = _places(item["path"], where)
    return walks


def _parsed(content: bytes, where: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise InputError(f"{where}: an object holds a key twice; each is answered once")
        return found

    try:
        return json.loads(content, object_pairs_hook=once)
    except RecursionError:
        raise InputError(f"{where}: not valid JSON") from None
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where}: not valid JSON ({str(error)[:100]})") from None


def _places(value: Any, where: str) -> Floats:
    try:
        places = np.array(value, np.float64)
    except (TypeError, ValueError):
        places = np.empty(0)
    if places.ndim != 2 or places.shape[1] != 3 or not np.isfinite(places).all():
        raise InputError(f"{where}: expected at least one place [x, y, z] of finite numbers")
    return places


def _check_walk(places: Floats, episode: Episode, protocol: Protocol, where: str) -> None:
    if episode.position is not None:
        aside = float(np.linalg.norm(places[0] - to_habitat(episode.position)))
        if aside > _START:
            raise InputError(
                f"{where}: begins {aside:.2f} m from the episode's start; positions are [x, y, z] "
                "in Habitat's frame, y up"
            )
    lengths = np.linalg.norm(np.diff(places, axis=0), axis=1)
    longest = float(lengths.max(initial=0.0))
    if protocol.forward_step is not None and longest > _SLACK * protocol.forward_step:
        raise InputError(
            f"{where}: moves {longest:.2f} m at place {int(lengths.argmax()) + 1}; a step is "
            f"{protocol.forward_step} m"
        )


def board_of(protocol: Protocol) -> Board:
    """Return the leaderboard a protocol belongs to, by its answer key."""
    return "rxr-ce" if "RxR" in protocol.answer_key else "r2r-ce"


def file_of(board: Board, split: str) -> str:
    """Return the name of a submission file."""
    return f"submit_{split}.json" + ("l" if board == "rxr-ce" else "")


def walks_in(tracks: Iterable[Track], episodes: Iterable[Episode]) -> list[Track]:
    """Return tracks in the order of `episodes`, those that were walked."""
    named: Mapping[str, Track] = {track.instr_id: track for track in tracks}
    return [named[e.instr_id] for e in episodes if e.instr_id in named]
