"""Scores of walks in continuous space, as VLN-CE's evaluator codes them.

They are not those of navigation graphs (`sterna.metrics.navigation`): success needs a STOP, path
lengths and DTW are Euclidean, SPL divides by the length stored in the episode. Source: VLN-CE
(Krantz et al., ECCV 2020), measures of its Habitat extensions; nDTW, SDTW: Ilharco et al. 2019.
Legend: T positions of a walk (the start, then one an action), R positions of the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sterna.errors import EpisodeError, InputError
from sterna.metrics.navigation import dtw
from sterna.metrics.protocol import Protocol
from sterna.world.geometry import Floats

CLOSE = 1.0
"""Metres of the second, stricter success radius (SR_1m, SPL_1m)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """One walk in continuous space beside its answer; all lengths in metres.

    `positions` [T, 3]: the start and the position after each action, turns and STOP included.
    `to_goal` [T]: geodesic distance from each of them to the (nearest) goal. `stopped`: whether
    the last action was STOP. `reference` [R, 3]: the reference trajectory, one position a forward
    step (``locations`` of a ``_gt`` file). `geodesic`: the length stored in the episode.
    """

    name: str
    positions: Floats
    to_goal: Floats
    stopped: bool
    reference: Floats
    geodesic: float
    collisions: int = 0


def continuous_scores(traces: Sequence[Trace], protocol: Protocol) -> dict[str, Floats]:
    """Score n walks; returns name -> array [n] in the order given.

    * steps = T - 1, STOP counted; collisions = forward steps that met something.
    * TL = sum of |p_i+1 - p_i|, Euclidean.
    * NE = to_goal at the end; oracle_error = min of to_goal, the start included.
    * SR = stopped and NE < radius (strict); OSR = oracle_error < radius, STOP or not.
    * SR_1m, SPL_1m: the same with a radius of 1 m, whatever the protocol's: 3 m are reached by
      chance in small houses.
    * SPL = SR * G / max(G, TL), G the stored geodesic; 1 for a success with both 0.
    * DTW over Euclidean distances, after positions equal to the one before are taken out of the
      walk; nDTW = exp(-DTW / (R * threshold)); SDTW = SR * nDTW.

    Raises `InputError`, naming the episode, for a walk that breaks the protocol (too many steps,
    wrong shapes), and its kind `EpisodeError` for any score that is not finite.
    """
    if not traces:
        raise InputError("nothing to score: expected at least one walk, found none")
    rows = [_score(trace, protocol) for trace in traces]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _score(trace: Trace, protocol: Protocol) -> dict[str, float]:
    _check(trace, protocol)
    length = float(np.linalg.norm(np.diff(trace.positions, axis=0), axis=1).sum())
    error, oracle = float(trace.to_goal[-1]), float(trace.to_goal.min())
    success = float(trace.stopped and protocol.near(error))
    close = float(trace.stopped and error < CLOSE)
    longest = max(length, trace.geodesic, protocol.spl_floor)
    straight = trace.geodesic / longest if longest else 1.0
    warped = _warped(trace)
    near = float(np.exp(-warped / (len(trace.reference) * protocol.ndtw_threshold)))
    scores = {
        "TL": length,
        "steps": float(len(trace.positions) - 1),
        "collisions": float(trace.collisions),
        "NE": error,
        "oracle_error": oracle,
        "SR": success,
        "OSR": float(protocol.near(oracle)),
        "SPL": success * straight,
        "SR_1m": close,
        "SPL_1m": close * straight,
        "DTW": warped,
        "nDTW": near,
        "SDTW": success * near,
    }
    for name, value in scores.items():
        if not np.isfinite(value):
            raise EpisodeError(
                f"episode {trace.name}: {name} is {value}, a score must be finite; check that its "
                "positions can be reached from the goal"
            )
    return scores


def _warped(trace: Trace) -> float:
    moved = np.any(np.diff(trace.positions, axis=0) != 0, axis=1)
    walked = trace.positions[np.concatenate([[True], moved])]
    cost = np.linalg.norm(trace.reference[:, None] - walked, axis=2)
    return float(dtw(cost[..., None])[-1, -1, 0])


def _check(trace: Trace, protocol: Protocol) -> None:
    def refuse(what: str) -> InputError:
        return InputError(f"episode {trace.name}: {what}")

    if protocol.forward_step is None:
        raise refuse(
            f"protocol {protocol.name} is not for continuous space; take R2R_CE, RXR_CE or a "
            "protocol with a forward step"
        )
    for name in ("positions", "reference"):
        array = getattr(trace, name)
        if array.ndim != 2 or array.shape[1] != 3 or not len(array):
            raise refuse(f"{name} must be [n, 3] with n > 0, found {list(array.shape)}")
    if trace.to_goal.shape != (len(trace.positions),):
        raise refuse(
            f"expected a distance to the goal for each of {len(trace.positions)} positions, found "
            f"{list(trace.to_goal.shape)}"
        )
    steps = len(trace.positions) - 1
    if protocol.max_steps is not None and steps > protocol.max_steps:
        raise refuse(f"{steps} actions, protocol {protocol.name} allows {protocol.max_steps}")
