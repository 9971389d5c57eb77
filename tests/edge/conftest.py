"""Small exported policies that several tests look at; treat them as read-only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from sterna.files import write_json
from sterna.models.duet import DUET
from sterna.models.pretrained import save_pretrained
from toy import TINY, tiny_model

DATA = {"views": "toy", "feature_size": 32}


@dataclass(frozen=True)
class Exported:
    """A policy, where it lies, and its export."""

    model: DUET
    policy: Path
    folder: Path
    card: dict[str, Any]


@pytest.fixture(scope="session")
def exporter() -> None:
    """Skip aloud where the packages that write and run graphs are not installed."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed: the export is not checked")


@pytest.fixture(scope="session")
def exported(exporter: None, toy_house: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A policy of width 24 for the toy world, float32 and int8, walked for its card."""
    from sterna.recipes.exporting import Check, run_export

    folder = tmp_path_factory.mktemp("edge")
    policy = folder / "run"
    model = tiny_model().eval()
    save_pretrained(model, policy / "best")
    write_json(policy / "recipe.json", {"data": DATA, "loop": {"seed": 3}})
    check = Check(split="val_seen", episodes=8)
    card = run_export(policy, folder / "out", toy_house, int8=True, check=check)
    return Exported(model, policy, folder / "out", card)


@pytest.fixture(scope="session")
def grounded(exporter: None, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A policy of width 36 that reads objects, with two layers and no distance bias."""
    from sterna.edge.export import TOKENIZER, write_engines, write_manifest
    from sterna.recipes.toyworld import toy_tokenizer
    from sterna.world.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS

    folder = tmp_path_factory.mktemp("grounded")
    sizes = replace(
        TINY,
        hidden_size=36,
        heads=3,
        cross_layers=2,
        language_layers=2,
        panorama_layers=2,
        object_size=5,
        graph_bias=False,
    )
    model = tiny_model(1, sizes).eval()
    graphs = write_engines(model, folder, int8=False)
    toy_tokenizer().save(str(folder / TOKENIZER))
    write_manifest(
        folder,
        model,
        graphs,
        views=(VIEW_HEADINGS, VIEW_ELEVATIONS),
        max_words=200,
        max_steps=15,
        about={"run": {}, "parameters": 0},
    )
    return Exported(model, folder, folder, {})
