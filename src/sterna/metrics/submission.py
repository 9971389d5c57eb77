"""Trajectory files: read what others wrote, write what leaderboards take, check every hop.

Formats read: the R2R leaderboard's ``[{"instr_id", "trajectory": [[viewpoint, heading,
elevation], ...]}]``; DUET's `trajectory` as a list of hops ``[[vp], [vp, vp], ...]``; NaviLLM's
`pred_path` with a first element of aggregate scores (skipped). Objects: `predObjId` (REVERIE's
leaderboard) or `pred_objid` (DUET). NDH's items say `inst_idx`; RxR's are lines of JSON
``{"instruction_id", "path"}``; SOON's `trajectory` is an object ``{"path", "obj_heading",
"obj_elevation"}``, or a list of them, one a start. What each leaderboard takes is in
`sterna.metrics.graphboards`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sterna.data.episodes import Direction, Episode
from sterna.errors import InputError
from sterna.files import read_json, read_jsonl, write_json
from sterna.metrics.pointing import from_shares
from sterna.world.geometry import Ints
from sterna.world.graph import NavGraph

Pose = tuple[float, float]
_NO_OBJECT = -1  # what REVERIE's own submissions hold where nothing was chosen
_OBJECT_KEYS = ("predObjId", "pred_objid")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What an agent did with one instruction.

    `hops` holds the viewpoints reached by each decision, the start alone first; a far jump is one
    hop of several viewpoints. `poses` gives (heading, elevation) in radians for every viewpoint of
    `path`, or is empty when unknown. `object_id` is the object chosen, None for none; `direction`
    (heading, elevation, radians) points at it from the end of the walk (SOON).
    """

    instr_id: str
    hops: tuple[tuple[str, ...], ...]
    poses: tuple[Pose, ...] = ()
    object_id: int | None = None
    direction: Direction | None = None

    @property
    def path(self) -> tuple[str, ...]:
        """All viewpoints in order, hops flattened, repeats from turning included."""
        return tuple(viewpoint for hop in self.hops for viewpoint in hop)

    @property
    def action_steps(self) -> int:
        """Number of decisions after the start (turns count where the file lists them)."""
        return len(self.hops) - 1


def read_submission(path: str | Path, *, objects: bool = False) -> list[Prediction]:
    """Read a trajectory file (plain or gzipped JSON) of any known format, in file order.

    With `objects` (REVERIE) every item must say which object it chose: the integer `predObjId`
    (-1: none), or DUET's `pred_objid`; a file of walks alone would else score a silent 0.
    Raises `InputError` naming the file, the item and the key for anything malformed.
    """
    content = _read_list(path)
    first = 1 if content and _is_aggregate(content[0]) else 0
    items = list(enumerate(content[first:], first))
    predictions = [walk for i, item in items for walk in _read_item(f"{path}: item {i}", item)]
    if objects:
        for i, item in items:
            place = f"{path}: item {i}"
            _check_object(f"{place} ({_name(place, item)[:40]!r})", item, _OBJECT_KEYS)
    return predictions


def renamed(predictions: Iterable[Prediction], episodes: Iterable[Episode]) -> list[Prediction]:
    """Call predictions as the episodes are called, where a file has names of its own.

    RxR's leaderboard says the instruction's number alone, SOON's gives one instruction a walk from
    each of its starts (of equal starts in the file's order). Names that are nobody's stay.
    `InputError` where no start fits.
    """
    known, starts = set[str](), dict[str, dict[str, list[str]]]()
    for episode in episodes:
        known.add(episode.instr_id)
        if episode.instruction_id is not None:
            own = starts.setdefault(episode.instruction_id, {})
            own.setdefault(episode.start, []).append(episode.instr_id)
    return [
        p if p.instr_id in known or p.instr_id not in starts else _named(p, starts[p.instr_id])
        for p in predictions
    ]


