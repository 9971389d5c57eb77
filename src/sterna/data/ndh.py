"""Navigation from Dialog History (NDH, from CVDN; Thomason et al., CoRL 2019): read and write.

A file is a JSON list of instances. Each stands where the navigator of a dialog asked: ``inst_idx,
scan, target, start_pano {pano, heading, elevation}, dialog_history [{nav_idx, role, message}],
nav_history``, and, but for test splits, ``game_idx`` (the dialog), ``end_panos`` (the goal region),
``planner_path`` (the way the oracle was shown: at most five steps of the shortest path) and
``player_path`` (the way the navigator then went). ``start_pano.elevation`` is not in radians; as in
the publisher's environment agents begin level.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Literal, get_args

from sterna.data.episodes import Episode, Turn
from sterna.data.r2r import (
    Entry,
    annotation_file,
    check_field,
    is_finite,
    is_name,
    is_strings,
    is_whole,
)
from sterna.data.rest import rest_fields, rest_of
from sterna.errors import InputError
from sterna.files import read_json, write_json

PathType = Literal["planner_path", "player_path", "trusted_path"]
History = Literal["none", "target", "oracle_ans", "nav_q_oracle_ans", "all"]

_ROLES = {"navigator": "<NAV>", "oracle": "<ORA>"}
_READ = (
    *("inst_idx", "scan", "target", "dialog_history", "nav_history", "game_idx", "end_panos"),
    *("planner_path", "player_path"),
)
_ANSWERS = ("end_panos", "planner_path", "player_path")


def read_ndh(
    source: str | os.PathLike[str],
    split: str | None = None,
    *,
    path_type: PathType = "trusted_path",
    history: History = "all",
) -> list[Episode]:
    """Read episodes in file order; `source` is a file, or a data folder together with `split`.

    ``instr_id`` is ``inst_idx``, ``path_id`` the dialog (test splits: ``inst_idx``), `goals` the
    end region, and `path` the way that `path_type` names (see `supervision`). The instruction is
    made of the dialog as `history` says (see `instruction_of`). Raises `InputError` naming file,
    instance and field.
    """
    if path_type not in get_args(PathType):
        names = ", ".join(get_args(PathType))
        raise InputError(f"NDH: path_type must be one of {names}; found {path_type!r}")
    file = annotation_file(source, "ndh", split)
    entries = read_json(file)
    if not isinstance(entries, list):
        raise InputError(f"{file}: expected a JSON list of instances")
    episodes, seen = [], set()
    for index, entry in enumerate(entries):
        where = f"{file}: {_label(entry, index)}"
        _check(entry, where)
        if entry["inst_idx"] in seen:
            raise InputError(f"{where}: inst_idx occurs twice; ids must differ")
        seen.add(entry["inst_idx"])
        episodes.append(_episode(entry, split, path_type, history))
    return episodes


def supervision(
    planner_path: Sequence[str], player_path: Sequence[str], path_type: PathType
) -> tuple[str, ...]:
    """Return the path that is followed and scored against.

    "trusted_path": the player's where it passes through the planner's last node behind its start,
    else the planner's. (The publisher's environment and evaluator.)
    """
    trusted = planner_path[-1] in player_path[1:] if planner_path else False
    player = path_type == "player_path" or (path_type == "trusted_path" and trusted)
    return tuple(player_path if player else planner_path)


def instruction_of(dialog: Sequence[Turn], target: str, history: History = "all") -> str:
    """Stitch a dialog and its target into one instruction, as the publisher's environment does.

    "all": every turn behind <NAV> or <ORA>, then the target behind <TAR>; "nav_q_oracle_ans" the
    last two turns, "oracle_ans" the last; "target" none; "none" no words at all. Without a dialog
    it is the target alone.
    """
    if history not in get_args(History):
        names = ", ".join(get_args(History))
        raise InputError(f"NDH: history must be one of {names}; found {history!r}")
    if history == "none":
        return ""
    kept = {"target": 0, "oracle_ans": 1, "nav_q_oracle_ans": 2}.get(history, len(dialog))
    turns = dialog[len(dialog) - min(kept, len(dialog)) :]
    said = [f"{_ROLES[turn.role]} {turn.message}" for turn in turns]
    return " ".join([*said, f"<TAR> {target}"])


def write_ndh(path: str | os.PathLike[str], episodes: Iterable[Episode]) -> None:
    """Write episodes as the publisher's JSON; reading a file and writing it gives equal values."""
    write_json(path, [_entry(episode) for episode in episodes], indent=2)


