"""`sterna eval --env`: options and files put together for an evaluation in continuous space."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from sterna import processes
from sterna.data.episodes import Episode
from sterna.data.layout import Layout
from sterna.data.rxr import Role
from sterna.data.tracks import Track, TrackFile, read_tracks
from sterna.data.vlnce import Trajectory, read_trajectories, read_vlnce
from sterna.edge.runtime.answerer import Answerer
from sterna.envs.continuous import ContinuousNavEnv
from sterna.envs.crowd import Crowd, walk_houses
from sterna.envs.habitat import HabitatEnv
from sterna.envs.house import HouseEnv
from sterna.envs.house_worlds import HouseWorlds
from sterna.envs.simulator import URL, Simulator
from sterna.envs.slots import Maker
from sterna.errors import InputError
from sterna.files import read_json, sha256
from sterna.metrics.leaderboards import board_of, file_of, walks_in, write_board
from sterna.metrics.protocol import R2R_CE, R2R_CE_V1_2, RXR_CE, Protocol, find_protocol
from sterna.metrics.result import Result, write_result
from sterna.metrics.tracks import score_tracks
from sterna.recipes.continuous import walk_episodes
from sterna.recipes.controls import CONTROLS, FORWARD_STEPS, FREQUENCIES, SlotAgent, control
from sterna.recipes.navigators import (
    ExportedAgent,
    check_turns,
    is_exported_navigator,
    open_navigator,
)

Task = Literal["vlnce", "rxr-ce"]
_OPEN = 16  # houses that a crowd keeps


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """An evaluation in continuous space."""

    env: Literal["house", "habitat"]
    """Houses in this process, or a simulator server."""
    agent: str
    """random, forward, follower, stay, or the folder of a navigator (exported: see `engine`)."""
    split: str = "val_unseen"
    task: Task = "vlnce"
    """Which of the data folder's episode files."""
    episodes: Path | None = None
    """Episode file to walk instead."""
    languages: tuple[str, ...] = ()
    """Only episodes whose language begins with one of these (RxR: en, hi, te)."""
    role: Role = "guide"
    """RxR: paths of guides, or of followers."""
    release: str | None = None
    """VLN-CE: release of the episodes, such as v1-2; None: the newest found."""
    protocol: str | None = None
    """Name or JSON file; None: the agent's own, else that of the task."""
    servers: tuple[str, ...] = (URL,)
    """Simulator servers; a worker each."""
    token: str | None = None
    timeout: float = 120.0
    coding: str = "raw"
    """How servers send colour frames: raw, png, jpeg (with loss)."""
    slots: int = 8
    """Environments of a worker that walk side by side."""
    workers: int = 1
    """Threads that step houses."""
    seed: int = 0
    frequencies: tuple[float, float, float, float] = FREQUENCIES
    forward_steps: int = FORWARD_STEPS
    execute: int | None = None
    """Actions of a navigator's answer that are carried out before it looks again."""
    temperature: float = 0.0
    """Of the draws of a navigator's answers; 0: the likeliest."""
    engine: str = "onnx"
    """What computes an exported navigator; others run in torch."""
    rho: float | None = None
    """Budget of an exported routed navigator (default: its usual one)."""
    blind: bool = False
    about: int | None = None
    """Walk every k-th episode, about this many."""
    shard: tuple[int, int] | None = None
    """(i, n): walk the i-th of n shares (from 1) alone; scores come when all were walked."""
    skip: bool = False
    """Leave episodes out that cannot be scored, and name them in the result."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("slots", "workers"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} must be at least 1, found {getattr(self, name)}")
        if self.shard is not None and not 1 <= self.shard[0] <= self.shard[1]:
            raise InputError(f"--shard must be i/n with 1 <= i <= n, found {self.shard}")

    @property
    def label(self) -> str:
        """What results and files call the episodes: the split, or the name of their file."""
        return self.split if self.episodes is None else self.episodes.name.split(".json")[0]


def open_protocol(name: str) -> Protocol:
    """Return a published protocol by name, or one from a JSON file."""
    if name.endswith(".json"):
        return Protocol.from_dict(read_json(name))
    return find_protocol(name)


def read_episodes(
    config: EvalConfig, root: Path | None
) -> tuple[list[Episode], dict[str, Trajectory]]:
    """Read the episodes to walk, and the reference trajectories beside them (none: empty)."""
    file = config.episodes or _episode_file(config, root)
    episodes = [replace(e, split=config.label, role=_role(config)) for e in read_vlnce(file)]
    if config.languages:
        episodes = [e for e in episodes if str(e.language).startswith(config.languages)]
    if not episodes:
        raise InputError(
            f"{file}: no episodes to walk" + " in these languages" * bool(config.languages)
        )
    if config.about:
        episodes = episodes[:: max(1, len(episodes) // config.about)]
    name = file.name.removesuffix(".gz").removesuffix(".json")
    beside = [file.with_name(f"{name}_gt.json{tail}") for tail in (".gz", "")]
    found = next((path for path in beside if path.is_file()), None)
    return episodes, {} if found is None else read_trajectories(found)


def _role(config: EvalConfig) -> str | None:
    return config.role if config.task == "rxr-ce" else None


def _episode_file(config: EvalConfig, root: Path | None) -> Path:
    if root is None:
        raise InputError("eval: no episodes; give --episodes FILE or a data folder (--data)")
    layout = Layout(root)
    if config.task == "vlnce":
        return layout.vlnce(config.split, config.release)
    return layout.rxrce(config.split, config.role)


def open_agent(config: EvalConfig) -> tuple[SlotAgent, dict[str, Any], tuple[str, ...]]:
    """Return the agent, what tells it from others, and the sensors it needs."""
    if config.agent in CONTROLS:
        agent = control(
            config.agent,
            seed=config.seed,
            frequencies=config.frequencies,
            forward_steps=config.forward_steps,
        )
        told: dict[str, Any] = {"agent": config.agent}
        if config.agent == "random":
            told["frequencies"] = list(config.frequencies)
        if config.agent == "forward":
            told["forward_steps"] = config.forward_steps
        return agent, told, ()
    folder = Path(config.agent)
    if not folder.is_dir():
        raise InputError(
            f"no agent {config.agent!r}: expected {', '.join(CONTROLS)} or the folder of a "
            "navigator"
        )
    if is_exported_navigator(folder):
        return _open_export(config, folder)
    weights = {path.name: sha256(path)[:16] for path in sorted(folder.glob("*.safetensors"))}
    walker: SlotAgent = open_navigator(
        folder,
        seed=config.seed,
        execute=config.execute,
        blind=config.blind,
        temperature=config.temperature,
    )
    told = {"agent": str(folder), "weights": weights, "execute": config.execute}
    if config.temperature:
        told["temperature"] = config.temperature
    return walker, {**told, "blind": config.blind}, ("rgb",)


def _open_export(
    config: EvalConfig, folder: Path
) -> tuple[SlotAgent, dict[str, Any], tuple[str, ...]]:
    if config.temperature or config.blind:
        raise InputError(
            f"{folder}: an exported navigator says the likeliest of what it sees; leave "
            "--temperature and --blind to the navigator in torch"
        )
    answerer = Answerer.open(folder, config.engine, rho=config.rho)
    told = {
        "agent": str(folder),
        "engine": config.engine,
        "rho": answerer.routes["rho"] if config.rho is None else config.rho,
        "weights": {name: digest[:16] for name, digest in answerer.manifest["files"].items()},
        "execute": config.execute,
    }
    return ExportedAgent(answerer, config.execute), told, ("rgb",)


def protocol_of(config: EvalConfig) -> Protocol:
    """Return the protocol asked for; else that beside the agent; else the task's."""
    if config.protocol is not None:
        return open_protocol(config.protocol)
    for folder in (Path(config.agent), Path(config.agent).parent):
        if config.agent not in CONTROLS and (folder / "protocol.json").is_file():
            return open_protocol(str(folder / "protocol.json"))
    if config.task == "rxr-ce":
        return RXR_CE
    return R2R_CE_V1_2 if config.release == "v1-2" else R2R_CE


