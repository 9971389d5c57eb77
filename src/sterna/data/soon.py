"""SOON annotations (Zhu et al., CVPR 2021): read and write.

A file is a JSON list; an entry is a target object with several paths to it and several
instructions: ``path`` [[viewpoint]], ``instructions`` [[attribute, relation, region, neighbouring
regions, all of it in full]], ``bboxes`` [{image_id, scan, obj_name, target, ...}], one for each
viewpoint from which the target is seen; ``target`` gives heading and elevation (radians) of
``center``, ``left_top``, ``right_top``, ``right_bottom`` and ``left_bottom``. Test splits have
starts for paths, no ``bboxes``, and their own ``instr_id``. DUET's files (``*_enc.jsonl``) hold one
path a line, with ``path_id``, instructions as objects (``full``) and ``instr_encodings``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from sterna.data.episodes import Direction, Episode, Outline
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
from sterna.files import read_json, read_jsonl, write_json

HEADING = 1.52
"""Radians in which agents begin: the files say none, the publisher's evaluation takes this."""
PARTS = 5
"""Pieces of an instruction: attribute, relation, region, neighbouring regions, in full."""

_SPLITS = {"train": 0, "val_seen_instrs": 1, "val_unseen_instrs": 2, "val_unseen_house": 3}
_SPLITS |= {"test": 4}
_CORNERS = ("left_top", "right_top", "right_bottom", "left_bottom")
_READ = ("path", "instructions", "instr_encodings", "bboxes", "instr_id", "path_id")


def read_soon(source: str | os.PathLike[str], split: str | None = None) -> list[Episode]:
    """Read episodes in file order; `source` is a file, or a data folder together with `split`.

    One episode is one instruction on one path, ``instr_id`` = ``{path_id}_{j}``; paths are numbered
    ``{split's number}-{n}`` through a file, as the publisher's code does, unless the file numbers
    them. `goals` are the viewpoints that see the target, `outlines` how it looks from there,
    `instruction` the full text, `parts` all five. Raises `InputError` naming file, entry and field.
    """
    file = annotation_file(source, "soon", split)
    episodes: list[Episode] = []
    count = 0
    for where, entry in _entries(file):
        _check(entry, where)
        shared, named = _shared(entry, split), entry.get("path_id")
        for path in [entry["path"]] if is_strings(entry["path"]) else entry["path"]:
            path_id = _number(count, split) if named is None else named
            episodes += _episodes(entry, tuple(path), path_id, shared)
            count += 1
    seen: set[str] = set()
    for episode in episodes:
        if episode.instr_id in seen:
            raise InputError(f"{file}: instr_id {episode.instr_id} occurs twice; ids must differ")
        seen.add(episode.instr_id)
    return episodes


def write_soon(path: str | os.PathLike[str], episodes: Sequence[Episode]) -> None:
    """Write episodes as the publisher's JSON; reading a file and writing it gives equal values.

    Neighbouring paths with the same instructions and target make one entry (instructions always
    stand in a list). Paths that are not numbered as `read_soon` would are written one by one with
    their ``path_id``.
    """
    groups = [list(group) for _, group in groupby(episodes, key=lambda e: (e.path_id, e.scan))]
    numbered = [_number(n, group[0].split) for n, group in enumerate(groups)]
    if [group[0].path_id for group in groups] != numbered:
        write_json(path, [_entry([group], named=True) for group in groups], indent=None)
        return
    entries = [_entry(list(same), named=False) for _, same in groupby(groups, key=_content)]
    write_json(path, entries, indent=None)


def _entries(file: Path) -> Iterator[tuple[str, Any]]:
    if ".jsonl" in file.name:
        yield from ((f"{file}: line {n}", entry) for n, entry in read_jsonl(file))
        return
    content = read_json(file)
    if not isinstance(content, list):
        raise InputError(f"{file}: expected a JSON list of targets with paths and instructions")
    yield from ((f"{file}: entry {n}", entry) for n, entry in enumerate(content))


def _check(entry: Any, where: str) -> None:
    if not isinstance(entry, dict):
        raise InputError(f"{where}: expected an object with path, instructions, bboxes, ...")
    paths = entry.get("path")
    good = isinstance(paths, list) and bool(paths)
    good = good and (is_strings(paths) or all(path and is_strings(path) for path in paths))  # type: ignore[union-attr]
    check_field(entry, "path", where, good, "paths, each a list of viewpoint ids")
    texts = _texts(entry)
    good = bool(texts) and all(_full(text) is not None for text in texts)
    check_field(entry, "instructions", where, good, f"texts in {PARTS} parts, the last in full")
    tokens = entry.get("instr_encodings")
    if tokens is not None:
        good = isinstance(tokens, list) and len(tokens) == len(texts) and all(map(_is_ids, tokens))
        check_field(entry, "instr_encodings", where, good, "ids under 'full', one an instruction")
    boxes = entry.get("bboxes", [])
    check_field(entry, "bboxes", where, isinstance(boxes, list), "a list")
    for n, box in enumerate(boxes):
        _check_box(box, f"{where}: bboxes {n}")
    scan = _scan(entry)
    entry_of_scan = {"scan": scan} if scan is not None else {}
    check_field(entry_of_scan, "scan", where, is_name(scan), "a name, here or in bboxes")
    for name in ("path_id", "instr_id"):
        value = entry.get(name)
        if value is not None:
            check_field(entry, name, where, is_name(value) or is_whole(value), "an id")


