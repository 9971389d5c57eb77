"""What a DUET can take from HAMT, LXMERT and BERT checkpoints: the parts that are built alike.

HAMT (Chen et al., NeurIPS 2021) shares word embeddings, language layers, cross-modal layers and the
image part of the view embeddings with DUET; its history encoder and action head have no
counterpart. As DUET's own start from LXMERT does, cross-modal layers go to both encoders.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sterna.errors import InputError
from sterna.models.config import DuetConfig
from sterna.models.duet import DUET
from sterna.models.original import WeightsReport
from sterna.models.weights import read_tensors, strip_prefixes

_LANGUAGE = re.compile(r"(?:lang_)?encoder\.layer\.(\d+\..+)")
_CROSS = re.compile(r"encoder\.x_layers\.(\d+\..+)")
_PLAIN = (
    "embeddings.",
    "img_embeddings.img_linear.",
    "img_embeddings.img_layer_norm.",
    "img_embeddings.layer_norm.",
    "img_embeddings.nav_type_embedding.",
)
_OLD = {"gamma": "weight", "beta": "bias"}  # LayerNorms of the first BERT releases


def load_relative(
    path: str | Path, config: DuetConfig, *, seed: int = 0
) -> tuple[DUET, WeightsReport]:
    """Build `DUET(config)` and fill it from a checkpoint of HAMT, LXMERT or BERT, where they agree.

    What has no counterpart stays as it is drawn from `seed`, and is named in the report (missing);
    so is every entry that was not taken, with the reason (unused). Raises `InputError` where not
    even a language layer fits.
    """
    tensors = read_tensors(path)
    torch.manual_seed(seed)
    model = DUET(config)
    state = model.state_dict()
    taken: list[str] = []
    renamed: list[tuple[str, str]] = []
    unused: list[tuple[str, str]] = []
    filled: dict[str, Tensor] = {}
    for name, value in tensors.items():
        targets = [target for target in _targets(name) if target in state]
        fitting = [target for target in targets if state[target].shape == value.shape]
        if not fitting:
            unused.append((name, _reason(value, state, targets)))
            continue
        taken.append(name)
        for target in fitting:
            filled[target] = value.to(torch.float32)
            if target != name:
                renamed.append((name, target))
    if not any(name.startswith("lang_encoder.") for name in filled):
        raise InputError(
            f"{path}: no language layer fits a DUET of width {config.hidden_size}; give a HAMT, "
            "LXMERT or BERT checkpoint of that width (or another --into)"
        )
    bad = [name for name, value in filled.items() if not torch.isfinite(value).all()]
    if bad:
        raise InputError(f"{path}: NaN or infinity in what becomes {bad[0]}; fetch it again")
    model.load_state_dict({**state, **filled})
    report = WeightsReport(
        source=str(path),
        target="",
        family=_family(tensors),
        kind="pretraining" if config.lang2visn else "navigation",
        parameters=sum(value.numel() for value in state.values()),
        taken=tuple(taken),
        renamed=tuple(renamed),
        unused=tuple(unused),
        missing=tuple(name for name in state if name not in filled),
        sizes=vars(config),
    )
    return model.eval(), report


def save_relative(
    path: str | Path, config: DuetConfig, folder: str | Path, *, seed: int = 0
) -> WeightsReport:
    """`load_relative`, saved as a policy folder."""
    model, report = load_relative(path, config, seed=seed)
    notes = (
        f"Begun from `{Path(path).name}` ({report.family}): {len(report.taken)} entries taken, "
        f"{len(report.missing)} drawn from seed {seed}. Not a navigator yet: train it."
    )
    model.save_pretrained(folder, notes=notes)
    return replace(report, target=str(folder))


def _targets(name: str) -> Iterator[str]:
    """Yield the names that an entry has in a DUET, with and without text branches."""
    bare = strip_prefixes(name)
    stem, _, kind = bare.rpartition(".")
    bare = f"{stem}.{_OLD.get(kind, kind)}"
    language, cross = _LANGUAGE.fullmatch(bare), _CROSS.fullmatch(bare)
    if language:
        yield f"lang_encoder.layer.{language[1]}"
    elif cross:
        yield f"local_encoder.encoder.x_layers.{cross[1]}"
        yield f"global_encoder.encoder.x_layers.{cross[1]}"
    elif bare.startswith(_PLAIN):
        yield bare


def _reason(value: Tensor, state: Mapping[str, Tensor], targets: list[str]) -> str:
    if not targets:
        return "has no counterpart in this DUET"
    return f"is {tuple(value.shape)}, not {tuple(state[targets[0]].shape)}"


def _family(tensors: Mapping[str, Tensor]) -> str:
    names = [strip_prefixes(name) for name in tensors]
    if any(name.startswith("hist_embeddings.") for name in names):
        return "HAMT"
    return "LXMERT" if any(_CROSS.fullmatch(name) for name in names) else "BERT"
