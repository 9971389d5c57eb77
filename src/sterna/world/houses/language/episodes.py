"""Episodes of a house: paths as R2R draws them, described in three ways."""

from __future__ import annotations

from dataclasses import dataclass

from sterna.errors import InputError
from sterna.world.houses.dice import Dice
from sterna.world.houses.language.describe import describe
from sterna.world.houses.language.english import write
from sterna.world.houses.language.map import HouseMap
from sterna.world.houses.language.meaning import Meaning

STREAM = 4  # of a house's dice
EDGES, LEAST_METRES = (4, 6), 5.0
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


def make_episodes(house: HouseMap, count: int, *, wordings: int = WORDINGS) -> list[Described]:
    """Return up to `count` described paths of a house, the same every time.

    Shortest paths of 4-6 edges and at least 5 m, as R2R's, that begin inside rooms; no two begin
    and end at the same viewpoints. Paths that no tried instruction describes soundly are left out.
    """
    if count < 1 or wordings < 1:
        raise InputError(f"need count >= 1 and wordings >= 1, found {count} and {wordings}")
    dice = Dice(house.house.seed, STREAM)
    out: list[Described] = []
    goals: dict[int, int] = {}
    for path in dice.shuffled(paths(house)):
        if len(out) == count:
            break
        # Ends repeat only when there are more paths to find than viewpoints.
        if goals.get(path[-1], 0) > len(out) // len(house.graph):
            continue
        found = _described(house, path, dice, wordings)
        if found is not None:
            goals[path[-1]] = goals.get(path[-1], 0) + 1
            out.append(found)
    return out


def paths(house: HouseMap) -> list[tuple[int, ...]]:
    """Return all paths that an episode may take, by start and goal."""
    graph, out = house.graph, []
    inside = (house.viewpoints.door < 0) & (house.storey >= 0)
    for start in range(len(graph)):
        if not inside[start]:
            continue
        for goal in range(len(graph)):
            if goal == start or graph.distances[start, goal] < LEAST_METRES:
                continue
            path = graph.shortest_path(start, goal)
            edges = zip(path, path[1:], strict=False)
            if EDGES[0] < len(path) <= EDGES[1] + 1 and all(e in house.crossed for e in edges):
                out.append(tuple(path))
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
