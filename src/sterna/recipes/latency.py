"""What policies cost on this machine: presets, saved policies and exports, in one table."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from sterna import __version__
from sterna.edge.bench.episode import Shape
from sterna.edge.bench.process import Arm, Plan, measure
from sterna.edge.bench.table import markdown, rows_of
from sterna.edge.card import machine
from sterna.edge.onnx_files import check_installed
from sterna.edge.runtime import ENGINES as EXPORTED
from sterna.edge.runtime.engine import runtime
from sterna.errors import InputError
from sterna.files import write_bytes, write_json, write_text
from sterna.recipes.subjects import acts, answers, known, policy_of, prepare, read_asks
from sterna.show.bars import bars

BUSY = 0.3
"""Load a core before the run from which times are called too long."""


def run_latency(
    asked: Sequence[str],
    out: Path,
    *,
    threads: Sequence[int] = (1, 2),
    shape: Shape | None = None,
    plan: Plan | None = None,
    demos: Path | None = None,
) -> dict[str, Any]:
    """Measure models on engines; writes latency.json, .md and .png into `out`, returns the result.

    `demos` is a folder of demonstrations, whose held-out frames policies of actions see, or of
    egocentric walks, the longest of which navigators that answer in words are shown.
    Exports that are missing are made in a folder of their own that is removed again. Raises
    `InputError` for models, engines or sizes that do not fit.
    """
    shape, plan = shape or Shape(), plan or Plan()
    asks = read_asks(asked)
    if len({(acts(ask), answers(ask)) for ask in asks}) > 1:
        raise InputError(
            "bench: navigators on graphs, navigators that answer in words and policies of actions "
            "have no episode in common"
        )
    if not threads or min(threads) < 1 or len(set(threads)) < len(threads):
        raise InputError(f"--threads: expected different numbers from 1 on, found {list(threads)}")
    if any(set(ask.engines) & set(EXPORTED) for ask in asks if not ask.exported):
        check_installed()
    if any(ask.exported for ask in asks):
        runtime()
    load = _load()
    with tempfile.TemporaryDirectory(prefix="sterna-latency-") as scratch:
        if demos is not None:
            file = (
                write_walk(demos, Path(scratch))
                if answers(asks[0])
                else write_frames(demos, asks[0].model, Path(scratch), shape)
            )
            shape = replace(shape, frames=str(file))
        subjects = {
            ask.model: prepare(ask, shape, Path(scratch) / f"model{number}")
            for number, ask in enumerate(asks)
        }
        arms = [
            Arm(
                model=ask.model,
                engine=engine,
                threads=count,
                folder=subjects[ask.model].folders[engine],
                rho=shape.rho if subjects[ask.model].routed else None,
            )
            for count in threads
            for ask in asks
            for engine in ask.engines
        ]
        records = measure(arms, shape, plan, Path(scratch) / "arms")
    models = {name: known(subject) for name, subject in subjects.items()}
    result: dict[str, Any] = {
        "version": __version__,
        "episode": asdict(shape),
        "plan": {"rounds": plan.rounds, "episodes": plan.episodes},
        "map_nodes": [] if "flops" in records[0].ready else _map_nodes(records[0].ready["open"]),
        "reference": f"{arms[0].model} {arms[0].engine}",
        "models": models,
        "rows": rows_of(records, models),
        "machine": _machine(load),
        "packages": {k: v for k, v in machine().items() if k != "machine"},
    }
    return result | {"files": _write(result, out)}


def write_frames(demos: Path, model: str, folder: Path, shape: Shape) -> Path:
    """Write held-out frames of demonstrations for a policy, one task after the other."""
    from sterna.models.vla_folder import read_config
    from sterna.recipes.metaworld import held_out_frames, open_samples

    found = policy_of(Path(model))
    samples = open_samples(demos, read_config(found / "config.json"))
    batch = samples.batch(held_out_frames(samples, shape.steps)[: shape.steps])
    file = folder / "frames.npz"
    np.savez(
        file,
        images=batch.images.numpy(),
        words=batch.words.numpy(),
        proprio=batch.proprio.numpy(),
    )
    return file


def write_walk(walks: Path, folder: Path) -> Path:
    """Write the longest of some egocentric walks for navigators that answer in words."""
    from sterna.data.ego.store import EgoStore

    store = EgoStore(walks)
    walk = max(store.episodes, key=len)
    frames = store.frames(np.arange(walk.first, walk.first + len(walk)))
    file = folder / "walk.npz"
    np.savez(file, instruction=np.array(walk.instruction), frames=frames, taken=walk.taken)
    return file


def _map_nodes(open_slots: Sequence[int]) -> list[int]:
    """Return the nodes on the map at each step: those open, and those visited."""
    return [slots + step + 1 for step, slots in enumerate(open_slots)]


def _machine(load_before: float | None) -> dict[str, Any]:
    cores = os.cpu_count() or 1
    return {
        "cpu": _cpu(),
        "machine": platform.machine(),
        "cores": cores,
        "load_before": load_before,
        "load_after": _load(),
        "busy": load_before is not None and load_before > BUSY * cores,
    }


def _cpu() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _load() -> float | None:
    """Return the mean number of running tasks of the last minute; None where not known."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _write(result: dict[str, Any], out: Path) -> list[str]:
    names = [str(out / f"latency.{kind}") for kind in ("json", "md", "png")]
    write_json(names[0], result)
    write_text(names[1], markdown(result) + "\n![Episodes, memory, files, work](latency.png)\n")
    write_bytes(names[2], bars(result))
    return names
