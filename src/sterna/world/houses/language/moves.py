"""What each move asks of a walk. Every function returns all the walks that may be meant.

A state is a viewpoint, the one it was entered from, the room one is in and the door one came
through. The outcomes of a step are the states where its walks may end, each with a cost: the
smallest is the most literal reading, metres of way plus what it takes to call it that.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from sterna.world.houses.language.map import Path, Vector, Walks
from sterna.world.houses.language.meaning import (
    Between,
    Climb,
    DoorRef,
    End,
    Go,
    Middle,
    Pass,
    Reach,
    Step,
    ThingRef,
    Wait,
)
from sterna.world.houses.language.places import beside, end, middle, passes, splits
from sterna.world.houses.language.pointing import State, aim_at, centre_of, doors, things
from sterna.world.houses.language.turns import SAID, UNDERSTOOD, dot, fits, turned

SPREAD = 1.5  # metres of extra way that still goes through "the same" door

# A walk: metres, viewpoints, the direction of what it aims at, the state after it.
Found = tuple[float, Path, Vector | None, State]


class Outcome(NamedTuple):
    """A state that a step may end in, and how far from literal that is."""

    cost: float
    state: State


class Walker:
    """Reads steps on some walks; `start` is the direction one faces at the beginning."""

    def __init__(self, walks: Walks, start: Vector) -> None:
        self.walks, self.map, self.start = walks, walks.map, start

    def facing(self, state: State) -> Vector:
        """Return the direction a walker faces."""
        if state.before < 0:
            return self.start
        return self.map.way(state.before, state.node)

    def outcomes(self, step: Step, state: State, last: bool) -> list[Outcome]:
        """Return where a step may end, the most literal reading first; nothing if it cannot be."""
        if step.at and self.map.kinds[state.room] != step.at:
            return []
        best: dict[State, float] = {}
        for length, path, aim, there in self._walks(step, state, last):
            cost = length + self._turning(step.turn, state, path, aim)
            if cost < best.get(there, math.inf):
                best[there] = cost
        return sorted(Outcome(cost, there) for there, cost in best.items())

    def _turning(self, turn: str, state: State, path: Path, aim: Vector | None) -> float:
        """Return what a turn adds to the cost of a walk; infinite if the walk does not turn so."""
        facing = self.facing(state)
        first = self.map.way(path[0], path[1]) if len(path) > 1 else None
        if not turn:
            back = first is not None and dot(facing, first) < -0.5
            return 1.5 if back else 0.0
        if first is not None and fits(facing, first, SAID[turn]):
            return 0.0
        ways = [way for way in (first, aim) if way is not None]
        return 1.0 if any(fits(facing, way, UNDERSTOOD[turn]) for way in ways) else math.inf

    def _walks(self, step: Step, state: State, last: bool) -> list[Found]:
        move = step.move
        if isinstance(move, Go):
            return self._go(move, step.turn, state, last)
        if isinstance(move, Climb):
            ways = self.walks.climb(state.room, state.node, move.up, move.landing)
            limit = ways[0][0] + SPREAD if ways else 0.0
            return [(c, p, None, self._after(state, p)) for c, p in ways if c <= limit]
        if isinstance(move, Wait):
            here = self.map.kinds[state.room] == move.room
            return [(0.0, (state.node,), None, state)] if here else []
        if isinstance(move, Pass):
            return self._pass(move, step.turn, state)
        if isinstance(move, Between):
            return self._between(move, state)
        if isinstance(move, Reach):
            return self._reach(move, step.turn, state)
        return self._place(move, step.turn, state)

    def _after(self, state: State, path: Path, door: int = -1, room: int | None = None) -> State:
        """Return the state after a way; without a door it stays in its room unless it climbs."""
        if len(path) < 2:
            return state
        if room is None:
            rooms = self.map.rooms[path[-1]]
            room = state.room if state.room in rooms else rooms[0]
        return State(path[-1], path[-2], room, door if door >= 0 else state.door)

    def _go(self, move: Go, turn: str, state: State, last: bool) -> list[Found]:
        out: list[Found] = []
        for row in doors(self.map, move.door, state, self.facing(state), turn):
            door = row - self.map.marks.doors.start
            ways = self.walks.through(state.room, state.node, door, last)
            beyond, aim = self.map.beyond(door, state.room), aim_at(self.map, state.node, row)
            for cost, path in ways:
                if cost <= ways[0][0] + SPREAD:
                    out.append((cost, path, aim, self._after(state, path, door, beyond)))
        return out

    def _rows(self, mark: ThingRef | DoorRef, turn: str, state: State) -> list[int]:
        if isinstance(mark, DoorRef):
            return doors(self.map, mark, state, self.facing(state), turn)
        return things(self.map, mark, state)

    def _pass(self, move: Pass, turn: str, state: State) -> list[Found]:
        out: list[Found] = []
        tree = self.walks.inside(state.room, state.node)
        for row in self._rows(move.mark, turn, state):
            centre = centre_of(self.map, row)
            for cost, path in tree.values():
                if passes(self.map, path, row, centre, move.side):
                    aim = aim_at(self.map, state.node, row)
                    out.append((cost, path, aim, self._after(state, path)))
        return out

    def _between(self, move: Between, state: State) -> list[Found]:
        out: list[Found] = []
        tree = self.walks.inside(state.room, state.node)
        for one in things(self.map, move.first, state):
            for two in things(self.map, move.second, state):
                a, b = centre_of(self.map, one), centre_of(self.map, two)
                for cost, path in tree.values():
                    if len(path) > 1 and splits(self.map.points, path, a, b):
                        out.append((cost, path, None, self._after(state, path)))
        return out

    def _reach(self, move: Reach, turn: str, state: State) -> list[Found]:
        out: list[Found] = []
        tree = self.walks.inside(state.room, state.node)
        for row in self._rows(move.mark, turn, state):
            near = beside(self.map, state.room, row, move.where)
            for node, extra in near:
                if node in tree:
                    cost, path = tree[node]
                    aim = aim_at(self.map, state.node, row)
                    # Nearer to the thing is more literal than nearer to the walker.
                    out.append((10 * extra + cost / 100, path, aim, self._after(state, path)))
        return out

    def _place(self, move: Middle | End, turn: str, state: State) -> list[Found]:
        out: list[Found] = []
        tree = self.walks.inside(state.room, state.node)
        if isinstance(move, Middle):
            spots = middle(self.map, state.room)
        else:
            spots = end(self.map, state.room, turned(self.facing(state), turn))
        for node, extra in spots:
            if node in tree:
                cost, path = tree[node]
                out.append((10 * extra + cost / 100, path, None, self._after(state, path)))
        return out
