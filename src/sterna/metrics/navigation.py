"""Navigation scores of many walks at once, as the published evaluators code them.

Legend: R nodes of a reference path, T nodes of a walk, n walks. d(u, v) is the geodesic distance
on the whole navigation graph in metres. Sources: the Matterport3D simulator's `tasks/R2R/eval.py`
(TL, NE, OSR, SR, SPL), DUET's evaluator (all; RGS), Ilharco et al. 2019 (nDTW, SDTW), Jain et al.
2019 (CLS), CVDN's `tasks/NDH/eval.py` (GP, OPSR), SOON's `eval.py` (GP, FSR, FSPL). Rates are
fractions of 1, not percent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from sterna.errors import InputError
from sterna.metrics.protocol import Protocol
from sterna.world.geometry import Floats, Ints
from sterna.world.graph import NavGraph

BINARY = ("SR", "SR_1m", "OSR", "OPSR", "RGS", "RGS_at_goal", "FSR")
"""The scores that are 0 or 1 for one walk."""

_BATCH = 512  # walks of similar length padded together; bounds the memory on R4R


@dataclass(frozen=True, kw_only=True, eq=False)
class Walk:
    """One walk beside its answer, in node numbers of one graph.

    `path` [T] is what was walked, start first; the caller removes immediate repeats (turning on
    the spot is no step). `reference` [R] is the ground-truth path, R >= 2 (NDH: R >= 1). `goals`
    [G] is the goal set of tasks such as REVERIE (None: the goal is ``reference[-1]``).
    `object_found` says whether the predicted object is the target (None: the task has no object),
    `pointed` whether the direction pointed at lies inside its outline (SOON). `ends` [E] is the
    region to which NDH measures progress, `planner_goal` the last node of its planner's path.
    """

    name: str
    graph: NavGraph = field(repr=False)
    path: Ints
    reference: Ints
    action_steps: int
    goals: Ints | None = None
    object_found: bool | None = None
    pointed: bool | None = None
    ends: Ints | None = None
    planner_goal: int | None = None


def dtw(cost: Floats) -> Floats:
    """Dynamic time warping of n cost matrices, all prefixes at once.

    cost [R, T, n] >= 0 -> DTW [R, T, n], entry (r, t) comparing the first r+1 and t+1 nodes:
    DTW(r, t) = cost(r, t) + min(DTW(r-1, t), DTW(r, t-1), DTW(r-1, t-1)).
    Runs over anti-diagonals, whose entries do not depend on one another. (Ilharco et al. 2019.)
    """
    rows, columns, count = cost.shape
    table = np.full((rows + 1, columns + 1, count), np.inf)
    table[0, 0] = 0.0
    for diagonal in range(rows + columns - 1):
        r = np.arange(max(0, diagonal - columns + 1), min(rows, diagonal + 1))
        t = diagonal - r
        before = np.minimum(np.minimum(table[r, t], table[r, t + 1]), table[r + 1, t])
        table[r + 1, t + 1] = cost[r, t] + before
    return table[1:, 1:]


def navigation_scores(walks: Sequence[Walk], protocol: Protocol) -> dict[str, Floats]:
    """Score n walks; returns name -> array [n] in the order given.

    * TL = sum of d(path_i, path_i+1), metres; steps = T - 1; action_steps = decisions taken.
    * NE = d(path[-1], goal); oracle_error = min over the path of d(node, goal); metres.
    * SR = NE < radius (strict); OSR = oracle_error < radius. With the rule "goal_set": the end,
      or any node of the path, is a member of the goal set; no radius.
    * SPL = SR * L / max(TL, L, floor), L the protocol's reference length; a success with
      L = max(...) = 0 counts 1.
    * DTW over d; nDTW = exp(-DTW / (threshold * R)); SDTW = SR * nDTW.
    * CLS = PC * LS, PC = mean over reference nodes u of exp(-min over the path of d(u, v) /
      threshold), E = PC * reference length, LS = E / (E + |E - TL|).
    * With objects: RGS = object found (DUET), RGS_at_goal = RGS * SR (AutoVLN, ScaleVLN), and
      RGSPL, RGSPL_at_goal = these * L / max(TL, L, floor).
    * With the rule "radius_or_goal_set" (SOON) the goal is the end of the path where that is in the
      goal set, else reference[-1]; oracle_error = d(n, goal) of the node n nearest to
      reference[-1]; L = d(start, goal); GP = d(start, goal) - NE. FSR = the target is pointed at
      from the end, FSPL = FSR * L / max(TL, L, floor).
    * With an end region (NDH): GP = min over e of d(start, e) - min over e of d(path[-1], e), in
      metres; OPSR = min over the path of d(node, end of the planner's path) < radius. With the rule
      "goal_set" L = min over e of d(start, e).

    Raises `InputError`, naming the episode, for a walk or answer that cannot be scored under the
    protocol and for any score that is not finite.
    """
    if not walks:
        raise InputError("nothing to score: expected at least one trajectory, found none")
    if protocol.reference_length == "stored":
        raise InputError(
            f"protocol {protocol.name} is for continuous space; on navigation graphs take "
            "R2R_DUET, R2R_MATTERSIM or the protocol of the task"
        )
    for walk in walks:
        _check(walk, protocol)
    scores: dict[str, Floats] = {}
    for places in _batches(walks):
        for name, values in _score_batch([walks[i] for i in places], protocol).items():
            scores.setdefault(name, np.empty(len(walks)))[places] = values
    _refuse_non_finite(walks, scores)
    return scores


def _batches(walks: Sequence[Walk]) -> Iterator[Ints]:
    order = np.argsort([len(walk.path) for walk in walks], kind="stable")
    for first in range(0, len(order), _BATCH):
        yield order[first : first + _BATCH]


def _check(walk: Walk, protocol: Protocol) -> None:
    def refuse(what: str) -> InputError:
        return InputError(f"episode {walk.name}: {what}")

    if len(walk.reference) < (2 if walk.ends is None else 1):
        raise refuse(
            "the reference path has fewer than two viewpoints, so there is no answer to score "
            "against; a test split is scored by its leaderboard"
        )
    if (walk.goals is not None) != (protocol.success != "radius"):
        found = "has a" if walk.goals is not None else "has no"
        raise refuse(
            f"it {found} goal set, but protocol {protocol.name} decides success by "
            f"{protocol.success}; choose the protocol of this task"
        )
    if protocol.max_steps is not None and walk.action_steps > protocol.max_steps:
        raise refuse(
            f"{walk.action_steps} decisions, protocol {protocol.name} allows {protocol.max_steps}"
        )
    if not protocol.backtracking and len(np.unique(walk.path)) != len(walk.path):
        raise refuse(f"it visits a viewpoint twice, protocol {protocol.name} forbids backtracking")


def _lengths(nodes: Sequence[Ints], walks: Sequence[Walk]) -> Floats:
    pairs = zip(nodes, walks, strict=True)
    return np.array([w.graph.distances[node[:-1], node[1:]].sum() for node, w in pairs])


def _costs(walks: Sequence[Walk], references: Ints, paths: Ints) -> Floats:
    """Distances reference x path of every walk, [R, T, n], padded with infinity."""
    cost = np.full((references.max(), paths.max(), len(walks)), np.inf)
    for i, walk in enumerate(walks):
        block = walk.graph.distances[np.ix_(walk.reference, walk.path)]
        cost[: references[i], : paths[i], i] = block
    return cost


def _success(walks: Sequence[Walk], errors: Floats, oracle: Floats, protocol: Protocol) -> Floats:
    """SR and OSR as rows of a [2, n] array."""
    if protocol.success == "goal_set":
        seen = [np.isin(walk.path, walk.goals) for walk in walks]  # type: ignore[arg-type]
        return np.array([[hit[-1] for hit in seen], [hit.any() for hit in seen]], np.float64)
    return protocol.near([errors, oracle]).astype(np.float64)


def _efficiency(lengths: Floats, references: Floats, floor: float) -> Floats:
    """L / max(TL, L, floor); 1 where both are 0, as standing still on the goal is no detour."""
    denominator = np.maximum(np.maximum(lengths, references), floor)
    still = denominator == 0
    ratio: Floats = np.where(still, 1.0, references / np.where(still, 1.0, denominator))
    return ratio


def _score_batch(walks: Sequence[Walk], protocol: Protocol) -> dict[str, Floats]:
    each = np.arange(len(walks))
    references = np.array([len(walk.reference) for walk in walks])
    paths = np.array([len(walk.path) for walk in walks])
    cost = _costs(walks, references, paths)
    length = _lengths([walk.path for walk in walks], walks)
    reference_length = _lengths([walk.reference for walk in walks], walks)
    to_goal = cost[references - 1, :, each]
    error, oracle_error = to_goal[each, paths - 1], to_goal.min(axis=1)
    wanted = _wanted(walks, reference_length, protocol)
    if protocol.success == "radius_or_goal_set":
        error, oracle_error, wanted = _to_own_goals(walks, to_goal)
    success, oracle_success = _success(walks, error, oracle_error, protocol)
    efficiency = _efficiency(length, wanted, protocol.spl_floor)
    warped = dtw(cost)[references - 1, paths - 1, each]
    near = np.exp(-warped / (protocol.ndtw_threshold * references))
    scores = {
        "TL": length,
        "steps": paths - 1.0,
        "action_steps": np.array([walk.action_steps for walk in walks], np.float64),
        "NE": error,
        "oracle_error": oracle_error,
        "SR": success,
        "OSR": oracle_success,
        "SPL": success * efficiency,
        "DTW": warped,
        "nDTW": near,
        "SDTW": success * near,
        "CLS": _coverage(cost, references, length, reference_length, protocol.ndtw_threshold),
    }
    scores |= _grounding(walks, success, efficiency) | _pointing(walks, efficiency)
    if protocol.success == "radius_or_goal_set":
        return scores | {"GP": wanted - error}
    return scores | _progress(walks, protocol)


def _wanted(walks: Sequence[Walk], reference_length: Floats, protocol: Protocol) -> Floats:
    """SPL's length L [n]."""
    if protocol.reference_length != "geodesic":
        return reference_length
    if protocol.success == "goal_set" and all(walk.ends is not None for walk in walks):
        return np.array([_to_ends(walk, 0) for walk in walks])
    return np.array([w.graph.distances[w.reference[0], w.reference[-1]] for w in walks])


def _to_own_goals(walks: Sequence[Walk], to_goal: Floats) -> tuple[Floats, Floats, Floats]:
    """NE, oracle_error and L [n] of SOON, whose goal is the end of the path if it is a goal."""
    nearest = to_goal.argmin(axis=1)
    rows = []
    for walk, closest in zip(walks, nearest.tolist(), strict=True):
        end = int(walk.path[-1])
        goal = end if end in walk.goals else int(walk.reference[-1])  # type: ignore[operator]
        rows.append(walk.graph.distances[[end, walk.path[closest], walk.path[0]], goal])
    error, oracle, wanted = np.array(rows).T
    return error, oracle, wanted


def _to_ends(walk: Walk, place: int) -> float:
    """Metres from a node of the path to the nearest of NDH's end region."""
    return float(walk.graph.distances[walk.path[place], walk.ends].min())


def _progress(walks: Sequence[Walk], protocol: Protocol) -> dict[str, Floats]:
    if any(walk.ends is None for walk in walks):
        return {}
    progress = [_to_ends(walk, 0) - _to_ends(walk, -1) for walk in walks]
    passed = [float(w.graph.distances[w.path, w.planner_goal].min()) for w in walks]
    return {"GP": np.array(progress), "OPSR": protocol.near(passed).astype(np.float64)}


def _pointing(walks: Sequence[Walk], efficiency: Floats) -> dict[str, Floats]:
    if any(walk.pointed is None for walk in walks):
        return {}
    found = np.array([walk.pointed for walk in walks], np.float64)
    return {"FSR": found, "FSPL": found * efficiency}


def _coverage(
    cost: Floats, references: Ints, length: Floats, reference_length: Floats, threshold: float
) -> Floats:
    """CLS [n]; padded reference rows are infinitely far and so add exp(-inf) = 0."""
    near = np.exp(-cost.min(axis=1) / threshold)
    covered = np.cumsum(near, axis=0)[-1] / references  # in order, so padding changes no bit
    expected = covered * reference_length
    with np.errstate(invalid="ignore"):  # 0/0 becomes NaN and is refused by name
        score: Floats = covered * expected / (expected + np.abs(expected - length))
    still: Floats = np.where((references == 1) & (length == 0), covered, score)
    return still  # NDH: there was nowhere to go, and it stayed


def _grounding(walks: Sequence[Walk], success: Floats, efficiency: Floats) -> dict[str, Floats]:
    if all(walk.object_found is None for walk in walks):
        return {}
    found = np.array([np.nan if w.object_found is None else w.object_found for w in walks], float)
    return {
        "RGS": found,
        "RGSPL": found * efficiency,
        "RGS_at_goal": found * success,
        "RGSPL_at_goal": found * success * efficiency,
    }


def _refuse_non_finite(walks: Sequence[Walk], scores: dict[str, Floats]) -> None:
    for name, values in scores.items():
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            walk = walks[int(wrong[0])]
            raise InputError(
                f"episode {walk.name}: {name} is {values[wrong[0]]}, a score must be finite; "
                f"check that scan {walk.graph.scan} connects the path, the goal and the reference"
            )
