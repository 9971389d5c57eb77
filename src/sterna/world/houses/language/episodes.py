"""Episodes of a house: paths as R2R draws them, described in three ways."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from sterna.errors import InputError
from sterna.world.houses.dice import Dice
from sterna.world.houses.language.draft import describe
from sterna.world.houses.language.english import write
from sterna.world.houses.language.errands import describe_errand, goals, write_errand
from sterna.world.houses.language.map import HouseMap
from sterna.world.houses.language.meaning import Errand, Meaning

STREAM = 4  # of a house's dice
EDGES, ERRAND_EDGES, LEAST_METRES = (4, 6), 7, 5.0
METRES = (LEAST_METRES, math.inf)
WORDINGS = 3


@dataclass(frozen=True, kw_only=True)
class Described:
    """A path (viewpoint numbers), its start heading, metres, and its instructions.

    `heading` counts twelfths of a turn clockwise from north (30 degrees each); `meanings[k]` is
    what `instructions[k]` says.
    """

    path: tuple[int, ...]
    heading: int
    distance: float
    instructions: tuple[str, ...]
    meanings: tuple[Meaning, ...]


def make_episodes(
    house: HouseMap,
    count: int,
    *,
    wordings: int = WORDINGS,
    edges: tuple[int, int] = EDGES,
    metres: tuple[float, float] = METRES,
) -> list[Described]:
    """Return up to `count` described paths of a house, the same every time.

    Shortest paths of 4-6 edges and at least 5 m, as R2R's, or of other `edges` and `metres` (both
    ends included), that begin inside rooms; no two begin and end at the same viewpoints. Paths that
    no tried instruction describes soundly are left out.
    """
    if count < 1 or wordings < 1:
        raise InputError(f"need count >= 1 and wordings >= 1, found {count} and {wordings}")
    dice = Dice(house.house.seed, STREAM)
    out: list[Described] = []
    ends: dict[int, int] = {}
    for path in _mixed(house, dice.shuffled(paths(house, edges, metres))):
        if len(out) == count:
            break
        # Ends repeat only when there are more paths to find than viewpoints.
        if ends.get(path[-1], 0) > len(out) // len(house.graph):
            continue
        found = _described(house, path, dice, wordings)
        if found is not None:
            ends[path[-1]] = ends.get(path[-1], 0) + 1
            out.append(found)
    return out


def paths(
    house: HouseMap, edges: tuple[int, int] = EDGES, metres: tuple[float, float] = METRES
) -> list[tuple[int, ...]]:
    """Return all paths that an episode may take, by start and goal."""
    graph, out = house.graph, []
    inside = (house.viewpoints.door < 0) & (house.storey >= 0)
    for start in range(len(graph)):
        if not inside[start]:
            continue
        for goal in range(len(graph)):
            if goal == start or not metres[0] <= graph.distances[start, goal] <= metres[1]:
                continue
            path = graph.shortest_path(start, goal)
            crossed = all(edge in house.crossed for edge in pairwise(path))
            if edges[0] < len(path) <= edges[1] + 1 and crossed:
                out.append(tuple(path))
    return out


def _mixed(house: HouseMap, found: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Return paths with every third one over stairs, as long as there are such."""
    over = [p for p in found if any(house.climbs[e] for e in pairwise(p))]
    level = [p for p in found if not any(house.climbs[e] for e in pairwise(p))]
    out: list[tuple[int, ...]] = []
    for number in range(len(found)):
        first, second = (over, level) if number % 3 == 0 else (level, over)
        out.append(first.pop() if first else second.pop())
    return out


def _described(
    house: HouseMap, path: tuple[int, ...], dice: Dice, wordings: int
) -> Described | None:
    heading = dice.below(12)
    meanings, texts = [], []
    for _ in range(wordings):
        meaning = describe(house, path, heading, dice)
        if meaning is None:
            return None
        meanings.append(meaning)
        texts.append(write(meaning, dice))
    return Described(
        path=path,
        heading=heading,
        distance=round(house.graph.length(path), 2),
        instructions=tuple(texts),
        meanings=tuple(meanings),
    )


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A goal-only episode: to a thing (id), which every viewpoint of `goals` has within reach.

    `path` is the shortest to the nearest goal; the other fields are as `Described` has them.
    """

    path: tuple[int, ...]
    heading: int
    distance: float
    thing: int
    goals: tuple[int, ...]
    instructions: tuple[str, ...]
    errands: tuple[Errand, ...]


def make_errands(house: HouseMap, count: int, *, wordings: int = WORDINGS) -> list[Sent]:
    """Return up to `count` errands of a house, the same every time, to as many things.

    Starts are those from which the way to the nearest goal has 4-7 edges and at least 5 m.
    """
    if count < 1 or wordings < 1:
        raise InputError(f"need count >= 1 and wordings >= 1, found {count} and {wordings}")
    dice = Dice(house.house.seed, STREAM, 1)
    out: list[Sent] = []
    for thing in dice.shuffled(range(len(house.house.things))):
        if len(out) == count:
            break
        found = _sent(house, thing, dice, wordings)
        if found is not None:
            out.append(found)
    return out


def _sent(house: HouseMap, thing: int, dice: Dice, wordings: int) -> Sent | None:
    ends = goals(house, thing)
    if not ends:
        return None
    errands = [describe_errand(house, thing, dice) for _ in range(wordings)]
    path = _way_to(house, ends, dice)
    if path is None or None in errands:
        return None
    said = tuple(errand for errand in errands if errand is not None)
    return Sent(
        path=path,
        heading=dice.below(12),
        distance=round(house.graph.length(path), 2),
        thing=thing,
        goals=tuple(ends),
        instructions=tuple(write_errand(errand, dice) for errand in said),
        errands=said,
    )


def _way_to(house: HouseMap, ends: list[int], dice: Dice) -> tuple[int, ...] | None:
    """Return a shortest way to the nearest of some viewpoints, from a start drawn at random."""
    graph = house.graph
    for start in dice.shuffled(range(len(graph))):
        away = graph.distances[start, ends]
        path = graph.shortest_path(start, ends[int(away.argmin())])
        if away.min() >= LEAST_METRES and EDGES[0] < len(path) <= ERRAND_EDGES + 1:
            return tuple(path)
    return None
