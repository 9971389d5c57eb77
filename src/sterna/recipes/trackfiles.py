"""What `sterna score` does with walks in continuous space: tracks scored, submissions checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sterna.data.episodes import Episode
from sterna.data.tracks import Track, read_tracks
from sterna.envs.house_worlds import HouseWorlds
from sterna.envs.walkers import Walkers
from sterna.errors import EpisodeError, InputError
from sterna.metrics.leaderboards import board_of, check_board
from sterna.metrics.protocol import Protocol
from sterna.metrics.result import Result
from sterna.metrics.tracks import score_tracks
from sterna.recipes.simulated import EvalConfig, open_protocol, protocol_of, read_episodes
from sterna.world.houses.scans import seed_of

_SAME = 1e-6  # metres by which a replayed walk may differ


def score_track_file(
    file: Path,
    config: EvalConfig,
    root: Path | None,
    *,
    partial: bool = False,
) -> Result:
    """Score a file of tracks; errors are `InputError` and name the file.

    In houses every walk is played again and its distances are measured anew: actions and places
    must agree. Elsewhere the distances recorded with the walk are taken, and
    ``config["distances"]`` of the result says which.
    """
    header, tracks = read_tracks(file)
    protocol = _protocol(config, header)
    episodes, references = read_episodes(config, root)
    named = {episode.instr_id: episode for episode in episodes}
    ours = [
        t for t in tracks if t.instr_id in named and seed_of(named[t.instr_id].scan) is not None
    ]
    again = replayed(ours, named, protocol)
    try:
        return score_tracks(
            [again.get(track.instr_id, track) for track in tracks],
            episodes,
            protocol,
            references=references,
            skip=config.skip,
            partial=partial,
            seed=header.get("seed"),
            config=_told(header, "measured again" if len(again) == len(tracks) else "as recorded"),
        )
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def _protocol(config: EvalConfig, header: Mapping[str, Any]) -> Protocol:
    if config.protocol is not None:
        return open_protocol(config.protocol)
    if isinstance(header.get("protocol"), dict):
        return Protocol.from_dict(header["protocol"])
    return protocol_of(config)


def _told(header: Mapping[str, Any], distances: str) -> dict[str, Any]:
    kept = {k: v for k, v in header.items() if k not in ("kind", "protocol", "seed")}
    return {**kept, "distances": distances}


def replayed(
    tracks: Sequence[Track], episodes: Mapping[str, Episode], protocol: Protocol
) -> dict[str, Track]:
    """Play walks in their houses; return them with distances and collisions as found there.

    `InputError` names a walk whose actions lead elsewhere than its file says.
    """
    worlds, out = HouseWorlds(protocol, keep=1), {}
    for track in sorted(tracks, key=lambda t: episodes[t.instr_id].scan):
        try:
            out[track.instr_id] = _replay(track, episodes[track.instr_id], protocol, worlds)
        except EpisodeError:
            out[track.instr_id] = track  # scoring says what is wrong with it
    return out


def _replay(track: Track, episode: Episode, protocol: Protocol, worlds: HouseWorlds) -> Track:
    walkers = Walkers(worlds, protocol)
    walkers.reset([episode])
    places, met = [walkers.position[0]], []
    for action in track.actions:
        walkers.step(np.array([action]))
        places.append(walkers.position[0])
        met.append(bool(walkers.collided[0]))
    positions = np.array(places)
    away = float(np.abs(positions - track.positions).max())
    if away > _SAME or int(walkers.steps[0]) != len(track.actions):
        raise InputError(
            f"episode {track.instr_id}: its actions do not lead where its file says ({away:.3g} m "
            f"apart) under protocol {protocol.name}; was it walked under another one?"
        )
    goals = walkers.goals(0) if episode.goal_positions else np.empty((0, 3))
    ground = worlds[episode.scan]
    metres = [ground.distances(positions, goal) for goal in goals]
    return replace(
        track,
        positions=positions,
        collided=np.array(met, np.int64),
        to_goal=np.min(metres, axis=0) if len(metres) else None,
    )


def check_board_file(file: Path, config: EvalConfig, root: Path | None, *, partial: bool) -> int:
    """Check that a leaderboard in continuous space can take a file; return its walks."""
    protocol = protocol_of(config)
    episodes, _ = read_episodes(config, root)
    return check_board(file, board_of(protocol), episodes, protocol, partial=partial)
