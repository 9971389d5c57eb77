"""What an instruction means: steps, and how they refer to things, doors and rooms.

An instruction is a tuple of `Step`s. A step may say where it begins (`at`, a kind of room), which
way to turn first (`turn`), and what to do then (`move`). What the moves ask of a walk stands in
`moves`. Sides are the walker's own; kinds are those of `House.classes` and of rooms.
"""

from __future__ import annotations

from dataclasses import dataclass

TURNS = ("left", "right", "slightly left", "slightly right", "around", "straight")
SIDES = ("left", "right", "ahead")
RELATIONS = ("on", "beside", "under", "above")


@dataclass(frozen=True, kw_only=True)
class ThingRef:
    """A thing as it is spoken of; "" says nothing about a property.

    `kind` is a kind of thing, "window" or "stairs"; `relation` joins it to a thing of `other` kind
    and `other_colour` ("on", "beside", "under", "above").
    """

    kind: str
    colour: str = ""
    material: str = ""
    size: str = ""
    relation: str = ""
    other: str = ""
    other_colour: str = ""


@dataclass(frozen=True, kw_only=True)
class DoorRef:
    """A way out of the room one is in; None or "" says nothing.

    `to` is the kind of the room behind, `side` where the opening lies as one stands, `nth` its
    number on that side (1 the nearest; among those that lead to `to`), `by` a thing beside it,
    `wide` whether it is an opening without a door (None: either).
    """

    to: str = ""
    side: str = ""
    nth: int = 0
    by: ThingRef | None = None
    wide: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Go:
    """Go through a door or opening, and no farther than it takes."""

    door: DoorRef


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Walk past a thing or a door of the room, on the named side of the walker if any."""

    mark: ThingRef | DoorRef
    side: str = ""


@dataclass(frozen=True, kw_only=True)
class Between:
    """Walk between two things."""

    first: ThingRef
    second: ThingRef


@dataclass(frozen=True, kw_only=True)
class Climb:
    """Take the stairs up or down, to their end or (`landing`) to the landing between flights."""

    up: bool
    landing: bool = False


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Walk up to a thing or a door of the room: "beside" it, in "front", or "in" a doorway."""

    mark: ThingRef | DoorRef
    where: str = "beside"


@dataclass(frozen=True, kw_only=True)
class Middle:
    """Walk to the middle of the room."""


@dataclass(frozen=True, kw_only=True)
class End:
    """Walk to the end of the room (of a corridor) that lies ahead."""


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Stay: what has been reached is a room of kind `room`."""

    room: str


Move = Go | Pass | Between | Climb | Reach | Middle | End | Wait


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: in a room of kind `at` ("" anywhere), turn, then move."""

    move: Move
    turn: str = ""
    at: str = ""


Meaning = tuple[Step, ...]


@dataclass(frozen=True, kw_only=True)
class RoomRef:
    """A room as it is spoken of: its kind, its storey (None: not said), a thing in it."""

    kind: str
    storey: int | None = None
    holds: ThingRef | None = None


@dataclass(frozen=True, kw_only=True)
class Errand:
    """A goal-only instruction: go to a room and do a task to a thing in it."""

    room: RoomRef
    thing: ThingRef
    task: str
