"""Episodes in a building of one's own: given in a table, or plain directions made of its graph."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sterna.data.building import number, read_rows
from sterna.data.episodes import Episode
from sterna.errors import InputError
from sterna.world.geometry import directions
from sterna.world.graph import NavGraph

if TYPE_CHECKING:
    from sterna.recipes.building import ImportConfig

_TURN, _BACK = math.radians(40), math.radians(140)
_CLIMB = 0.5  # metres up or down that are called stairs
_EDGES = (3, 6)  # of a path that is drawn, as R2R's


def own_episodes(config: ImportConfig, graph: NavGraph) -> dict[str, list[Episode]]:
    """Return one's own episodes, and those drawn, by split."""
    if config.episodes is not None:
        splits = {config.split: _read_episodes(config, graph, config.episodes)}
        drawn = _draw(config, graph, {"train": config.train}, len(splits[config.split]))
    else:
        splits, counts = {}, {"train": config.train, config.split: config.paths}
        drawn = _draw(config, graph, counts, 0)
    return {split: episodes for split, episodes in (splits | drawn).items() if episodes}


def _read_episodes(config: ImportConfig, graph: NavGraph, file: Path) -> list[Episode]:
    out = []
    for path_id, (where, row) in enumerate(read_rows(file)):
        path = _path(graph, row, where)
        texts = row.get("instructions") or [row.get("instruction")]
        if not isinstance(texts, list) or not all(isinstance(t, str) and t.strip() for t in texts):
            raise InputError(f"{where}: expected an instruction (or a list instructions) of words")
        heading = _ahead(graph, path)
        if row.get("heading") not in (None, ""):
            heading = config.heading(number(row, "heading", where))
        out += _worded(graph, path, heading, [t.strip() for t in texts], path_id, config.split)
    if not out:
        raise InputError(f"{file}: holds no episode")
    return out


def _path(graph: NavGraph, row: Mapping[str, Any], where: str) -> list[int]:
    """Return the nodes of an episode's path: as it is given, or the shortest one."""
    stated = row.get("path")
    if stated:
        names = stated if isinstance(stated, list) else str(stated).replace(";", " ").split()
    else:
        names = [row.get("start"), row.get("goal")]
    unknown = [name for name in names if name not in graph.order]
    if unknown or len(names) < 2:
        raise InputError(
            f"{where}: expected a path of ids, or start and goal; "
            f"{str(unknown[0])[:40]!r} is no panorama here"
            if unknown
            else f"{where}: a path has two panoramas or more"
        )
    nodes = [graph.index(name) for name in names]
    if not stated:
        return graph.shortest_path(nodes[0], nodes[-1])
    for a, b in pairwise(nodes):
        if not graph.has_edge(a, b):
            names = [graph.viewpoints[a], graph.viewpoints[b]]
            raise InputError(f"{where}: {names[0]} and {names[1]} are no neighbours; see --reach")
    return nodes


def _draw(
    config: ImportConfig, graph: NavGraph, counts: Mapping[str, int], first: int
) -> dict[str, list[Episode]]:
    """Draw different shortest paths for splits; in small buildings also shorter ones."""
    rng = np.random.default_rng([config.seed, 36])
    pairs = [(i, j) for i in range(len(graph)) for j in range(len(graph)) if i != j]
    order = [pairs[k] for k in rng.permutation(len(pairs))]
    every = [graph.shortest_path(*pair) for pair in order]
    low, high = _EDGES
    usual = [path for path in every if low <= len(path) - 1 <= high]
    rest = sorted((path for path in every if len(path) - 1 < low), key=len, reverse=True)
    paths = iter([*usual, *rest])
    out: dict[str, list[Episode]] = {}
    for split, count in counts.items():
        out[split] = []
        for path in (path for path, _ in zip(paths, range(count), strict=False)):
            heading = round(float(rng.uniform(0, 2 * math.pi)), 6)
            texts = _directions(graph, path, heading)
            out[split] += _worded(graph, path, heading, texts, first, split)
            first += 1
    return out


def _worded(
    graph: NavGraph,
    path: Sequence[int],
    heading: float,
    texts: Sequence[str],
    path_id: int,
    split: str,
) -> list[Episode]:
    return [
        Episode(
            instr_id=f"{path_id}_{wording}",
            scan=graph.scan,
            path=tuple(graph.viewpoints[node] for node in path),
            heading=heading,
            instruction=text,
            path_id=path_id,
            distance=round(graph.length(path), 3),
            split=split,
        )
        for wording, text in enumerate(texts)
    ]


def _ahead(graph: NavGraph, path: Sequence[int]) -> float:
    turn, _, _ = directions(graph.positions[path[1]] - graph.positions[path[0]])
    return round(float(turn), 6)


def _directions(graph: NavGraph, path: Sequence[int], heading: float) -> list[str]:
    """Return two wordings of a path, by turns and stairs alone, in words that houses use too."""
    moves = []
    for a, b in pairwise(path):
        offset = graph.positions[b] - graph.positions[a]
        ahead = float(directions(offset)[0])
        moves.append(_move(math.remainder(ahead - heading, 2 * math.pi), float(offset[2])))
        heading = ahead
    steps = [moves[0], *(b if a != b else "go on" for a, b in pairwise(moves))]
    return [", ".join(steps) + ", and stop.", ". ".join(step.capitalize() for step in steps) + "."]


def _move(turn: float, climb: float) -> str:
    if abs(climb) > _CLIMB:
        return f"go {'up' if climb > 0 else 'down'} the stairs"
    if abs(turn) < _TURN:
        return "go straight"
    if abs(turn) > _BACK:
        return "turn around"
    return "turn right" if turn > 0 else "turn left"
