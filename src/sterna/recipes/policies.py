"""Saved policies as a run finds them: where they lie, how they were trained, what they can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from sterna.data.episodes import Episode
from sterna.envs.graph_env import Panoramas
from sterna.errors import InputError
from sterna.files import read_json
from sterna.models.config import DuetConfig
from sterna.models.duet import DUET
from sterna.models.hub import find_folder
from sterna.models.pretrained import from_pretrained
from sterna.models.weights import Kind, load_weights
from sterna.recipes.config import DataConfig


def policy_folder(folder: Path) -> Path:
    """Return the folder of weights: `folder` itself, or its ``best`` where it is a run.

    ``hf:owner/name`` is fetched from the Hub.
    """
    folder = find_folder(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a run or a saved policy")
    policy = folder if (folder / "model.safetensors").is_file() else folder / "best"
    if not (policy / "model.safetensors").is_file():
        raise InputError(
            f"{folder}: holds no model.safetensors, nor does {policy.name}/ in it; give a run that "
            "was evaluated at least once, or a folder written by save_pretrained"
        )
    return policy


def open_policy(folder: Path) -> tuple[DUET, dict[str, Any]]:
    """Open a saved policy and the configuration of its run (empty if it has none).

    `folder` is a policy folder, or a run folder (then its ``best`` is meant).
    """
    policy = policy_folder(folder)
    for run in (policy, policy.parent):
        if (run / "recipe.json").is_file():
            recipe = read_json(run / "recipe.json")
            if not isinstance(recipe, dict):
                raise InputError(f"{run / 'recipe.json'}: expected a run's configuration")
            return from_pretrained(policy), recipe
    return from_pretrained(policy), {}


def check_teacher(path: Path) -> None:
    """Raise `InputError` unless a teacher lies at `path`: a policy, a run, or a checkpoint file."""
    if not path.is_file():
        policy_folder(path)


def open_teacher(path: Path, *, branches: bool = False) -> DUET:
    """Open a teacher: a saved policy, a run (its ``best``), or a published checkpoint file.

    `branches` keeps the text branches of a pre-training checkpoint.
    """
    path = find_folder(path)
    check_teacher(path)
    if path.is_dir():
        return open_policy(path)[0]
    kind: Kind = "pretraining" if branches else "navigation"
    sizes, state, _ = load_weights(path, kind=kind)
    teacher = DUET(sizes)
    teacher.load_state_dict(state)
    return teacher


def data_config(run: Mapping[str, Any]) -> DataConfig:
    """Return the observations that a run was trained on (from its configuration)."""
    values = dict(run.get("data") or {})
    odd = set(values) - {entry.name for entry in fields(DataConfig)}
    if odd:
        raise InputError(f"recipe.json: unknown data settings {sorted(odd)}; update sterna")
    cache = values.get("cache")
    values |= {"cache": Path(cache) if cache else None}
    return DataConfig(**(values | {"languages": tuple(values.get("languages", ()))}))


def fitted(config: DuetConfig, panoramas: Panoramas) -> DuetConfig:
    """Return the sizes of a model that reads these views and objects."""
    return replace(config, feature_size=panoramas.size, object_size=panoramas.object_size)


def check_fit(
    config: DuetConfig, panoramas: Panoramas, episodes: Sequence[Episode], name: str
) -> None:
    """Raise `InputError` unless a model can read these views, objects and word ids."""
    if panoramas.size != config.feature_size:
        raise InputError(
            f"{name}: the policy reads features of width {config.feature_size}, the view store has "
            f"{panoramas.size}; name the store it was trained on (--views of eval)"
        )
    if panoramas.object_size != config.object_size:
        read, shown = (
            "no objects" if size is None else f"objects of width {size}"
            for size in (config.object_size, panoramas.object_size)
        )
        raise InputError(
            f"{name}: the policy reads {read}, this world shows {shown}; walk the task it was "
            "trained on, with the objects it was trained on (--data.objects, --objects of eval)"
        )
    for episode in episodes:
        ids = episode.token_ids or ()
        if ids and max(ids) >= config.vocab_size:
            raise InputError(
                f"{name}: episode {episode.instr_id} holds word id {max(ids)}, the policy knows "
                f"{config.vocab_size} words; tokenise with the vocabulary it was trained on"
            )
        if len(ids) > config.max_positions:
            raise InputError(
                f"{name}: episode {episode.instr_id} is {len(ids)} word pieces long, the policy "
                f"reads {config.max_positions}; lower --data.max-words"
            )
