"""VLN-CE files (Krantz et al., ECCV 2020): episodes and reference trajectories, read and written.

``{split}.json.gz`` holds ``episodes`` and, for R2R, ``instruction_vocab``; ``{split}_gt.json.gz``
holds for each episode id the reference ``actions``, ``locations`` and ``forward_steps``. Positions
are in Habitat's frame there and in the library's here (`sterna.world.frames`); test splits have
neither goals nor reference paths. RxR-CE (``{split}_guide.json.gz``, ``{split}_guide_gt.json.gz``,
the same for followers) is the same with ``language``, ``annotator_id``, ``edit_distance`` and
``timed_instruction`` in its instructions and no vocabulary.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sterna.data.episodes import Episode
from sterna.data.layout import Layout
from sterna.data.r2r import check_field, is_finite, is_name, is_strings, is_whole
from sterna.data.rest import rest_fields, rest_of
from sterna.errors import InputError
from sterna.files import read_json, write_text
from sterna.world.frames import (
    Action,
    Quaternion,
    Vec3,
    from_habitat,
    heading_of,
    quaternion_of,
    to_habitat,
)
from sterna.world.geometry import Floats, Ints

Entry = dict[str, Any]

TOKENS = 200
"""Length to which VLN-CE pads instruction tokens with 0."""
LOOK_UP, LOOK_DOWN = 4, 5
"""Actions of Habitat's second action space, which RxR-CE names; they move no agent."""

_ENTRY = (
    *("episode_id", "trajectory_id", "scene_id", "start_position", "start_rotation"),
    *("info", "goals", "instruction", "reference_path"),
)
_INSTRUCTION = ("instruction_text", "instruction_tokens", "language", "instruction_id")


@dataclass(frozen=True, kw_only=True, eq=False)
class Trajectory:
    """A reference walk: `actions` [A], and `positions` [F + 1, 3] in metres, z up.

    `positions` are the start and where each of the F forward actions ended. RxR-CE's may tilt the
    camera (`LOOK_UP`, `LOOK_DOWN`).
    """

    actions: Ints
    positions: Floats


def read_vlnce(
    source: str | os.PathLike[str], split: str | None = None, *, whole: bool = False
) -> list[Episode]:
    """Read episodes in file order; `source` is a file, or a data folder together with `split`.

    ``instr_id`` is the episode id, ``path_id`` the trajectory id (R2R's path id), ``token_ids`` the
    tokens without padding; a geodesic distance that is not finite counts as not stated. `whole`
    keeps what is not used here too (RxR-CE's timed words) in ``Episode.rest``. Raises `InputError`
    naming file, episode and key.
    """
    file = _file(source, split, "vlnce")
    content = _object(read_json(file), str(file))
    entries = content.get("episodes")
    if not isinstance(entries, list):
        raise InputError(f"{file}: episodes: expected a list of episodes")
    episodes, seen = [], set()
    for index, entry in enumerate(entries):
        episode = _episode(entry, f"{file}: episode {_label(entry, index)}", split, whole)
        if episode.instr_id in seen:
            raise InputError(f"{file}: episode_id {episode.instr_id} occurs twice; ids must differ")
        seen.add(episode.instr_id)
        episodes.append(episode)
    return episodes


def read_vocabulary(source: str | os.PathLike[str], split: str | None = None) -> Entry | None:
    """Return ``instruction_vocab`` of an episode file as it stands; None where there is none."""
    file = _file(source, split, "vlnce")
    vocabulary = _object(read_json(file), str(file)).get("instruction_vocab")
    return None if vocabulary is None else _object(vocabulary, f"{file}: instruction_vocab")


def write_vlnce(
    path: str | os.PathLike[str],
    episodes: Iterable[Episode],
    vocabulary: Mapping[str, Any] | None = None,
) -> None:
    """Write episodes as VLN-CE does; reading a published file and writing it gives equal values.

    Ids of digits are written as numbers. A `rotation` that no longer says what `heading` says is
    made anew. `InputError` for an episode without a position.
    """
    content: Entry = {"episodes": [_entry(episode) for episode in episodes]}
    if vocabulary is not None:
        content["instruction_vocab"] = dict(vocabulary)
    _write(path, content)


def read_trajectories(
    source: str | os.PathLike[str], split: str | None = None
) -> dict[str, Trajectory]:
    """Read a ``_gt`` file: episode id -> `Trajectory`; errors as `read_vlnce`."""
    file = _file(source, split, "vlnce_trajectories")
    content = _object(read_json(file), str(file))
    return {name: _trajectory(item, f"{file}: episode {name}") for name, item in content.items()}