def _check_box(box: Any, where: str) -> None:
    if not isinstance(box, dict):
        raise InputError(f"{where}: expected an object with image_id and target")
    check_field(box, "image_id", where, is_strings([box.get("image_id")]), "a viewpoint id")
    target = box.get("target")
    good = isinstance(target, dict) and all(
        isinstance(corner := target.get(name), dict)
        and is_finite(corner.get("heading"))
        and is_finite(corner.get("elevation"))
        for name in ("center", *_CORNERS)
    )
    check_field(box, "target", where, good, "heading and elevation of center and four corners")


def _texts(entry: Entry) -> list[Any]:
    """Instructions of an entry; test splits may hold the five parts of one without a list."""
    texts = entry.get("instructions")
    if is_strings(texts) and len(texts) == PARTS:  # type: ignore[arg-type]
        return [texts]
    return texts if isinstance(texts, list) else []


def _full(text: Any) -> str | None:
    if isinstance(text, dict):
        text = [text.get("full")]
    elif not isinstance(text, list) or len(text) != PARTS:
        return None
    return text[-1] if is_strings(text) else None


def _is_ids(tokens: Any) -> bool:
    ids = tokens.get("full") if isinstance(tokens, dict) else None
    return isinstance(ids, list) and all(type(i) is int and i >= 0 for i in ids)


def _scan(entry: Entry) -> Any:
    boxes = entry.get("bboxes") or [{}]
    return entry.get("scan", boxes[0].get("scan"))


def _number(place: int, split: str | None) -> str:
    return f"{_SPLITS.get(str(split), split or 0)}-{place}"


def _shared(entry: Entry, split: str | None) -> dict[str, Any]:
    """Return what all episodes of an entry have in common."""
    boxes, name = entry.get("bboxes", []), entry.get("instr_id")
    thing = boxes[0].get("obj_name") if boxes else None
    return {
        "scan": _scan(entry),
        "heading": HEADING,
        "split": split,
        "instruction_id": None if name is None else str(name),
        "goals": tuple(dict.fromkeys(box["image_id"] for box in boxes)),
        "outlines": tuple(map(_outline, boxes)),
        "target": thing if isinstance(thing, str) else None,
        "rest": _rest(entry),
    }


def _episodes(
    entry: Entry, path: tuple[str, ...], path_id: int | str, shared: dict[str, Any]
) -> list[Episode]:
    tokens = entry.get("instr_encodings")
    return [
        Episode(
            instr_id=f"{path_id}_{j}",
            path=path,
            instruction=str(_full(text)),
            path_id=path_id,
            token_ids=None if tokens is None else tuple(tokens[j]["full"]),
            parts=tuple(text) if isinstance(text, list) else (),
            **shared,
        )
        for j, text in enumerate(_texts(entry))
    ]


def _rest(entry: Entry) -> str | None:
    """Keep what is not read, of the entry and (under ``bboxes``) of each of its boxes."""
    others = {key: value for key, value in entry.items() if key not in _READ}
    boxes = entry.get("bboxes", [])
    extras = [
        {key: value for key, value in box.items() if key not in ("image_id", "target")}
        for box in boxes
    ]
    return rest_of(others | ({"bboxes": extras} if any(extras) else {}), ())


def _outline(box: Entry) -> Outline:
    target = box["target"]
    first, second, third, fourth = (_direction(target[name]) for name in _CORNERS)
    return Outline(box["image_id"], _direction(target["center"]), (first, second, third, fourth))


def _direction(angles: Entry) -> Direction:
    return float(angles["heading"]), float(angles["elevation"])


def _content(group: Sequence[Episode]) -> tuple[Any, ...]:
    """What must be equal for paths to share an entry."""
    first = group[0]
    texts = tuple((e.instruction, e.parts, e.token_ids) for e in group)
    return first.scan, first.outlines, first.instruction_id, first.rest, texts


def _entry(groups: Sequence[Sequence[Episode]], *, named: bool) -> Entry:
    group = groups[0]
    first, rest = group[0], rest_fields(group[0])
    extras: list[Entry] = rest.pop("bboxes", [{} for _ in first.outlines])
    entry: Entry = {"path": [list(paths[0].path) for paths in groups]}
    entry["instructions"] = [list(e.parts) or [*[""] * (PARTS - 1), e.instruction] for e in group]
    if all(e.token_ids is not None for e in group):
        entry["instr_encodings"] = [{"full": list(e.token_ids or ())} for e in group]
    if first.outlines:
        pairs = zip(first.outlines, extras, strict=True)
        entry["bboxes"] = [_box(outline) | extra for outline, extra in pairs]
    if "scan" not in rest and not any("scan" in extra for extra in extras):
        entry["scan"] = first.scan
    if first.instruction_id is not None:
        name = first.instruction_id
        entry["instr_id"] = int(name) if name.isdecimal() else name
    return entry | ({"path_id": first.path_id} if named else {}) | rest


def _box(outline: Outline) -> Entry:
    named = zip(("center", *_CORNERS), (outline.centre, *outline.corners), strict=True)
    target = {name: {"heading": h, "elevation": e} for name, (h, e) in named}
    return {"image_id": outline.viewpoint, "target": target}
