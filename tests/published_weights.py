"""Checkpoints as the original repositories save them: names and shapes listed from their code.

The listings (`models/fixtures`) are of DUET; the variants follow the published differences of
ScaleVLN, AutoVLN and SOON (docs/weights.md). Values are random.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sterna.models.original import WeightsReport, convert_checkpoint, restore_checkpoint

FIXTURES = Path(__file__).parent / "models" / "fixtures"
SMALL = {768: 24, 3072: 32, 2304: 72, 1536: 48, 30522: 61}
Shapes = dict[str, tuple[int, ...]]

OBJECTS = {
    "img_embeddings.obj_linear.weight": (768, 768),
    "img_embeddings.obj_linear.bias": (768,),
    "img_embeddings.obj_layer_norm.weight": (768,),
    "img_embeddings.obj_layer_norm.bias": (768,),
}
IMAGES = "img_embeddings.img_linear.weight"


def listed(name: str) -> Shapes:
    lines = (FIXTURES / f"{name}.txt").read_text().splitlines()
    pairs = [line.split(" ", 1) for line in lines if line.strip()]
    return {key: ast.literal_eval(shape) for key, shape in pairs}


def published(kind: str) -> Shapes:
    """Names and shapes of a published checkpoint; see docs/weights.md for what differs where."""
    family, stage = kind.rsplit(":", 1)
    reverie = family in ("duet-reverie", "autovln", "scalevln-reverie", "duet-soon")
    if stage == "navigation":
        shapes = listed("duet-r2r-navigation")
        if reverie:
            heads = listed("duet-reverie-pretraining")
            shapes |= {k: v for k, v in heads.items() if k.startswith("og_head.")}
        lead = ""
    else:
        shapes = listed("duet-reverie-pretraining" if reverie else "duet-r2r-pretraining")
        lead = "bert."
    images = {"scalevln-b16": 512, "scalevln-h14": 1024, "scalevln-reverie": 1024}.get(family, 768)
    shapes[lead + IMAGES] = (768, images)
    objects = {"duet-soon": 2048, "scalevln-reverie": 768, "autovln": 768}.get(family)
    if objects and (family != "autovln" or stage == "pretraining"):
        shapes |= {lead + k: v for k, v in OBJECTS.items()}
        shapes[f"{lead}img_embeddings.obj_linear.weight"] = (768, objects)
    if family.startswith("scalevln") or family == "autovln":  # no logits, so no masked regions
        shapes = {k: v for k, v in shapes.items() if not k.startswith("image_classifier.")}
    if family == "scalevln-reverie" and stage == "pretraining":
        shapes["bert.token_type_embedding.weight"] = (3, 768)
    if family == "duet-soon" and stage == "pretraining":
        for name in [k for k in shapes if k.startswith("image_classifier.")]:
            shape = shapes[name]
            twin = name.replace("image_classifier", "obj_classifier")
            shapes[twin] = (1601, *shape[1:]) if shape[0] == 1000 else shape
    return shapes


KINDS = [
    f"{family}:{stage}"
    for family in (
        *("duet-r2r", "duet-reverie", "duet-soon", "scalevln-b16", "scalevln-h14"),
        *("scalevln-reverie", "autovln"),
    )
    for stage in ("navigation", "pretraining")
]


def reduced(shapes: Shapes) -> Shapes:
    """The same names at width 24: the layers and tables of the original, a thousandth of the size.

    The width of features stays (512 positions of words are also 512 features of CLIP B/16).
    """
    out = {}
    for name, shape in shapes.items():
        features = "img_linear.weight" in name or "obj_linear.weight" in name
        out[name] = (24, shape[1]) if features else tuple(SMALL.get(n, n) for n in shape)
    return out


def checkpoint(shapes: Shapes, stage: str, seed: int = 0) -> dict[str, Any]:
    """A file as the original code saves it, with random values."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {
        name: torch.randn(shape, generator=generator) for name, shape in shapes.items()
    }
    if "mlm_head.predictions.decoder.weight" in state:  # tied, so stored once and named twice
        word_table = state["bert.embeddings.word_embeddings.weight"]
        state["mlm_head.predictions.decoder.weight"] = word_table
    if stage == "pretraining":
        return state
    critic = {"0.weight": (512, 768), "0.bias": (512,), "3.weight": (1, 512), "3.bias": (1,)}
    return {
        "vln_bert": {
            "epoch": 45_000,
            "state_dict": {f"vln_bert.{name}": value for name, value in state.items()},
            "optimizer": {
                "state": {0: {"step": 3, "exp_avg": torch.zeros(2)}},
                "param_groups": [{"lr": np.float64(1e-5), "betas": (0.9, 0.999), "params": [0]}],
            },
        },
        "critic": {
            "epoch": 45_000,
            "state_dict": {
                f"state2value.{name}": torch.randn(shape, generator=generator)
                for name, shape in critic.items()
            },
            "optimizer": {"state": {}, "param_groups": []},
        },
    }


def same(mine: Any, theirs: Any, place: str = "") -> None:
    """Both trees hold the same keys in the same order, and equal values of equal types."""
    assert type(mine) is type(theirs), place
    if isinstance(theirs, dict):
        assert list(mine) == [key for key in theirs if key != "optimizer"], place
        for key in mine:
            same(mine[key], theirs[key], f"{place}/{key}")
    elif isinstance(theirs, Tensor):
        assert mine.dtype == theirs.dtype and mine.shape == theirs.shape, place
        assert torch.equal(mine, theirs), place
    else:
        assert mine == theirs, place


def round_trip(kind: str, folder: Path, shapes: Shapes) -> tuple[WeightsReport, WeightsReport]:
    """Write a checkpoint, convert it to a policy folder and back, and compare the files whole."""
    stage = kind.rsplit(":", 1)[1]
    content = checkpoint(shapes, stage)
    file = folder / ("best_val_unseen" if stage == "navigation" else "model_step_9.pt")
    torch.save(content, file)
    there = convert_checkpoint(file, folder / "policy")
    back = restore_checkpoint(folder / "policy", folder / "back.pt")
    same(torch.load(folder / "back.pt", weights_only=True), content)
    return there, back
