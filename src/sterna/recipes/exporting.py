"""A saved policy becomes an exported folder with its parity card."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sterna.data.episodes import Episode
from sterna.data.viewfile import camera_angles
from sterna.data.views import ViewStore
from sterna.edge.card import CARD, README, machine, readme
from sterna.edge.export import TOKENIZER, Graphs, new_folder, write_engines, write_manifest
from sterna.edge.onnx_files import check_installed
from sterna.edge.parity import agreement, size_differences, torch_walks
from sterna.edge.runtime import Engine
from sterna.edge.walks import Rooms, walk_all
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.files import sha256, write_json, write_text
from sterna.metrics import Prediction, Protocol, score_predictions
from sterna.models.duet import DUET
from sterna.models.tokens import Tokenizer, find_encoder
from sterna.models.walk import MAX_STEPS
from sterna.recipes.config import DataConfig
from sterna.recipes.policies import check_fit, data_config, open_policy, policy_folder
from sterna.recipes.rooms import rooms_of
from sterna.recipes.runs import protocol_of
from sterna.recipes.world import World
from sterna.train.evaluate import evaluate
from sterna.world.geometry import Floats

_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Check:
    """The episodes on which an export is compared with torch in closed loop."""

    split: str = "val_unseen"
    """Split to walk."""
    episodes: int = 100
    """Every k-th episode, about this many."""
    workers: int = 1
    """Processes that walk with the exported policy."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scene:
    """Where the policy is walked for the card."""

    check: Check
    world: World
    episodes: Sequence[Episode]
    panoramas: Panoramas
    rooms: Rooms

    @property
    def protocol(self) -> Protocol:
        return protocol_of(self.world.config)

    @property
    def steps(self) -> int:
        return self.protocol.max_steps or MAX_STEPS


def run_export(
    folder: Path,
    to: Path,
    root: Path | None,
    *,
    int8: int = 0,
    views: str | None = None,
    objects: str | None = None,
    tokenizer: Path | None = None,
    check: Check | None = None,
) -> dict[str, Any]:
    """Export a saved policy into the folder `to`, atomically; returns the card.

    `root` is a data folder; without one (None) the card has no walks, the tokenizer is that of the
    run's encoder, and views are taken to be the 36 of a Matterport panorama unless `views` names a
    file. `check` None leaves the walks out. Raises `InputError` for a policy, a folder or data that
    do not fit.
    """
    check_installed()
    policy, run = open_policy(folder)
    model = policy.float().eval()
    config = data_config(run)
    config = replace(config, views=views or config.views, objects=objects or config.objects)
    world = None if root is None else World(root, config)
    scene = _scene(model, world, check, str(folder)) if world and check else None
    words = tokenizer or _tokenizer(world, config)
    Tokenizer(words)  # refuses a file that is no tokenizer
    with new_folder(to) as partial:
        graphs = write_engines(model, partial, int8=int8)
        shutil.copyfile(words, partial / TOKENIZER)
        settings: dict[str, Any] = {
            "views": _angles(world, views),
            "max_words": config.max_words,
            "max_steps": scene.steps if scene else protocol_of(config).max_steps or MAX_STEPS,
            "about": _about(model, folder, run, protocol_of(config)),
        }
        write_manifest(partial, model, graphs, **settings)
        card = _card(model, partial, graphs, scene, policy_folder(folder))
        write_json(partial / CARD, card)
        write_text(partial / README, readme(card))
        write_manifest(partial, model, graphs, **settings)
    return card


def _scene(model: DUET, world: World, check: Check, name: str) -> _Scene:
    episodes = world.episodes(check.split, about=check.episodes)
    if not any(episode.answered for episode in episodes):
        raise InputError(f"{check.split}: the split holds no answers to score with; give another")
    panoramas = world.panoramas(episodes)
    check_fit(model.config, panoramas, episodes, name)
    rooms = rooms_of(world, panoramas)
    return _Scene(check=check, world=world, episodes=episodes, panoramas=panoramas, rooms=rooms)


def _tokenizer(world: World | None, config: DataConfig) -> Path:
    encoder = find_encoder(config.encoder) if world is None else world.encoder
    return encoder / "tokenizer.json"


def _angles(world: World | None, views: str | None) -> tuple[Floats, Floats]:
    if world is not None:
        return world.views.headings, world.views.elevations
    if views is None:
        return camera_angles()
    with ViewStore.open(views) as store:
        return store.headings, store.elevations


def _about(model: DUET, folder: Path, run: dict[str, Any], protocol: Protocol) -> dict[str, Any]:
    weights = policy_folder(folder) / "model.safetensors"
    return {
        "weights_sha256": sha256(weights),
        "parameters": sum(p.numel() for p in model.parameters()),
        "protocol": protocol.to_dict(),
        "protocol_hash": protocol.hash,
        "run": run,
    }


def _card(
    model: DUET, folder: Path, graphs: Graphs, scene: _Scene | None, source: Path
) -> dict[str, Any]:
    engines = {name: Engine.open(folder, name) for name in graphs}
    files: dict[str, dict[str, Any]] = {
        file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)}
        for file in sorted(folder.iterdir())
        if file.suffix == ".onnx" or file.name == TOKENIZER
    }
    card = {
        "name": source.parent.name if source.name == "best" else source.name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "sizes": asdict(model.config),
        "engines": list(engines),
        "files": files,
        "bytes": {
            name: sum(files[file]["bytes"] for file in parts.values())
            for name, parts in graphs.items()
        },
        "differences": {name: size_differences(model, e) for name, e in engines.items()},
        "made_with": machine(),
    }
    return card if scene is None else card | {"walks": _walks(model, folder, engines, scene)}


def _walks(model: DUET, folder: Path, engines: dict[str, Engine], scene: _Scene) -> dict[str, Any]:
    """Walk with torch and with every engine; score all, and compare decisions and walks."""
    connectivity, episodes = scene.world.layout.connectivity, scene.episodes
    result, wanted = evaluate(
        model, scene.panoramas, episodes, connectivity, scene.protocol, batch_size=_BATCH
    )
    told = list(torch_walks(model, scene.panoramas, episodes, batch_size=_BATCH, steps=scene.steps))
    rows: dict[str, Any] = {"torch": {"scores": _means(result.scores)}}
    for name, engine in engines.items():
        found = walk_all(
            folder, name, scene.rooms, episodes, workers=scene.check.workers, max_steps=scene.steps
        )
        scored = score_predictions(found, episodes, connectivity, scene.protocol)
        agreed = agreement(told, scene.rooms, engine)
        rows[name] = {
            "scores": _means(scored.scores),
            "agreement": agreed.share,
            "largest_difference": agreed.largest_difference,
            "same_walks": _same(found, wanted),
        }
    return {
        "split": scene.check.split,
        "episodes": len(episodes),
        "decisions": sum(len(decisions) for _, decisions in told),
        "protocol": scene.protocol.name,
        "protocol_hash": scene.protocol.hash,
        "engines": rows,
    }


def _means(scores: Any) -> dict[str, float]:
    return {name: float(np.float64(score.mean)) for name, score in scores.items()}


def _same(found: Sequence[Prediction], wanted: Sequence[Prediction]) -> int:
    pairs = zip(found, wanted, strict=True)
    return sum(a.hops == b.hops and a.object_id == b.object_id for a, b in pairs)
