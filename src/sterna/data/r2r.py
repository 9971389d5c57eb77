"""Room-to-Room annotations: read, write, and check against the navigation graphs.

One file entry is one path with several instructions; one `Episode` is one instruction. The
format is that of Anderson et al. (CVPR 2018): ``distance, scan, path_id, path, heading,
instructions``; DUET's ``R2R_{split}_enc.json`` adds ``instr_encodings`` (BERT ids per instruction).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from sterna.data.episodes import Episode
from sterna.data.layout import Layout
from sterna.data.rest import rest_fields, rest_of
from sterna.errors import InputError
from sterna.files import read_json, write_json
from sterna.world.graph import NavGraph, load_graph

Entry = dict[str, Any]

_READ = ("scan", "path_id", "path", "heading", "distance", "instructions", "instr_encodings")


def read_r2r(source: str | os.PathLike[str], split: str | None = None) -> list[Episode]:
    """Read episodes in file order; `source` is a file, or a data folder together with `split`.

    ``instr_id`` is ``{path_id}_{j}``; `split` is kept in each episode. Test splits hold the start
    viewpoint only and no distance. Raises `InputError` naming file, entry and field.
    """
    file = annotation_file(source, "r2r", split)
    return episodes_of(read_entries(file), split, str(file))


def annotation_file(source: str | os.PathLike[str], task: str, split: str | None) -> Path:
    """Return `source` if it is no folder, else the annotation file of `task` and `split` in it."""
    path = Path(source)
    if not path.is_dir():
        return path
    if split is None:
        raise InputError(f"{path}: is a folder; name the split to read (train, val_seen, ...)")
    return Layout(path).annotations(task, split)


def read_entries(file: str | os.PathLike[str]) -> list[Entry]:
    """Read an annotation file and check every field's type; return its entries unchanged."""
    value = read_json(file)
    if not isinstance(value, list):
        raise InputError(f"{file}: expected a JSON list of paths, found {_kind(value)}")
    for index, entry in enumerate(value):
        check_entry(entry, f"{file}: entry {index}")
    return value


def episodes_of(entries: Iterable[Entry], split: str | None, name: str = "R2R") -> list[Episode]:
    """Flatten checked entries to one episode an instruction; duplicate ids are an `InputError`."""
    episodes = [episode for entry in entries for episode in _flatten(entry, split)]
    seen: set[str] = set()
    for episode in episodes:
        if episode.instr_id in seen:
            raise InputError(f"{name}: instr_id {episode.instr_id} occurs twice; ids must differ")
        seen.add(episode.instr_id)
    return episodes


def write_r2r(path: str | os.PathLike[str], episodes: Sequence[Episode]) -> None:
    """Write episodes as the publisher's JSON; reading a file and writing it gives equal values.

    So does a file of R4R or FGR2R, whose further fields an episode keeps in `rest`.
    """
    write_json(path, entries_of(episodes), indent=2)


def entries_of(episodes: Iterable[Episode]) -> list[Entry]:
    """Group episodes by path id, in order of first sight, into R2R entries."""
    groups: dict[int | str, list[Episode]] = {}
    for episode in episodes:
        groups.setdefault(episode.path_id, []).append(episode)
    return [_entry(group) for group in groups.values()]


def load_graphs(folder: str | os.PathLike[str], episodes: Iterable[Episode]) -> dict[str, NavGraph]:
    """Load the graph of every scan the episodes name, in order of first sight."""
    scans = dict.fromkeys(episode.scan for episode in episodes)
    return {scan: load_graph(Path(folder), scan) for scan in scans}


def check_episodes(episodes: Iterable[Episode], graphs: Mapping[str, NavGraph]) -> list[str]:
    """Check paths on the graphs; return warnings about stated distances that do not fit.

    Unknown scan or viewpoint, and a step where the graph has no edge, are an `InputError`. A
    ``distance`` more than 0.01 m off the length along the path gives one warning a path.
    """
    warnings: list[str] = []
    seen: set[tuple[str, int | str, tuple[str, ...]]] = set()
    for episode in episodes:
        key = (episode.scan, episode.path_id, episode.path)
        if key in seen:
            continue
        seen.add(key)
        length = _walk(episode, graphs)
        if episode.distance is not None and abs(length - episode.distance) > 0.01:
            warnings.append(
                f"episode {episode.instr_id}: distance says {episode.distance} m, "
                f"the path is {length:.3f} m long"
            )
    return warnings