def maker_of(
    config: EvalConfig,
    protocol: Protocol,
    episodes: Sequence[Episode],
    sensors: Sequence[str],
) -> Maker:
    """Return what makes a worker's environments."""

    def houses(worker: int) -> list[ContinuousNavEnv]:
        worlds = HouseWorlds(protocol, keep=2 * config.slots)
        frames = worlds.frames if sensors else None
        return [
            HouseEnv(worlds, episodes, frames=frames, protocol=protocol, sensors=sensors or None)
            for _ in range(config.slots)
        ]

    def server(worker: int) -> list[ContinuousNavEnv]:
        return [
            HabitatEnv(
                Simulator(
                    protocol,
                    config.servers[worker],
                    sensors=sensors,
                    token=config.token,
                    timeout=config.timeout,
                    coding=config.coding,
                ),
                episodes,
            )
            for _ in range(config.slots)
        ]

    return houses if config.env == "house" else server


def run_eval_env(
    config: EvalConfig, root: Path | None, out: Path, *, progress: bool = True
) -> Result | None:
    """Walk and score; write tracks, submission and result into `out`; None while shares are left.

    A run that was stopped goes on where it was. `InputError` for a server, an episode file or an
    agent that cannot be used, and for episodes without a finite score (but see `skip`). Processes
    of `accelerate launch` walk a share each; the main one scores them all (the others return None).
    """
    begun = time.monotonic()
    ready = _ready(config, root)
    if not processes.alone():
        _walk_together(ready, out, progress=progress)
    found = None
    if processes.is_main():
        found = _walk_and_score(ready, out, begun, progress=progress and processes.alone())
    processes.wait()
    return found


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """An agent in front of the episodes it is to walk."""

    config: EvalConfig
    protocol: Protocol
    episodes: list[Episode]
    references: Mapping[str, Trajectory]
    agent: SlotAgent
    sensors: tuple[str, ...]
    settings: Mapping[str, Any]

    def file(self, out: Path, config: EvalConfig | None = None) -> TrackFile:
        """Open the file of tracks, or that of a share."""
        return TrackFile(out / f"{_stem(config or self.config)}.jsonl", self.settings)

    def walk(
        self,
        config: EvalConfig,
        walked: Sequence[Track],
        add: Callable[[Track], None],
        *,
        progress: bool,
    ) -> tuple[list[Track], dict[str, str]]:
        """Walk what `config` asks for and is not walked yet; see `_walk`."""
        return _walk(
            config,
            self.protocol,
            self.agent,
            self.sensors,
            self.episodes,
            walked,
            add,
            progress=progress,
        )


