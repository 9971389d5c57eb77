"""Scores of tracks: walks in continuous space, recorded with their distances to the goal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sterna.data.episodes import Episode
from sterna.data.tracks import Track
from sterna.data.vlnce import Trajectory
from sterna.errors import EpisodeError, InputError
from sterna.metrics.continuous import Trace, continuous_scores
from sterna.metrics.protocol import Protocol
from sterna.metrics.result import Result, estimates
from sterna.world.geometry import Floats
from sterna.world.space import sample_path


def trace_of(
    track: Track, episode: Episode, protocol: Protocol, reference: Trajectory | None = None
) -> Trace:
    """Return a track beside its answer, ready for `continuous_scores`.

    It is compared with the reference trajectory; without one with the annotated waypoints, and
    without those with the path the track brings, both with points in between as far apart as
    forward steps. `EpisodeError` for a track that holds no distances or has nothing to compare.
    """
    if track.to_goal is None:
        raise EpisodeError(
            f"episode {track.instr_id}: it has no goal; a test split is scored by its leaderboard"
        )
    if protocol.forward_step is None:
        raise InputError(f"protocol {protocol.name} is not for continuous space")
    corners = np.array(episode.waypoints) if episode.waypoints else track.reference
    if reference is not None:
        way: Floats = reference.positions
    elif corners is not None and len(corners):
        way = sample_path(corners, protocol.forward_step)
    else:
        raise EpisodeError(f"episode {track.instr_id}: it has no path to compare a walk with")
    return Trace(
        name=track.instr_id,
        positions=track.positions,
        to_goal=track.to_goal,
        stopped=track.stopped,
        reference=way,
        geodesic=float(track.to_goal[0]) if episode.distance is None else episode.distance,
        collisions=int(track.collided.sum()),
    )


def score_tracks(
    tracks: Sequence[Track],
    episodes: Sequence[Episode],
    protocol: Protocol,
    *,
    references: Mapping[str, Trajectory] | None = None,
    unscorable: Mapping[str, str] | None = None,
    skip: bool = False,
    partial: bool = False,
    **about: Any,
) -> Result:
    """Score tracks and average them; the table stands in the order of `episodes`.

    Every episode must have been walked exactly once; `partial` allows missing ones. Episodes
    without a finite score, and those in `unscorable` (why each could not be walked), are an
    `InputError` that names the first; with `skip` they are left out, and the result names them all
    (``config["left_out"]``). `about` are further fields of `Result`.
    """
    left_out = dict(unscorable or {})
    named = _by_name(tracks, episodes, left_out, partial)
    known, rows, scored = references or {}, [], []
    for episode in episodes:
        track = named.get(episode.instr_id)
        if track is None:
            continue
        try:
            trace = trace_of(track, episode, protocol, known.get(episode.instr_id))
            rows.append(continuous_scores([trace], protocol))
            scored.append(episode)
        except EpisodeError as error:
            left_out[episode.instr_id] = str(error)
    _check_left_out(left_out, len(episodes), skip)
    if not scored:
        raise InputError(f"nothing to score: none of {len(episodes)} episodes has a score")
    table = _table(scored, rows)
    splits = {episode.split for episode in scored}
    config = {**about.pop("config", {}), **({"left_out": left_out} if left_out else {})}
    return Result(
        protocol=protocol,
        scores=estimates(table),
        episodes=len(scored),
        expected=len(episodes),
        split=splits.pop() if len(splits) == 1 else None,
        per_episode=table,
        config=config,
        **about,
    )


def _by_name(
    tracks: Sequence[Track],
    episodes: Sequence[Episode],
    left_out: Mapping[str, str],
    partial: bool,
) -> dict[str, Track]:
    named = {track.instr_id: track for track in tracks}
    names = {episode.instr_id for episode in episodes}
    if len(named) != len(tracks) or len(names) != len(episodes):
        raise InputError("tracks: an episode occurs twice; each must be walked exactly once")
    stray = next((name for name in named if name not in names), None)
    if stray is not None:
        raise InputError(f"tracks: {stray[:60]!r} is no episode of this split")
    missing = [name for name in names if name not in named and name not in left_out]
    if missing and not partial:
        raise InputError(
            f"tracks: {len(missing)} of {len(names)} episodes were not walked, first "
            f"{min(missing)}; run the same command again, or ask for a partial score (--partial)"
        )
    return named


def _check_left_out(left_out: Mapping[str, str], count: int, skip: bool) -> None:
    if left_out and not skip:
        first = next(iter(left_out.values()))
        raise InputError(
            f"{len(left_out)} of {count} episodes cannot be scored, first: {first} "
            "(--skip-unscorable leaves them out and names them in the result)"
        )


def _table(episodes: Sequence[Episode], rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = {
        "instr_id": [episode.instr_id for episode in episodes],
        "path_id": [episode.path_id for episode in episodes],
        "scan": [episode.scan for episode in episodes],
    }
    return table | {name: [float(row[name][0]) for row in rows] for name in rows[0]}