def write_trajectories(
    path: str | os.PathLike[str], trajectories: Mapping[str, Trajectory]
) -> None:
    """Write a ``_gt`` file; reading one and writing it gives equal values."""
    content = {
        name: {
            "locations": to_habitat(walk.positions).tolist(),
            "actions": walk.actions.tolist(),
            "forward_steps": len(walk.positions) - 1,
        }
        for name, walk in trajectories.items()
    }
    _write(path, content)


def _file(source: str | os.PathLike[str], split: str | None, where: str) -> Path:
    path = Path(source)
    if not path.is_dir():
        return path
    if split is None:
        raise InputError(f"{path}: is a folder; name the split to read (train, val_seen, ...)")
    found: Path = getattr(Layout(path), where)(split)
    return found


def _write(path: str | os.PathLike[str], content: Entry) -> None:
    write_text(path, json.dumps(content, allow_nan=False))


def _object(value: Any, where: str) -> Entry:
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


def _label(entry: Any, index: int) -> str:
    name = entry.get("episode_id") if isinstance(entry, dict) else None
    return str(name)[:60] if is_name(name) or is_whole(name) else f"number {index}"


def _episode(entry: Any, where: str, split: str | None, whole: bool) -> Episode:
    entry = _object(entry, where)
    _check_entry(entry, where)
    text = entry["instruction"]
    tokens = text.get("instruction_tokens")
    goals = entry.get("goals") or ()
    rotation = tuple(float(value) for value in entry["start_rotation"])
    info = entry.get("info")
    return Episode(
        instr_id=str(entry["episode_id"]),
        scan=Path(entry["scene_id"]).stem,
        path=(),
        heading=float(heading_of(rotation)),
        instruction=text["instruction_text"],
        path_id=entry["trajectory_id"],
        distance=None if info is None else _stated(info["geodesic_distance"]),
        split=split,
        token_ids=None if tokens is None else _without_padding(tokens),
        position=_points([entry["start_position"]])[0],
        waypoints=_points(entry.get("reference_path") or ()),
        goal_positions=_points([goal["position"] for goal in goals]),
        goal_radius=float(goals[0]["radius"]) if goals else None,
        rotation=rotation,  # type: ignore[arg-type]  # its length was checked
        scene=entry["scene_id"],
        language=text.get("language"),
        instruction_id=None if text.get("instruction_id") is None else str(text["instruction_id"]),
        rest=_rest(entry) if whole else None,
    )


def _stated(metres: float) -> float | None:
    return float(metres) if is_finite(metres) else None


def _rest(entry: Entry) -> str | None:
    """Keep what is not read, of the entry and of its instruction."""
    others = {key: value for key, value in entry.items() if key not in _ENTRY}
    said = {k: v for k, v in entry["instruction"].items() if k not in _INSTRUCTION}
    return rest_of(others | ({"instruction": said} if said else {}), ())


def _check_entry(entry: Entry, where: str) -> None:
    for key in ("episode_id", "trajectory_id"):
        value = entry.get(key)
        check_field(entry, key, where, is_name(value) or is_whole(value), "an id")
    scene = entry.get("scene_id")
    good = isinstance(scene, str) and is_name(Path(scene).stem) and Path(scene).stem != ".."
    check_field(entry, "scene_id", where, good, "a path such as mp3d/<scan>/<scan>.glb")
    check_field(entry, "start_position", where, _numbers(entry.get("start_position"), 3), "[x,y,z]")
    rotation = entry.get("start_rotation")
    expected = "a unit quaternion [x,y,z,w], not vertical"
    check_field(entry, "start_rotation", where, _is_rotation(rotation), expected)
    _check_instruction(entry, where)
    _check_goals(entry, where)


def _check_instruction(entry: Entry, where: str) -> None:
    text = entry.get("instruction")
    check_field(entry, "instruction", where, isinstance(text, dict), "an object")
    assert isinstance(text, dict)
    words, inner = text.get("instruction_text"), f"{where}: instruction"
    check_field(text, "instruction_text", inner, isinstance(words, str), "a text")
    tokens = text.get("instruction_tokens")
    good = tokens is None or (
        isinstance(tokens, list) and set(map(type, tokens)) <= {int} and min(tokens, default=0) >= 0
    )
    check_field(text, "instruction_tokens", inner, good, "a list of word numbers")
    language = text.get("language")
    check_field(text, "language", inner, language is None or is_strings([language]), "a text")
    name = text.get("instruction_id")
    check_field(
        text, "instruction_id", inner, name is None or is_name(name) or is_whole(name), "id"
    )


