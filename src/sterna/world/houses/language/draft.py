"""From a path to what it means: legs through doors and up stairs, landmarks on the way, the end.

A draft draws its choices; `describe` draws drafts, with more and more detail, until the follower
finds nothing wrong with one.
"""

from __future__ import annotations

from collections.abc import Sequence

from sterna.world.houses.dice import Dice
from sterna.world.houses.language.choose import choose_end, choose_pass
from sterna.world.houses.language.follower import begin, check_instruction
from sterna.world.houses.language.map import HouseMap, Vector
from sterna.world.houses.language.meaning import (
    Climb,
    DoorRef,
    End,
    Go,
    Meaning,
    Middle,
    Move,
    Step,
    Wait,
)
from sterna.world.houses.language.pointing import State
from sterna.world.houses.language.refer import choose_door
from sterna.world.houses.language.sight import twelfth
from sterna.world.houses.language.turns import SAID, fits

TRIES = 12  # drafts before a path is given up
# In how many of a hundred cases a turn is said, from the first draft to the most detailed.
SAYS_TURN = {
    "left": (66, 100), "right": (66, 100), "around": (70, 100), "slightly left": (30, 80),
    "slightly right": (30, 80), "straight": (26, 40),
}  # fmt: skip


def describe(
    house: HouseMap, path: Sequence[int], heading: int, dice: Dice, tries: int = TRIES
) -> Meaning | None:
    """Return a sound meaning of a path of node numbers; None if no draft is sound.

    `heading` counts twelfths of a turn clockwise from north.
    """
    for number in range(tries):
        meaning = _Draft(house, path, heading, dice, number * 3 // tries).meaning()
        if meaning and not check_instruction(house, meaning, path, heading):
            return meaning
    return None


class _Draft:
    """One telling of a path; `detail` 0-2."""

    def __init__(
        self, house: HouseMap, path: Sequence[int], heading: int, dice: Dice, detail: int
    ) -> None:
        self.house, self.path, self.dice, self.detail = house, list(path), dice, detail
        self.start = twelfth(heading)
        self.state = begin(house, path[0])
        self.at = 0
        self.steps: list[Step] = []
        self.passes = 0

    def meaning(self) -> Meaning | None:
        """Tell the path leg by leg; None if a leg cannot be told."""
        while self.at < len(self.path) - 1:
            if not self._leg():
                return None
        if self.steps and isinstance(self.steps[-1].move, Go | Climb):
            self._stay()
        return tuple(self.steps) or None

    def facing(self, state: State) -> Vector:
        return self.start if state.before < 0 else self.house.way(state.before, state.node)

    def _leg(self) -> bool:
        """Tell the way to the next door, stairs or the end."""
        house, path, room = self.house, self.path, self.state.room
        for k in range(self.at, len(path) - 1):
            u, v = path[k], path[k + 1]
            if house.climbs[u, v]:
                return self._climb(k)
            door = house.crossed[u, v]
            if door >= 0:
                return self._go(k, k + 1, door)
            if room not in house.rooms[v]:
                door = int(house.viewpoints.door[u])
                bends = not fits(house.way(path[k - 1], u), house.way(u, v), SAID["straight"])
                stays = k > self.at and bends and k + 1 < len(path) - 1
                return self._go(k, k if stays else k + 1, door)
        return self._finish()

    def _pass(self, until: int) -> None:
        """Say what is passed before a viewpoint of the path, if there is something."""
        hops = until - self.at
        chance = (30, 10, 5, 2)[min(3, self.passes + max(0, len(self.steps) - 2))]
        if hops < 1 or not self.dice.chance(chance if hops > 1 else chance // 2):
            return
        found = choose_pass(
            self.house, self.state, self.path[self.at : until + 1], self.dice, self.detail
        )
        if found is not None:
            self.passes += 1
            move, length = found
            self._add(move, self.at + length)

    def _go(self, until: int, end: int, door: int) -> bool:
        self._pass(until)
        hop = self.path[self.at : end + 1]
        row = self.house.marks.doors.start + door
        if door == self.state.door and len(hop) < 2:
            return False
        turn = self._turn(hop)
        ref = choose_door(
            self.house, self.state, self.facing(self.state), turn, row, self.dice, self.detail
        )
        if ref is None:
            return False
        room = self.house.beyond(door, self.state.room)
        self._add(Go(door=ref), end, turn, room=room, door=door)
        return True

    def _climb(self, until: int) -> bool:
        self._pass(until)
        storey, floor = self.house.storey, self.house.viewpoints.floor[:, 2]
        end = until + 1
        while end < len(self.path) - 1 and storey[self.path[end]] < 0:
            end += 1
        up = bool(floor[self.path[end]] > floor[self.path[until]])
        landing = bool(storey[self.path[end]] < 0)
        room = self.house.rooms[self.path[end]][0]
        self._add(
            Climb(up=up, landing=landing), end, self._turn(self.path[self.at : end + 1]), room=room
        )
        return True

    def _finish(self) -> bool:
        end = len(self.path) - 1
        if end - self.at > 1:
            self._pass(end - 1)
        move = self._end(self.path[self.at :])
        if move is None:
            return False
        self._add(move, end)
        return True

    def _end(self, hops: Sequence[int]) -> Move | None:
        """Return a move that ends at the last of some hops inside the present room."""
        return choose_end(self.house, self.state, self.facing(self.state), hops, self.dice)

    def _stay(self) -> None:
        """Add what there is at the end of a path that ends behind a door or on stairs."""
        if self.dice.chance(30 if self.detail == 0 else 70):
            move = self._end(self.path[-1:])
            if move is not None:
                at = self.house.kinds[self.state.room] if self._needs_place(move) else ""
                self.steps.append(Step(move=move, at=at))
                return
        landing = isinstance(self.steps[-1].move, Climb) and self.steps[-1].move.landing
        if not landing and self.dice.chance(40) and not self._said(self.state.room):
            self.steps.append(Step(move=Wait(room=self.house.kinds[self.state.room])))

    def _said(self, room: int) -> bool:
        move = self.steps[-1].move
        return isinstance(move, Go) and move.door.to == self.house.kinds[room]

    def _turn(self, hops: Sequence[int]) -> str:
        """Return the turn to say at the beginning of some hops, or ""."""
        if len(hops) < 2:
            return ""
        facing, way = self.facing(self.state), self.house.way(hops[0], hops[1])
        turns = [turn for turn, sector in SAID.items() if fits(facing, way, sector)]
        if not turns:
            return ""
        turn = self.dice.pick(turns)
        low, high = SAYS_TURN[turn]
        return turn if self.dice.chance(low + (high - low) * self.detail // 2) else ""

    def _add(
        self, move: Move, end: int, turn: str | None = None, room: int | None = None, door: int = -1
    ) -> None:
        """Add a step that walks the path up to a position."""
        hops = self.path[self.at : end + 1]
        turn = self._turn(hops) if turn is None else turn
        at = self.house.kinds[self.state.room] if self._says_place(move) else ""
        self.steps.append(Step(move=move, turn=turn, at=at))
        if len(hops) > 1:
            state = self.state
            self.state = State(
                hops[-1],
                hops[-2],
                state.room if room is None else room,
                door if door >= 0 else state.door,
            )
        self.at = end

    def _needs_place(self, move: Move) -> bool:
        """Whether a move cannot be said without its room; nobody calls a corridor "the room"."""
        middle = isinstance(move, Middle) and self.house.kinds[self.state.room] == "corridor"
        return middle or isinstance(move, End) or (isinstance(move, Go) and move.door == DoorRef())

    def _says_place(self, move: Move) -> bool:
        if self._needs_place(move):
            return True
        new = bool(self.steps) and isinstance(self.steps[-1].move, Go | Climb)
        if isinstance(move, Go) and not self.steps:
            return self.dice.chance(20)
        return new and self.dice.chance((20, 30, 50)[self.detail])