def _named(prediction: Prediction, starts: dict[str, list[str]]) -> Prediction:
    """Name a walk by its start; a name is used up, unless it is the start's last."""
    names = starts.get(prediction.path[0])
    if names is None and len(starts) == 1:
        (names,) = starts.values()  # replaying will say where it must start
    if names is None:
        raise InputError(
            f"{prediction.instr_id}: hop 0: must start at one of {len(starts)} viewpoints, such as "
            f"{next(iter(starts))}; found {prediction.path[0][:40]!r}"
        )
    return replace(prediction, instr_id=names[0] if len(names) == 1 else names.pop(0))


def read_leaderboard(path: str | Path, *, objects: bool = False) -> list[Prediction]:
    """Read a file that must be what leaderboards take, nothing else.

    Every item holds `instr_id` and a `trajectory` of [viewpoint, heading, elevation]; with
    `objects` also the integer `predObjId`, -1 for none. Errors as `read_submission`.
    """
    predictions = []
    for i, item in enumerate(_read_list(path)):
        place = f"{path}: item {i}"
        prediction = _read_item(place, item)[0]
        place = f"{place} ({prediction.instr_id[:40]!r})"
        pointing = bool(_pointing_walks(item.get("trajectory")))
        if pointing or not {"instr_id", "trajectory"} <= item.keys() or not prediction.poses:
            raise InputError(
                f"{place}: leaderboards take a 'trajectory' of [viewpoint, heading, elevation], "
                "one triple a viewpoint; write it with write_submission"
            )
        if objects:
            _check_object(place, item, _OBJECT_KEYS[:1])
        predictions.append(prediction)
    return predictions


def _read_list(path: str | Path) -> list[Any]:
    if str(path).removesuffix(".gz").endswith(".jsonl"):
        return [value for _, value in read_jsonl(path)]
    content = read_json(path)
    if not isinstance(content, list):
        raise InputError(f"{path}: expected a list of trajectories, found {_kind(content)}")
    return content