def _check_goals(entry: Entry, where: str) -> None:
    goals = entry.get("goals")
    good = goals is None or (
        isinstance(goals, list)
        and all(isinstance(g, dict) and _numbers(g.get("position"), 3) for g in goals)
        and all(is_finite(g.get("radius")) and g["radius"] == goals[0]["radius"] for g in goals)
    )
    check_field(entry, "goals", where, good, "a list of {position, radius}, one radius for all")
    path = entry.get("reference_path")
    good = path is None or (isinstance(path, list) and all(_numbers(point, 3) for point in path))
    check_field(entry, "reference_path", where, good, "a list of [x,y,z]")
    info = entry.get("info")
    distance = info.get("geodesic_distance") if isinstance(info, dict) else None
    unstated = isinstance(distance, float) and not math.isfinite(distance)
    good = info is None or unstated or (is_finite(distance) and distance >= 0)  # type: ignore[operator]
    check_field(entry, "info", where, good, "{geodesic_distance: metres}")


def _numbers(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(is_finite(v) for v in value)


def _is_rotation(value: Any) -> bool:
    if not _numbers(value, 4):
        return False
    unit = abs(math.hypot(*value) - 1) < 1e-3
    return unit and bool(np.isfinite(heading_of(value)))


def _points(values: Sequence[Any]) -> tuple[Vec3, ...]:
    points = from_habitat(np.array(values, np.float64).reshape(-1, 3))
    return tuple((x, y, z) for x, y, z in points.tolist())


def _without_padding(tokens: list[int]) -> tuple[int, ...]:
    count = len(tokens)
    while count and tokens[count - 1] == 0:
        count -= 1
    return tuple(tokens[:count])


def _entry(episode: Episode) -> Entry:
    if episode.position is None:
        raise InputError(
            f"episode {episode.instr_id}: it has no position in continuous space; VLN-CE needs one"
        )
    text: Entry = {"instruction_text": episode.instruction}
    if episode.token_ids is not None:
        padding = TOKENS - len(episode.token_ids)
        text["instruction_tokens"] = [*episode.token_ids, *[0] * padding]
    if episode.language is not None:
        text["language"] = episode.language
    if episode.instruction_id is not None:
        text["instruction_id"] = episode.instruction_id
    entry: Entry = {
        "episode_id": _id(episode.instr_id),
        "trajectory_id": episode.path_id,
        "scene_id": episode.scene or f"mp3d/{episode.scan}/{episode.scan}.glb",
        "start_position": to_habitat(episode.position).tolist(),
        "start_rotation": list(_rotation(episode)),
    }
    if episode.distance is not None:
        entry["info"] = {"geodesic_distance": episode.distance}
    if episode.goal_positions:
        entry["goals"] = [
            {"position": to_habitat(goal).tolist(), "radius": episode.goal_radius}
            for goal in episode.goal_positions
        ]
    rest = rest_fields(episode)
    entry["instruction"] = text | rest.pop("instruction", {})
    if episode.waypoints:
        entry["reference_path"] = to_habitat(episode.waypoints).tolist()
    return entry | rest


def _id(name: str) -> int | str:
    return int(name) if name.isdecimal() and str(int(name)) == name else name


def _rotation(episode: Episode) -> Quaternion:
    kept = episode.rotation
    if kept is not None and float(heading_of(kept)) == episode.heading:
        return kept
    x, y, z, w = quaternion_of(episode.heading).tolist()
    return (x, y, z, w)


def _trajectory(item: Any, where: str) -> Trajectory:
    item = _object(item, where)
    actions, places = item.get("actions"), item.get("locations")
    good = isinstance(actions, list) and all(is_whole(a) and a in _ACTIONS for a in actions)
    expected = "a list of 0 stop, 1 forward, 2 left, 3 right (4 look up, 5 look down)"
    check_field(item, "actions", where, good, expected)
    good = isinstance(places, list) and all(_numbers(point, 3) for point in places)
    check_field(item, "locations", where, good and places, "a list of [x,y,z]")
    assert isinstance(actions, list) and isinstance(places, list)
    forward = actions.count(int(Action.FORWARD))
    good = item.get("forward_steps") == forward == len(places) - 1
    check_field(item, "forward_steps", where, good, f"{forward} as in actions and locations - 1")
    return Trajectory(
        actions=np.array(actions, np.int64),
        positions=from_habitat(np.array(places, np.float64)),
    )


_ACTIONS = frozenset([*map(int, Action), LOOK_UP, LOOK_DOWN])
