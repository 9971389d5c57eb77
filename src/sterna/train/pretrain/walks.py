"""The map at the end of pre-training walks, for a whole batch at once.

Unlike in fine-tuning, distances and hops are those of the full navigation graph, and panoramas are
seen at heading 0 (DUET's pre-training).

Legend: B walks, S steps of the longest, T panoramas of all walks, C candidates, M map slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sterna.data.episodes import Episode
from sterna.errors import InputError
from sterna.models.topomap import STOP_POSITION, MapRows
from sterna.train.pretrain.ends import Ending
from sterna.world.atlas import Atlas
from sterna.world.geometry import (
    VIEW_ELEVATIONS,
    VIEW_HEADINGS,
    Floats,
    Ints,
    relative_positions,
    view_of_heading,
)

MEAN = -1
"""Token number that stands for the mean of a panorama."""
FRONT = 12
"""The view of heading 0 at the horizon, as which every panorama is seen."""


@dataclass(frozen=True, kw_only=True)
class Walks:
    """B walks to their ends.

    `node` [T] are the atlas nodes of all panoramas, walk behind walk, `last` [B] the ends among
    them; `rows` is the map at the ends (one decision a walk). Map slot number `slot` [P] (of
    B (1 + M), ascending) takes token `token` [P] (-1: the mean) of panorama `panorama` [P] with
    `weight` [P].
    """

    node: Ints
    last: Ints
    rows: MapRows
    slot: Ints
    panorama: Ints
    token: Ints
    weight: Floats


def lay_walks(atlas: Atlas, episodes: Sequence[Episode], endings: Sequence[Ending]) -> Walks:
    """Build the maps of walks; their first heading is the episode's, to the digit."""
    lengths = np.array([len(ending.path) for ending in endings])
    count, steps = len(endings), int(lengths.max())
    path = np.full((count, steps), -1, np.int64)
    path[np.arange(steps) < lengths[:, None]] = np.concatenate([e.path for e in endings])
    last_visit, nodes, slot_of = _slots(atlas, path)
    rows = _rows(atlas, episodes, endings, path, lengths, last_visit, nodes, slot_of)
    walk, step = np.nonzero(path >= 0)
    number = np.full(path.shape, -1)
    number[walk, step] = np.arange(len(walk))
    seen_walk, seen_slot = np.nonzero(rows.visited)
    visit = number[seen_walk, rows.steps[seen_walk, seen_slot] - 1]
    candidates = atlas.candidates[path[walk, step]]
    panorama, token = np.nonzero(candidates >= 0)
    owner = walk[panorama]
    slot = slot_of[owner, atlas.local(candidates[panorama, token])] + 1
    fresh = ~rows.visited[owner, slot]
    owner, slot, panorama, token = owner[fresh], slot[fresh], panorama[fresh], token[fresh]
    width = rows.nodes.shape[1]
    place = np.concatenate([seen_walk * width + seen_slot, owner * width + slot])
    share = 1.0 / np.bincount(place, minlength=count * width)[place]
    order = np.argsort(place, kind="stable")
    return Walks(
        node=path[walk, step],
        last=np.cumsum(lengths) - 1,
        rows=rows,
        slot=place[order],
        panorama=np.concatenate([visit, panorama])[order],
        token=np.concatenate([np.full(len(visit), MEAN), token])[order],
        weight=share[order],
    )


def _slots(atlas: Atlas, path: Ints) -> tuple[Ints, Ints, Ints]:
    """Return last visits [B, M] (-1: never), nodes [B, M] (-1 pads) and slots of local nodes.

    Visited nodes come first in order of first visit, then the others in order of first sight.
    """
    count, steps = path.shape
    walk, step = np.nonzero(path >= 0)
    node = path[walk, step]
    candidates = atlas.candidates[node]
    row, column = np.nonzero(candidates >= 0)
    room = int(atlas.scan_size(node).max())
    late = steps * (candidates.shape[1] + 1)
    first = np.full((count, room), late, np.int64)
    visit = np.full((count, room), -1, np.int64)
    here, there = atlas.local(node), atlas.local(candidates[row, column])
    np.minimum.at(first, (walk, here), step)
    sight = steps + step[row] * candidates.shape[1] + column
    np.minimum.at(first, (walk[row], there), sight)
    np.maximum.at(visit, (walk, here), step)
    known = first < late
    order = np.argsort(first, axis=1, kind="stable")[:, : int(known.sum(1).max())]
    used = np.take_along_axis(known, order, 1)
    base = path[:, :1] - atlas.local(path[:, 0])[:, None]
    slot_of = np.full((count, room), -1, np.int64)
    np.put_along_axis(slot_of, order, np.arange(order.shape[1])[None], 1)
    slot_of[~known] = -1
    return (
        np.where(used, np.take_along_axis(visit, order, 1), -1),
        np.where(used, order + base, -1),
        slot_of,
    )