def _check_object(place: str, item: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Refuse an item that does not say which object it chose."""
    key = next((key for key in keys if key in item), None)
    if key is None:
        raise InputError(
            f"{place}: no {keys[0]}; expected the integer id of the chosen object, -1 for none"
        )
    if key == keys[0] and type(item[key]) is not int:
        raise InputError(
            f"{place}: {key} must be an integer (-1 for none), found {_kind(item[key])}"
        )


def _is_aggregate(item: Any) -> bool:
    # NaviLLM's files open with the mean scores: an object of numbers and nothing else.
    return isinstance(item, dict) and bool(item) and all(map(_is_number, item.values()))


def _read_item(place: str, item: Any) -> list[Prediction]:
    if not isinstance(item, dict):
        raise InputError(f"{place}: expected an object with instr_id, found {_kind(item)}")
    name = _name(place, item)
    place = f"{place} ({name[:40]!r})"
    chosen = next((item[key] for key in _OBJECT_KEYS if key in item), None)
    found = _read_object(place, chosen)
    walks = _pointing_walks(item.get("trajectory"))
    if walks:
        return [_pointing_walk(f"{place}: walk {n}", name, walk) for n, walk in enumerate(walks)]
    steps = item.get("trajectory", item.get("pred_path", item.get("path")))
    hops, poses = _read_steps(place, steps, "'trajectory' (or 'pred_path', 'path')")
    return [Prediction(instr_id=name, hops=hops, poses=poses, object_id=found)]


def _name(place: str, item: Mapping[str, Any]) -> str:
    """Return what an item calls its episode."""
    number = item.get("inst_idx", item.get("instruction_id", item.get("instr_id")))
    if type(number) is int and abs(number) < 10**18 and _has_number(item):
        return str(number)
    name = item.get("instr_id")
    if not isinstance(name, str) or not name:
        raise InputError(
            f"{place}: instr_id must be a text such as '4332_0' (inst_idx, instruction_id: a whole "
            f"number), found {_kind(number)}"
        )
    return name


def _has_number(item: Mapping[str, Any]) -> bool:
    """Whether an item's name may be a number: NDH's, RxR's, and SOON's on its leaderboard."""
    numbered = "inst_idx" in item or "instruction_id" in item
    return numbered or bool(_pointing_walks(item.get("trajectory")))


def _pointing_walks(trajectory: Any) -> list[Any]:
    """Return SOON's walks, none for a trajectory of another task."""
    walks = trajectory if isinstance(trajectory, list) else [trajectory]
    return walks if walks and all(isinstance(walk, dict) for walk in walks) else []


def _pointing_walk(place: str, name: str, walk: Mapping[str, Any]) -> Prediction:
    hops, poses = _read_steps(place, walk.get("path"), "'path'")
    shares = []
    for key in ("obj_heading", "obj_elevation"):
        value = walk.get(key)
        number = value[0] if isinstance(value, list) and len(value) == 1 else value
        if not _is_number(number):
            raise InputError(
                f"{place}: {key}: expected one number in a list, found {_kind(value)}; it is the "
                "share of a whole turn at which the object is seen"
            )
        shares.append(float(number))  # type: ignore[arg-type]
    return Prediction(
        instr_id=name, hops=hops, poses=poses, direction=from_shares(shares[0], shares[1])
    )


def _read_steps(
    place: str, steps: Any, key: str
) -> tuple[tuple[tuple[str, ...], ...], tuple[Pose, ...]]:
    if not isinstance(steps, list) or not steps:
        raise InputError(f"{place}: expected a non-empty list under {key}, found {_kind(steps)}")
    read = [_read_step(place, i, step) for i, step in enumerate(steps)]
    poses = tuple(pose for _, pose in read if pose is not None)
    if poses and len(poses) != len(read):
        raise InputError(f"{place}: some trajectory entries carry a heading and others do not")
    return tuple(hop for hop, _ in read), poses


def _read_step(place: str, position: int, step: Any) -> tuple[tuple[str, ...], Pose | None]:
    hop = [step] if isinstance(step, str) else step
    if isinstance(hop, list) and hop and isinstance(hop[0], str):
        if all(isinstance(viewpoint, str) and viewpoint for viewpoint in hop):
            return tuple(hop), None
        if len(hop) == 3 and hop[0] and _is_number(hop[1]) and _is_number(hop[2]):
            return (hop[0],), (float(hop[1]), float(hop[2]))
    raise InputError(
        f"{place}: trajectory entry {position}: expected [viewpoint, heading, elevation] or a hop "
        f"[viewpoint, ...], found {_kind(step)}"
    )


def _read_object(place: str, value: Any) -> int | None:
    if value is None:
        return None
    text = str(value) if type(value) in (int, str) else ""
    if re.fullmatch(r"-?[0-9]{1,18}", text) is None:
        raise InputError(f"{place}: the object id must be an integer or null, found {_kind(value)}")
    number = int(text)
    return None if number == _NO_OBJECT else number


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) < 1e300  # false for NaN


def _kind(value: Any) -> str:
    text = ascii(value) if isinstance(value, str | int | float | None) else type(value).__name__
    return text[:60]


def write_submission(
    path: str | Path, predictions: Iterable[Prediction], *, objects: bool = False
) -> None:
    """Write predictions in the leaderboard's format, hops flattened, one triple a viewpoint.

    Viewpoints without a known pose get heading and elevation 0, which no evaluator reads. With
    `objects` (REVERIE) every item carries the integer `predObjId`, -1 where nothing was chosen.
    """
    items = [_leaderboard_item(prediction, objects) for prediction in predictions]
    write_json(path, items, indent=None)


def steps_of(prediction: Prediction) -> list[list[Any]]:
    """Return a walk as [viewpoint, heading, elevation], one triple a viewpoint, hops flattened.

    `InputError` unless there are as many finite poses as viewpoints, or none (then 0).
    """
    walked = prediction.path
    poses = prediction.poses or ((0.0, 0.0),) * len(walked)
    if len(poses) != len(walked) or not all(map(_is_number, (x for pose in poses for x in pose))):
        raise InputError(
            f"{prediction.instr_id}: expected one finite (heading, elevation) for each of "
            f"{len(walked)} viewpoints, found {len(poses)} poses"
        )
    return [[viewpoint, *pose] for viewpoint, pose in zip(walked, poses, strict=True)]


