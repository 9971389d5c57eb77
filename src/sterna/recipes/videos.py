"""One episode in continuous space as a video: recorded actions, or the shortest-path follower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from sterna.data.actions import read_actions
from sterna.data.episodes import Episode
from sterna.data.vlnce import read_vlnce
from sterna.envs.continuous import Ground
from sterna.envs.houses import HouseFrames, agent_of
from sterna.errors import InputError
from sterna.metrics.protocol import Protocol, find_protocol
from sterna.show.continuous import FPS, draw_recording
from sterna.show.recording import record
from sterna.show.video import check_name
from sterna.world.geometry import Ints
from sterna.world.houses.ground import ground_of
from sterna.world.houses.scans import scan_of, seed_of
from sterna.world.plane import OpenPlane

AgentName = Literal["follower"]


class Shown(NamedTuple):
    """Files written, and what could not be shown ("" for nothing)."""

    files: list[Path]
    note: str


def show_walk(
    episodes: Path,
    name: str,
    out: Sequence[Path],
    *,
    walk: Path | None = None,
    agent: AgentName | None = None,
    protocol: str = "R2R_CE",
    threads: int = 1,
    fps: float = FPS,
) -> Shown:
    """Write episode `name` of a VLN-CE file into every file of `out` (.mp4, .gif or .png).

    `walk` is a file with actions (`read_actions`); `agent` walks now; with neither the reference
    alone is drawn. The scan's id says which house it is (`scan_of`); of any other scan the path is
    drawn on an empty plane, without the agent's view. Raises `InputError` for an episode that the
    files do not hold and for names that are no video's.
    """
    if walk is not None and agent is not None:
        raise InputError("show: give --walk or --agent, not both")
    for file in out:
        check_name(file)
    rule, episode = find_protocol(protocol), _find(episodes, name)
    actions: Ints | list[int] | None = [] if agent is None else None
    if walk is not None:
        actions = _actions(walk, name)
    ground, frames = _world(episode, rule, threads)
    recording = record(_flat(episode) if frames is None else episode, ground, rule, actions)
    files = draw_recording(
        recording,
        out,
        frames=frames,
        renderer=None if frames is None else frames.renderer(episode.scan),
        agent=agent or ("" if walk is None else walk.name),
        fps=fps,
    )
    return Shown(files, "" if frames is not None else _without_view(episode.scan))


def _without_view(scan: str) -> str:
    return (
        f"scan {scan} cannot be rendered (houses are named as {scan_of(17)}): the path is drawn on "
        "an empty plane, without the agent's view"
    )


def _flat(episode: Episode) -> Episode:
    """Bring an episode to the height of its start: a plane has no stairs."""
    if episode.position is None:
        return episode
    z = episode.position[2]
    return replace(
        episode,
        waypoints=tuple((x, y, z) for x, y, _ in episode.waypoints),
        goal_positions=tuple((x, y, z) for x, y, _ in episode.goal_positions),
    )


def _find(file: Path, name: str) -> Episode:
    episodes = read_vlnce(file)
    for episode in episodes:
        if episode.instr_id == name:
            return episode
    such = f" such as {episodes[0].instr_id}" if episodes else ""
    raise InputError(f"{file}: holds {len(episodes)} episodes{such}, none is {name!r}")


def _actions(file: Path, name: str) -> Ints:
    walks = read_actions(file)
    if name not in walks:
        raise InputError(f"{file}: holds {len(walks)} walks, none of episode {name}")
    return walks[name]


def _world(episode: Episode, rule: Protocol, threads: int) -> tuple[Ground, HouseFrames | None]:
    """Return the world of an episode's scan, and what renders it if it is a house."""
    if seed_of(episode.scan) is None:
        return OpenPlane(), None
    frames = HouseFrames(threads=threads)
    return ground_of(frames.renderer(episode.scan).house, agent_of(rule)), frames
