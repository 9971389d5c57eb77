"""Demonstrations for a suite of manipulation tasks: a folder, resumable task by task."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sterna.data.demos.store import (
    MANIFEST,
    Demonstration,
    finished_entry,
    write_manifest,
    write_task,
)
from sterna.envs.demonstrate import NoiseConfig, demonstrate
from sterna.envs.metaworld import MetaworldTask, check_installed, sentence
from sterna.errors import InputError
from sterna.files import read_json, write_json
from sterna.metrics.manipulation import GOALS, METAWORLD_10, ManipulationProtocol
from sterna.recipes.jobs import job_pool

_CONFIG = "config.json"
_TRIES = 3
"""A task is given up when this many times the wanted episodes were tried."""


@dataclass(frozen=True, kw_only=True)
class DemosConfig:
    """What is demonstrated, how often, how disturbed."""

    protocol: ManipulationProtocol = METAWORLD_10
    """Tasks, cameras and the step limit."""
    episodes: int = 80
    """Successful episodes kept of each task; every second one is disturbed."""
    chunk: int = 8
    """Actions of a label."""
    stride: int = 3
    """Every so-manieth step is a frame."""
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    """Disturbance of every second episode."""
    seed: int = 0
    """Chooses the scenes; never those of evaluations."""

    def __post_init__(self) -> None:
        """Check the values."""
        for key in ("episodes", "chunk", "stride"):
            if getattr(self, key) < 1:
                raise InputError(f"demos: {key} must be at least 1, found {getattr(self, key)}")
        if self.seed < 0:
            raise InputError(f"demos: seed must not be negative, found {self.seed}")
        for task in self.protocol.tasks:
            sentence(task)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "protocol": self.protocol.to_dict()}


def make_demos(config: DemosConfig, out: Path, *, workers: int = 1) -> dict[str, Any]:
    """Collect demonstrations in `out`; return the manifest. A killed run goes on by itself."""
    check_installed()
    kept = out / _CONFIG
    if kept.is_file() and read_json(kept) != config.to_dict():
        raise InputError(f"{out}: holds demonstrations of other settings; give another --out")
    write_json(kept, config.to_dict())
    tasks = config.protocol.tasks
    left = [task for task in tasks if finished_entry(out / task) is None]
    with job_pool(workers) as run:
        run([(_collect, (config, task, out)) for task in left], "tasks", len(tasks))
    entries = {task: finished_entry(out / task) for task in tasks}
    write_manifest(out, config.to_dict(), entries)
    manifest: dict[str, Any] = read_json(out / MANIFEST)
    return manifest


def _collect(config: DemosConfig, name: str, out: Path) -> None:
    """Demonstrate one task and write its folder."""
    task = MetaworldTask(name, config.protocol)
    found: list[Demonstration] = []
    tried = 0
    with tqdm(total=config.episodes, desc=name, unit="episode", leave=False) as bar:
        while len(found) < config.episodes:
            if tried >= _TRIES * config.episodes:
                raise InputError(
                    f"{name}: only {len(found)} of {tried} demonstrations succeeded; lower --noise"
                )
            seed = GOALS * (1 + config.seed) + tried
            noise = config.noise if len(found) % 2 else None
            demo = demonstrate(task, seed, noise, chunk=config.chunk, stride=config.stride)
            tried += 1
            if demo is not None:
                found.append(demo)
                bar.update()
    task.close()
    write_task(out / name, found, tried=tried)
