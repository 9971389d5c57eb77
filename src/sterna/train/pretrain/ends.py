"""Where a pre-training walk ends, how it gets there, and what to do next.

Source: DUET's pre-training data sets. Two rules: "path" (R2R: the goal is the end of the annotated
path, walks are its beginnings) and "goals" (REVERIE: the goals are the viewpoints that see the
object, walks are shortest paths from the start).

Legend: B walks, C candidates, M map slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sterna.data.episodes import Episode
from sterna.errors import InputError
from sterna.models.pretraining import TaskName
from sterna.models.topomap import MapRows
from sterna.train.experts import STOP
from sterna.world.atlas import Atlas
from sterna.world.geometry import Floats, Ints

IGNORED = -100
"""Label of a decision that is not learnt from."""
Rule = Literal["path", "goals"]


@dataclass(frozen=True, kw_only=True)
class EndsConfig:
    """Which viewpoints walks end at."""

    rule: Rule = "path"
    """path: R2R; goals: REVERIE."""
    sap_goal: float = 0.2
    """Share of sap walks that end at a goal."""
    sap_on_path: float = 0.4
    """Share of sap walks that end elsewhere on the annotated path; the rest ends anywhere else
    in the scan (rule goals) or on the path too (rule path)."""
    mrc_goal: float | None = None
    """Share of mrc walks that end at a goal; None: 0.2 for path, 1 for goals, as DUET has it."""
    longest: int = 20
    """Viewpoints of a walk that are kept: of a longer one its first ones and its end."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.rule not in ("path", "goals"):
            raise InputError(f"ends: rule must be path or goals, found {self.rule!r}")
        shares = (self.sap_goal, self.sap_on_path, self.goal_share("mrc"))
        if min(shares) < 0 or shares[2] > 1 or shares[0] + shares[1] > 1:
            raise InputError(
                "ends: shares must lie between 0 and 1 and those of sap add up to at most 1, found "
                f"sap_goal {shares[0]}, sap_on_path {shares[1]}, mrc_goal {shares[2]}"
            )
        if self.longest < 1:
            raise InputError(f"ends: longest must be at least 1, found {self.longest}")

    def goal_share(self, task: TaskName) -> float:
        """Return the share of a task's walks that end at a goal (mlm and og: all)."""
        if task == "sap":
            return self.sap_goal
        if task == "mrc":
            usual = 0.2 if self.rule == "path" else 1.0
            return usual if self.mrc_goal is None else self.mrc_goal
        return 1.0


@dataclass(frozen=True)
class Ending:
    """One walk in atlas nodes: `path` as it is kept, `before` the node before its end (-1: none).

    `after` is the next node of the annotated path where the rule is "path" (-1: the walk is over).
    """

    path: tuple[int, ...]
    before: int
    goals: tuple[int, ...]
    after: int = -1


def draw_end(
    atlas: Atlas, episode: Episode, task: TaskName, rng: np.random.Generator, config: EndsConfig
) -> Ending:
    """Draw where a walk of `task` ends, and lay the walk."""
    lot, place = rng.random(2)
    path = [atlas.node(episode.scan, viewpoint) for viewpoint in episode.path]
    wanted = lot < config.goal_share(task)
    if config.rule == "path":
        end = len(path) - 1
        if not wanted and end > 0:
            end = int(place * end)
        return end_on_path(path, end, config)
    goals = goal_nodes(atlas, episode)
    near = task != "sap" or lot < config.sap_goal + config.sap_on_path
    choices = goals if wanted else _elsewhere(atlas, path, goals, near)
    return end_anywhere(atlas, path[0], choices[int(place * len(choices))], goals, config)


def goal_nodes(atlas: Atlas, episode: Episode) -> tuple[int, ...]:
    """Return the atlas nodes of an episode's goals (the path's end where none are named)."""
    return tuple(atlas.node(episode.scan, v) for v in episode.goals or (episode.goal,))


