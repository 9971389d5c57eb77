"""Room-for-Room (Jain et al., ACL 2019): long paths made by joining two paths of R2R.

The rule (measured: it gives the published val_seen file value for value): for every ordered pair
(A, B) of different R2R paths of one scan whose geodesic distance(end of A, start of B) < 3 m,
path = A[:-1] + shortest path(end of A, start of B) + B[1:], heading = A's, instructions = every
text of A followed by every text of B, distance = distance of A + the joining geodesic + distance
of B. Path ids count from 0 over scans, first paths and second paths.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from sterna.data.episodes import Episode
from sterna.data.r2r import (
    Entry,
    annotation_file,
    check_field,
    entries_of,
    episodes_of,
    is_finite,
    is_name,
    is_strings,
    is_whole,
    read_entries,
)
from sterna.errors import InputError
from sterna.world.graph import NavGraph

JOIN_WITHIN = 3.0
_WORD = (1 << 64) - 1


def read_r4r(source: str | os.PathLike[str], split: str | None = None) -> list[Episode]:
    """Read an R4R file, or that of `split` in a data folder; fields and errors as `read_r2r`."""
    file = annotation_file(source, "r4r", split)
    entries = read_entries(file)
    for index, entry in enumerate(entries):
        where = f"{file}: entry {index}"
        for name in ("first_path_id", "second_path_id"):
            good = is_name(entry.get(name)) or is_whole(entry.get(name))
            check_field(entry, name, where, good, "a path id of R2R")
        check_field(entry, "shortest_path", where, is_strings(entry.get("shortest_path")), "ids")
        good = is_finite(entry.get("shortest_path_distance"))
        check_field(entry, "shortest_path_distance", where, good, "finite metres")
    return episodes_of(entries, split, str(file))


def derive_r4r(
    source: Sequence[Episode] | Sequence[Entry], graphs: Mapping[str, NavGraph]
) -> list[Entry]:
    """Derive R4R entries from R2R ones (episodes or entries) by the rule above.

    `graphs` maps every scan to its graph (`sterna.data.r2r.load_graphs`). Raises `InputError` for
    a scan without a graph, an unknown viewpoint, or an entry without a distance (a test split).
    """
    if source and isinstance(source[0], Episode):
        entries = entries_of(episode for episode in source if isinstance(episode, Episode))
    else:
        entries = [entry for entry in source if isinstance(entry, dict)]
    by_scan: dict[str, list[Entry]] = {}
    for entry in entries:
        by_scan.setdefault(entry["scan"], []).append(entry)
    joined = [
        pair for scan in publication_order(by_scan) for pair in _pairs(scan, by_scan[scan], graphs)
    ]
    for path_id, entry in enumerate(joined):
        entry["path_id"] = path_id
    return joined


def publication_order(scans: Iterable[str]) -> list[str]:
    """Order of scans in the published files, which fixes the path ids.

    The publisher's script walked a Python 2 dictionary keyed by scan, so the order is that of
    CPython 2.7's hash table after inserting `scans` in turn; this replays its insertions
    (open addressing, growth to four times the number of keys at two thirds full).
    """
    slots: list[str | None] = [None] * 8
    for count, scan in enumerate(dict.fromkeys(scans), start=1):
        _insert(slots, scan)
        if 3 * count >= 2 * len(slots):
            size = 8
            while size <= 4 * count:
                size *= 2
            kept = [name for name in slots if name is not None]
            slots = [None] * size
            for name in kept:
                _insert(slots, name)
    return [name for name in slots if name is not None]


def _insert(slots: list[str | None], key: str) -> None:
    """Put a key where CPython 2.7 (64 bit) would: its string hash, its probe sequence."""
    text = key.encode()
    value = text[0] << 7 if text else 0
    for byte in text:
        value = (1000003 * value & _WORD) ^ byte
    probe = perturb = (value ^ len(text)) & _WORD
    while slots[probe & (len(slots) - 1)] is not None:
        probe = (5 * probe + perturb + 1) & _WORD
        perturb >>= 5
    slots[probe & (len(slots) - 1)] = key


def _pairs(scan: str, entries: list[Entry], graphs: Mapping[str, NavGraph]) -> list[Entry]:
    graph = graphs.get(scan)
    if graph is None:
        raise InputError(f"R4R: no graph for scan {scan!r}; add its <scan>_connectivity.json")
    for entry in entries:
        if entry.get("distance") is None:
            raise InputError(
                f"R4R: path {entry['path_id']} has no distance; test splits cannot be joined"
            )
    ends = [graph.index(entry["path"][-1]) for entry in entries]
    starts = [graph.index(entry["path"][0]) for entry in entries]
    near = graph.distances[np.ix_(ends, starts)] < JOIN_WITHIN
    np.fill_diagonal(near, False)
    return [_join(entries[i], entries[j], graph) for i, j in np.argwhere(near).tolist()]


def _join(first: Entry, second: Entry, graph: NavGraph) -> Entry:
    end, start = graph.index(first["path"][-1]), graph.index(second["path"][0])
    bridge = [graph.viewpoints[node] for node in graph.shortest_path(end, start)]
    path = first["path"][:-1] + bridge + second["path"][1:]
    begin, goal = graph.index(path[0]), graph.index(path[-1])
    return {
        "distance": first["distance"] + float(graph.distances[end, start]) + second["distance"],
        "first_path_id": first["path_id"],
        "heading": first["heading"],
        "instructions": [a + b for a in first["instructions"] for b in second["instructions"]],
        "path": path,
        "path_id": 0,
        "scan": first["scan"],
        "second_path_id": second["path_id"],
        "shortest_path": [graph.viewpoints[node] for node in graph.shortest_path(begin, goal)],
        "shortest_path_distance": float(graph.distances[begin, goal]),
    }