def _ready(config: EvalConfig, root: Path | None) -> _Ready:
    protocol = protocol_of(config)
    episodes, references = read_episodes(config, root)
    agent, told, sensors = open_agent(config)
    check_turns(agent, protocol)
    settings = {**told, "seed": config.seed, "env": config.env, "protocol": protocol.to_dict()}
    if config.env == "habitat":
        settings["simulator"] = _about(config, protocol)
    return _Ready(
        config=config,
        protocol=protocol,
        episodes=episodes,
        references=references,
        agent=agent,
        sensors=sensors,
        settings=settings,
    )


def _walk_together(ready: _Ready, out: Path, *, progress: bool) -> None:
    """Let every process walk a share into a file of its own.

    What an earlier run left, of however many processes, the main process puts together first.
    """
    config = ready.config
    if config.shard is not None:
        raise InputError("--shard: the processes of accelerate launch are shares already; omit it")
    with processes.main_first():
        if processes.is_main():
            _all_tracks(config, out, ready.file(out))
    share = replace(config, shard=(processes.number() + 1, processes.count()))
    own, before = ready.file(out, share), read_tracks(out / f"{_stem(config)}.jsonl")[1]
    ready.walk(share, [*own.tracks, *before], own.add, progress=progress and processes.is_main())
    processes.wait()


def _walk_and_score(ready: _Ready, out: Path, begun: float, *, progress: bool) -> Result | None:
    config, episodes, file = ready.config, ready.episodes, ready.file(out)
    old = len(file.tracks)
    walked = _all_tracks(config, out, file)
    if processes.alone():
        old = len(walked)
    tracks, unscorable = ready.walk(config, walked, file.add, progress=progress)
    if config.shard is not None:
        return None
    seconds = time.monotonic() - begun
    steps = sum(len(track.actions) for track in tracks[old:])
    return _written(
        config,
        out,
        score=lambda: score_tracks(
            tracks,
            episodes,
            ready.protocol,
            references=ready.references,
            unscorable=unscorable,
            skip=config.skip,
            seed=config.seed,
            config={k: v for k, v in ready.settings.items() if k not in ("protocol", "seed")},
            cost={"seconds": seconds, "steps": steps, "episodes_walked": len(tracks) - old},
        ),
        tracks=walks_in(tracks, episodes),
        episodes=episodes,
        protocol=ready.protocol,
    )


