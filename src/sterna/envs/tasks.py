"""Episodes of graded difficulty in houses: to a thing that is named, or step by step.

Every instruction is checked against the house: the words of a thing fit it alone, and steps lead
one who follows them to the letter along the path. The same house gives the same episodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np

from sterna.data.episodes import Episode
from sterna.errors import InputError
from sterna.world.frames import Vec3
from sterna.world.geometry import Floats, Ints
from sterna.world.houses import House
from sterna.world.houses.dice import Dice
from sterna.world.houses.ground import room_cells
from sterna.world.houses.language import HouseMap, make_episodes, plain_errand
from sterna.world.houses.language.errands import write_call
from sterna.world.houses.language.landmarks import gaps
from sterna.world.houses.language.sight import seen_from
from sterna.world.houses.scans import scan_of
from sterna.world.houses.viewpoints import place_viewpoints
from sterna.world.space import Bools, Space

EYE = 1.25  # metres above the floor from which a thing must be in sight
BESIDE = 0.15  # metres farther from a thing than the nearest spot that still counts as beside it
REACH = 1.0  # metres from a thing to the nearest spot an agent can stand on
APART = 1.0  # metres between the spots beside a thing that are goals
SPOTS = 4  # goals a thing, at most
HIGH = 1.8  # metres over its floor at which a thing may begin: lamps on ceilings pass out of view
TRIED = 96  # starts drawn a thing
STARTS = 2  # of one thing, at most; one for each dozen walks where there are more
TWELFTH = math.pi / 6
_A_START = 12  # walks of a house for each start of a thing
_STREAM = 41  # of a house's dice

Points = tuple[Vec3, ...]
Way = tuple[Points, float]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is asked of an agent, and how far it has to go."""

    wording: Literal["goal", "steps"]
    metres: tuple[float, float]
    """Geodesic metres from the start to the goal, for steps along the viewpoints' graph."""
    edges: tuple[int, int] = (1, 6)
    """Of the path on the graph; for steps alone."""
    least: float = 0.0
    """Metres of the longest side of a thing, at least: what is smaller is a few pixels wide."""
    in_sight: bool = False
    """Whether the thing is in sight of the start, for one who looks around."""
    radius: float = 1.0
    """Metres around the goals that count, written into the episodes."""


TASKS = MappingProxyType(
    {
        "easy": Task(wording="goal", metres=(2.0, 5.0), least=0.4, in_sight=True),
        "medium": Task(wording="goal", metres=(5.0, 9.0), least=0.4),
        "easy-steps": Task(wording="steps", metres=(2.0, 5.0), edges=(1, 3)),
        "medium-steps": Task(wording="steps", metres=(5.0, 9.0), edges=(2, 6)),
        "r2r": Task(wording="steps", metres=(5.0, math.inf), edges=(4, 6), radius=3.0),
    }
)
"""Tasks by name: things within sight, things farther off, short paths, longer ones, R2R's paths."""


def draw_tasks(
    house: House, ground: Space, name: str, count: int, *, wordings: int = 1
) -> list[Episode]:
    """Return up to `count` walks of a task in a house, each told in so many ways.

    Episodes are as VLN-CE's: `position`, `heading`, `goal_positions` (the first is the nearest to
    the start), `distance` (geodesic metres to it). `waypoints` are those of the path for steps; for
    a named thing the two ends, and its id is the `object_id`. `InputError` for an unknown name.
    """
    if name not in TASKS:
        raise InputError(f"tasks: expected one of {', '.join(TASKS)}, found {name!r}")
    task, known = TASKS[name], HouseMap(house, place_viewpoints(house, ground))
    stem = f"{scan_of(house.seed)}_{name}"
    if task.wording == "steps":
        return _step_episodes(known, ground, task, stem, count, wordings)
    return _goal_episodes(known, ground, task, stem, count, wordings)


# --- to a thing ----------------------------------------------------------------------------------


