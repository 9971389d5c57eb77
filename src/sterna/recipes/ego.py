"""Egocentric walks with expert labels, as a folder: in parallel, resumable, reproducible.

Episodes come from VLN-CE's files of houses, or are drawn in houses of seeds. Every shard is written
whole or not at all, so a killed run goes on where it was; the same settings give the same bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from sterna.data.ego.store import EgoCamera
from sterna.data.ego.writer import N_MAX, EgoWriter
from sterna.data.episodes import Episode
from sterna.data.layout import Layout
from sterna.data.vlnce import Trajectory, read_trajectories, read_vlnce, write_vlnce
from sterna.envs.collect import ARRIVED, CollectConfig, Recorded, collect, record, replay, replay_in
from sterna.envs.continuous import Camera, ContinuousNavEnv, cameras_of
from sterna.envs.expert import Route
from sterna.envs.film import HouseFilm
from sterna.envs.houses import HouseFrames, agent_of
from sterna.envs.tasks import TASKS, draw_tasks
from sterna.errors import InputError
from sterna.files import find_file, read_json, sha256
from sterna.metrics.protocol import Protocol, find_protocol
from sterna.models.navigator.families import transformers
from sterna.recipes.jobs import Job, job_pool
from sterna.world.follower import TURN_COST
from sterna.world.houses import House, make_house, scan_of
from sterna.world.houses.ground import ground_of
from sterna.world.houses.scans import seed_of
from sterna.world.space import Space
from sterna.world.surface import Agent as Body

SHARD = 64  # walks a shard
_OF_AGENTS = ("agent", "execute", "temperature")
References = Mapping[str, Trajectory]
_CAMERA = re.compile(r"(\d+)x(\d+)@(\d+(?:\.\d+)?)")


@dataclass(frozen=True, kw_only=True)
class EgoConfig:
    """Which episodes are walked, how, and what the camera sees."""

    seeds: str = ""
    """Houses to draw episodes in, FIRST:END (0:40 are the forty from seed 0); training houses of
    `sterna data make` begin at 0, unseen ones at 500000."""
    split: str = ""
    """Or the split of a data folder of houses (VLN-CE's files) whose episodes are walked."""
    task: Literal["easy", "medium", "easy-steps", "medium-steps", "r2r"] = "easy"
    """With --seeds, what is asked: easy (go to a thing within sight, 2-5 m), medium (to a thing
    5-9 m away), easy-steps and medium-steps (step by step, as long), r2r (paths as R2R's)."""
    walks: int = 24
    """With --seeds, walks a house, at most."""
    wordings: int = 1
    """With --seeds, instructions a walk."""
    stop_within: float = 0.25
    """Metres from the goal at which the expert stops."""
    turn_cost: float = TURN_COST
    """Metres a turn must be worth to the expert: at 0.02 it walks on where the way lies within some
    25 degrees of straight ahead, where it would else zigzag between two headings."""
    noise: float = 0.0
    """Probability, a step, that a random other move is executed; labels stay the expert's, so a
    navigator learns to recover."""
    share: bool = True
    """Instructions of one path share its walk and frames; False walks anew for each."""
    protocol: str = "R2R_CE"
    """How the agent moves and what camera it has: R2R_CE (15 degrees, sliding), RXR_CE, HOUSES
    (30 degrees, 64 x 64 pixels, for small navigators), or a JSON file."""
    camera: str = ""
    """Another camera: WIDTHxHEIGHT@DEGREES, such as 112x112@90."""
    quality: int = 90
    """Of the JPEG files, 1 to 95."""
    shadows: int = 0
    """Shadow rays a pixel: 0, 1 or more."""
    n_max: int = N_MAX
    """Expert actions kept of every state; training may use fewer."""
    seed: int = 0
    """Of the noise."""
    agent: Path | None = None
    """A navigator that walks instead of the expert (DAgger): the folder of one; labels stay the
    expert's, and walks are kept wherever they end."""
    execute: int | None = None
    """With --agent, actions of an answer that are carried out before it looks again."""
    temperature: float = 0.0
    """With --agent, of the draws of its answers; 0: the likeliest."""

    def __post_init__(self) -> None:
        if bool(self.seeds) == bool(self.split):
            raise InputError(
                "walks: give --seeds FIRST:END or --split NAME (with --data), one of the two"
            )
        if self.walks < 1 or self.wordings < 1 or self.shadows < 0 or self.seed < 0:
            raise InputError("walks: walks and wordings are 1 or more, shadows and seed 0 or more")
        self.collecting()  # refuses what is out of range
        if self.seeds:
            self.house_seeds()
        self.lens()

    def rules(self) -> Protocol:
        """Return the protocol."""
        if self.protocol.endswith(".json"):
            return Protocol.from_dict(read_json(self.protocol))
        return find_protocol(self.protocol)

    def house_seeds(self) -> range:
        """Return the seeds of the houses."""
        found = re.fullmatch(r"(\d+):(\d+)", self.seeds)
        if found is None or int(found[1]) >= int(found[2]):
            raise InputError(f"walks: seeds are FIRST:END, such as 0:40; found {self.seeds!r}")
        return range(int(found[1]), int(found[2]))

    def lens(self) -> Camera:
        """Return the camera: the protocol's, or another at the same height."""
        own = cameras_of(self.rules())["rgb"]
        if not self.camera:
            return own
        found = _CAMERA.fullmatch(self.camera)
        if found is None or not 1 <= float(found[3]) < 180 or "0" in found.groups()[:2]:
            raise InputError(
                "walks: a camera is WIDTHxHEIGHT@DEGREES, such as 112x112@90; found "
                f"{self.camera!r}"
            )
        width, height, hfov = int(found[1]), int(found[2]), float(found[3])
        return Camera(width=width, height=height, hfov=hfov, elevation=own.elevation)

    def route(self) -> Route:
        """Return where the expert goes: to a thing straight, and past waypoints in all else."""
        return "goal" if self.seeds and TASKS[self.task].wording == "goal" else "waypoints"

    def collecting(self) -> CollectConfig:
        """Return how walks are recorded."""
        return CollectConfig(
            route=self.route(),
            stop_within=self.stop_within,
            turn_cost=self.turn_cost,
            noise=self.noise,
            seed=self.seed,
            n_max=self.n_max,
            quality=self.quality,
            limit=None if self.agent is None else self.rules().max_steps,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Piece:
    """A shard to make: of a house, some episodes with their trajectories (none: drawn there)."""

    name: str
    scan: str
    episodes: tuple[Episode, ...] = ()
    references: References | None = None


def draw_episodes(config: EgoConfig, file: Path) -> int:
    """Write the episodes that `config` draws in houses as a file of VLN-CE; return how many.

    `sterna eval --episodes` and closed-loop practice walk them. `InputError` for a split.
    """
    if not config.seeds:
        raise InputError("episodes: give --seeds FIRST:END; a split has its file already")
    found: list[Episode] = []
    for seed in tqdm(config.house_seeds(), desc="houses", unit="house"):
        house, ground = _house(scan_of(seed), agent_of(config.rules()))
        found += draw_tasks(house, ground, config.task, config.walks, wordings=config.wordings)
    write_vlnce(file, found)
    return len(found)


def make_ego(
    config: EgoConfig, out: Path, *, data: Path | None = None, workers: int | None = None
) -> dict[str, Any]:
    """Write a folder of walks; return its manifest. The same command continues a killed run.

    `data` is the folder that `config.split` belongs to; `workers` are processes (default: one a
    core) and change nothing in what is written. `InputError` if `out` was begun with other
    settings, or for episodes in no house.
    """
    if config.agent is not None:
        transformers()  # refuses now what would be refused in every worker
    pieces, settings = _pieces(config, data)
    writer = open_writer(config, out, settings)
    if writer.finished:
        return writer.manifest()
    writer.clean()
    todo = [piece for piece in pieces if not writer.has(piece.name)]
    with job_pool(workers or os.cpu_count() or 1) as run:
        jobs: list[Job] = [(make_piece, (config, writer, piece)) for piece in todo]
        run(jobs, "walks", len(pieces))
    return writer.finish()


def open_writer(config: EgoConfig, out: Path, settings: Mapping[str, Any]) -> EgoWriter:
    """Begin or continue a folder."""
    rules, lens = config.rules(), config.lens()
    return EgoWriter(
        out,
        settings=settings,
        protocol=rules.to_dict(),
        protocol_hash=rules.hash,
        camera=EgoCamera(
            width=lens.width, height=lens.height, hfov=lens.hfov, elevation=lens.elevation
        ),
        n_max=config.n_max,
    )


def _pieces(config: EgoConfig, data: Path | None) -> tuple[list[_Piece], dict[str, Any]]:
    """Return the shards to make, and what decides their content."""
    settings = {k: v for k, v in asdict(config).items() if k not in _OF_AGENTS}
    if config.agent is not None:
        weights = sorted(config.agent.glob("*.safetensors"))
        settings["agent"] = {path.name: sha256(path) for path in weights}
        settings |= {"execute": config.execute, "temperature": config.temperature}
    if config.seeds:
        scans = [scan_of(seed) for seed in config.house_seeds()]
        named = enumerate(scans)
        return [_Piece(name=f"{i:05d}-{scan}", scan=scan) for i, scan in named], settings
    if data is None:
        raise InputError("walks: --split needs a data folder; give --data DIR or set STERNA_DATA")
    layout = Layout(data)
    file = layout.vlnce(config.split)
    # What the files say decides, not where they lie.
    settings["episodes"] = sha256(find_file(file))
    references = read_trajectories(data, config.split) if config.noise == 0 else None
    episodes = read_vlnce(data, config.split)
    return list(_cut(episodes, references, config.share)), settings


def _cut(
    episodes: Sequence[Episode], references: References | None, share: bool
) -> Iterator[_Piece]:
    """Cut episodes into shards: of one house each, at most 64 walks."""
    by_scan: dict[str, list[Episode]] = {}
    for episode in episodes:
        if seed_of(episode.scan) is None:
            raise InputError(
                f"episode {episode.instr_id}: {episode.scan} is no house of this library; walk "
                "it in its own simulator (sterna.recipes.ego.record_in)"
            )
        by_scan.setdefault(episode.scan, []).append(episode)
    number = 0
    for scan, own in by_scan.items():
        walked = list(together(own, share).values())
        for first in range(0, len(walked), SHARD):
            some = tuple(episode for group in walked[first : first + SHARD] for episode in group)
            known = None if references is None else _some(references, some)
            yield _Piece(name=f"{number:05d}-{scan}", scan=scan, episodes=some, references=known)
            number += 1


def _some(references: References, episodes: Sequence[Episode]) -> References:
    names = {episode.instr_id for episode in episodes}
    return {name: walk for name, walk in references.items() if name in names}


def together(episodes: Iterable[Episode], share: bool = True) -> dict[str, tuple[Episode, ...]]:
    """Group episodes that are told of the same walk, by the `instr_id` of the first of each."""
    groups: dict[Any, list[Episode]] = {}
    for e in episodes:
        same = (e.scan, e.path_id, e.position, e.heading, e.waypoints, e.goal_positions)
        groups.setdefault(same if share else e.instr_id, []).append(e)
    return {group[0].instr_id: tuple(group) for group in groups.values()}


@lru_cache(maxsize=1)
def _house(scan: str, body: Body) -> tuple[House, Space]:
    house = make_house(seed_of(scan) or 0)
    return house, ground_of(house, body)


def make_piece(config: EgoConfig, writer: EgoWriter, piece: _Piece) -> None:
    """Make one shard."""
    rules = config.rules()
    house, ground = _house(piece.scan, agent_of(rules))
    film = HouseFilm(HouseFrames([house], shadows=config.shadows), config.lens())
    episodes: Sequence[Episode] = piece.episodes
    if config.seeds:
        drawn = draw_tasks(house, ground, config.task, config.walks, wordings=config.wordings)
        episodes = drawn
    told = together(episodes, config.share)
    walked = [group[0] for group in told.values()]
    grounds = {piece.scan: ground}
    records: Iterable[Recorded]
    if piece.references is None:
        records = collect(
            _walker(config),
            walked,
            grounds,
            film=film,
            protocol=rules,
            config=config.collecting(),
            told=told,
        )
    else:
        played = replay(
            walked,
            piece.references,
            grounds,
            film=film,
            protocol=rules,
            config=config.collecting(),
            told=told,
        )
        records = map(_faithful, played)
    record(writer, piece.name, records, arrived=ARRIVED if config.agent is None else None)


@lru_cache(maxsize=1)
def _navigator(folder: Path, execute: int | None, temperature: float, seed: int) -> Any:
    # torch and transformers are for agents alone
    from sterna.recipes.navigators import open_navigator

    return open_navigator(folder, execute=execute, temperature=temperature, seed=seed)


def _walker(config: EgoConfig) -> Any:
    """Return who walks: a navigator, or None for the expert."""
    if config.agent is None:
        return None
    agent = _navigator(config.agent, config.execute, config.temperature, config.seed)
    from sterna.recipes.navigators import check_turns

    check_turns(agent, config.rules())
    return agent


def _faithful(one: Recorded) -> Recorded:
    """Return a replay; `InputError` if it did not end where its file says."""
    if one.left > ARRIVED:
        raise InputError(
            f"episode {one.walk.episodes[0].instr_id}: its reference trajectory ends {one.left:.1f}"
            " m from where its file says; it was made with other turns or another world (--noise "
            "above 0 walks by the expert instead)"
        )
    return one


def record_in(
    env: ContinuousNavEnv,
    episodes: Sequence[Episode],
    references: References,
    writer: EgoWriter,
    *,
    config: CollectConfig | None = None,
) -> dict[str, Any]:
    """Replay references in any environment in continuous space; return the manifest.

    Shards of 64 episodes; those that are there already are skipped.
    """
    writer.clean()
    for first in range(0, len(episodes), SHARD):
        some = episodes[first : first + SHARD]
        played = (replay_in(env, e, references[e.instr_id], config=config) for e in some)
        record(writer, f"{first // SHARD:05d}", map(_faithful, played), arrived=ARRIVED)
    return writer.finish()
