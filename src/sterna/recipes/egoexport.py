"""Egocentric walks in the files of other trainers: VLN-Ego's ShareGPT JSON, LeRobot's data sets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from sterna.data.ego.samples import EgoSample, EgoSamples
from sterna.data.ego.store import EgoStore
from sterna.errors import InputError
from sterna.files import write_bytes, write_json

Entry = dict[str, Any]
DATA_FILE, INFO_FILE, IMAGES = "vln_ego.json", "dataset_info.json", "images"
_FOLDER = 1000  # frames a folder: file systems and people like it so


def export_sharegpt(
    folder: Path,
    out: Path,
    *,
    n: int = 6,
    memory: str = "long-short",
    budget: int = 16,
    order: Literal["ABCD", "DABC"] = "ABCD",
    stride: int = 1,
) -> dict[str, int]:
    """Write a store as `vln_ego.json` with image files, one a step; return counts.

    An entry has ``conversations`` (human: the prompt with an ``<image>`` a frame; gpt: the n
    actions as text) and ``images``, history first and the current frame last. The target begins
    with the action from the current frame. `dataset_info.json` tells LLaMA-Factory of it.
    """
    from sterna.metrics.protocol import Protocol
    from sterna.world.talk.prompts import Wording

    store = EgoStore(folder)
    _check_new(out)
    samples = EgoSamples(store, n, memory, budget, stride=stride)
    rules = Protocol.from_dict(dict(store.protocol))
    wording = Wording.of(rules, actions=n, order=order)
    used = sorted({int(f) for s in samples for f in (*s.history, s.current)})
    for number in tqdm(used, desc="images", unit="image"):
        target = out / image_path(number)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(store.jpeg(number))
    write_bytes(out / DATA_FILE, "".join(_lines(samples, wording)).encode())
    write_json(out / INFO_FILE, _dataset_info())
    return {"samples": len(samples), "images": len(used), "episodes": len(samples.episodes)}


def image_path(number: int) -> str:
    """Return where a frame lies inside an export."""
    return f"{IMAGES}/{number // _FOLDER:05d}/{number:08d}.jpg"


def _entry(sample: EgoSample, wording: Any) -> Entry:
    frames = [*sample.history.tolist(), sample.current]
    return {
        "id": f"{sample.instr_id}_{sample.step}",
        "conversations": [
            {"from": "human", "value": wording.prompt(sample)},
            {"from": "gpt", "value": wording.answer(sample.actions)},
        ],
        "images": [image_path(number) for number in frames],
    }


def _lines(samples: EgoSamples, wording: Any) -> Iterator[str]:
    """Spell out a JSON list, an entry a line."""
    for number, sample in enumerate(samples):
        yield ("[\n" if number == 0 else ",\n") + json.dumps(_entry(sample, wording))
    yield "\n]\n" if len(samples) else "[]\n"


def _dataset_info() -> Entry:
    columns = {"messages": "conversations", "images": "images"}
    return {"vln_ego": {"file_name": DATA_FILE, "formatting": "sharegpt", "columns": columns}}


def export_lerobot(folder: Path, out: Path) -> dict[str, int]:
    """Write a store as a LeRobotDataset v3.0; return counts."""
    from sterna.data.ego.lerobot import arrow, write_lerobot

    arrow()  # says what is missing before anything is written
    store = EgoStore(folder)
    _check_new(out)
    return write_lerobot(store, out)


def _check_new(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out}: holds files already; give a new or empty folder")