def _goal_episodes(
    known: HouseMap, ground: Space, task: Task, stem: str, count: int, wordings: int
) -> list[Episode]:
    dice = Dice(known.house.seed, _STREAM, round(task.metres[0] * 1000))
    rooms = room_cells(known.house, ground)
    most = max(STARTS, count // _A_START)
    out: list[Episode] = []
    for thing in dice.shuffled(range(len(known.house.things))):
        if len(out) >= count * wordings:
            break
        if not _shows(known, thing, task.least) or not _calls(known, thing, dice, 1):
            continue
        spots = _spots(known, ground, thing, rooms)
        starts = _starts(known, ground, task, thing, spots, rooms, dice)[:most]
        for start, order, metres in starts[: count - len(out) // wordings]:
            texts = _calls(known, thing, dice, wordings)
            name, goals = f"{stem}_{len(out) // wordings}", spots[order]
            # Any way round: who walks straight ahead from where it stands should not arrive.
            heading = math.radians(dice.below(360))
            way = _points(np.vstack([start, goals[:1]])), metres
            out += [
                replace(
                    _episode(known, task, f"{name}_{told}", text, heading, way, _points(goals)),
                    object_id=thing,
                )
                for told, text in enumerate(texts)
            ]
    return out


def _shows(known: HouseMap, thing: int, least: float) -> bool:
    """Whether a thing is long enough, and low enough for a level camera beside it."""
    x0, y0, x1, y1 = known.marks.rects[thing].tolist()
    low, high = known.marks.heights[thing].tolist()
    floor = known.house.floors[int(known.marks.storey[thing])]
    return bool(max(x1 - x0, y1 - y0, high - low) >= least and low - floor <= HIGH)


def _calls(known: HouseMap, thing: int, dice: Dice, wordings: int) -> list[str]:
    """Return sound ways to send somebody to a thing; none if one of them cannot be found."""
    errands = [plain_errand(known, thing, dice) for _ in range(wordings)]
    return [write_call(e, dice) for e in errands if e is not None] if all(errands) else []


def _spots(known: HouseMap, ground: Space, thing: int, rooms: list[Ints]) -> Floats:
    """Return spots [k, 3] beside a thing, in its room and with it in sight, a metre apart."""
    marks = known.marks
    cells = rooms[marks.room_pairs[thing][0]]
    places = ground.surface.centres_of(cells)
    away = gaps(places[:, :2], marks.rects[thing : thing + 1])[:, 0]
    if not len(away) or away.min() > REACH:
        return np.empty((0, 3))
    near = places[away <= away.min() + BESIDE]
    chosen: list[Floats] = []
    # The farthest from those chosen comes next: sides of a thing each get a spot.
    left = np.full(len(near), np.inf)
    while len(chosen) < SPOTS and len(near) and left.max() >= APART:
        chosen.append(near[int(left.argmax())])
        left = np.minimum(left, np.hypot(*(near - chosen[-1])[:, :2].T))
    spots = np.array(chosen).round(4)
    return spots[_sees(known, spots, thing)]


def _sees(known: HouseMap, places: Floats, thing: int) -> Bools:
    """Whether a thing is in sight of each place [n, 3] of the floor, on its storey."""
    floors = np.array(known.house.floors)
    storey = np.abs(places[:, 2:] - floors).argmin(1)
    eyes = places + np.array([0.0, 0.0, EYE])
    seen = seen_from(known.rays, known.marks, eyes, storey, only=thing)
    return np.asarray(seen[:, thing])


Start = tuple[Floats, Ints, float]


def _starts(
    known: HouseMap,
    ground: Space,
    task: Task,
    thing: int,
    spots: Floats,
    rooms: list[Ints],
    dice: Dice,
) -> list[Start]:
    """Return starts: where, the spots from the nearest on, geodesic metres to the nearest."""
    if not len(spots):
        return []
    cells = np.concatenate(rooms)
    drawn = ground.surface.centres_of(cells[[dice.below(len(cells)) for _ in range(TRIED)]])
    drawn = drawn.round(4)
    # Straight lines are never longer: what is too far that way needs no field.
    straight = np.linalg.norm(drawn[:, None] - spots, axis=2).min(1)
    drawn = drawn[straight <= task.metres[1]]
    if task.in_sight:
        drawn = drawn[_sees(known, drawn, thing)]
    if not len(drawn):
        return []
    away = np.stack([ground.distances(drawn, spot) for spot in spots], axis=1)
    good = (away.min(1) >= task.metres[0]) & (away.min(1) <= task.metres[1])
    return [
        (drawn[row], np.argsort(away[row], kind="stable"), float(away[row].min()))
        for row in np.flatnonzero(good).tolist()
    ]


# --- step by step --------------------------------------------------------------------------------


def _step_episodes(
    known: HouseMap, ground: Space, task: Task, stem: str, count: int, wordings: int
) -> list[Episode]:
    told = make_episodes(known, count, wordings=wordings, edges=task.edges, metres=task.metres)
    floor, out = known.viewpoints.floor, []
    for number, one in enumerate(told):
        points = _points(ground.snap(floor[list(one.path)]).round(6))
        metres = ground.geodesic(points[0], points[-1])
        out += [
            _episode(
                known,
                task,
                f"{stem}_{number}_{wording}",
                text,
                round(one.heading * TWELFTH, 6),
                (points, metres),
                points[-1:],
            )
            for wording, text in enumerate(one.instructions)
        ]
    return out


def _episode(
    known: HouseMap, task: Task, name: str, text: str, heading: float, way: Way, goals: Points
) -> Episode:
    """Put an episode together; `way` are its waypoints and the geodesic metres to the goal."""
    scan = scan_of(known.house.seed)
    stem = name.rpartition("_")[0]
    return Episode(
        instr_id=name,
        scan=scan,
        path=(),
        heading=heading,
        instruction=text,
        path_id=stem,
        distance=round(way[1], 4),
        position=way[0][0],
        waypoints=way[0],
        goal_positions=goals,
        goal_radius=task.radius,
        scene=f"houses/{scan}",
    )


def _points(places: Floats) -> Points:
    return tuple((x, y, z) for x, y, z in places.tolist())
