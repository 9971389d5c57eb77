"""The discrete world in steps: a batch of agents on navigation graphs, as arrays."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sterna.data.boxes import IMAGE_HEIGHT, IMAGE_WIDTH
from sterna.data.episodes import Episode
from sterna.data.objects import ObjectStore
from sterna.data.views import ViewStore
from sterna.errors import InputError
from sterna.world.atlas import Atlas
from sterna.world.geometry import (
    VIEW_ELEVATIONS,
    VIEW_HEADINGS,
    Floats,
    Ints,
    view_of_heading,
    wrap,
)

OTHER, CANDIDATE, OBJECT = 0, 1, 2  # DUET's navigation types of panorama tokens


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What agents see, B agents by T panorama tokens: candidates, unused views, objects.

    `node` [B] atlas nodes, `pose` [B] view index 0-35 of heading and elevation, `candidates`
    [B, C] atlas nodes (-1 pads). `token_rows` [B, W] point into the feature table (W most views of
    an agent; T without objects), `locations` [B, T, 7] are angle features relative to the pose
    plus the box (height, width, area share; [1, 1, 1] for views), `nav_types` [B, T], `mask`
    [B, T]; `features` [B, W, F] is gathered unless declined. `object_rows` [B, O] point into
    `Panoramas.object_features` (None: a world without objects); a row's objects stand right behind
    its own views.
    """

    node: Ints
    pose: Ints
    candidates: Ints
    token_rows: Ints
    locations: NDArray[np.float32]
    nav_types: Ints
    mask: NDArray[np.bool_]
    features: NDArray[np.floating] | None
    object_rows: Ints | None = None


class Panoramas:
    """Panorama tokens of every atlas node, laid out once: which view, which direction, which type.

    A candidate's token carries the view nearest to it and its exact direction; views that no
    candidate uses follow, then the objects (DUET's order). Works for any grid of view angles: 36
    views, or the eight headings of text observations. `lengths` [G] counts a node's tokens,
    `view_lengths` [G] those that are no objects; `object_ids` [G, O] (-1 pads).
    """

    def __init__(
        self,
        atlas: Atlas,
        views: ViewStore,
        objects: ObjectStore | None = None,
        *,
        max_objects: int | None = None,
    ) -> None:
        """Lay out the tokens; `views` gives the angles and, by `table`, the features.

        With `objects` each viewpoint shows its first `max_objects` (None: all; DUET trains with 20
        and evaluates with all).
        """
        self.atlas, self.size = atlas, views.size
        self.view_count = views.n_views
        self.features = views.table(atlas.keys).reshape(-1, views.size)
        self._lay_out(np.asarray(views.headings), np.asarray(views.elevations))
        self.view_lengths = self.lengths
        self.object_size = None if objects is None else objects.size
        if objects is not None:
            self._add_objects(objects, max_objects)

    def showing(self, objects: ObjectStore, *, max_objects: int | None = None) -> Panoramas:
        """Return bare panoramas with objects put in; views are shared, not copied."""
        if self.object_size is not None:
            raise InputError("panoramas: they show objects already; begin with bare ones")
        out = copy.copy(self)
        out.object_size = objects.size
        out._add_objects(objects, max_objects)
        return out

    def _candidate_views(self, headings: Floats, elevations: Floats) -> Ints:
        atlas = self.atlas
        if len(headings) == len(VIEW_HEADINGS) and np.allclose(headings, VIEW_HEADINGS):
            return atlas.candidate_view
        dh = wrap(atlas.candidate_heading[..., None] - headings)
        de = atlas.candidate_elevation[..., None] - elevations
        nearest: Ints = np.hypot(dh, de).argmin(-1)
        return nearest

    def _lay_out(self, headings: Floats, elevations: Floats) -> None:
        atlas, count = self.atlas, self.view_count
        valid = atlas.candidates >= 0
        seen = self._candidate_views(headings, elevations)
        used = np.zeros((len(atlas), count), bool)
        rows = np.nonzero(valid)[0]
        used[rows, seen[valid]] = True
        every = np.broadcast_to(np.arange(count), used.shape)
        keep = np.concatenate([valid, ~used], axis=1)
        order = np.argsort(~keep, axis=1, kind="stable")
        self.lengths: Ints = keep.sum(1)
        order = order[:, : int(self.lengths.max())]

        def tokens(of_candidate: Floats | Ints, of_view: Floats | Ints) -> NDArray[Any]:
            both = np.concatenate([of_candidate, np.broadcast_to(of_view, used.shape)], axis=1)
            return np.take_along_axis(both, order, 1)

        view = tokens(seen, every).astype(np.int64)
        self.token_rows = view + np.arange(len(atlas))[:, None] * count
        self.heading = tokens(atlas.candidate_heading, headings).astype(np.float64)
        elevation = tokens(atlas.candidate_elevation, elevations).astype(np.float64)
        self.nav_types = np.where(order < valid.shape[1], CANDIDATE, OTHER)
        self.mask = np.arange(order.shape[1]) < self.lengths[:, None]
        fixed = np.ones((*order.shape, 7))
        fixed[..., 0], fixed[..., 1] = np.sin(self.heading), np.cos(self.heading)
        fixed[..., 2], fixed[..., 3] = np.sin(elevation), np.cos(elevation)
        self._absolute = np.where(self.mask[..., None], fixed, 0)

    def _add_objects(self, objects: ObjectStore, most: int | None) -> None:
        """Append the object tokens of every node behind its views."""
        placed = [objects.at(key) for key in self.atlas.keys]
        count = np.array([len(p) if most is None else min(len(p), most) for p in placed])
        widest = max(1, int(count.max()))
        shown = np.arange(widest) < count[:, None]

        def flat(name: str) -> NDArray[Any]:
            parts = [getattr(p, name)[:n] for p, n in zip(placed, count, strict=True)]
            whole: NDArray[Any] = np.concatenate(parts)
            return whole

        table = flat("features")
        # A world of bare rooms still needs a row for the padding to point at.
        self.object_features = table if len(table) else np.zeros((1, objects.size), np.float32)
        self.object_rows = np.where(shown, np.cumsum(shown).reshape(shown.shape) - 1, 0)
        self.object_ids: Ints = np.full(shown.shape, -1, np.int64)
        self.object_ids[shown] = flat("ids")
        node, rank = np.nonzero(shown)
        slot = self.view_lengths[node] + rank
        self.lengths = self.view_lengths + count
        extra = max(0, int(self.lengths.max()) - self.mask.shape[1])
        wider = [(0, 0), (0, extra)]
        self.nav_types = np.pad(self.nav_types, wider)
        self.heading = np.pad(self.heading, wider)
        self._absolute = np.pad(self._absolute, [*wider, (0, 0)])
        self.mask = np.arange(self.mask.shape[1] + extra) < self.lengths[:, None]
        directions, sizes = flat("directions"), flat("sizes") / (IMAGE_WIDTH, IMAGE_HEIGHT)
        self.nav_types[node, slot], self.heading[node, slot] = OBJECT, directions[:, 0]
        for first, angle in ((0, directions[:, 0]), (2, directions[:, 1])):
            self._absolute[node, slot, first] = np.sin(angle)
            self._absolute[node, slot, first + 1] = np.cos(angle)
        self._absolute[node, slot, 4:] = np.stack(
            [sizes[:, 1], sizes[:, 0], sizes[:, 1] * sizes[:, 0]], axis=1
        )

    def locations(self, node: Ints, pose: Ints, width: int) -> NDArray[np.float32]:
        """Return the 7-d location features [B, width, 7]: angles relative to the pose, box."""
        out = self._absolute[node, :width]
        for first, turn in ((0, VIEW_HEADINGS[pose]), (2, VIEW_ELEVATIONS[pose])):
            # sin(a - b), cos(a - b) from the stored sin a, cos a.
            sin, cos = out[..., first].copy(), out[..., first + 1].copy()
            s, c = (f(turn)[:, None] for f in (np.sin, np.cos))
            out[..., first], out[..., first + 1] = sin * c - cos * s, cos * c + sin * s
        return out.astype(np.float32)

    def observe(self, node: Ints, pose: Ints, *, features: bool = True) -> Observation:
        """Return what agents at `node` [B] with `pose` [B] see; arrays trimmed to the batch."""
        width = int(self.lengths[node].max())
        rows = self.token_rows[node, : int(self.view_lengths[node].max())]
        things = None
        if self.object_size is not None:
            most = int((self.lengths - self.view_lengths)[node].max())
            things = self.object_rows[node, : max(1, most)]
        return Observation(
            node=node,
            pose=pose,
            candidates=self.atlas.candidates[node],
            token_rows=rows,
            locations=self.locations(node, pose, width),
            nav_types=self.nav_types[node, :width],
            mask=self.mask[node, :width],
            features=self.features[rows] if features else None,
            object_rows=things,
        )


