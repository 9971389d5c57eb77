"""Following instructions by their meaning alone, and saying what is wrong with one.

The follower knows the house, its viewpoints and the start pose, never the path. It keeps all
readings of every step that `moves` admits. An instruction is sound if

1. the described path itself is one of the walks that it means (it is true),
2. the most literal walk, choice by choice, ends at the path's last viewpoint,
3. every walk that it can be taken to mean ends within 3 m of there, as one walks.
"""

from __future__ import annotations

from collections.abc import Sequence

from sterna.world.houses.language.map import HouseMap, Walks
from sterna.world.houses.language.meaning import Meaning, Step
from sterna.world.houses.language.moves import Outcome, Walker
from sterna.world.houses.language.pointing import State
from sterna.world.houses.language.sight import twelfth

TOLERANCE = 3.0  # metres


def begin(house: HouseMap, node: int) -> State:
    """Return the state in which a walk begins; in a doorway one is in its first room."""
    return State(node, -1, house.rooms[node][0], -1)


def readings(house: HouseMap, meaning: Meaning, start: int, heading: int) -> list[int]:
    """Return every viewpoint at which a walk that satisfies a meaning may end, sorted.

    `heading` counts twelfths of a turn clockwise from north.
    """
    return _ends(house, Walker(house.walks, twelfth(heading)), meaning, start, heading)


def _ends(house: HouseMap, walker: Walker, meaning: Meaning, start: int, heading: int) -> list[int]:
    states = {begin(house, start)}
    for number, step in enumerate(meaning):
        last = number == len(meaning) - 1
        states = {
            outcome.state
            for state in states
            for outcome in _outcomes(house, walker, (step, last), state, heading)
        }
    return sorted({state.node for state in states})


def _outcomes(
    house: HouseMap, walker: Walker, step: tuple[Step, bool], state: State, heading: int
) -> list[Outcome]:
    if walker.walks is not house.walks:
        return walker.outcomes(step[0], state, step[1])
    key = (step, state, heading if state.before < 0 else -1)
    if key not in house.cache:
        house.cache[key] = walker.outcomes(step[0], state, step[1])
    found: list[Outcome] = house.cache[key]
    return found


def literal(house: HouseMap, meaning: Meaning, start: int, heading: int) -> int | None:
    """Return where the most literal walk ends; None if no walk satisfies the meaning.

    At each step the nearest reading is taken; one that cannot be carried on is given up for the
    next.
    """
    walker = Walker(house.walks, twelfth(heading))
    dead: set[tuple[int, State]] = set()

    def follow(number: int, state: State) -> int | None:
        if number == len(meaning):
            return state.node
        if (number, state) in dead:
            return None
        step = (meaning[number], number == len(meaning) - 1)
        for outcome in _outcomes(house, walker, step, state, heading):
            end = follow(number + 1, outcome.state)
            if end is not None:
                return end
        dead.add((number, state))
        return None

    return follow(0, begin(house, start))


def is_true(house: HouseMap, meaning: Meaning, path: Sequence[int], heading: int) -> bool:
    """Whether a path satisfies a meaning: followed on the path's own edges, it ends at its end."""
    walker = Walker(Walks(house, path), twelfth(heading))
    return path[-1] in _ends(house, walker, meaning, path[0], heading)


def check_instruction(
    house: HouseMap, meaning: Meaning, path: Sequence[int], heading: int
) -> list[str]:
    """Return what is wrong with an instruction for a path of node numbers; nothing means sound."""
    goal, names = path[-1], house.graph.viewpoints
    ends = readings(house, meaning, path[0], heading)
    if not ends:
        return ["no walk satisfies it"]
    out = []
    if not is_true(house, meaning, path, heading):
        out.append("it is not true of its path")
    end = literal(house, meaning, path[0], heading)
    if end != goal:
        out.append(f"read literally it ends at {names[end or 0]}, not at {names[goal]}")
    away = [e for e in ends if house.graph.distances[e, goal] > TOLERANCE]
    if away:
        out.append(
            f"it may end at {names[away[0]]}, {house.graph.distances[away[0], goal]:.1f} m from "
            f"{names[goal]}"
        )
    return out
