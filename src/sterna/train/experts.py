"""Where the expert would go: DUET's labels for teacher-forced and for sampled roll-outs.

Legend: R rows (decisions), M map slots, K (row, node) pairs, J reference nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sterna.data.episodes import Episode
from sterna.errors import InputError
from sterna.models.topomap import MapRows
from sterna.world.atlas import Atlas
from sterna.world.geometry import Floats, Ints

STOP = 0


def reference_nodes(atlas: Atlas, episodes: Sequence[Episode]) -> list[Ints]:
    """Return the annotated path of every episode in atlas nodes."""
    return [np.array([atlas.node(e.scan, v) for v in e.path], np.int64) for e in episodes]


def goal_nodes(references: Sequence[Ints]) -> Ints:
    """Return the last node of every reference path [B]."""
    return np.array([reference[-1] for reference in references], np.int64)


def _choosable(rows: MapRows) -> NDArray[np.bool_]:
    out: NDArray[np.bool_] = rows.mask & ~rows.visited
    out[:, STOP] = False
    return out


def follow_path(rows: MapRows, references: Sequence[Ints]) -> Ints:
    """Return the slot of the next node of the annotated path, STOP at its end [R].

    Decision t of an agent that follows its path is taken at path node t. Raises `InputError` where
    the path's next node is not on the map (a path over a non-edge).
    """
    out = np.zeros(len(rows), np.int64)
    for i, (agent, step) in enumerate(zip(rows.agent, rows.step, strict=True)):
        path = references[agent]
        if step + 1 < len(path):
            match = np.flatnonzero(rows.nodes[i, 1:] == path[step + 1])
            if not len(match):
                raise InputError(
                    f"reference path of episode number {agent}: its node {step + 1} cannot be seen "
                    f"from node {step}; the path must follow edges of the navigation graph"
                )
            out[i] = match[0] + 1
    return out


def shortest_path_expert(atlas: Atlas, rows: MapRows, goals: Ints) -> Ints:
    """Return the slots of DUET's 'spl' expert [R].

    STOP on the goal, else argmin over unvisited nodes n of d(current, n) + d(n, goal), with
    geodesic distances of the full graph; the earliest on the map wins ties.
    """
    goal = goals[rows.agent]
    nodes = np.where(rows.nodes >= 0, rows.nodes, rows.node[:, None])
    cost = atlas.distance(rows.node[:, None], nodes) + atlas.distance(nodes, goal[:, None])
    best = np.where(_choosable(rows), cost, np.inf).argmin(1)
    return np.where(rows.node == goal, STOP, best)


def ndtw_expert(
    atlas: Atlas, rows: MapRows, references: Sequence[Ints], walked: Sequence[Ints]
) -> Ints:
    """Return the slots of DUET's 'ndtw' expert [R].

    STOP on the goal, else argmax over unvisited nodes n of nDTW(path so far + shortest path to n,
    reference), nDTW = exp(-DTW / (3 |reference|)). `walked` [R] are the nodes walked until then.
    """
    refs = [references[agent] for agent in rows.agent]
    reference, lengths = _padded(refs)
    costs = _walk_costs(atlas, walked, reference, lengths)
    row, slot = np.nonzero(_choosable(rows))
    target = rows.nodes[row, slot]
    position, cost = rows.node[row], costs[row]
    while (moving := position != target).any():
        hop = atlas.next_hop(position, target)
        step = _advance(atlas, cost, hop, reference[row], lengths[row])
        cost = np.where(moving[:, None], step, cost)
        position = np.where(moving, hop, position)
    final = np.full(rows.nodes.shape, np.inf)
    final[row, slot] = cost[np.arange(len(row)), lengths[row]]
    goal = goal_nodes(references)[rows.agent]
    return np.where(rows.node == goal, STOP, final.argmin(1))


def _padded(paths: Sequence[Ints]) -> tuple[Ints, Ints]:
    lengths = np.array([len(p) for p in paths])
    out = np.stack([np.pad(p, (0, int(lengths.max()) - len(p)), mode="edge") for p in paths])
    return out, lengths


def _walk_costs(atlas: Atlas, walked: Sequence[Ints], reference: Ints, lengths: Ints) -> Floats:
    """Return the last DTW row [R, J + 1] after the paths walked so far."""
    paths, counts = _padded(walked)
    cost = np.full((len(paths), reference.shape[1] + 1), np.inf)
    cost[:, 0] = 0.0
    for i in range(paths.shape[1]):
        step = _advance(atlas, cost, paths[:, i], reference, lengths)
        cost = np.where((i < counts)[:, None], step, cost)
    return cost


def _advance(atlas: Atlas, before: Floats, node: Ints, reference: Ints, lengths: Ints) -> Floats:
    """One row of dynamic time warping: D[i, j] = d + min(D[i-1, j], D[i-1, j-1], D[i, j-1])."""
    apart = atlas.distance(node[:, None], reference)
    out = np.full_like(before, np.inf)
    for j in range(1, before.shape[1]):
        least = np.minimum(np.minimum(before[:, j], before[:, j - 1]), out[:, j - 1])
        out[:, j] = np.where(j <= lengths, apart[:, j - 1] + least, out[:, j - 1])
    return out
