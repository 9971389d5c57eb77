"""Score a trajectory file against the answers of a split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sterna.data.episodes import Episode
from sterna.data.ndh import supervision
from sterna.errors import InputError
from sterna.metrics.graphboards import GraphBoard, read_graph_board
from sterna.metrics.navigation import Walk, navigation_scores
from sterna.metrics.pointing import is_pointed_at
from sterna.metrics.protocol import Protocol
from sterna.metrics.result import Estimate, Result, estimates
from sterna.metrics.submission import (
    Prediction,
    read_submission,
    renamed,
    validate_submission,
)
from sterna.world.geometry import Ints
from sterna.world.graph import NavGraph, load_graph

_COLUMNS = (
    *("SR", "SPL", "OSR", "NE", "TL", "nDTW", "SDTW", "CLS"),
    *("GP", "OPSR", "RGS", "RGSPL", "RGS_at_goal", "RGSPL_at_goal", "FSR", "FSPL"),
    *("SR_1m", "SPL_1m", "collisions", "steps"),
)
_PLAIN = ("NE", "TL", "GP", "collisions", "steps")


def score_file(
    path: str | Path,
    episodes: Sequence[Episode],
    connectivity_dir: str | Path,
    protocol: Protocol,
    *,
    partial: bool = False,
) -> Result:
    """Score a trajectory file of any format `read_submission` knows.

    `connectivity_dir` holds ``<scan>_connectivity.json`` files. Where episodes have target objects,
    the file must say which it chose. See `score_predictions`; errors are `InputError` and name the
    file.
    """
    objects = any(episode.object_id is not None for episode in episodes)
    predictions = read_submission(path, objects=objects)
    try:
        predictions = renamed(predictions, episodes)
        return score_predictions(predictions, episodes, connectivity_dir, protocol, partial=partial)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def validate_file(
    path: str | Path,
    episodes: Sequence[Episode],
    connectivity_dir: str | Path,
    *,
    board: GraphBoard = "r2r",
    partial: bool = False,
) -> int:
    """Check that a file is what a leaderboard takes, and replay it; return its number of walks.

    Needs no answers, so that it also serves test splits. Raises `InputError` naming the file, the
    episode and the fault.
    """
    predictions = read_graph_board(path, board)
    try:
        predictions = renamed(predictions, episodes)
        named = {prediction.instr_id for prediction in predictions}
        scans = {episode.scan for episode in episodes if episode.instr_id in named}
        graphs = {scan: load_graph(connectivity_dir, scan) for scan in scans}
        return len(validate_submission(predictions, episodes, graphs, partial=partial))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def score_predictions(
    predictions: Sequence[Prediction],
    episodes: Sequence[Episode],
    connectivity_dir: str | Path,
    protocol: Protocol,
    *,
    partial: bool = False,
) -> Result:
    """Validate, score and average predictions; the table stands in the order of `episodes`.

    Every episode must be answered exactly once; `partial` allows missing ones (never unknown or
    double ones) and averages over those answered, which `Result.episodes` and `expected` tell.
    Raises `InputError` naming the episode for a walk that leaves the graph or cannot be scored.
    """
    named = {prediction.instr_id: prediction for prediction in predictions}
    answered = [episode for episode in episodes if episode.instr_id in named]
    scans = {episode.scan for episode in answered}
    graphs = {scan: load_graph(connectivity_dir, scan) for scan in scans}
    nodes = validate_submission(predictions, episodes, graphs, partial=partial)
    walks = [
        _walk(episode, named[episode.instr_id], nodes[episode.instr_id], graphs, protocol)
        for episode in answered
    ]
    table = _table(answered, navigation_scores(walks, protocol))
    splits = {episode.split for episode in answered}
    return Result(
        protocol=protocol,
        scores=estimates(table),
        episodes=len(answered),
        expected=len(episodes),
        split=splits.pop() if len(splits) == 1 else None,
        per_episode=table,
    )


def _walk(
    episode: Episode,
    prediction: Prediction,
    nodes: Ints,
    graphs: Mapping[str, NavGraph],
    protocol: Protocol,
) -> Walk:
    wanted, answer = episode.object_id, answer_of(episode, graphs[episode.scan], protocol)
    pointed = None
    if episode.outlines:
        pointed = is_pointed_at(episode, prediction.path[-1], prediction.direction)
    return Walk(
        path=nodes,
        action_steps=prediction.action_steps,
        object_found=None if wanted is None else prediction.object_id == wanted,
        pointed=pointed,
        **answer,
    )


def answer_of(episode: Episode, graph: NavGraph, protocol: Protocol) -> dict[str, Any]:
    """Return the fields of a `Walk` that say what it is compared with, for one episode.

    `InputError` for an annotation of another graph, or without what the protocol scores against.
    """
    name = episode.instr_id
    reference = _nodes(graph, _reference(episode, protocol), name)
    if protocol.reference_path == "shortest":
        reference = np.array(graph.shortest_path(int(reference[0]), int(reference[-1])))
    region = _nodes(graph, episode.goals, name) if episode.goals else None
    dialog = bool(episode.planner_path)
    return {
        "name": name,
        "graph": graph,
        "reference": reference,
        "goals": None if protocol.path_type and protocol.success == "radius" else region,
        "ends": region if dialog else None,
        "planner_goal": int(_nodes(graph, episode.planner_path[-1:], name)[0]) if dialog else None,
    }


def _reference(episode: Episode, protocol: Protocol) -> tuple[str, ...]:
    """Return the path that a walk is compared with: of NDH the one that the protocol names."""
    if protocol.path_type is None:
        return episode.path
    if not episode.planner_path:
        raise InputError(
            f"episode {episode.instr_id}: it has no planner_path, against which protocol "
            f"{protocol.name} scores; choose the protocol of its task (a test split is scored by "
            "its leaderboard)"
        )
    return supervision(episode.planner_path, episode.player_path, protocol.path_type)


def _nodes(graph: NavGraph, viewpoints: Iterable[str], name: str) -> Ints:
    try:
        return np.array([graph.index(viewpoint) for viewpoint in viewpoints], np.int64)
    except InputError as error:
        raise InputError(f"episode {name}: annotation: {error}") from None


def _table(episodes: Sequence[Episode], scores: Mapping[str, Any]) -> dict[str, list[Any]]:
    keys: dict[str, list[Any]] = {
        "instr_id": [episode.instr_id for episode in episodes],
        "path_id": [episode.path_id for episode in episodes],
        "scan": [episode.scan for episode in episodes],
    }
    return keys | {name: values.tolist() for name, values in scores.items()}


def format_result(result: Result) -> str:
    """Render the scores as a text table: rates in percent, NE and TL in metres, counts.

    Columns: mean, and its standard errors: plain, clustered by path, clustered by scan.
    """
    protocol = result.protocol
    names = [name for name in _COLUMNS if name in result.scores]
    width = max(8, *(len(name) for name in names))
    lines = [
        f"protocol {protocol.name} ({protocol.hash}), {result.episodes} of {result.expected} "
        f"episodes, split {result.split or 'not stated'}",
        f"{'score':<{width}}{'mean':>9}{'s.e.':>9}{'by path':>9}{'by scan':>9}",
    ]
    for name in names:
        factor = 1 if name in _PLAIN else 100
        lines.append(f"{name:<{width}}" + _cells(result.scores[name], factor))
    return "\n".join(lines)


def _cells(score: Estimate, factor: int) -> str:
    values = (score.mean, score.standard_error, score.path_error, score.scan_error)
    return "".join(f"{'-' if v is None else format(v * factor, '.2f'):>9}" for v in values)