def _label(entry: Any, index: int) -> str:
    name = entry.get("inst_idx") if isinstance(entry, dict) else None
    return f"instance {name}" if is_whole(name) else f"instance number {index}"


def _check(entry: Any, where: str) -> None:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: expected an object with inst_idx, scan, start_pano, ...")
    get = entry.get
    check_field(entry, "inst_idx", where, is_whole(get("inst_idx")), "a whole number")
    check_field(entry, "scan", where, is_name(get("scan")), "a name of letters, digits, _ - + .")
    check_field(entry, "target", where, isinstance(get("target"), str), "a text")
    start = get("start_pano")
    good = isinstance(start, dict) and is_strings([start.get("pano")])
    good = good and is_finite(start.get("heading"))  # type: ignore[union-attr]
    check_field(entry, "start_pano", where, good, "{pano: viewpoint, heading: radians}")
    turns = get("dialog_history")
    good = isinstance(turns, list) and all(map(_is_turn, turns))
    check_field(
        entry, "dialog_history", where, good, "turns {nav_idx, role: navigator or oracle, message}"
    )
    if "nav_history" in entry:
        check_field(entry, "nav_history", where, is_strings(get("nav_history")), "viewpoint ids")
    if "game_idx" in entry:
        check_field(entry, "game_idx", where, is_whole(get("game_idx")), "a whole number")
    if any(name in entry for name in _ANSWERS):
        for name in _ANSWERS:
            good = bool(get(name)) and is_strings(get(name))
            check_field(entry, name, where, good, "viewpoint ids (test splits have no answers)")


def _is_turn(turn: Any) -> bool:
    return (
        isinstance(turn, dict)
        and turn.get("role") in tuple(_ROLES)
        and isinstance(turn.get("message"), str)
        and is_whole(turn.get("nav_idx"))
    )


def _episode(entry: Entry, split: str | None, path_type: PathType, history: History) -> Episode:
    start = entry["start_pano"]
    dialog = tuple(
        Turn(turn["role"], turn["message"], turn["nav_idx"]) for turn in entry["dialog_history"]
    )
    planner, player = (tuple(entry.get(name, ())) for name in ("planner_path", "player_path"))
    path = supervision(planner, player, path_type) or (start["pano"],)
    steps = tuple(viewpoint for viewpoint, _ in groupby(path))  # looking around is no step
    return Episode(
        instr_id=str(entry["inst_idx"]),
        scan=entry["scan"],
        path=steps,
        heading=float(start["heading"]),
        instruction=instruction_of(dialog, entry["target"], history),
        path_id=entry.get("game_idx", str(entry["inst_idx"])),
        split=split,
        goals=tuple(entry.get("end_panos", ())),
        target=entry["target"],
        dialog=dialog,
        walked=tuple(entry.get("nav_history", ())),
        planner_path=planner,
        player_path=player,
        rest=rest_of(entry, _READ),
    )


def _entry(episode: Episode) -> Entry:
    if episode.target is None or not episode.instr_id.lstrip("-").isdecimal():
        raise InputError(
            f"episode {episode.instr_id}: NDH needs a target and a number (inst_idx) as its id"
        )
    entry: Entry = {"inst_idx": int(episode.instr_id), "scan": episode.scan}
    entry["target"] = episode.target
    entry["dialog_history"] = [
        {"nav_idx": turn.at, "role": turn.role, "message": turn.message} for turn in episode.dialog
    ]
    if episode.walked:
        entry["nav_history"] = list(episode.walked)
    if not isinstance(episode.path_id, str):
        entry["game_idx"] = episode.path_id
    if episode.goals:
        entry["end_panos"] = list(episode.goals)
        entry["planner_path"] = list(episode.planner_path)
        entry["player_path"] = list(episode.player_path)
    rest = rest_fields(episode)
    start = {"pano": episode.start} | rest.pop("start_pano", {}) | {"heading": episode.heading}
    return entry | {"start_pano": start} | rest
