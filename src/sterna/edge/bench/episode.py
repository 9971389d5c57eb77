"""The episode that is timed: made up, but of the sizes of a walk through an R2R house.

Along the reference paths of R2R val_unseen a viewpoint has 3.6 neighbours at the start and 4.2 to
4.5 later: the one the agent came from, one more that it saw before, the rest new. The map holds
4.6, 6.9, 9.2, 11.6, 14.0, 16.3, 18.5 nodes at steps 1 to 7; here 5, 7, 9, 12, 14, 16, 19.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sterna.edge.runtime import Neighbour, Objects, Observation
from sterna.errors import InputError
from sterna.world.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS, Floats

_SIDES = (1, 1, 2)  # places beside the way that are new at a step, after the first
_FIRST_SIDES = 3
_STRIDE = 2.0  # metres between places


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of the timed episode; raises `InputError` for impossible ones."""

    steps: int = 7
    """Decisions; the agent stands at another place at each."""
    words: int = 44
    """Word pieces of the instruction."""
    views: int = 36
    """Views at every place: 36 as in Matterport panoramas, else a level ring."""
    objects: int = 8
    """Objects in sight at every place, for policies that read them."""
    seed: int = 0
    """Of features and words."""
    frames: str | None = None
    """File of frames (npz) that policies from observations to actions see; None: noise."""
    rho: float | None = None
    """Budget of routed policies; None: each one's usual one."""

    def __post_init__(self) -> None:
        """Check the sizes."""
        least = {"steps": 1, "words": 1, "views": 1, "objects": 0, "seed": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise InputError(f"--{name} must be at least {low}, found {getattr(self, name)}")


def word_ids(shape: Shape, vocabulary: int) -> list[int]:
    """Return the instruction: word ids below `vocabulary`, drawn evenly."""
    rng = np.random.default_rng([shape.seed, 1])
    return [int(i) for i in rng.integers(0, vocabulary, shape.words)]


def observations(
    shape: Shape, feature_size: int, object_size: int | None = None
) -> list[Observation]:
    """Return what is seen at each step; views and objects are noise of these widths."""
    rng = np.random.default_rng([shape.seed, 2])
    headings, elevations = directions_of(shape.views)
    out = []
    for step in range(shape.steps):
        out.append(
            Observation(
                node=f"way{step}",
                position=_place(step),
                heading=0.0 if step == 0 else None,
                views=rng.standard_normal((shape.views, feature_size)).astype(np.float32),
                view_headings=headings,
                view_elevations=elevations,
                neighbours=_neighbours(step),
                objects=None if object_size is None else _objects(shape.objects, object_size, rng),
            )
        )
    return out


def directions_of(views: int) -> tuple[Floats, Floats]:
    """Return headings and elevations of the views (radians, [V])."""
    if views == len(VIEW_HEADINGS):
        return VIEW_HEADINGS, VIEW_ELEVATIONS
    headings: Floats = np.arange(views, dtype=np.float64) * (2 * np.pi / views)
    return headings, np.zeros(views)


def _place(step: int) -> Floats:
    return np.array([0.3 * (step % 2), _STRIDE * step, 0.0])


def _sides(step: int) -> list[Neighbour]:
    """Return the places beside the way that are first seen at a step."""
    count = _FIRST_SIDES if step == 0 else _SIDES[(step - 1) % len(_SIDES)]
    angles = [np.pi / 2 + 0.7 * step + k * np.pi / 2 for k in range(count)]
    return [
        Neighbour(
            name=f"side{step}.{k}",
            position=_place(step) + _STRIDE * np.array([np.sin(a), np.cos(a), 0.0]),
        )
        for k, a in enumerate(angles)
    ]


def _neighbours(step: int) -> list[Neighbour]:
    ahead = [Neighbour(name=f"way{step + 1}", position=_place(step + 1)), *_sides(step)]
    if step == 0:
        return ahead
    back = Neighbour(name=f"way{step - 1}", position=_place(step - 1))
    return [back, _sides(step - 1)[0], *ahead]


def _objects(count: int, width: int, rng: np.random.Generator) -> Objects:
    return Objects(
        ids=np.arange(count),
        features=rng.standard_normal((count, width)).astype(np.float32),
        directions=np.stack([rng.uniform(-np.pi, np.pi, count), rng.uniform(-0.5, 0.5, count)], 1),
        sizes=rng.uniform(20, 200, (count, 2)),
    )