class GraphEnv:
    """A batch of agents on navigation graphs.

    `reset` places agents, `step` moves each to any node of its scan and sets the pose from the last
    hop, as DUET does; -1 ends an agent's episode. Nothing is drawn at random here: the same
    episodes and actions give the same arrays.
    """

    def __init__(self, panoramas: Panoramas) -> None:
        """Build on laid-out panoramas (shared by any number of environments)."""
        self.panoramas, self.atlas = panoramas, panoramas.atlas
        self.node: Ints = np.zeros(0, np.int64)
        self.pose: Ints = np.zeros(0, np.int64)
        self.ended = np.zeros(0, bool)

    def reset(self, episodes: Sequence[Episode]) -> None:
        """Place one agent at each episode's start; heading rounded to the nearest of 12."""
        self.node = np.array([self.atlas.node(e.scan, e.start) for e in episodes], np.int64)
        self.pose = view_of_heading(np.array([e.heading for e in episodes]))
        self.ended = np.zeros(len(episodes), bool)

    def observe(self, *, features: bool = True) -> Observation:
        """Return the observation of all agents, ended ones included (they stand still)."""
        return self.panoramas.observe(self.node, self.pose, features=features)

    def step(self, target: Ints, last: Ints | None = None) -> None:
        """Move agents to `target` [B] (-1: stop) arriving from node `last` [B].

        `last` defaults to the node before the target on a shortest path. The pose becomes the view
        through which `last` sees the target. `InputError` if that is not an edge.
        """
        target = np.asarray(target, np.int64)
        self.ended |= target < 0
        moving = np.flatnonzero(~self.ended & (target != self.node))
        if not len(moving):
            return
        goal = target[moving]
        before = self.atlas.next_hop(goal, self.node[moving]) if last is None else last[moving]
        view = self.atlas.hop_view(before, goal)
        if (view < 0).any():
            bad = int(np.flatnonzero(view < 0)[0])
            raise InputError(
                f"no edge {self.atlas.keys[before[bad]]} -> {self.atlas.keys[goal[bad]]}; "
                "an agent arrives at a viewpoint through one of its neighbours"
            )
        self.node = self.node.copy()
        self.pose = self.pose.copy()
        self.node[moving], self.pose[moving] = goal, view


def pose_angles(pose: Ints) -> tuple[Floats, Floats]:
    """Return heading and elevation in radians of view indices [B]."""
    return VIEW_HEADINGS[pose], VIEW_ELEVATIONS[pose]