def _leaderboard_item(prediction: Prediction, objects: bool) -> dict[str, Any]:
    item: dict[str, Any] = {"instr_id": prediction.instr_id}
    item["trajectory"] = steps_of(prediction)
    if objects:
        chosen = prediction.object_id
        item["predObjId"] = _NO_OBJECT if chosen is None else chosen
    return item


def validate_submission(
    predictions: Sequence[Prediction],
    episodes: Sequence[Episode],
    graphs: Mapping[str, NavGraph],
    *,
    partial: bool = False,
) -> dict[str, Ints]:
    """Replay every trajectory on its graph; return the walked nodes [T] by instr_id.

    Checks that every episode is answered exactly once (with `partial`: at most once), that a walk
    starts at the episode's start, that its viewpoints are known and that each hop is an edge.
    Immediate repeats of a viewpoint (turning) are one node. `graphs` maps scans to graphs.
    Raises `InputError` with the instr_id and the hop.
    """
    answers = {episode.instr_id: episode for episode in episodes}
    if len(answers) != len(episodes):
        raise InputError("the episodes hold an instr_id twice; check the annotation files")
    _check_coverage(predictions, answers, partial)
    linked = {scan: _adjacency(graph) for scan, graph in graphs.items()}
    walks = {}
    for prediction in predictions:
        episode = answers[prediction.instr_id]
        if episode.scan not in graphs:
            raise InputError(f"{episode.instr_id}: no navigation graph of scan {episode.scan}")
        walks[episode.instr_id] = _replay(
            prediction, episode, graphs[episode.scan], linked[episode.scan]
        )
    return walks


def _check_coverage(
    predictions: Sequence[Prediction], answers: Mapping[str, Episode], partial: bool
) -> None:
    given = Counter(prediction.instr_id for prediction in predictions)
    twice = next((name for name, count in given.items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{twice[:60]!r}: answered {given[twice]} times; expected exactly once")
    unknown = next((name for name in given if name not in answers), None)
    if unknown is not None:
        raise InputError(
            f"{unknown[:60]!r}: not an episode of this split; check that the file belongs to it"
        )
    missing = [name for name in answers if name not in given]
    if missing and not partial:
        raise InputError(
            f"{len(missing)} of {len(answers)} episodes have no trajectory, first {missing[0]}; "
            "complete the file or ask for a partial score (--partial)"
        )


def _adjacency(graph: NavGraph) -> NDArray[np.bool_]:
    linked = np.zeros((len(graph.viewpoints),) * 2, bool)
    linked[np.repeat(np.arange(len(linked)), np.diff(graph.indptr)), graph.indices] = True
    return linked


def _replay(
    prediction: Prediction, episode: Episode, graph: NavGraph, linked: NDArray[np.bool_]
) -> Ints:
    name = prediction.instr_id
    walked = [viewpoint for viewpoint, _ in groupby(prediction.path)]
    if walked[:1] != [episode.start]:
        found = repr(walked[0][:40]) if walked else "nothing"
        raise InputError(f"{name}: hop 0: must start at {episode.start}, found {found}")
    known = set(graph.viewpoints)
    stray = next((hop for hop, viewpoint in enumerate(walked) if viewpoint not in known), None)
    if stray is not None:
        raise InputError(
            f"{name}: hop {stray}: {walked[stray][:40]!r} is no viewpoint of scan {episode.scan}; "
            "is the file from another split or data set?"
        )
    nodes = np.array([graph.index(viewpoint) for viewpoint in walked], np.int64)
    broken = np.flatnonzero(~linked[nodes[:-1], nodes[1:]])
    if len(broken):
        hop = int(broken[0])
        start, end = list(pairwise(walked))[hop]
        raise InputError(
            f"{name}: hop {hop + 1}: {start} -> {end} is no edge of scan {episode.scan}; "
            "write every viewpoint that was passed, far jumps included"
        )
    return nodes