def _walk(
    config: EvalConfig,
    protocol: Protocol,
    agent: SlotAgent,
    sensors: Sequence[str],
    episodes: Sequence[Episode],
    walked: Sequence[Track],
    add: Callable[[Track], None],
    *,
    progress: bool,
) -> tuple[list[Track], dict[str, str]]:
    """Walk what is not walked yet: a crowd in houses, else environments of their own."""
    share = _share(config, episodes)
    # Agents that ask environments, and threads, need environments.
    if config.env == "house" and config.workers == 1 and not hasattr(agent, "attach"):
        tracks, known = list(walked), {track.instr_id for track in walked}
        left = [episode for episode in share if episode.instr_id not in known]
        bar = tqdm(total=len(share), initial=len(tracks), unit="ep", disable=not progress)

        def done(track: Track) -> None:
            tracks.append(track)
            add(track)
            bar.update()

        worlds = HouseWorlds(protocol, keep=_OPEN)
        crowd = Crowd(worlds, protocol, frames=bool(sensors), black=config.blind)
        with bar:
            return tracks, walk_houses(agent, crowd, left, done, slots=config.slots)
    return walk_episodes(
        agent,
        maker_of(config, protocol, episodes, sensors),
        share,
        workers=config.workers if config.env == "house" else len(config.servers),
        together=config.env == "habitat",
        walked=walked,
        done=add,
        progress=progress,
    )


def _about(config: EvalConfig, protocol: Protocol) -> dict[str, Any]:
    """What serves, for the record; all servers must be the same."""
    kinds = []
    for url in config.servers:
        simulator = Simulator(protocol, url, token=config.token, timeout=config.timeout)
        told = simulator.about()
        simulator.close()
        kinds.append({"backend": told.get("backend"), "versions": told.get("versions")})
    if any(kind != kinds[0] for kind in kinds):
        raise InputError(f"the servers differ: {kinds[0]} and others; take equal ones")
    return {**kinds[0], "coding": config.coding}


def _stem(config: EvalConfig) -> str:
    part = "" if config.shard is None else ".{}of{}".format(*config.shard)
    return f"tracks_{config.label}{part}"


def _share(config: EvalConfig, episodes: Sequence[Episode]) -> Sequence[Episode]:
    """Return the episodes of this share: whole runs of the list sorted by scene."""
    if config.shard is None:
        return episodes
    number, count = config.shard
    ordered = sorted(episodes, key=lambda episode: episode.scan)
    first, last = (len(ordered) * i // count for i in (number - 1, number))
    return ordered[first:last]


def _all_tracks(config: EvalConfig, out: Path, file: TrackFile) -> list[Track]:
    """Return the tracks of this file; without a share also those of all shares beside it."""
    tracks = list(file.tracks)
    if config.shard is not None:
        return tracks
    own = read_tracks(file.path)[0]
    known = {track.instr_id for track in tracks}
    for path in sorted(out.glob(f"tracks_{config.label}.*of*.jsonl")):
        header, more = read_tracks(path)
        if header != own:
            raise InputError(f"{path}: a share walked under other settings; delete it")
        for track in more:
            if track.instr_id in known:
                raise InputError(f"{path}: episode {track.instr_id} was walked in two shares")
            known.add(track.instr_id)
            file.add(track)
        tracks += more
        path.unlink()
    return tracks


def _written(
    config: EvalConfig,
    out: Path,
    *,
    score: Any,
    tracks: Sequence[Track],
    episodes: Sequence[Episode],
    protocol: Protocol,
) -> Result | None:
    board = board_of(protocol)
    named: Mapping[str, Episode] = {e.instr_id: e for e in episodes}
    if board == "r2r-ce" or all(named[t.instr_id].instruction_id for t in tracks):
        write_board(out / file_of(board, config.label), board, tracks, episodes)
    if not any(episode.goal_positions for episode in episodes):
        return None
    result: Result = score()
    write_result(out / f"result_{config.label}.json", result)
    return result
