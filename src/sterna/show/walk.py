"""An agent's hops as moves along edges: which step they belong to and where it looked back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sterna.data.episodes import Episode
from sterna.errors import InputError
from sterna.world.graph import NavGraph

Hops = Sequence[Sequence[str]] | Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Move:
    """One edge walked: nodes `start` -> `end` in decision `step` (1-based).

    `back` says that `end` had been visited before; `lane` counts how often the edge, in either
    direction, had been walked before.
    """

    start: int
    end: int
    step: int
    back: bool
    lane: int


@dataclass(frozen=True, kw_only=True)
class Walk:
    """A walk over a graph: all its `nodes` in order, its `moves`, and where each step `ends`.

    `ends[k]` is the node on which step k + 1 ended.
    """

    nodes: tuple[int, ...]
    moves: tuple[Move, ...]
    ends: tuple[int, ...]


def read_walk(graph: NavGraph, episode: Episode, hops: Hops) -> Walk:
    """Turn hops into a walk.

    `hops` is either a list of viewpoints, one a step, or a list of lists in which each hop names
    the viewpoints passed in one decision (a graph navigator's jump over its map). Both begin with
    the start; standing still (a turn on the spot) is no step. Raises `InputError` if the walk does
    not begin at the episode's start, leaves the graph or names an unknown viewpoint.
    """
    steps = _steps(graph, hops)
    _check_start(graph, episode, steps)
    nodes, moves, ends = [steps[0][0]], list[Move](), list[int]()
    lanes: Counter[frozenset[int]] = Counter()
    for step in steps:
        before = len(moves)
        for node in step:
            here = nodes[-1]
            if node == here:
                continue
            _check_edge(graph, episode, here, node)
            edge, number = frozenset((here, node)), len(ends) + 1
            moves.append(
                Move(start=here, end=node, step=number, back=node in nodes, lane=lanes[edge])
            )
            lanes[edge] += 1
            nodes.append(node)
        if len(moves) > before:
            ends.append(nodes[-1])
    return Walk(nodes=tuple(nodes), moves=tuple(moves), ends=tuple(ends))


def _steps(graph: NavGraph, hops: Hops) -> list[list[int]]:
    named = [[hop] if isinstance(hop, str) else hop for hop in hops]
    return [[graph.index(viewpoint) for viewpoint in hop] for hop in named if hop]


def _check_start(graph: NavGraph, episode: Episode, steps: list[list[int]]) -> None:
    if not steps or steps[0][0] != graph.index(episode.start):
        found = graph.viewpoints[steps[0][0]] if steps else "an empty list"
        raise InputError(
            f"episode {episode.instr_id}: expected a trajectory from its start {episode.start}, "
            f"found {found}; is it the trajectory of another episode?"
        )


def _check_edge(graph: NavGraph, episode: Episode, start: int, end: int) -> None:
    if not graph.has_edge(start, end):
        raise InputError(
            f"episode {episode.instr_id}: hop {graph.viewpoints[start]} -> "
            f"{graph.viewpoints[end]} is no edge of scan {graph.scan}; check the trajectory "
            "with `sterna score`"
        )
