"""REVERIE annotations (Qi et al., CVPR 2020), first and second release: read and write.

One file entry is one path to one target object with several instructions: R2R's fields, ``objId``
(the target, whole number) and ``id`` = ``{path_id}_{objId}``; a path has one entry per target. Test
splits hold ``id``, scan, start, heading and instructions. The goals of an instruction stand in the
boxes (`sterna.data.boxes`): every viewpoint that sees the object.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sterna.data.boxes import Boxes
from sterna.data.episodes import Episode
from sterna.data.r2r import (
    Entry,
    annotation_file,
    check_entry,
    check_field,
    entries_of,
    episodes_of,
    is_name,
    is_whole,
)
from sterna.errors import InputError
from sterna.files import read_json, write_json

RELEASES = {1: "reverie", 2: "reverie-v2"}
"""Name of each annotation release in a data folder."""


def read_reverie(
    source: str | os.PathLike[str],
    split: str | None = None,
    *,
    release: int = 1,
    boxes: Boxes | None = None,
) -> list[Episode]:
    """Read episodes in file order; `source` is a file, or a data folder together with `split`.

    ``instr_id`` is ``{path_id}_{objId}_{j}``, in test splits ``{id}_{j}``, as the leaderboard wants
    it; ids that occur twice are an `InputError`. With `boxes`, `goals` are filled (`with_goals`).
    ``instructions_l`` and ``ix`` (leftovers of R2R) are not kept. Raises `InputError` naming file,
    entry and field.
    """
    if release not in RELEASES:
        raise InputError(f"REVERIE has releases 1 and 2, found {release!r}")
    file = annotation_file(source, RELEASES[release], split)
    entries = read_json(file)
    if not isinstance(entries, list):
        raise InputError(f"{file}: expected a JSON list, found {type(entries).__name__}")
    rows = [_row(entry, f"{file}: entry {index}") for index, entry in enumerate(entries)]
    answers = [
        (entry["path_id"], int(entry["objId"])) if "objId" in entry else (entry["id"], None)
        for entry in entries
        for _ in entry["instructions"]
    ]
    flat = episodes_of(rows, split, str(file))
    episodes = [
        replace(episode, path_id=path_id, object_id=target, rest=None)
        for episode, (path_id, target) in zip(flat, answers, strict=True)
    ]
    return episodes if boxes is None else with_goals(episodes, boxes)


def with_goals(episodes: Iterable[Episode], boxes: Boxes) -> list[Episode]:
    """Fill each episode's goals: all viewpoints that see its target (test episodes stay as is).

    A target that no viewpoint sees is an `InputError`. Goals follow the boxes even where the
    annotated path does not end on one of them (85 of 4,150 training entries of the first release).
    """
    done = []
    for episode in episodes:
        goals: tuple[str, ...] = ()
        if episode.object_id is not None:
            goals = boxes.seen_from(episode.scan, episode.object_id)
            if not goals:
                raise InputError(
                    f"episode {episode.instr_id}: no viewpoint of {episode.scan} sees object "
                    f"{episode.object_id}; annotations and boxes must be of one data set"
                )
        done.append(replace(episode, goals=goals))
    return done


def write_reverie(path: str | os.PathLike[str], episodes: Sequence[Episode]) -> None:
    """Write episodes as the publisher's JSON (without ``instructions_l`` and ``ix``)."""
    write_json(path, reverie_entries(episodes), indent=2)


def reverie_entries(episodes: Iterable[Episode]) -> list[Entry]:
    """Group episodes by path and target, in order of first sight, into REVERIE entries.

    Goals are not written: they follow from the boxes. `InputError` where the episodes of one path
    and target differ in scan, path or heading.
    """
    answers: dict[str, Episode] = {}
    renamed = []
    for episode in episodes:
        key = _key(episode.path_id, episode.object_id)
        answers.setdefault(key, episode)
        renamed.append(replace(episode, path_id=key))
    entries = entries_of(renamed)
    for entry in entries:
        first = answers[entry["path_id"]]
        entry["id"] = entry.pop("path_id")
        if first.object_id is not None:
            entry |= {"path_id": first.path_id, "objId": first.object_id}
    return entries


def _key(path_id: int | str, target: int | None) -> str:
    return str(path_id) if target is None else f"{path_id}_{target}"


def _row(entry: Any, where: str) -> Entry:
    """Check an entry; return it with the id of path and target in the place of R2R's path id."""
    if not isinstance(entry, dict):
        check_entry(entry, where)
    if "objId" not in entry:
        path = entry.get("path")
        # More than the start means a split with answers, so the target must be there.
        known = isinstance(path, list) and len(path) > 1
        check_field(entry, "objId", where, not known, "the target's whole number (or a test split)")
        check_field(entry, "id", where, _is_id(entry.get("id")), "an id")
        row: Entry = entry | {"path_id": str(entry["id"])}
        check_entry(row, where)
        return row
    check_entry(entry, where)
    target = entry["objId"]
    check_field(entry, "objId", where, _is_target(target), "a whole number from 0 on")
    key = _key(entry["path_id"], int(target))
    if "id" in entry:
        check_field(entry, "id", where, entry["id"] == key, f"path_id_objId, here {key}")
    targeted: Entry = entry | {"path_id": key}
    return targeted


def _is_id(value: Any) -> bool:
    return is_name(value) or is_whole(value)


def _is_target(value: Any) -> bool:
    """Whether `value` is a whole number from 0 on, or a text of its digits."""
    if isinstance(value, str):
        return value.isascii() and value.isdigit() and len(value) <= 18
    return is_whole(value) and value >= 0