def check_entry(entry: Any, where: str) -> None:
    """Check the types of the fields shared by R2R, R4R and FGR2R; `InputError` names the field."""
    if not isinstance(entry, dict):
        raise InputError(f"{where}: expected an object with scan, path, ..., found {_kind(entry)}")
    get = entry.get
    path, texts, path_id = get("path"), get("instructions"), get("path_id")
    check_field(entry, "scan", where, is_name(get("scan")), "a name of letters, digits, _ - + .")
    check_field(entry, "path_id", where, is_name(path_id) or is_whole(path_id), "an id")
    check_field(entry, "heading", where, is_finite(get("heading")), "finite radians")
    check_field(entry, "path", where, path and is_strings(path), "a list of viewpoint ids")
    check_field(entry, "instructions", where, texts and is_strings(texts), "a list of texts")
    if "distance" in entry:
        distance = entry["distance"]
        good = is_finite(distance) and distance >= 0
        check_field(entry, "distance", where, good, "finite metres")
    if "instr_encodings" in entry:
        check_field(entry, "instr_encodings", where, _encoded(entry), "ids per instruction")


def is_name(value: Any) -> bool:
    """Whether `value` is a name that can stand in a file name and in a message."""
    return isinstance(value, str) and re.fullmatch(r"[\w.+-]{1,100}", value) is not None


def is_whole(value: Any) -> bool:
    """Whether `value` is an integer of at most 18 digits (a bool is not)."""
    return type(value) is int and abs(value) < 10**18


def is_finite(value: Any) -> bool:
    """Whether `value` is a finite JSON number (a bool is not; nor an integer beyond floats)."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < 2**53


def is_strings(value: Any) -> bool:
    """Whether `value` is a list of strings."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _encoded(entry: Entry) -> bool:
    rows = entry["instr_encodings"]
    if not isinstance(rows, list) or len(rows) != len(entry["instructions"]):
        return False
    return all(
        isinstance(row, list) and all(type(i) is int and i >= 0 for i in row) for row in rows
    )


def check_field(entry: Entry, name: str, where: str, good: Any, expected: str) -> None:
    """Raise `InputError` for the field `name` unless `good`; `expected` says what it should be."""
    if not good:
        found = _kind(entry[name]) if name in entry else "nothing"
        raise InputError(f"{where}: {name}: expected {expected}, found {found}")


def _kind(value: Any) -> str:
    """Short, single-line description of a wrong value."""
    text = repr(value) if not isinstance(value, list | dict) else f"{len(value)} items"
    return f"{type(value).__name__} {text[:60]}"


def _flatten(entry: Entry, split: str | None) -> list[Episode]:
    encodings = entry.get("instr_encodings")
    distance = entry.get("distance")
    rest = rest_of(entry, _READ)
    return [
        Episode(
            instr_id=f"{entry['path_id']}_{j}",
            scan=entry["scan"],
            path=tuple(entry["path"]),
            heading=float(entry["heading"]),
            instruction=text,
            path_id=entry["path_id"],
            distance=None if distance is None else float(distance),
            split=split,
            token_ids=None if encodings is None else tuple(encodings[j]),
            rest=rest,
        )
        for j, text in enumerate(entry["instructions"])
    ]


def _entry(group: list[Episode]) -> Entry:
    first = group[0]
    for episode in group:
        if (episode.scan, episode.path, episode.heading) != (first.scan, first.path, first.heading):
            raise InputError(
                f"episodes {first.instr_id} and {episode.instr_id}: one path_id, but scan, path or "
                "heading differ; give different paths different ids"
            )
    entry: Entry = {} if first.distance is None else {"distance": first.distance}
    entry |= {"scan": first.scan, "path_id": first.path_id, "path": list(first.path)}
    entry |= {"heading": first.heading, "instructions": [e.instruction for e in group]}
    tokens = [list(e.token_ids) for e in group if e.token_ids is not None]
    if len(tokens) == len(group):
        entry["instr_encodings"] = tokens
    return entry | rest_fields(first)


def _walk(episode: Episode, graphs: Mapping[str, NavGraph]) -> float:
    """Length in metres along an episode's path; `InputError` where it leaves the graph."""
    graph = graphs.get(episode.scan)
    if graph is None:
        raise InputError(
            f"episode {episode.instr_id}: no graph for scan {episode.scan!r}; "
            "add its <scan>_connectivity.json"
        )
    if not math.isfinite(episode.heading):
        raise InputError(f"episode {episode.instr_id}: heading is {episode.heading}, not finite")
    unknown = [viewpoint for viewpoint in episode.path if viewpoint not in graph.order]
    if unknown:
        raise InputError(
            f"episode {episode.instr_id}: viewpoint {unknown[0][:60]!r} is not in the graph of "
            f"{episode.scan}; path and connectivity files must be of one release"
        )
    nodes = [graph.index(viewpoint) for viewpoint in episode.path]
    for i, j in pairwise(nodes):
        if not graph.has_edge(i, j):
            raise InputError(
                f"episode {episode.instr_id}: the path steps from {graph.viewpoints[i]} to "
                f"{graph.viewpoints[j]}, but {episode.scan} has no such edge"
            )
    return graph.length(nodes)
