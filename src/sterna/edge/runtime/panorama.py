"""What an agent sees at one viewpoint, and how it becomes tokens.

Legend: V views, W view tokens, C candidates, O objects, T = W + O tokens, F feature width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sterna.edge.runtime.topomap import place_of
from sterna.errors import InputError
from sterna.world.geometry import (
    VIEW_ELEVATIONS,
    VIEW_HEADINGS,
    Floats,
    Ints,
    directions,
    edge_views,
    wrap,
)

OTHER, CANDIDATE = 0, 1  # DUET's kinds of views
SAME = 1e-5  # radians; views within it of the simulator's sweep are the sweep
IMAGE = (640, 480)  # pixels, width and height, of the views that boxes of objects are given in


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighbour:
    """A place that can be walked to from here in one go.

    `position` in metres on the map's frame (z up). Direction (radians, heading 0 along +y and
    growing clockwise, elevation growing upwards) and distance follow from the positions unless they
    are known better.
    """

    name: str
    position: ArrayLike
    heading: float | None = None
    elevation: float | None = None
    distance: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Objects:
    """Objects in sight: `ids` [O], `features` [O, F'], `directions` [O, 2] absolute heading and
    elevation in radians, `sizes` [O, 2] width and height in pixels of a 640 x 480 view.
    """

    ids: ArrayLike
    features: ArrayLike
    directions: ArrayLike
    sizes: ArrayLike


@dataclass(frozen=True, kw_only=True, eq=False)
class Observation:
    """What is seen at one viewpoint.

    `views` [V, F] features in the directions of the manifest, or of `view_headings` and
    `view_elevations` (radians, [V]) where they are given: directions are those of the map's frame,
    not of the robot. `heading` and `elevation` say where the agent looks; without a heading they
    are those of training, the centre of the view (of 36) nearest to the last hop.
    """

    node: str
    position: ArrayLike
    views: ArrayLike
    neighbours: Sequence[Neighbour] = field(default=())
    heading: float | None = None
    elevation: float = 0.0
    view_headings: ArrayLike | None = None
    view_elevations: ArrayLike | None = None
    objects: Objects | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Tokens:
    """A viewpoint as the panorama graph reads it, candidates first, objects last.

    `views` [W, F] with `kinds` [W], `objects` [O, F'] with `ids` [O], `locations` [T, 7] of both.
    """

    views: NDArray[np.float32]
    locations: NDArray[np.float32]
    kinds: Ints
    objects: NDArray[np.float32]
    ids: Ints

    def same(self, other: Tokens) -> bool:
        """Say whether other tokens are these, bit for bit."""
        mine, theirs = vars(self), vars(other)
        return all(np.array_equal(mine[name], theirs[name]) for name in mine)


def neighbour_directions(seen: Observation) -> tuple[Floats, Floats]:
    """Return absolute headings and elevations of the neighbours, [C] each, radians."""
    places = [place_of(n.name, n.position) for n in seen.neighbours]
    offsets = np.reshape(places, (-1, 3)) - place_of(seen.node, seen.position)
    heading, elevation, _ = directions(offsets)
    for i, near in enumerate(seen.neighbours):
        heading[i] = heading[i] if near.heading is None else near.heading
        elevation[i] = elevation[i] if near.elevation is None else near.elevation
    return heading, elevation


def arrival(offset: Floats) -> tuple[float, float]:
    """Return heading and elevation of an agent that came over a hop `offset` [3], as in training.

    They are those of the view, of 36, whose centre is nearest to the hop's direction.
    """
    heading, elevation, _ = directions(offset[None])
    view = int(edge_views(heading, elevation)[0][0])
    return float(VIEW_HEADINGS[view]), float(VIEW_ELEVATIONS[view])


def nearest_views(heading: Floats, elevation: Floats, headings: Floats, elevations: Floats) -> Ints:
    """Return the view nearest to each of C directions, among V."""
    if len(headings) == len(VIEW_HEADINGS) and np.abs(headings - VIEW_HEADINGS).max() < SAME:
        return edge_views(heading, elevation)[0]
    apart = np.hypot(wrap(heading[:, None] - headings), elevation[:, None] - elevations)
    nearest: Ints = apart.argmin(-1)
    return nearest


def lay_out(
    seen: Observation,
    headings: Floats,
    elevations: Floats,
    pose: tuple[float, float],
    sizes: tuple[int, int | None],
) -> Tokens:
    """Lay out the tokens of a viewpoint in DUET's order.

    A candidate's token carries the view nearest to it and its exact direction; views that no
    candidate uses follow, then the objects. `headings`, `elevations` [V] are the views' directions,
    `pose` the agent's; `sizes` are the widths of view and object features (None: no objects).
    Raises `InputError` for features of another shape or that are not finite.
    """
    views = _features(f"node {seen.node!r}: views", seen.views, len(headings), sizes[0])
    toward = neighbour_directions(seen)
    used = nearest_views(*toward, headings, elevations) if len(seen.neighbours) else _NONE
    unused = np.ones(len(headings), bool)
    unused[used] = False
    free = np.flatnonzero(unused)
    things = _things(seen, sizes[1])
    angle = [
        np.concatenate([of_near, of_views[free], of_things])
        for of_near, of_views, of_things in zip(
            toward, (headings, elevations), things.directions.T, strict=True
        )
    ]
    box = np.ones((len(angle[0]), 3))
    box[len(used) + len(free) :] = things.boxes
    kinds = np.repeat([CANDIDATE, OTHER], [len(used), len(free)])
    return Tokens(
        views=views[np.concatenate([used, free])],
        locations=_locations(angle[0], angle[1], box, pose),
        kinds=kinds.astype(np.int64),
        objects=things.features,
        ids=things.ids,
    )


_NONE: Ints = np.zeros(0, np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Things:
    ids: Ints
    features: NDArray[np.float32]
    directions: Floats
    boxes: Floats


def _things(seen: Observation, size: int | None) -> _Things:
    if seen.objects is None or size is None:
        nothing = np.zeros((0, size or 0), np.float32)
        return _Things(ids=_NONE, features=nothing, directions=_FLAT, boxes=_NO_BOXES)
    given, ids = seen.objects, np.asarray(seen.objects.ids, np.int64)
    where = f"node {seen.node!r}: objects"
    extent = np.asarray(given.sizes, np.float64).reshape(len(ids), 2) / IMAGE
    boxes = np.stack([extent[:, 1], extent[:, 0], extent[:, 1] * extent[:, 0]], axis=1)
    return _Things(
        ids=ids,
        features=_features(where, given.features, len(ids), size),
        directions=np.asarray(given.directions, np.float64).reshape(len(ids), 2),
        boxes=boxes,
    )


_FLAT: Floats = np.zeros((0, 2))
_NO_BOXES: Floats = np.zeros((0, 3))


def _features(name: str, values: ArrayLike, count: int, width: int) -> NDArray[np.float32]:
    array: NDArray[Any] = np.asarray(values)
    if array.shape != (count, width):
        raise InputError(f"{name}: expected shape ({count}, {width}), found {array.shape}")
    out = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(out).all():
        raise InputError(f"{name}: found NaN or infinity; extract the features again")
    return out


def _locations(
    heading: Floats, elevation: Floats, box: Floats, pose: tuple[float, float]
) -> NDArray[np.float32]:
    """Return [sin, cos of heading - pose; sin, cos of elevation - pose; box], [T, 7]."""
    out = np.empty((len(heading), 7))
    for first, angle, turn in ((0, heading, pose[0]), (2, elevation, pose[1])):
        sin, cos, s, c = np.sin(angle), np.cos(angle), np.sin(turn), np.cos(turn)
        out[:, first], out[:, first + 1] = sin * c - cos * s, cos * c + sin * s
    out[:, 4:] = box
    return out.astype(np.float32)