def _rows(
    atlas: Atlas,
    episodes: Sequence[Episode],
    endings: Sequence[Ending],
    path: Ints,
    lengths: Ints,
    last_visit: Ints,
    nodes: Ints,
    slot_of: Ints,
) -> MapRows:
    count = len(path)
    every = np.arange(count)
    end = path[every, lengths - 1]
    heading, elevation, pose = _poses(atlas, episodes, endings)
    used = nodes >= 0
    known = np.where(used, nodes, end[:, None])
    offsets = atlas.positions[known] - atlas.positions[end][:, None]
    away, hops = atlas.distance(end[:, None], known), hop_counts(atlas, end[:, None], known)
    positions = relative_positions(offsets, heading[:, None], elevation[:, None], away, hops)
    positions[~used] = 0
    between = atlas.distance(known[:, :, None], known[:, None]).astype(np.float32)
    between[~(used[:, :, None] & used[:, None])] = 0
    candidates = atlas.candidates[end]
    valid = candidates >= 0
    local = atlas.local(np.where(valid, candidates, end[:, None]))
    slots = np.where(valid, slot_of[every[:, None], local], -1)
    there = np.take_along_axis(positions, np.maximum(slots, 0)[..., None], 1)
    beside = np.zeros((count, slots.shape[1] + 1, 14), np.float32)
    beside[:, :, :7] = positions[every, slot_of[every, atlas.local(path[:, 0])]][:, None]
    beside[:, 1:, 7:] = np.where(valid[..., None], there, 0)
    wide = ((0, 0), (1, 0))
    where = np.pad(positions, (*wide, (0, 0)))
    where[:, 0] = STOP_POSITION
    return MapRows(
        agent=every,
        step=lengths - 1,
        node=end,
        pose=pose,
        nodes=np.pad(nodes, wide, constant_values=-1),
        mask=np.pad(used, wide, constant_values=True),
        visited=np.pad(last_visit >= 0, wide),
        steps=np.pad(last_visit + 1, wide),
        positions=where,
        distances=np.pad(between, ((0, 0), (1, 0), (1, 0))),
        candidates=slots + 1,
        local_positions=beside,
    )


def _poses(
    atlas: Atlas, episodes: Sequence[Episode], endings: Sequence[Ending]
) -> tuple[Floats, Floats, Ints]:
    """Headings and elevations [B] in radians at the ends, and the nearest views.

    A walk that has not moved looks along the annotated heading; otherwise the pose is the view
    through which the last hop was made.
    """
    start = np.array([episode.heading for episode in episodes])
    end = np.array([ending.path[-1] for ending in endings])
    before = np.array([ending.before for ending in endings])
    moved = before >= 0
    view = atlas.hop_view(np.where(moved, before, end), end)
    if (moved & (view < 0)).any():
        bad = int(np.flatnonzero(moved & (view < 0))[0])
        raise InputError(
            f"episode {episodes[bad].instr_id}: its path goes from {atlas.keys[before[bad]]} to "
            f"{atlas.keys[end[bad]]}, which are no neighbours; it must follow edges of the graph"
        )
    pose = np.where(moved, view, view_of_heading(start))
    heading = np.where(moved, VIEW_HEADINGS[pose], start)
    return heading, np.where(moved, VIEW_ELEVATIONS[pose], 0.0), pose


def hop_counts(atlas: Atlas, start: Ints, end: Ints) -> Ints:
    """Return the edges of the shortest paths from start to end; both arrays broadcast."""
    position, goal = (a.copy() for a in np.broadcast_arrays(start, end))
    hops = np.zeros(position.shape, np.int64)
    while (moving := position != goal).any():
        position[moving] = atlas.next_hop(position[moving], goal[moving])
        hops += moving
    return hops