def end_on_path(path: Sequence[int], end: int, config: EndsConfig) -> Ending:
    """Return the walk along `path` to its node number `end` (rule "path")."""
    walked = path[: end + 1]
    after = path[end + 1] if end + 1 < len(path) else -1
    return Ending(_shortened(walked, config.longest), walked[-2] if end else -1, (path[-1],), after)


def end_anywhere(
    atlas: Atlas, start: int, end: int, goals: tuple[int, ...], config: EndsConfig
) -> Ending:
    """Return the shortest walk from `start` to `end` (rule "goals"); `InputError` if none."""
    scan = int(atlas.scan_of[start])
    graph, base = atlas.graphs[scan], int(atlas.offset[scan])
    walked = [node + base for node in graph.shortest_path(start - base, end - base)]
    before = walked[-2] if len(walked) > 1 else -1
    return Ending(_shortened(walked, config.longest), before, goals)


def _shortened(walked: Sequence[int], longest: int) -> tuple[int, ...]:
    if len(walked) <= longest:
        return tuple(walked)
    return (*walked[:longest], walked[-1])


def _elsewhere(
    atlas: Atlas, path: Sequence[int], goals: tuple[int, ...], near: bool
) -> tuple[int, ...]:
    """Nodes that are no goal: on the path, or (also where the path has none) off it."""
    on_path = tuple(dict.fromkeys(node for node in path if node not in goals))
    if near and on_path:
        return on_path
    scan = atlas.scan_of[path[0]]
    nodes = np.arange(atlas.offset[scan], atlas.offset[scan + 1])
    reached = np.isfinite(atlas.distance(np.array(path[:1]), nodes))
    others = np.setdiff1d(nodes[reached], np.array([*path, *goals]))
    return tuple(others.tolist()) or on_path or goals


def next_actions(
    atlas: Atlas, rows: MapRows, endings: Sequence[Ending], rule: Rule
) -> tuple[Ints, Ints]:
    """Return what to do at the ends: local slots (STOP, candidates) and map slots, each [B].

    At a goal: STOP. Rule "path": the next node of the path. Rule "goals": the node n, among all
    candidates and among the unvisited nodes of the map, that minimises d(end, n) + min_goal
    d(n, goal) in metres along the graph. A map label that may not be chosen (all visited, or a path
    that returns to where it has been) is -100.
    """
    candidates = atlas.candidates[rows.node]
    if rule == "path":
        after = np.array([ending.after for ending in endings])[:, None]
        local, there = candidates == after, rows.nodes == after
        stop = after[:, 0] < 0
        for ending, found, over in zip(endings, local.any(1), stop, strict=True):
            if not found and not over:
                raise InputError(
                    f"annotated path leaves the graph: {atlas.keys[ending.path[-1]]} and "
                    f"{atlas.keys[ending.after]} are no neighbours"
                )
        here, nodes = local.argmax(1) + 1, there.argmax(1)
    else:
        goals = [np.array(ending.goals) for ending in endings]
        stop = np.array([e.path[-1] in e.goals for e in endings])
        here = _detour(atlas, rows, candidates, candidates >= 0, goals).argmin(1) + 1
        open_ = rows.mask & ~rows.visited & (rows.nodes >= 0)
        nodes = _detour(atlas, rows, rows.nodes, open_, goals).argmin(1)
    closed = np.take_along_axis(rows.visited, nodes[:, None], 1)[:, 0] | (nodes == STOP)
    return np.where(stop, STOP, here), np.where(stop, STOP, np.where(closed, IGNORED, nodes))


def _detour(
    atlas: Atlas, rows: MapRows, nodes: Ints, allowed: np.ndarray, goals: Sequence[Ints]
) -> Floats:
    """Metres of the way from the ends over `nodes` [B, M] to the nearest goal; inf elsewhere."""
    known = np.where(nodes >= 0, nodes, rows.node[:, None])
    left = np.stack(
        [
            atlas.distance(some[:, None], goal).min(1)
            for some, goal in zip(known, goals, strict=True)
        ]
    )
    way = atlas.distance(rows.node[:, None], known) + left
    return np.where(allowed, way, np.inf)
